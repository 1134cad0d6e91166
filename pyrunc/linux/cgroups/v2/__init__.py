"""cgroup v2: one hierarchy for all controllers (Documentation/admin-guide/cgroup-v2.rst)."""
