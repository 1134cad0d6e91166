"""Control groups: limits, devices, freezing, killing."""
