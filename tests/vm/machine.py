"""One guest: QEMU, a daemon for each shared folder, and commands over ssh on a loopback port."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tests.vm import image, recipe
from tests.vm.image import CACHE, VmError

BOOT_LIMIT = 300  # seconds; measured: 13 to 60

_CONNECTION_LOST = 255  # ssh's own exit status


class TimeLimit(VmError):
    """The time of the machine, or for something on it, is over."""

    status = 124


class Machine:
    """One guest by its name. Its folder holds its state, logs, sockets and throw-away disk overlay."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = CACHE / "machines" / name
        self.console = self.folder / "console.log"
        self.log = self.folder / "host.log"
        self._state_file = self.folder / "state.json"
        self.state: dict[str, Any] = {}
        if self._state_file.exists():
            self.state = json.loads(self._state_file.read_text())

    def start(
        self,
        *,
        lifetime: float,
        shares: Sequence[Path] = (),
        keep: bool = False,
        network: bool = False,
        memory: str = "2G",
        cpus: int = 2,
        bound: bool = False,
        security: str = "apparmor",
    ) -> None:
        """Boot, and wait until commands can be given.

        After `lifetime` seconds everything ends, whatever becomes of the caller; with `bound` it ends with the
        caller, too. `shares` are seen live at the same paths. `keep`: changes to the disk stay in the image.
        `network`: the guest reaches what the host reaches. `security`: see `recipe.SECURITY`. Raises VmError.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.state = {
            "pids": [],
            "port": _free_port(),
            "shares": [str(share) for share in shares],
            "keep": keep,
            "bound": bound,
            "deadline": time.time() + lifetime,
        }
        for number, share in enumerate(shares):
            self._start_share_daemon(number, share)
        self._start_qemu(network, memory, cpus, security)
        self._wait_until_ready()
        self._mount_shares()

    def _start_qemu(self, network: bool, memory: str, cpus: int, security: str) -> None:
        snapshot = "off" if self.state["keep"] else "on"
        restrict = "off" if network else "on"
        forward = f"hostfwd=tcp:127.0.0.1:{self.state['port']}-:22"
        options = {
            "-display": "none",
            "-machine": "q35,memory-backend=ram",
            "-accel": "tcg,thread=multi",
            "-cpu": "max,-la57",
            "-smp": str(cpus),
            "-m": memory,
            "-object": f"memory-backend-memfd,id=ram,size={memory},share=on",
            "-kernel": str(image.KERNEL),
            "-append": " ".join([*recipe.KERNEL_ARGUMENTS, *recipe.SECURITY[security]]),
            "-serial": f"file:{self.console}",
            "-drive": f"if=none,id=disk,file={image.IMAGE},format=raw,cache=unsafe,snapshot={snapshot}",
            "-netdev": f"user,id=net,restrict={restrict},{forward}",
        }
        arguments = ["-nodefaults", "-no-reboot", *(word for option in options.items() for word in option)]
        arguments += ["-device", "nvme,drive=disk,serial=root", "-device", "virtio-net-pci,netdev=net"]
        for number in range(len(self.state["shares"])):
            arguments += ["-chardev", f"socket,id=share{number},path=share{number}.sock"]
            arguments += ["-device", f"vhost-user-fs-pci,chardev=share{number},tag=share{number}"]
        firmware = [
            word for name in ("qemu", "seabios") for word in ("-L", f"{image.TOOLS}/usr/share/{name}")
        ]
        self._spawn(*image.tool("usr/bin/qemu-system-x86_64"), *firmware, *arguments)

    def _start_share_daemon(self, number: int, share: Path) -> None:
        name = f"share{number}.sock"
        daemon = image.tool("usr/libexec/virtiofsd")
        self._spawn(*daemon, "--socket-path", name, "--shared-dir", str(share), "--xattr")
        try:
            wait_for((self.folder / name).exists, 10)
        except TimeLimit:
            raise VmError(f"virtiofsd did not start\n{_tail(self.log)}") from None

    def _spawn(self, *command: str) -> None:
        """Start a process that ends by itself at the machine's deadline."""
        lifetime = str(self.state["deadline"] - time.time())
        fate = ["setpriv", "--pdeathsig", "TERM"] if self.state["bound"] else []
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [*fate, "timeout", "-k", "5", lifetime, *command],
                cwd=self.folder,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.state["pids"].append(process.pid)
        self._state_file.write_text(json.dumps(self.state))

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            if not self.is_running():
                raise VmError(f"QEMU ended before the guest was up\n{_tail(self.log)}\n{_tail(self.console)}")
            return self.console.exists() and recipe.READY.encode() in self.console.read_bytes()

        limit = min(BOOT_LIMIT, self.state["deadline"] - time.time())
        try:
            wait_for(ready, limit)
        except TimeLimit:
            raise TimeLimit(f"the guest was not up in {limit:.0f} s\n{_tail(self.console)}") from None

    def _mount_shares(self) -> None:
        for number, share in enumerate(self.state["shares"]):
            path = shlex.quote(share)
            mount = f"mkdir -p {path} && mount -t virtiofs share{number} {path}"
            if self.execute(["sh", "-c", mount], folder="/"):
                raise VmError(f"cannot mount {share} in the guest")

    def is_running(self) -> bool:
        """Whether QEMU lives (it is started last)."""
        return bool(self.state.get("pids")) and self._is_own_process(self.state["pids"][-1])

    def _is_own_process(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{pid}/cwd") == str(self.folder)
        return False

    def execute(
        self,
        command: Sequence[str],
        user: str = "root",
        folder: str | None = None,
        timeout: float | None = None,
        stdin: IO[bytes] | int | None = None,
        stdout: IO[bytes] | int | None = None,
    ) -> int:
        """Run a command (none: a login shell) in `folder` and give its exit status; 124 after `timeout` seconds.

        Raises VmError when the machine is not up or dies meanwhile.
        """
        if not self.is_running():
            raise VmError(f"machine {self.name!r} is not up")
        folder = folder or next(iter(self.state["shares"]), None)
        interactive = stdin is None and stdout is None and sys.stdin.isatty() and sys.stdout.isatty()
        terminal = ["-t"] if interactive and not command else []
        self._connect("root")
        self._forget_shared_files()
        self._connect(user)
        remote = _remote_script(command, folder, timeout)
        ssh = [*self._ssh(user), *terminal, "vm", *remote]
        status = subprocess.run(ssh, cwd=self.folder, stdin=stdin, stdout=stdout).returncode
        if status == _CONNECTION_LOST:
            self._check_that_guest_lives()
        return status

    def _forget_shared_files(self) -> None:
        """Else the guest could use, for a second, a shared file that was replaced since."""
        if self.state["shares"]:
            forget = "echo 2 > /proc/sys/vm/drop_caches"
            ssh = [*self._ssh("root"), "vm", forget]
            subprocess.run(ssh, cwd=self.folder, stdin=subprocess.DEVNULL)

    def _check_that_guest_lives(self) -> None:
        with contextlib.suppress(TimeLimit):
            wait_for(lambda: not self.is_running(), 3)
        if time.time() >= self.state["deadline"]:
            raise TimeLimit("the machine's time is over")
        if not self.is_running():
            raise VmError(f"the guest died\n{_tail(self.console)}")

    def _connect(self, user: str) -> None:
        """Later ssh commands share the connection that this one keeps open."""
        ssh = self._ssh(user)
        if subprocess.run([*ssh, "-O", "check", "vm"], cwd=self.folder, capture_output=True).returncode:
            with open(self.log, "ab") as log:
                how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                subprocess.run([*ssh, "-MNf", "vm"], cwd=self.folder, **how)

    def _ssh(self, user: str) -> list[str]:
        settings = {
            "HostName": "127.0.0.1",
            "Port": self.state["port"],
            "User": user,
            "IdentityFile": image.KEY,
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ControlPath": "ssh-%r",
            "ConnectTimeout": 60,
            "BatchMode": "yes",
        }
        return ["ssh", "-F", "none", *(f"-o{name}={value}" for name, value in settings.items())]

    def stop(self) -> None:
        """End it and forget what it changed; with `keep`, shut it down properly first."""
        if self.state.get("keep") and self.is_running():
            self.execute(["systemctl", "poweroff"], folder="/")
            with contextlib.suppress(TimeLimit):
                wait_for(lambda: not self.is_running(), 60)
        pids = [pid for pid in self.state.get("pids", []) if self._is_own_process(pid)]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        try:
            wait_for(lambda: not any(map(self._is_own_process, pids)), 20)
        except TimeLimit:
            raise VmError(f"QEMU does not end: processes {pids}") from None
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def started(name: str, **settings: Any) -> Iterator[Machine]:
    """A machine that runs for the length of a `with`; `settings` are those of `Machine.start`."""
    machine = Machine(name)
    try:
        machine.start(**settings)
        yield machine
    finally:
        machine.stop()


def build() -> bool:
    """Make the image if it is out of date; whether it was."""

    def first_boot() -> None:
        with started("build", lifetime=BOOT_LIMIT, keep=True, bound=True):
            pass

    return image.build(first_boot)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Return when `condition()` is true; raises TimeLimit after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeLimit(f"not in {seconds:.0f} s")
        time.sleep(0.05)


def _remote_script(command: Sequence[str], folder: str | None, timeout: float | None) -> list[str]:
    if not command:
        return []
    limit = ["timeout", "-k", "5", str(timeout)] if timeout else []
    enter = f"cd {shlex.quote(folder)} && " if folder else ""
    return [f"{enter}{shlex.join([*limit, *command])}; exit $?"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
