"""exec: what the process joins and what it is under: namespaces, cgroups, limits, filter, keyring, priorities."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_labels import CURRENT, a_label, profile, with_apparmor, with_selinux
from tests.runtime.test_seccomp import argument, rule
from tests.support.bundle import Bundle
from tests.support.limits import V2
from tests.support.runtime import Container, Runtime, wait_for
from tests.support.seccomp_agent import agent

CPUS = sorted(os.sched_getaffinity(0))
UID = GID = 1000
several_cpus = pytest.mark.skipif(len(CPUS) < 2, reason="this host has a single CPU")
both_ways = pytest.mark.parametrize("nnp", [False, True], ids=["privileged", "no-new-privileges"])

__all__ = ["profile"]


def started(runtime: Runtime, bundle: Bundle) -> Container:
    """A container of this bundle whose first process waits."""
    container = runtime.container(bundle.sleeper())
    container.create().ok()
    container.start().ok()
    container.says("ready")
    return container


def in_same_namespaces(container: Container, **how: Any) -> dict[str, str]:
    """Assert it of a process that joins; its namespaces."""
    found: dict[str, str] = container.asks("namespaces", **how)["namespaces"]
    assert len(found) == 8
    for name, link in found.items():
        assert link == os.readlink(f"/proc/{container.pid}/ns/{name}"), name
    return found


# -- namespaces --------------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.parametrize("kinds", [("user",), ("user", "cgroup", "time"), ("cgroup", "time"), ()])
def test_new_namespaces(runtime: Runtime, kinds: tuple[str, ...]) -> None:
    bundle = runtime.bundle()
    for kind in kinds:
        if kind == "user":
            bundle.map_ids().give_rootfs(200000, 200000)
        else:
            bundle.namespace(kind)
    container = started(runtime, bundle)
    found = in_same_namespaces(container)
    for kind in kinds:
        assert found[kind] != os.readlink(f"/proc/self/ns/{kind}")
    said = container.asks("ids", "caps", "write /tmp/x y", flags=["--user", "5:6"])
    assert said["ids"]["uid"] == [5] * 3
    made = (container.bundle.rootfs / "tmp" / "x").stat()
    assert made.st_uid == (200005 if "user" in kinds else 5)


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
def test_without_a_namespace_of_its_own(runtime: Runtime, kind: str) -> None:
    """That one is the runtime's. Without a PID namespace there is a single stage."""
    container = started(runtime, runtime.bundle().without_namespace(kind))
    name = {"network": "net"}.get(kind, kind)
    assert in_same_namespaces(container)[name] == os.readlink(f"/proc/self/ns/{name}")
    detached = runtime.folder / "pid"
    container.exec(["sleep", "1000"], "-d", "--pid-file", str(detached)).ok()
    pid = int(detached.read_text())
    assert os.getsid(pid) == pid
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)  # it has outlived the runtime


@pytest.mark.needs_root
def test_joined_namespaces(runtime: Runtime) -> None:
    """Those of another container, by path, as in a pod."""
    first = started(runtime, runtime.bundle().map_ids().give_rootfs(200000, 200000))
    bundle = runtime.bundle()
    bundle.linux["namespaces"] = [{"type": "mount"}, {"type": "uts"}]
    bundle.give_rootfs(200000, 200000)
    for kind, name in (("user", "user"), ("network", "net"), ("ipc", "ipc"), ("pid", "pid")):
        bundle.namespace(kind, f"/proc/{first.pid}/ns/{name}")
    in_same_namespaces(started(runtime, bundle))


@pytest.mark.needs_root
def test_clocks_of_a_time_namespace(runtime: Runtime) -> None:
    bundle = runtime.bundle().namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}}
    container = started(runtime, bundle)
    in_same_namespaces(container)
    uptime = float(container.exec(["cat", "/proc/uptime"]).ok().out.split()[0])
    assert uptime > 1_000_000


@pytest.mark.needs_root
def test_without_a_mount_namespace(runtime: Runtime) -> None:
    """The root is the container's all the same, not the host's."""
    bundle = runtime.bundle()
    bundle.config["mounts"] = []
    bundle.without_namespace("mount")
    for name in ("maskedPaths", "readonlyPaths"):
        bundle.linux.pop(name)
    container = started(runtime, bundle)
    assert sorted(container.asks("ls /")["ls /"]) == sorted(os.listdir(bundle.rootfs))
    assert container.asks("cwd", flags=["--cwd", "/tmp"])["cwd"] == "/tmp"


@pytest.mark.needs_root
def test_a_first_program_that_cannot_be_read(runtime: Runtime) -> None:
    """It is not dumpable then, and everything about it in /proc is the host's root's."""
    bundle = runtime.bundle()
    (bundle.rootfs / "bin" / "testify").chmod(0o711)
    bundle.process["user"] = {"uid": UID, "gid": GID}
    container = started(runtime, bundle)
    assert container.asks("ids")["ids"]["uid"] == [UID] * 3


@pytest.mark.needs_root
def test_an_ordinary_user(runtime: Runtime) -> None:
    user = runtime.as_user(47110, 47110)
    bundle = user.bundle().rootless(47110, 47110).give_rootfs(47110, 47110)
    bundle.process["oomScoreAdj"] = 500
    container = started(user, bundle)
    in_same_namespaces(container)
    said = container.asks("ids", "read /proc/self/oom_score_adj", "env", "fds")
    assert said["ids"]["uid"] == [0] * 3
    assert said["read /proc/self/oom_score_adj"].strip() == "500"
    assert "HOME=/root" in said["env"]
    assert sorted(said["fds"]) == ["0", "1", "2"]
    container.exec(["no-such"]).fails("executable file not found")


# -- cgroups -----------------------------------------------------------------------------------------------


def cgroups_of(pid: int | str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def pid_of(container: Container, *flags: str) -> int:
    """The pid of a detached process that waits."""
    file = container.runtime.folder / "pid"
    container.exec(["sleep", "1000"], "-d", "--pid-file", str(file), *flags).ok()
    return int(file.read_text())


@pytest.fixture
def v2(runtime: Runtime) -> Runtime:
    """The runtime on pure cgroup v2; on a hybrid host in a mount namespace that has nothing else."""
    if not V2:
        if os.geteuid() or not Path("/sys/fs/cgroup/unified").exists():
            pytest.skip("this host has no cgroup v2")
        view = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
        runtime.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", view, "sh"]
    return runtime


def home_v2(container: Container) -> Path:
    (path,) = [line[3:] for line in cgroups_of(container.pid).splitlines() if line.startswith("0::")]
    top = "/sys/fs/cgroup" if V2 else "/sys/fs/cgroup/unified"
    return Path(top, path.lstrip("/"))


def test_the_cgroup_is_the_containers(runtime: Runtime) -> None:
    container = started(runtime, runtime.bundle())
    assert cgroups_of(pid_of(container)) == cgroups_of(container.pid)


@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_the_cgroup_is_the_containers_on_v2(v2: Runtime) -> None:
    container = started(v2, v2.bundle())
    assert home_v2(container).name == container.id
    pid = pid_of(container)
    assert str(pid) in (home_v2(container) / "cgroup.procs").read_text().split()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_a_first_process_that_has_moved_on(v2: Runtime) -> None:
    """Into a cgroup inside, as systemd does to have controllers there; then its own takes no processes any more."""
    container = started(v2, v2.bundle())
    home = home_v2(container)
    (home / "inner").mkdir()
    (home / "other").mkdir()
    (home / "inner" / "cgroup.procs").write_text(str(container.pid))
    (home / "cgroup.subtree_control").write_text("+" + (home / "cgroup.controllers").read_text().split()[0])
    pid = pid_of(container)
    assert str(pid) in (home / "inner" / "cgroup.procs").read_text().split()
    flags = ["--cgroup", "other"]
    assert str(pid_of(container, *flags)) in (home / "other" / "cgroup.procs").read_text().split()
    container.exec(["true"], "--cgroup", "/").fails("exec failed", "busy")
    (home / "inner" / "cgroup.freeze").write_text("1")
    container.exec(["true"]).fails("exec failed", "is frozen")
    (home / "inner" / "cgroup.freeze").write_text("0")
    container.exec(["true"]).ok()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_paused_on_v2(v2: Runtime) -> None:
    container = started(v2, v2.bundle())
    v2.verb("pause", container.id).ok()
    container.exec(["true"]).fails("cannot exec in a paused container")
    running = v2.spawn("exec", "--ignore-paused", container.id, "testify", "pdeathsig")
    ended = v2.spawn("exec", "--ignore-paused", container.id, "touch", "/ran")
    killed = v2.spawn("exec", "--ignore-paused", container.id, "touch", "/ran")
    procs = home_v2(container) / "cgroup.procs"
    wait_for(lambda: len(procs.read_text().split()) == 4, say="three processes in the frozen cgroup")
    ended.process.send_signal(signal.SIGINT)
    ended.wait().fails("interrupted by SIGINT")
    killed.process.kill()
    killed.process.wait()
    wait_for(lambda: len(procs.read_text().split()) == 2, say="the end of two of them")
    v2.verb("resume", container.id).ok()
    assert running.wait().ok().testimony["pdeathsig"] == 0
    assert not (container.bundle.rootfs / "ran").exists()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
@pytest.mark.parametrize("which", ["below", "above"])
def test_another_cgroup_that_is_frozen(v2: Runtime, which: str) -> None:
    """The container is not paused; but who is started in there stops, and the caller must not stop with it."""
    bundle = v2.bundle()
    if which == "above":
        bundle.linux["cgroupsPath"] = f"/{v2.tag}-slice/container"
    container = started(v2, bundle)
    home = home_v2(container)
    frozen = home.parent if which == "above" else home / "sub"
    frozen.mkdir(exist_ok=True)
    (frozen / "cgroup.freeze").write_text("1")
    flags = ["--cgroup", "sub"] if which == "below" else []
    running = v2.spawn("exec", *flags, container.id, "echo", "thawed")
    ended = v2.spawn("exec", *flags, container.id, "touch", "/ran")
    procs = (home if which == "above" else frozen) / "cgroup.procs"
    before = 1 if which == "above" else 0
    wait_for(lambda: len(procs.read_text().split()) == before + 2, say="two processes in the frozen cgroup")
    ended.process.send_signal(signal.SIGTERM)
    ended.wait().fails("interrupted by SIGTERM")
    (frozen / "cgroup.freeze").write_text("0")
    assert running.wait().ok().out == "thawed\n"
    assert not (container.bundle.rootfs / "ran").exists()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
@pytest.mark.skipif(V2, reason="this host has no cgroup v1")
def test_cgroups_below_on_v1(runtime: Runtime) -> None:
    """All hierarchies, or those of some controllers."""
    container = started(runtime, runtime.bundle())
    lines = [line.split(":", 2) for line in cgroups_of(container.pid).splitlines()]
    tops = {names: Path("/sys/fs/cgroup", names.removeprefix("name=").partition(",")[0] or "unified", path.strip("/"))
            for _, names, path in lines}  # fmt: skip
    made = [home / "below" for home in tops.values() if home.is_dir()]
    for place in made:
        place.mkdir()
    if (cpuset := tops.get("cpuset")) is not None:
        for name in ("cpuset.cpus", "cpuset.mems"):
            (cpuset / "below" / name).write_text((cpuset / name).read_text())
    pid = pid_of(container, "--cgroup", "below")
    assert all(line.endswith("/below") for line in cgroups_of(pid).splitlines() if container.id in line)
    pid = pid_of(container, "--cgroup", "memory,pids:/below")
    below = {line.split(":")[1] for line in cgroups_of(pid).splitlines() if line.endswith("/below")}
    assert below == {"memory", "pids"}
    for words, flags in (
        ("unknown controller nothing", ["--cgroup", "nothing:below"]),
        ("specified multiple times", ["--cgroup", "memory:below", "--cgroup", "pids,memory:x"]),
        ("missing <controller>: prefix", ["--cgroup", "below", "--cgroup", "memory:below"]),
        ("invalid --cgroup argument", ["--cgroup", "a:b:c"]),
    ):
        container.exec(["true"], *flags).fails("exec failed", words)


def test_without_a_cgroup(runtime: Runtime) -> None:
    runtime.globals = ["--cgroup-manager", "disabled"]
    container = started(runtime, runtime.bundle())
    in_same_namespaces(container)
    container.exec(["true"], "--cgroup", "x").fails("exec failed", "has no cgroup")


@pytest.mark.needs_root
def test_limits_of_the_cgroup_hold(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"] = {"pids": {"limit": 4}}
    container = started(runtime, bundle)
    assert container.asks("forks 10")["forks 10"] == {"made": 2, "errno": "EAGAIN"}


@pytest.mark.needs_root
def test_too_little_memory_for_one_more(runtime: Runtime) -> None:
    """An error, and the container lives on."""
    bundle = runtime.bundle()
    bundle.linux["resources"] = {"memory": {"limit": 16 << 20}}
    container = started(runtime, bundle)
    done = container.exec(["testify", "eat", "64"])
    assert done.status == 128 + 9
    assert container.status == "running"


# -- what the process is under -----------------------------------------------------------------------------


@pytest.mark.needs_root
def test_limits_umask_and_the_rest(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": UID, "gid": GID, "umask": 0o77, "additionalGids": [5, 6]}
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 100, "hard": 100},
    ]
    bundle.process["oomScoreAdj"] = 321
    bundle.linux["personality"] = {"domain": "LINUX32"}
    container = started(runtime, bundle)
    said = container.asks("ids", "rlimits", "personality", "read /proc/self/oom_score_adj")
    assert (said["ids"]["umask"], sorted(said["ids"]["groups"])) == (0o77, [5, 6])
    assert said["rlimits"]["RLIMIT_NOFILE"] == [50, 60]
    assert said["rlimits"]["RLIMIT_CORE"] == [0, 0]
    assert said["rlimits"]["RLIMIT_NPROC"] == [100, 100]
    assert said["personality"] == 8
    assert said["read /proc/self/oom_score_adj"].strip() == "321"


@pytest.mark.needs_root
def test_a_limit_of_processes_that_is_reached(runtime: Runtime) -> None:
    """Two stages are not two processes of that user."""
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 47111, "gid": 47111}
    bundle.process["rlimits"] = [{"type": "RLIMIT_NPROC", "soft": 2, "hard": 2}]
    container = started(runtime, bundle)
    assert container.asks("rlimits")["rlimits"]["RLIMIT_NPROC"] == [2, 2]


@pytest.mark.needs_root
def test_a_limit_of_processes_of_the_caller(runtime: Runtime) -> None:
    """It is not the container's, and does not keep the process from being cloned."""
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 47112, "gid": 47112}
    bundle.process["rlimits"] = [{"type": "RLIMIT_NPROC", "soft": 50, "hard": 60}]
    container = started(runtime, bundle)
    container.exec(["sleep", "1000"], "--detach").ok()
    runtime.prefix = ["prlimit", "--nproc=1:60", "--"]
    confined = Container(runtime, bundle, container.id)
    assert confined.asks("rlimits")["rlimits"]["RLIMIT_NPROC"] == [50, 60]


def test_a_limit_that_cannot_be_raised(runtime: Runtime) -> None:
    container = started(runtime, runtime.bundle())
    file = runtime.folder / "process.json"
    limit = {"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}
    file.write_text(json.dumps({"cwd": "/", "args": ["true"], "rlimits": [limit]}))
    container.exec([], "-p", str(file)).fails("exec failed", "RLIMIT_NOFILE", "fs.nr_open")


@both_ways
def test_the_filter_is_the_containers(runtime: Runtime, nnp: bool) -> None:
    bundle = runtime.bundle().seccomp(
        "SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"), rule("ERRNO", "clone3", errnoRet=38)
    )
    bundle.process["noNewPrivileges"] = nnp
    container = started(runtime, bundle)
    said = container.asks("seccomp", "nnp", "caps", "syscall keyctl 99")
    assert (said["seccomp"], said["nnp"]) == (2, int(nnp))
    assert said["syscall keyctl 99"] == {"errno": "EPERM"}
    assert said["caps"]["effective"] == said["caps"]["permitted"] == [5, 10, 29]


@pytest.mark.needs_root
@both_ways
@pytest.mark.parametrize("also", [[], ["setsid"]], ids=["by the first stage", "by the second stage"])
def test_the_agent_is_told_of_the_process(
    runtime: Runtime, tmp_path: Path, nnp: bool, also: list[str]
) -> None:
    """Container process state: the pid is that of the process, the state that of the container."""
    with agent(tmp_path / "agent", keyctl=99) as judge:
        bundle = runtime.bundle().seccomp(
            "SCMP_ACT_ALLOW", rule("NOTIFY", "keyctl", *also), listenerPath=str(judge.path)
        )
        bundle.process["noNewPrivileges"] = nnp
        container = started(runtime, bundle)
        assert len(judge.messages) == 1
        said = container.asks("syscall keyctl 1001")
        assert said["syscall keyctl 1001"] == {"errno": "EADDRNOTAVAIL"}
        assert len(judge.messages) == 2
        state = json.loads(judge.messages[1]["text"])
    assert state["pid"] != container.pid
    assert (state["state"]["pid"], state["state"]["status"]) == (container.pid, "running")


def test_a_strict_profile(runtime: Runtime) -> None:
    """Without clone3 and prlimit64, and clone only with plain flags, as the engines' profiles have it."""
    allowed = [rule("ALLOW", "clone", args=[argument(0, "MASKED_EQ", 0x7E020000, 0)])]
    refused = [
        rule("ERRNO", "prlimit64", "setrlimit", "clone3", "setns", "unshare", "setsid", "ioctl", "openat2")
    ]
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", *allowed, *refused)
    bundle.process["noNewPrivileges"] = False
    container = runtime.container(bundle.sleeper())
    container.create().ok()
    container.start().ok()
    assert container.asks("pid")["pid"] > 1


def test_the_session_keyring_is_the_containers(runtime: Runtime) -> None:
    bundle = runtime.bundle().ask("keyring", "sleep")
    with runtime.running(bundle) as container:
        container.says("ready")
        assert container.asks("keyring") == {"keyring": container.testimony["keyring"]}


@pytest.mark.needs_root
def test_the_session_keyring_in_a_user_namespace(runtime: Runtime) -> None:
    bundle = runtime.bundle().map_ids().give_rootfs(200000, 200000).ask("keyring", "sleep")
    with runtime.running(bundle) as container:
        container.says("ready")
        said = container.asks("keyring", flags=["--user", "77"])
        assert said["keyring"].split(";")[-1] == container.testimony["keyring"].split(";")[-1]


@several_cpus
@pytest.mark.parametrize("affinity", [{"final": str(CPUS[-1])}, {"initial": str(CPUS[0])}, {}])
def test_cpu_affinity(runtime: Runtime, affinity: dict[str, str]) -> None:
    """`final`, or every CPU of the cgroup, whatever the caller is confined to."""
    bundle = runtime.bundle()
    bundle.process["execCPUAffinity"] = affinity
    container = started(runtime, bundle)
    runtime.prefix = ["taskset", "-c", str(CPUS[0])]
    expected = [CPUS[-1]] if "final" in affinity else CPUS
    assert Container(runtime, bundle, container.id).asks("affinity")["affinity"] == expected


@several_cpus
@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_initial_cpu_affinity(v2: Runtime) -> None:
    """Seen while a frozen cgroup holds the process on its way in; the final one comes after that."""
    bundle = v2.bundle()
    bundle.process["execCPUAffinity"] = {"initial": str(CPUS[-1]), "final": str(CPUS[0])}
    container = started(v2, bundle)
    v2.verb("pause", container.id).ok()
    running = v2.spawn("exec", "--ignore-paused", container.id, "testify", "affinity")
    procs = home_v2(container) / "cgroup.procs"
    others = wait_for(lambda: set(procs.read_text().split()) - {str(container.pid)}, say="a second process")
    (pid,) = map(int, others)
    assert sorted(os.sched_getaffinity(pid)) == [CPUS[-1]]
    v2.verb("resume", container.id).ok()
    assert running.wait().ok().testimony["affinity"] == [CPUS[0]]


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"policy": "SCHED_BATCH", "nice": 7}, (3, 7)),
        ({"policy": "SCHED_BATCH", "nice": 8, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (3, 8)),
        ({"policy": "SCHED_OTHER", "nice": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (0, 9)),
    ],
)
def test_scheduler_and_io_priority(
    runtime: Runtime, scheduler: dict[str, Any], expected: tuple[int, int]
) -> None:
    """Also where a child would not inherit it."""
    bundle = runtime.bundle()
    bundle.process["scheduler"] = scheduler
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    said = started(runtime, bundle).asks("scheduler", "io-priority")
    assert (said["scheduler"]["policy"], said["scheduler"]["nice"]) == expected
    assert "6" in str(said["io-priority"])


@with_apparmor
@pytest.mark.needs_root
@pytest.mark.parametrize("given", [True, False], ids=["by the option", "as the container"])
@both_ways
def test_an_apparmor_profile(runtime: Runtime, profile: str, given: bool, nnp: bool) -> None:
    bundle = runtime.bundle()
    bundle.process["noNewPrivileges"] = nnp
    if not given:
        bundle.process["apparmorProfile"] = profile
    (bundle.rootfs / "area" / "secret").write_text("secret")
    container = started(runtime, bundle)
    flags = ["--apparmor", profile] if given else []
    said = container.asks(CURRENT, "read /area/secret", flags=flags)
    assert said[CURRENT] == f"{profile} (enforce)\n"
    assert said["read /area/secret"] == {"errno": "EACCES"}


@with_apparmor
@pytest.mark.needs_root
def test_the_containers_proc_cannot_take_the_label_away(runtime: Runtime, profile: str) -> None:
    """CVE-2019-16884: whatever the image has at /proc, the label is written to the host's."""
    bundle = runtime.bundle()
    bundle.without_mount("/proc")
    (bundle.rootfs / "proc" / "self" / "attr" / "apparmor").mkdir(parents=True)
    for name in ("exec", "apparmor/exec"):
        (bundle.rootfs / "proc" / "self" / "attr" / name).touch()
    for name in ("maskedPaths", "readonlyPaths"):
        bundle.linux.pop(name)
    bundle.process["apparmorProfile"] = profile
    (bundle.rootfs / "area" / "secret").write_text("secret")
    container = started(runtime, bundle)
    assert container.asks("read /area/secret")["read /area/secret"] == {"errno": "EACCES"}


@with_selinux
@pytest.mark.parametrize("given", [True, False], ids=["by the option", "as the container"])
def test_the_selinux_label(runtime: Runtime, given: bool) -> None:
    bundle = runtime.bundle()
    if not given:
        bundle.process["selinuxLabel"] = a_label("PROCESS")
    container = started(runtime, bundle)
    flags = ["--process-label", a_label("PROCESS")] if given else []
    assert container.asks(CURRENT, flags=flags)[CURRENT].strip("\0\n") == a_label("PROCESS")


@pytest.mark.needs_root
def test_memory_policy(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    if not Path("/sys/devices/system/node/node0").exists():
        pytest.skip("the kernel knows no NUMA nodes")
    container = started(runtime, bundle)
    assert "2" in str(container.asks("memory-policy")["memory-policy"])


def test_start_that_hangs_is_not_in_the_way(runtime: Runtime) -> None:
    """It holds the container's lock; exec takes none."""
    bundle = runtime.bundle().sleeper()
    bundle.hook("poststart", f"while [ ! -e {runtime.folder}/go ]; do sleep 0.1; done")
    container = runtime.container(bundle)
    container.create().ok()
    starting = runtime.spawn("start", container.id)
    container.says("ready")
    assert container.asks("pid")["pid"] > 1
    (runtime.folder / "go").touch()
    starting.wait().ok()
