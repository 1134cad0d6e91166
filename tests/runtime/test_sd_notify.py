"""sd_notify(3): what the container tells reaches the service manager, and nothing that it must not tell."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import Runtime, wait_for
from tests.support.service_manager import ServiceManager

#: In a new network namespace a datagram socket has room for ten messages, whatever the host gives.
SHORT_QUEUES = ["unshare", "--net"]


@pytest.fixture
def manager(folder: Path) -> Iterator[ServiceManager]:
    with ServiceManager(folder / "notify") as manager:
        yield manager


def test_the_containers_socket(runtime: Runtime, manager: ServiceManager) -> None:
    """A directory of its own, read-only and without anything that could be used, and a name in the environment."""
    names = ["CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER"]
    bundle = runtime.bundle()
    bundle.process["capabilities"] = {"bounding": names, "effective": names, "permitted": names}
    questions = ("env", "mounts", "stat /run/notify", "stat /run/notify/notify.sock", "ls /run/notify")
    bundle.ask(*questions, "write /run/notify/x y")
    said = runtime.run(bundle, env=manager.env).ok().testimony
    assert "NOTIFY_SOCKET=/run/notify/notify.sock" in said["env"]
    assert not [entry for entry in said["env"] if entry.startswith("WATCHDOG")]
    (line,) = [line for line in said["mounts"].splitlines() if " /run/notify " in line]
    assert set(line.split()[5].split(",")) >= {"ro", "nosuid", "nodev", "noexec"}
    assert said["ls /run/notify"] == ["notify.sock"]
    assert said["stat /run/notify"]["mode"] == 0o755
    assert said["stat /run/notify/notify.sock"]["mode"] == 0o777
    assert said["write /run/notify/x y"] == {"errno": "EROFS"}


@pytest.mark.parametrize("env", [{}, {"NOTIFY_SOCKET": ""}])
def test_no_socket_without_a_manager(runtime: Runtime, env: dict[str, str]) -> None:
    said = runtime.run(runtime.bundle().ask("env", "access /run/notify"), env=env).ok().testimony
    assert not [entry for entry in said["env"] if "NOTIFY" in entry]
    assert said["access /run/notify"] == {"errno": "ENOENT"}


@pytest.mark.parametrize("value", ["/elsewhere/socket", ""])
def test_a_config_that_names_its_own_socket(runtime: Runtime, manager: ServiceManager, value: str) -> None:
    """Somebody else listens there, such as conmon (or nobody is to)."""
    bundle = runtime.bundle().ask("env", "access /run/notify")
    bundle.process["env"].append(f"NOTIFY_SOCKET={value}")
    said = runtime.run(bundle, env=manager.env).ok().testimony
    assert [entry for entry in said["env"] if "NOTIFY" in entry] == [f"NOTIFY_SOCKET={value}"]
    assert said["access /run/notify"] == {"errno": "ENOENT"}


def test_everything_is_passed_on_in_the_foreground(runtime: Runtime, manager: ServiceManager) -> None:
    """In order, each in one piece, to the very last before the end; the runtime is the main process."""
    bundle = runtime.bundle().ask(
        "notify EXTEND_TIMEOUT_USEC=5000000|STATUS=coming",
        "notify READY=1|STATUS=up",
        "notify WATCHDOG=1",
        "notify WATCHDOG=trigger",
        "notify WATCHDOG_USEC=30000000",
        "notify RELOADING=1|MONOTONIC_USEC=77",
        "notify READY=1",
        "notify ERRNO=2|BUSERROR=org.example.Failed",
        "notify STOPPING=1|STATUS=down",
    )
    running = runtime.spawn(
        "run", "--bundle", runtime.put(bundle, id := runtime.new_id()), id, env=manager.env
    )
    running.wait().ok()
    manager.hear_all()
    main = f"MAINPID={running.process.pid}"
    assert manager.texts == [
        "EXTEND_TIMEOUT_USEC=5000000\nSTATUS=coming",
        f"READY=1\nSTATUS=up\n{main}",
        "WATCHDOG=1",
        "WATCHDOG=trigger",
        "WATCHDOG_USEC=30000000",
        "RELOADING=1\nMONOTONIC_USEC=77",
        f"READY=1\n{main}",
        "ERRNO=2\nBUSERROR=org.example.Failed",
        "STOPPING=1\nSTATUS=down",
    ]
    # Who listens with NotifyAccess=main hears it.
    assert {sender for sender, _, _ in manager.heard} == {running.process.pid}
    assert not Path(runtime.root, id).exists()


def test_what_is_not_passed_on(runtime: Runtime, manager: ServiceManager) -> None:
    """Neither fields that reach beyond the service, nor descriptors, nor what a terminal would obey."""
    huge = "STATUS=" + "x" * 4096
    bundle = runtime.bundle().ask(
        "notify-with-fd FDSTORE=1|FDNAME=stored|STATUS=stored",
        "notify FDSTOREREMOVE=1|NOTIFYACCESS=all|X_FOREIGN=1|MAINPIDFDID=1|UNKNOWN=1|READY=0|nonsense",
        "notify STATUS=a\x1b[31mb\x7fc",
        "notify WATCHDOG_USEC=-1|EXTEND_TIMEOUT_USEC=1x|ERRNO=|WATCHDOG_USEC=18446744073709551616",
        f"notify {huge}",
        "notify BARRIER=1",
        "notify STATUS=end",
    )
    runtime.run(bundle, env=manager.env).ok()
    manager.hear_all()
    assert [(text, count) for _, text, count in manager.heard] == [
        ("STATUS=stored", 0),
        ("STATUS=a?[31mb?c", 0),
        ("STATUS=end", 0),
    ]


def test_main_pid_in_the_foreground_is_the_runtime(runtime: Runtime, manager: ServiceManager) -> None:
    """It passes on signals and status, and the manager would hear it no more if another were the main process."""
    bundle = runtime.bundle().ask("notify MAINPID=1", "notify MAINPID=1234|STATUS=x", "notify MAINPID=0")
    running = runtime.spawn(
        "run", "--bundle", runtime.put(bundle, id := runtime.new_id()), id, env=manager.env
    )
    running.wait().ok()
    manager.hear_all()
    main = f"MAINPID={running.process.pid}"
    assert manager.texts == [main, f"STATUS=x\n{main}"]


def test_barrier(runtime: Runtime, manager: ServiceManager) -> None:
    """The container waits until the manager has heard all before it, and then no longer."""
    bundle = runtime.bundle().ask("notify STATUS=first", "barrier 10", "notify STATUS=second", "sleep")
    container = runtime.container(bundle)
    words = ("run", "--bundle", runtime.put(bundle, container.id), container.id)
    running = runtime.spawn(*words, env=manager.env)
    manager.hears("STATUS=first")
    time.sleep(0.2)
    assert not manager.lines().count("STATUS=second") and "barrier" not in running.out
    manager.hears("STATUS=second")
    assert [(text, count) for _, text, count in manager.heard] == [
        ("STATUS=first", 0),
        ("BARRIER=1", 1),
        ("STATUS=second", 0),
    ]
    running.says("ready")
    container.kill("TERM").ok()
    assert running.wait().ok().testimony["barrier 10"] is True


def test_a_manager_that_keeps_barriers(runtime: Runtime, folder: Path) -> None:
    """The container waits as long as it likes; the runtime goes on, and holds only so many."""
    with ServiceManager(folder / "keeps", keeps=True) as manager:
        bundle = runtime.bundle().ask(*["barrier 0"] * 40, "notify STATUS=on")
        running = runtime.spawn(
            "run", "--bundle", runtime.put(bundle, id := runtime.new_id()), id, env=manager.env
        )
        manager.hears("STATUS=on")
        running.wait().ok()
        assert len([text for _, text, _ in manager.heard if text == "BARRIER=1"]) == 40


def test_flood(runtime: Runtime, manager: ServiceManager) -> None:
    """A container that never stops talking is slowed down: the runtime's time is the host's."""
    runtime.prefix = SHORT_QUEUES
    bundle = runtime.bundle().ask(*(f"notify STATUS={number}" for number in range(100)))
    before = time.monotonic()
    running = runtime.spawn(
        "run", "--bundle", runtime.put(bundle, id := runtime.new_id()), id, env=manager.env
    )
    manager.hears("STATUS=99")
    took = time.monotonic() - before
    running.wait().ok()
    assert manager.lines() == [f"STATUS={number}" for number in range(100)]
    assert took > 0.9


def test_a_manager_that_is_busy(runtime: Runtime, manager: ServiceManager) -> None:
    """Its socket is full: the container waits, its signals are forwarded all the same, and nothing is lost."""
    runtime.prefix = SHORT_QUEUES
    bundle = runtime.bundle().ask(*(f"notify STATUS={number}" for number in range(40)), "sleep")
    container = runtime.container(bundle)
    words = ("run", "--bundle", runtime.put(bundle, container.id), container.id)
    running = runtime.spawn(*words, env=manager.env)
    wait_for(lambda: container.runtime.verb("state", container.id).status == 0, say="the state")
    time.sleep(0.3)
    assert "ready" not in running.out
    manager.hears("STATUS=39")
    assert manager.lines() == [f"STATUS={number}" for number in range(40)]
    running.says("ready")
    running.process.terminate()
    running.wait().ok()


def test_detached_run_returns_when_the_container_is_ready(runtime: Runtime, manager: ServiceManager) -> None:
    bundle = runtime.bundle().ask("notify STATUS=coming", "nap 0.4", "notify READY=1|STATUS=up", "sleep")
    container = runtime.container(bundle)
    begun = time.monotonic()
    running = runtime.spawn(
        "run", "--detach", "--bundle", runtime.put(bundle, container.id), container.id, env=manager.env
    )
    manager.hears("READY=1")
    assert time.monotonic() - begun > 0.4
    assert container.status == "running"  # nobody is locked out meanwhile
    time.sleep(0.1)
    assert running.process.poll() is None, "it waits until the manager has heard the barrier"
    manager.hear(5)
    running.wait().ok()
    pid = container.pid
    assert [(text, count) for _, text, count in manager.heard] == [
        ("STATUS=coming", 0),
        (f"READY=1\nSTATUS=up\nMAINPID={pid}", 0),
        ("BARRIER=1", 1),
    ]
    container.kill("KILL").ok()


def test_start_returns_when_the_container_is_ready(runtime: Runtime, manager: ServiceManager) -> None:
    container = runtime.container(runtime.bundle().ask("nap 0.3", "notify READY=1", "sleep"))
    container.create(env=manager.env).ok()
    begun = time.monotonic()
    running = runtime.spawn("start", container.id, env=manager.env)
    manager.hears("READY=1")
    manager.hear(5)
    running.wait().ok()
    assert time.monotonic() - begun > 0.3
    assert manager.lines() == ["READY=1", f"MAINPID={container.pid}"]
    container.kill("KILL").ok()


def test_start_of_a_container_that_ends_without_being_ready(runtime: Runtime, folder: Path) -> None:
    """What it has said is passed on, ERRNO for the manager's log above all."""
    with ServiceManager(folder / "keeps") as manager:
        container = runtime.container(runtime.bundle().ask("notify STATUS=broken|ERRNO=5"))
        container.create(env=manager.env).ok()
        running = runtime.spawn("start", container.id, env=manager.env)
        manager.hears("ERRNO=5")
        manager.hear(5)
        running.wait().ok()
        assert manager.texts == ["STATUS=broken\nERRNO=5"]


def test_start_without_a_manager(runtime: Runtime, manager: ServiceManager) -> None:
    """The environment of `start` decides, as with runc."""
    container = runtime.container(runtime.bundle().ask("notify READY=1", "sleep"))
    container.create(env=manager.env).ok()
    container.start().ok()
    container.says("ready")
    assert container.testimony["notify READY=1"] == {"errno": "ENOENT"}
    manager.hear_all()
    assert not manager.heard
    container.kill("KILL").ok()


def test_start_with_a_manager_of_a_container_without_socket(
    runtime: Runtime, manager: ServiceManager
) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    runtime.verb("start", container.id, env=manager.env).ok()
    manager.hear_all()
    assert not manager.heard and container.status == "running"
    container.kill("KILL").ok()


@pytest.mark.parametrize("private", [True, False], ids=["own-pid-namespace", "hosts-pid-namespace"])
def test_main_pid_is_translated(runtime: Runtime, manager: ServiceManager, private: bool) -> None:
    """A pid of the container becomes that of the host; one that is not the container's becomes the first process."""
    bundle = runtime.bundle()
    if not private:
        bundle.without_namespace("pid")
    # The container learns the pid of its child, and tells it.
    bundle.shell(
        'sleep 100 & exec testify notify "MAINPID=$!" -- notify "MAINPID=1234567" -- notify READY=1 -- sleep'
    )
    container = runtime.container(bundle)
    running = runtime.spawn(
        "run", "--detach", "--bundle", runtime.put(bundle, container.id), container.id, env=manager.env
    )
    manager.hears("READY=1")
    manager.hear(5)
    running.wait().ok()
    first = container.pid
    (child,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    assert manager.texts == [f"MAINPID={child}", f"MAINPID={first}", f"READY=1\nMAINPID={first}"]
    container.kill("KILL").ok()


def test_a_pid_of_the_host_is_no_pid_of_the_container(runtime: Runtime, manager: ServiceManager) -> None:
    """Without a PID namespace of its own the container can name any process; only its own ones are passed on."""
    bundle = runtime.bundle().without_namespace("pid").ask(f"notify READY=1|MAINPID={os.getpid()}", "sleep")
    container = runtime.container(bundle)
    running = runtime.spawn(
        "run", "--detach", "--bundle", runtime.put(bundle, container.id), container.id, env=manager.env
    )
    manager.hears("READY=1")
    manager.hear(5)
    running.wait().ok()
    assert manager.lines() == ["READY=1", f"MAINPID={container.pid}"]
    container.kill("KILL").ok()


def test_in_a_user_namespace_as_its_user(runtime: Runtime, manager: ServiceManager) -> None:
    bundle = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    bundle.ask("ids", "notify READY=1")
    bundle.process["user"] = {"uid": 5, "gid": 6}
    said = runtime.run(bundle, env=manager.env).ok().testimony
    assert said["ids"]["uid"] == [5] * 3 and said["notify READY=1"] == 7
    manager.hear_all()
    assert "READY=1" in manager.lines()


def test_rootless(runtime: Runtime, folder: Path) -> None:
    with ServiceManager(folder / "users") as manager:
        os.chmod(folder / "users", 0o777)
        twin = runtime.as_user(1000, 1000)
        bundle = (
            twin.bundle().rootless(1000, 1000).give_rootfs(1000, 1000).ask("notify READY=1|STATUS=rootless")
        )
        twin.run(bundle, env=manager.env).ok()
        manager.hear_all()
        assert "STATUS=rootless" in manager.lines()


def test_abstract_socket(runtime: Runtime) -> None:
    with ServiceManager(f"@pyrunc-test/{os.getpid()}/notify") as manager:
        runtime.run(runtime.bundle().ask("notify READY=1"), env=manager.env).ok()
        manager.hear_all()
        assert "READY=1" in manager.lines()


def test_a_long_state_root(runtime: Runtime, manager: ServiceManager) -> None:
    """Longer than a socket's address may be."""
    runtime.root = runtime.folder / ("long" * 30) / ("root" * 20)
    runtime.run(runtime.bundle().ask("notify READY=1"), env=manager.env).ok()
    manager.hear_all()
    assert "READY=1" in manager.lines()


def test_image_with_a_link_at_run(runtime: Runtime, manager: ServiceManager, folder: Path) -> None:
    """/run is the image's; its links stay in the image."""
    bundle = runtime.bundle().ask("notify READY=1", "ls /var/notify")
    (bundle.rootfs / "run").rmdir()
    (bundle.rootfs / "run").symlink_to("/var")
    said = runtime.run(bundle, env=manager.env).ok().testimony
    assert said["ls /var/notify"] == ["notify.sock"] and said["notify READY=1"] == 7
    assert not Path("/var/notify").exists()


def test_watchdog_is_told_where_it_is_heard(runtime: Runtime, manager: ServiceManager) -> None:
    """sd_watchdog_enabled(3) in the container; not detached, where nobody would hear it after READY=1."""
    env = {**manager.env, "WATCHDOG_USEC": "20000000"}
    said = runtime.run(runtime.bundle().ask("env"), env=env).ok().testimony
    assert [entry for entry in said["env"] if entry.startswith("WATCHDOG")] == ["WATCHDOG_USEC=20000000"]
    foreign = runtime.run(runtime.bundle().ask("env"), env={**env, "WATCHDOG_PID": "1"}).ok().testimony
    assert not [entry for entry in foreign["env"] if entry.startswith("WATCHDOG")]
    bundle = runtime.bundle().ask("env")
    bundle.process["env"].append("WATCHDOG_USEC=7")
    assert "WATCHDOG_USEC=7" in runtime.run(bundle, env=env).ok().testimony["env"]
    container = runtime.container(runtime.bundle().ask("env", "sleep"))
    container.create(env=env).ok()
    container.start().ok()
    container.says("ready")
    assert not [entry for entry in container.testimony["env"] if entry.startswith("WATCHDOG")]


def test_reloading_in_a_time_namespace(runtime: Runtime, manager: ServiceManager) -> None:
    """MONOTONIC_USEC is of the container's clock, and systemd compares it with its own."""
    bundle = runtime.bundle().namespace("time")
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 1000, "nanosecs": 0}}
    bundle.ask("notify RELOADING=1|MONOTONIC_USEC=1000000077")
    runtime.run(bundle, env=manager.env).ok()
    manager.hear_all()
    assert manager.texts == ["RELOADING=1\nMONOTONIC_USEC=77"]


@pytest.mark.parametrize("verb", ["run", "create"])
@pytest.mark.parametrize("value", ["relative/path", "vsock:2:1234", "@", "/" + "x" * 108])
def test_address_that_is_none(runtime: Runtime, verb: str, value: str) -> None:
    bundle = runtime.bundle()
    before = runtime.footprint(bundle)
    words = (verb, "--bundle", runtime.put(bundle, id := runtime.new_id()), id)
    runtime.verb(*words, env={"NOTIFY_SOCKET": value}).fails("NOTIFY_SOCKET=", "names no unix socket")
    before.assert_unchanged()


def test_run_where_no_manager_listens(runtime: Runtime) -> None:
    """Nothing is left behind, and the message says what to unset."""
    bundle = runtime.bundle()
    before = runtime.footprint(bundle)
    runtime.run(bundle, env={"NOTIFY_SOCKET": "/nowhere/socket"}).fails(
        "NOTIFY_SOCKET=/nowhere/socket", "no such file or directory", "unset it"
    )
    before.assert_unchanged()


def test_start_where_no_manager_listens(runtime: Runtime, manager: ServiceManager) -> None:
    """The container can be started afterwards."""
    container = runtime.container(runtime.bundle().ask("notify READY=1", "sleep"))
    container.create(env=manager.env).ok()
    runtime.verb("start", container.id, env={"NOTIFY_SOCKET": "/nowhere"}).fails("no such file or directory")
    assert container.status == "created"
    running = runtime.spawn("start", container.id, env=manager.env)
    manager.hears("READY=1")
    manager.hear(5)
    running.wait().ok()
    container.kill("KILL").ok()


def test_a_manager_that_goes_away(runtime: Runtime, folder: Path) -> None:
    """The container is none the worse; the runtime warns once, and speaks to a new manager at the same place."""
    bundle = runtime.bundle().ask(
        "notify STATUS=1",
        "nap 0.5",
        "notify STATUS=2",
        "notify STATUS=3",
        "nap 1.5",
        "notify STATUS=4",
        "sleep",
    )
    container = runtime.container(bundle)
    with ServiceManager(folder / "manager") as first:
        running = runtime.spawn(
            "run", "--bundle", runtime.put(bundle, container.id), container.id, env=first.env
        )
        first.hears("STATUS=1")
    wait_for(lambda: "notify" in running.err, say="the warning")
    with ServiceManager(folder / "manager") as second:
        second.hears("STATUS=4")
    container.kill("TERM").ok()
    outcome = running.wait().ok()
    assert outcome.err.count("level=warning") == 1, outcome


def test_delete_takes_the_socket_along(runtime: Runtime, manager: ServiceManager) -> None:
    """Created, running, and with a damaged record."""
    for damage in (False, True):
        bundle = runtime.bundle().ask("notify READY=1", "sleep")
        before = runtime.footprint(bundle)
        container = runtime.container(bundle)
        container.create(env=manager.env).ok()
        assert (runtime.root / container.id / "notify").is_dir()
        if damage:
            (runtime.root / container.id / "state.json").write_text("{")
        container.delete("--force").ok()
        before.assert_unchanged()


def test_a_killed_proxy_harms_nobody(runtime: Runtime, manager: ServiceManager) -> None:
    """The container goes on, its sender is refused rather than left to wait, and it can be deleted."""
    bundle = runtime.bundle().ask("notify STATUS=1", "nap 0.7", "notify READY=1", "sleep")
    container = runtime.container(bundle)
    container.create(env=manager.env).ok()
    running = runtime.spawn("start", container.id, env=manager.env)
    manager.hears("STATUS=1")
    running.process.kill()
    running.process.wait()
    container.says("ready")
    assert container.testimony["notify READY=1"] == {"errno": "ECONNREFUSED"}
    assert container.status == "running"
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()


def test_the_runtime_holds_no_descriptor_of_the_container(runtime: Runtime, manager: ServiceManager) -> None:
    """Whatever comes with a message: the runtime's own are as many after a hundred as after one."""
    words = ["notify-with-fd STATUS=x|FDSTORE=1"] * 20
    bundle = runtime.bundle().ask("notify STATUS=first", "nap 0.3", *words, "notify STATUS=last", "nap 0.3")
    running = runtime.spawn(
        "run", "--bundle", runtime.put(bundle, id := runtime.new_id()), id, env=manager.env
    )
    manager.hears("STATUS=first")
    first = len(os.listdir(f"/proc/{running.process.pid}/fd"))
    manager.hears("STATUS=last")
    assert len(os.listdir(f"/proc/{running.process.pid}/fd")) == first
    running.wait().ok()


def test_last_words_reach_a_busy_manager(runtime: Runtime, manager: ServiceManager) -> None:
    """The container has ended, its messages wait in both sockets: the runtime stays for them, but not for ever."""
    bundle = runtime.bundle().ask(*(f"notify STATUS={number}" for number in range(18)))
    id = runtime.new_id()
    running = runtime.spawn("run", "--bundle", runtime.put(bundle, id), id, env=manager.env)
    running.says("STATUS=17")
    time.sleep(0.2)
    manager.hears("STATUS=17")
    running.wait().ok()
    assert manager.lines() == [f"STATUS={number}" for number in range(18)]
    deaf = runtime.spawn("run", "--bundle", runtime.put(bundle, id := runtime.new_id()), id, env=manager.env)
    deaf.wait(10).ok()
