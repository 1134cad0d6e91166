"""Which devices a container may make, read and write: rules, their cgroup v1 list and their cgroup v2 program."""
