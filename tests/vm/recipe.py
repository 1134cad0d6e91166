"""What the machine is made of. Whatever stands here is in the digest that tells whether an image is out of date."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

from tests.support.payload import REPOSITORY

#: The Debian release of the guest, and of QEMU: that of older releases (7.2) corrupts registers of the guest.
SUITE = "trixie"

#: The size of the guest's disk, as mke2fs takes it; the image is sparse.
IMAGE_SIZE = "8G"

#: The ordinary user (uid 1000), with subordinate ids and a systemd user manager. The other user is root.
USER = "tester"

#: What the guest writes on its console when it is up.
READY = "VM-IS-READY"

#: Where the guest has the tree under test; the image has the environment `.venv` there.
TREE = "/opt/pyrunc"

#: What the environment is made from, relative to the repository.
ENVIRONMENT_FILES = ("pyproject.toml", "install/dependencies.py", "install/environment")

#: The kinds of Python packages that `make test-environment` installs; each call leaves a mark that it is done.
ENVIRONMENT_KINDS = ("build", "run", "test")

#: AppArmor profiles that stay: loading all of Debian's costs seconds at every boot.
APPARMOR_PROFILES = "buildah busybox crun podman runc slirp4netns usr.bin.passt usr.bin.pasta".split()

#: Daemons that the tests start themselves, in scratch folders.
DISABLED_UNITS = """
    containerd.service docker.service docker.socket netavark-dhcp-proxy.service podman-auto-update.timer
    podman-auto-update.service podman-restart.service podman-clean-transient.service
""".split()

MASKED_UNITS = """
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
    e2scrub_reap.service fstrim.timer selinux-autorelabel-mark.service systemd-tmpfiles-clean.timer
    getty@tty1.service serial-getty@ttyS0.service
""".split()

GUEST_FILES = {
    "etc/hostname": "vm\n",
    "etc/hosts": "127.0.0.1 localhost vm\n",
    "etc/fstab": "/dev/nvme0n1 / ext4 noatime 0 0\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/ssh/sshd_config.d/vm.conf": (
        "AuthorizedKeysFile /etc/ssh/vm_key.pub\nUseDNS no\nPrintMotd no\nMaxSessions 100\n"
    ),
    "etc/systemd/system/user@.service.d/delegate.conf": "[Service]\nDelegate=cpu cpuset io memory pids\n",
    "etc/systemd/system/vm-network.service": """\
[Unit]
DefaultDependencies=no
Wants=sys-subsystem-net-devices-eth0.device
After=sys-subsystem-net-devices-eth0.device
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip link set eth0 up
ExecStart=/sbin/ip address add 10.0.2.15/24 dev eth0
ExecStart=/sbin/ip route add default via 10.0.2.2
""",
    "etc/systemd/system/vm-ready.service": f"""\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/echo {READY}
StandardOutput=tty
TTYPath=/dev/ttyS0
""",
}
GUEST_LINKS = {
    "etc/systemd/system/multi-user.target.wants/vm-network.service": "../vm-network.service",
    "etc/systemd/system/graphical.target.wants/vm-ready.service": "../vm-ready.service",
    **{f"etc/systemd/system/{unit}": "/dev/null" for unit in MASKED_UNITS},
}
KERNEL_ARGUMENTS = """
    console=ttyS0 quiet panic=-1 root=/dev/nvme0n1 rootfstype=ext4 rw fsck.mode=skip
    net.ifnames=0 mitigations=off tsc=reliable rcupdate.rcu_expedited=1 systemd.show_status=no
""".split()


#: How the kernel is told which security module labels processes. SELinux only logs what it would refuse: nothing in the
#: image has the file labels of its policy.
SECURITY = {"apparmor": [], "selinux": ["security=selinux", "enforcing=0"]}


def packages(*sections: str) -> list[str]:
    """The Debian packages of these sections of install/debian-packages.txt."""
    found: list[str] = []
    section = ""
    for line in (REPOSITORY / "install/debian-packages.txt").read_text().splitlines():
        word = line.partition("#")[0].strip()
        if word.startswith("["):
            section = word.strip("[]")
        elif word and section in sections:
            found.append(word)
    return found


def guest_packages() -> list[str]:
    """What the guest has: a bootable system, and all that `make test` wants."""
    return packages("vm-guest", "build", "demo", "test", "engines")


def emulator_packages() -> list[str]:
    """What is unpacked beside the image to run it."""
    return packages("vm-emulator")


def digest() -> str:
    """A hexadecimal number that changes with the recipe."""
    python = [sys.executable, "install/dependencies.py", *ENVIRONMENT_KINDS]
    wanted = subprocess.run(python, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    parts = [
        [SUITE, IMAGE_SIZE, USER, TREE, APPARMOR_PROFILES, DISABLED_UNITS, GUEST_FILES, GUEST_LINKS],
        [guest_packages(), emulator_packages(), wanted, ENVIRONMENT_KINDS],
        (REPOSITORY / "install/environment").read_text(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
