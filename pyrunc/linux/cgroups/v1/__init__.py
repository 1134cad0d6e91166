"""cgroup v1: one hierarchy per controller or group of joined controllers, each with a mount (cgroups(7))."""
