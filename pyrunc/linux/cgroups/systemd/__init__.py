"""Cgroups that systemd makes: a transient unit for each container (systemd's docs/CONTROL_GROUP_INTERFACE.md).

`manager` is the container's cgroup, `unit` its name and place, `properties` what the unit is asked for,
`gvariant` reads annotations, `systemd` the few calls of systemd's manager, `bus` the D-Bus below it. None of
this is loaded where another manager is chosen.
"""
