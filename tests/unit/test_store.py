"""The store: ids, directories, locks between real processes, records that survive anything."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyrunc.errors import KernelError, NotFound, PyruncError
from pyrunc.store.record import BEGINNING, LAYOUT, Record, now
from pyrunc.store.root import choose
from pyrunc.store.store import START_SOCKET, STATE, Store, check_id
from tests.support.payload import REPOSITORY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"{tmp_path}/root")


def record_of(container_id: str, **more: object) -> Record:
    return Record(container_id, "/bundle", "/bundle/rootfs", **more)  # type: ignore[arg-type]


def script(store: Store, body: str) -> subprocess.Popen[str]:
    """A process that runs `body` with `store` and `say` at hand."""
    code = (
        f"import sys, time; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pyrunc.store.store import Store\nfrom pyrunc.store.record import Record\n"
        "from pyrunc.errors import PyruncError\n"
        f"store = Store({store.root!r})\n"
        "def say(word): print(word, flush=True)\n" + body
    )
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.parametrize("container_id", ["a", "A-b_c+d.e", "...", ".hidden", "-x", "0" * 255])
def test_valid_ids(container_id: str) -> None:
    check_id(container_id)


@pytest.mark.parametrize(
    "container_id",
    [".", "..", "a/b", "/", "a b", "a\n", "a\0", "é", "²", "a*", "../x", "a:b", "x" * 256, "\udcff"],
)
def test_invalid_ids(container_id: str, store: Store) -> None:
    for use in (check_id, store.create, store.open):
        with pytest.raises(PyruncError, match="invalid container ID format"):
            use(container_id)
    assert not os.path.exists(store.root)


def test_empty_id() -> None:
    with pytest.raises(PyruncError, match="container id cannot be empty"):
        check_id("")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(store: Store, mask: int) -> None:
    before = os.umask(mask)
    try:
        with store.create("one") as directory:
            directory.save(record_of("one"))
            assert stat.S_IMODE(os.stat(directory.path).st_mode) == 0o700
            assert stat.S_IMODE(os.stat(f"{directory.path}/{STATE}").st_mode) == 0o600
        assert stat.S_IMODE(os.stat(store.root).st_mode) == 0o700
    finally:
        os.umask(before)


def test_the_root_in_a_users_directory_is_sticky(tmp_path: Path) -> None:
    with Store(f"{tmp_path}/run/pyrunc", sticky=True).create("one"):
        assert stat.S_IMODE(os.stat(f"{tmp_path}/run/pyrunc").st_mode) == 0o1700


def test_an_id_in_use(store: Store) -> None:
    with store.create("one") as directory:
        with pytest.raises(PyruncError, match="container with given ID already exists"):
            store.create("one")
        directory.save(record_of("one"))
    with pytest.raises(PyruncError, match="container with given ID already exists"):
        store.create("one")
    store.create("two").close()


def test_what_a_killed_create_left_is_taken_over(store: Store) -> None:
    store.create("one").close()
    Path(store.root, "one", START_SOCKET).touch()
    with store.create("one") as directory:
        assert os.listdir(directory.path) == []


def test_somebodys_directory_is_not_taken_over(store: Store) -> None:
    foreign = Path(store.root, "documents")
    foreign.mkdir(parents=True)
    (foreign / "letter").write_text("dear")
    with pytest.raises(PyruncError, match="already exists"):
        store.create("documents")
    assert (foreign / "letter").read_text() == "dear"


def test_a_symbolic_link_is_no_container(store: Store, tmp_path: Path) -> None:
    os.mkdir(store.root)
    os.symlink(tmp_path, f"{store.root}/link")
    with pytest.raises(NotFound, match="container does not exist"):
        store.open("link")
    Path(store.root, "file").touch()
    with pytest.raises(NotFound):
        store.open("file")


def test_of_many_creates_at_once_exactly_one_wins(store: Store) -> None:
    body = (
        "say('ready'); sys.stdin.readline()\n"
        "try:\n"
        "    directory = store.create('one')\n"
        "    directory.save(Record('one', '/b', '/b/r'))\n"
        "    say('won')\n"
        "except PyruncError as error: say(str(error))\n"
        "sys.stdin.readline()\n"
    )
    for _ in range(5):
        racers = [script(store, body) for _ in range(4)]
        assert [heard(racer) for racer in racers] == ["ready"] * 4
        for racer in racers:
            assert racer.stdin
            racer.stdin.write("go\n")
            racer.stdin.flush()
        words = sorted(heard(racer) for racer in racers)
        assert words == ["container with given ID already exists"] * 3 + ["won"]
        for racer in racers:
            racer.communicate("end\n", timeout=10)
        with store.open("one") as directory, directory.lock():
            directory.remove()


def test_a_claimed_directory_is_the_one_at_its_path(store: Store) -> None:
    """Also when others remove the same id at the very moment."""
    body = (
        "import os\n"
        "end = time.monotonic() + 0.7; won = 0\n"
        "while time.monotonic() < end:\n"
        "    try: directory = store.create('one')\n"
        "    except PyruncError as error:\n"
        "        assert str(error) == 'container with given ID already exists', error\n"
        "        continue\n"
        "    with directory:\n"
        "        assert os.stat(directory.path).st_ino == os.fstat(directory.fd).st_ino\n"
        "        directory.save(Record('one', '/b', '/b/r'))\n"
        "        directory.remove()\n"
        "    won += 1\n"
        "say(won)\n"
    )
    racers = [script(store, body) for _ in range(4)]
    won = [racer.communicate(timeout=20)[0] for racer in racers]
    assert all(int(count or 0) > 10 for count in won), won


def test_the_lock_is_exclusive_and_ends_with_its_holder(store: Store) -> None:
    store.create("one").close()
    holder = script(store, "directory = store.open('one'); directory.lock(); say('held'); time.sleep(60)")
    assert heard(holder) == "held"
    with store.open("one") as directory:
        with pytest.raises(PyruncError, match="container one is being changed by another pyrunc process"):
            directory.lock(0.05)
        with pytest.raises(PyruncError, match="already exists"):
            store.create("one")
        assert directory.load() is None  # readers do not wait
        holder.kill()
        holder.communicate()
        with directory.lock():
            pass


def test_a_lock_waits_until_it_is_free(store: Store) -> None:
    store.create("one").close()
    holder = script(store, "d = store.open('one')\nwith d.lock(): say('held'); time.sleep(0.3); say('done')")
    assert heard(holder) == "held"
    begun = time.monotonic()
    with store.open("one") as directory, directory.lock():
        assert time.monotonic() - begun > 0.2
        assert heard(holder) == "done"
    holder.communicate(timeout=10)


def test_locking_a_directory_that_was_removed_meanwhile(store: Store) -> None:
    store.create("one").close()
    with store.open("one") as late:
        with store.open("one") as early, early.lock():
            early.remove()
        with pytest.raises(NotFound, match="container does not exist"):
            late.lock()
    with store.create("one") as fresh, store.open("one") as other:
        # The lock of the old directory does not stand for the new one.
        assert os.fstat(fresh.fd).st_ino == os.fstat(other.fd).st_ino


def test_the_directory_is_not_inherited(store: Store) -> None:
    with store.create("one") as directory:
        assert not os.get_inheritable(directory.fd)


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    record = record_of(
        "one",
        annotations={"a.b": "é\n", "c": ""},
        hooks={"poststop": [{"path": "/bin/true", "timeout": 3}]},
        owner=1000,
        creator=(12, 34),
        pid=56,
        start_time=1 << 40,
        pid_namespace_private=False,
        cgroup={"version": 1, "homes": [["/c/x", "/c", ["pids"]]], "made": ["/c/x"], "rootless": False},
        texts=[("step", "process.args")],
        texts_from=7,
        ready=True,
    )
    with store.create("one") as directory:
        assert directory.load() is None
        directory.save(record)
        again = directory.load()
    assert again
    for name in Record.__slots__:
        assert getattr(again, name) == getattr(record, name), name


def test_a_record_of_another_version(store: Store) -> None:
    with store.create("one") as directory:
        path = Path(directory.path, STATE)
        path.write_text(json.dumps({"layout": 1, "id": "one", "bundle": "/b", "from_the_future": [1]}))
        record = directory.load()
        assert record and record.bundle == "/b" and record.pid == 0 and record.ready is False
        directory.save(record)
        assert json.loads(path.read_text())["from_the_future"] == [1]
        path.write_text(json.dumps({"layout": LAYOUT + 1, "id": "one", "pid": 7, "cgroup": 8, "ready": True}))
        record = directory.load()
        assert record and record.newer and (record.pid, record.cgroup, record.ready) == (7, None, True)
        path.write_text(json.dumps({"layout": LAYOUT + 1, "id": "one", "pid": "7"}))
        with pytest.raises(PyruncError, match="pid is a str"):
            directory.load()


def test_a_state_that_another_runtime_wrote(store: Store) -> None:
    with store.create("one") as directory:
        Path(directory.path, STATE).write_text(json.dumps({"id": "one", "init_process_pid": 7}))
        with pytest.raises(PyruncError, match="was not written by pyrunc") as caught:
            directory.load()
        assert caught.value.code == "foreign-directory"


def test_every_record_begins_so_that_the_rest_may_be_lost(store: Store) -> None:
    with store.create("one") as directory:
        record = record_of("one")
        record.extra = {"a": 1}
        directory.save(record)
        assert Path(directory.path, STATE).read_bytes().startswith(BEGINNING)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"layout": 1}', '{"layout": 1, "id": "other"}',
     '{"layout": 1, "id": "one", "pid": "1"}', '{"layout": 1, "id": "one", "id": "one"}', "\xff"],
)  # fmt: skip
def test_a_damaged_record_says_so_and_what_to_do(store: Store, text: str) -> None:
    with store.create("one") as directory:
        Path(directory.path, STATE).write_bytes(text.encode("latin-1"))
        with pytest.raises(PyruncError, match=r"state\.json is damaged: .*delete --force") as caught:
            directory.load()
        assert caught.value.code == "damaged-state"


def test_a_reader_never_sees_half_a_record(store: Store) -> None:
    with store.create("one") as directory:
        directory.save(record_of("one", annotations={"n": "0" * 50000}))
        body = (
            "d = store.open('one')\nsay('on')\nwhile True:\n"
            "    r = d.load()\n    assert r and len(set(r.annotations['n'])) == 1\n"
        )
        reader = script(store, body)
        assert heard(reader) == "on"
        for number in range(300):
            directory.save(record_of("one", annotations={"n": str(number % 10) * 50000}))
        assert reader.poll() is None
        reader.kill()
        reader.communicate()
        assert os.listdir(directory.path) == [STATE]


def test_a_failed_save_leaves_the_old_record(store: Store) -> None:
    with store.create("one") as directory:
        directory.save(record_of("one"))
        child = os.fork()
        if child == 0:
            import resource
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
            try:
                directory.save(record_of("one", owner=7))
            except KernelError as error:
                os._exit(0 if "state.json: file too large" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        record = directory.load()
        assert record and record.owner == 0
        assert os.listdir(directory.path) == [STATE]


def test_remove_takes_all(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    with store.create("one") as directory:
        directory.save(record_of("one"))
        os.mkdir(f"{directory.path}/notify")
        Path(directory.path, "notify", "x").touch()
        os.symlink(outside, f"{directory.path}/link")
        directory.remove()
    assert os.listdir(store.root) == []
    assert (outside / "kept").exists()


def test_remove_takes_directories_however_deep(store: Store) -> None:
    """Deeper than the interpreter's stack, than paths, than descriptors; also where another `delete` had begun."""
    with store.create("one") as directory:
        directory.save(record_of("one"))
        os.mkdir("notify", dir_fd=directory.fd)
        for top in ("notify", ".removed-1"):
            os.makedirs(f"{directory.path}/{top}/beside/it")
            below = os.open(f"{directory.path}/{top}", os.O_RDONLY)
            for _ in range(3000):
                os.mkdir("d", dir_fd=below)
                deeper = os.open("d", os.O_RDONLY, dir_fd=below)
                os.close(below)
                below = deeper
            os.close(below)
        assert directory.is_own()
        try:
            directory.remove()
        finally:  # pytest, too, removes only what is not as deep
            subprocess.run(["rm", "-rf", directory.path], check=True)
    assert os.listdir(store.root) == []


def test_ids_are_sorted_and_leave_out_our_own(store: Store) -> None:
    assert store.ids() == []
    for container_id in ("b", "a", "c"):
        store.create(container_id).close()
    os.mkdir(f"{store.root}/.cache")
    assert store.ids() == ["a", "b", "c"]


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KernelError, match=r"make state directory .*: not a directory"):
        Store(f"{tmp_path}/file/root").create("one")


def test_time_has_nanoseconds_without_trailing_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    for nanoseconds, text in (
        (1_700_000_000_120_000_000, "22:13:20.12Z"),
        (1_700_000_000_000_000_000, "22:13:20Z"),
    ):
        monkeypatch.setattr(time, "time_ns", lambda value=nanoseconds: value)
        assert now() == f"2023-11-14T{text}"


@pytest.mark.parametrize(
    ("given", "user", "runtime", "expected"),
    [
        (None, "root", "", ("/run/pyrunc", False)),
        (None, "root", "/run/user/0", ("/run/pyrunc", False)),
        (None, None, "/run/user/0", ("/run/pyrunc", False)),  # root of the machine itself
        ("/x/../y", "root", "", ("/y", False)),
    ],
)
def test_the_root_of_root(
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    user: str | None,
    runtime: str,
    expected: tuple[str, bool],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    if user is None:
        monkeypatch.delenv("USER", raising=False)
    else:
        monkeypatch.setenv("USER", user)
    assert choose(given) == expected


def test_the_root_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert choose(None) == ("/run/user/1000/pyrunc", True)
    assert choose("/x") == ("/x", False)
    for useless in ("", "relative"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
        assert choose(None) == ("/run/pyrunc", False)


def test_what_is_no_container_has_no_id(store: Store) -> None:
    """Files, links and names that nobody can give a container may lie below a mistaken --root."""
    store.create("one").close()
    root = Path(store.root)
    for name in ("my dir", ".hidden", "ümlaut"):
        (root / name).mkdir()
    (root / "file").touch()
    (root / "link").symlink_to("one")
    assert store.ids() == ["one"]
