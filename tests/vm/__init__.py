"""A throw-away Debian machine with systemd, pure cgroup v2 and AppArmor, and the tests that run on it.

`make test-vm` is `python -m tests.vm test`; CONTRIBUTING.md tells the other commands. QEMU emulates the machine, so
it needs neither KVM nor anything from the host's kernel, and everything in it takes 10 to 40 times as long.
"""
