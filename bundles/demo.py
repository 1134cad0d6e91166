"""The demo: runs a bundle with pyrunc and shows a person what happened. `demo.py PYRUNC BUNDLE`.

First `run`: the process looks around inside and says what it finds, and ends with a status of its own. Then
`create`, `start`, `kill`, `delete`, seen from outside. An ordinary user gets the same bundle in a user namespace.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import prctl

ID = f"demo-{os.getpid()}"
STATUS = 7
#: What the shell inside is asked; each answer is a line "title<TAB>text".
QUESTIONS = r"""
say() { printf '%s\t%s\n' "$1" "$2"; }
field() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }
refused() {
    if message=$("$@" 2>&1); then echo "allowed, which it should not be"; else echo "refused: ${message##*: }"; fi
}
say 'process' "pid $$, $(readlink /proc/$$/exe), user $(id -u), group $(id -g), in $(pwd)"
say 'all processes' "$(echo /proc/[0-9]*/cmdline | wc -w) seen in /proc"
say 'host name' "$(hostname)"
say 'network' "$(ls /sys/class/net 2>/dev/null | tr '\n' ' ')"
say 'files in /' "$(ls / | tr '\n' ' ')"
say 'devices' "$(ls /dev | tr '\n' ' ')"
awk '{printf "mounts\t%-24s %-7s %.60s\n", $2, $3, $4}' /proc/self/mounts
say 'limits' "open files $(ulimit -n), core file size $(ulimit -c)"
for file in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do
    [ -r $file ] && say 'memory limit' "$(cat $file) bytes"
done
for file in /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max; do
    [ -r $file ] && say 'process limit' "$(cat $file)"
done
say 'capabilities' "$(field CapEff)"
say 'no new privileges' "$(field NoNewPrivs)"
say 'seccomp mode' "$(field Seccomp) ($(field Seccomp_filters) filter)"
say 'user ids' "$(awk '{print $3, "from", $1, "on, outside from", $2, "on"}' /proc/self/uid_map)"
say 'write to /' "$(refused touch /file)"
say 'write to /proc/sys' "$(refused sh -c 'echo x >/proc/sys/kernel/hostname')"
say 'mount' "$(refused mount -t tmpfs none /tmp)"
say 'new user namespace' "$(refused unshare -U true)"
say 'read /proc/keys' "$(wc -c </proc/keys) bytes (masked)"
exit STATUS
"""
CAPABILITIES = {value: name for name, value in vars(prctl).items() if name.startswith("CAP_")}


def title(text: str) -> None:
    """A heading."""
    strong, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{strong}{text}{plain}", flush=True)


def row(name: str, text: str) -> None:
    """A fact."""
    print(f"  {name:<20} {text}", flush=True)


def fail(text: str) -> NoReturn:
    """End the demo, which could not show what it should."""
    sys.exit(f"demo: {text}")


class Demo:
    """One session with the runtime at `program`, with a state directory of its own."""

    def __init__(self, program: str, bundle: Path, root: Path) -> None:
        self.program = program
        self.bundle = bundle
        self.root = root

    def words(self, *words: str) -> list[str]:
        """The command line for these words."""
        return [self.program, "--root", str(self.root), *words]

    def call(self, *words: str, **how: Any) -> str:
        """One verb, shown as a person would type it; its output."""
        print(f"  $ pyrunc {' '.join(words)}", flush=True)
        how.setdefault("stdout", subprocess.PIPE)
        done = subprocess.run(self.words(*words), text=True, **how)
        if done.returncode:
            fail(f"pyrunc {words[0]} ended with status {done.returncode}")
        return done.stdout or ""

    def state(self) -> dict[str, Any]:
        """`state`, shown."""
        state: dict[str, Any] = json.loads(self.call("state", ID))
        row("status", state["status"])
        row("pid", str(state["pid"]))
        return state

    def inside(self) -> None:
        """`run`, and what the process says."""
        title(f"pyrunc run --bundle {self.bundle} {ID}")
        began = time.monotonic()
        done = subprocess.run(
            self.words("run", "--bundle", str(self.bundle), ID),
            input=QUESTIONS.replace("STATUS", str(STATUS)),
            stdout=subprocess.PIPE,
            text=True,
        )
        took = time.monotonic() - began
        last = ""
        for line in done.stdout.splitlines():
            name, _, text = line.partition("\t")
            if name == "capabilities":
                text = capability_names(int(text, 16))
            row("" if name == last else name, text)
            last = name
        row("exit status", f"{done.returncode}, as the process ended; the whole took {took * 1000:.0f} ms")
        if done.returncode != STATUS or not last:
            fail(f"status {STATUS} was expected, and a report from inside")

    def outside(self) -> None:
        """The life of a container, step by step."""
        title("The same container, step by step, seen from outside")
        reading, writing = os.pipe()
        # What is stdin and stdout here is the container's: a pipe would be open as long as the container lives.
        self.call("create", "--bundle", str(self.bundle), ID, stdin=reading, stdout=None)
        os.close(reading)
        pid = int(self.state()["pid"])
        memory = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
        rss = next(words[1] for words in memory if words[0] == "Rss:")
        row(
            "it waits as",
            f"{Path(f'/proc/{pid}/cmdline').read_text().split(chr(0))[0]}, with {rss} kB of memory",
        )
        self.call("start", ID)
        self.state()
        row("runs", os.readlink(f"/proc/{pid}/exe"))
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        row("pid here and inside", " and ".join(status["NSpid"].split()))
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if path != "/":
                row("cgroup", f"{controllers or 'unified'} {path}" if number != "0" else path)
        self.call("kill", ID, "KILL")
        _, code = os.waitpid(pid, 0)
        row("exit status", f"killed by signal {os.waitstatus_to_exitcode(code) * -1}")
        self.state()
        self.call("delete", ID)
        row("left behind", ", ".join(self.left()) or "nothing")
        os.close(writing)
        if self.left():
            fail("something was left behind")

    def left(self) -> list[str]:
        """What still bears the container's name: state directories, cgroups, mounts."""
        found = [str(path) for path in self.root.glob("*") if path.name == ID]
        with suppress(OSError):
            found += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"*{ID}*")]
        return found + [
            line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if ID in line
        ]


def capability_names(bits: int) -> str:
    """The names of the capabilities in the mask `bits`."""
    names = [CAPABILITIES.get(number, str(number)) for number in range(64) if bits >> number & 1]
    return f"{len(names)}: {', '.join(names)}" if names else "none"


def for_ordinary_user(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with a user namespace of the caller's one id, and without what only root may do."""
    linux = config["linux"]
    linux["namespaces"] = [kind for kind in linux["namespaces"] if kind["type"] != "network"] + [
        {"type": "user"}
    ]
    linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    del linux["resources"]
    for mount in config["mounts"]:
        mount["options"] = [word for word in mount.get("options", ()) if word != "gid=5"]
        if mount["type"] == "sysfs":  # belongs to the owner of the network namespace
            mount.update(type="none", source="/sys", options=["rbind", "nosuid", "noexec", "nodev", "ro"])
    return config


@contextmanager
def usable(bundle: Path, scratch: Path) -> Iterator[Path]:
    """The bundle as this user can run it."""
    if os.geteuid() == 0:
        yield bundle
        return
    print("demo: not root, so the container gets a user namespace and no cgroup limits")
    config = for_ordinary_user(json.loads((bundle / "config.json").read_text()))
    config["root"]["path"] = str((bundle / "rootfs").resolve())
    (scratch / "config.json").write_text(json.dumps(config))
    yield scratch


def main() -> None:
    """Show it all."""
    if len(sys.argv) != 3:
        fail("usage: demo.py PYRUNC BUNDLE")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` deletes the container
    prctl.set_child_subreaper(1)  # a container's process becomes our child, and its exit status ours to read
    with (
        tempfile.TemporaryDirectory(prefix="pyrunc-demo-") as scratch,
        usable(Path(sys.argv[2]), Path(scratch)) as bundle,
    ):
        demo = Demo(sys.argv[1], bundle, Path(scratch) / "state")
        try:
            demo.inside()
            demo.outside()
        finally:
            subprocess.run(demo.words("delete", "--force", ID), stderr=subprocess.DEVNULL)
    print("\nTry it by hand:\n  make install\n  pyrunc run --bundle bundles/busybox hello")


if __name__ == "__main__":
    main()
