"""Credentials, capabilities, working directory, look-up and execve, as pyrunc-init carries them out."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import KernelError
from pyrunc.kernel.constants import AT_FDCWD
from pyrunc.kernel.paths import open_how, open_in_root
from pyrunc.kernel.structs import OPEN_HOW_SIZE
from pyrunc.linux import (
    capabilities,
    credentials,
    cwd,
    environment,
    executable,
    hostname,
    limits,
    personality,
    procfs,
    sysctl,
)
from pyrunc.plan.host import Host, probe
from pyrunc.plan.program import Program
from tests.support import payload
from tests.support import program as init

NEWUTS, NEWNET, NEWIPC, NEWUSER = 0x04000000, 0x40000000, 0x08000000, 0x10000000
HOST = Host(0, 0, False, {})


def able() -> Host:
    host = Host(0, 0, False, {})
    host.capabilities, host.last_capability = capabilities.passable()
    return host


def config(**process: Any) -> Any:
    return {"process": {"cwd": "/", "args": ["/bin/true"], **process}, "linux": {}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small root for chroot(2), with the payload in it."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:  # pytest's folders are closed to other users
        if parent.stat().st_mode & 0o5 != 0o5 and parent != Path("/"):
            parent.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "testify").write_bytes(payload.testify().read_bytes())
    (tmp_path / "bin" / "testify").chmod(0o755)
    return tmp_path


def enter(program: Program, root: Path) -> None:
    program.call("chroot", str(root), step="change the root")
    program.call("chdir", "/", step="go to the root")


def status_of(emit: Callable[[Program], None], root: Path, flags: int = 0) -> dict[str, Any]:
    """/proc/self/status of the process after the steps, read by itself through the host's /proc."""
    program = init.begin()
    output = init.Output()
    fd, size = program.register(), program.register()
    program.call("openat", AT_FDCWD, "/proc/self/status", 0, step="open status", into=fd)
    emit(program)
    buffer = program.buffer(8192)
    program.call("read", fd, buffer, 8191, step="read status", into=size)
    program.call("write", program.inherit("out"), buffer, size, step="write it")
    program.call("exit_group", 0, step="exit")
    outcome = init.run(program, flags, {"out": output.fd})
    assert outcome.failure == "" and outcome.code == 0
    lines = [line.split(":", 1) for line in output.text.splitlines()]
    return {name: value.split() for name, value in lines}


# -- credentials and capabilities --------------------------------------------------------------------------


def caps(**sets: list[str]) -> dict[str, list[str]]:
    return {kind: [f"CAP_{name}" for name in names] for kind, names in sets.items()}


def emit_all(asked: Any) -> Callable[[Program], None]:
    def emit(program: Program) -> None:
        capabilities.plan_before_user(asked, able(), program)
        credentials.plan_user(asked, able(), program)
        capabilities.plan_after_user(asked, able(), program)
        credentials.plan_umask(asked, able(), program)
        credentials.plan_no_new_privileges(asked, able(), program)

    return emit


def test_everything_of_a_user(root: Path) -> None:
    asked = config(
        user={"uid": 1000, "gid": 1001, "additionalGids": [7, 1002], "umask": 0o27},
        noNewPrivileges=True,
        capabilities=caps(
            bounding=["KILL", "CHOWN", "SYS_RESOURCE"],
            permitted=["KILL", "CHOWN"],
            effective=["CHOWN"],
            inheritable=["KILL"],
            ambient=["KILL"],
        ),
    )
    status = status_of(emit_all(asked), root)
    assert status["Uid"] == ["1000"] * 4 and status["Gid"] == ["1001"] * 4
    assert status["Groups"] == ["7", "1002"]
    assert status["Umask"] == ["0027"]
    assert status["NoNewPrivs"] == ["1"]
    bounding = 0x21 | capabilities.passable()[0] & 1 << 24
    wanted = {"CapBnd": bounding, "CapPrm": 0x21, "CapEff": 0x1, "CapInh": 0x20, "CapAmb": 0x20}
    assert {name: int(status[name][0], 16) for name in wanted} == wanted


def test_nothing_asked(root: Path) -> None:
    status = status_of(emit_all(config()), root)
    assert [int(status[name][0], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")] == [
        0
    ] * 5
    assert status["Groups"] == [] and status["Umask"] == ["0022"] and status["NoNewPrivs"] == ["0"]


def test_all_that_can_be_had(root: Path) -> None:
    """A privileged container: every name at once, CAP_SYS_RESOURCE included where the host lacks it."""
    names = list(capabilities.NAMES)
    sets: Any = dict.fromkeys(("bounding", "permitted", "effective", "inheritable", "ambient"), names)
    status = status_of(emit_all(config(capabilities=sets)), root)
    assert {int(status[name][0], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")} == {
        capabilities.passable()[0]
    }


def test_unmapped_user_in_an_unknown_namespace() -> None:
    """Where the maps are not known beforehand, the kernel says it; the label says what to look at."""
    program = init.begin()
    credentials.plan_user(config(user={"uid": 5, "gid": 0}), Host(0, 0, True, {}), program)
    outcome = init.run(program, NEWUSER)
    assert (
        outcome.failure == "set group id to 0, which must be mapped in its user namespace: invalid argument"
    )
    assert outcome.failures[0].path == "process.user.gid"


def test_stdio_owner(tmp_path: Path) -> None:
    """Pipes and written files go to the user; /dev/null, and a file on stdin, stay."""
    file = tmp_path / "file"
    file.write_text("x")
    null = os.stat("/dev/null")
    reader, writer = os.pipe()
    cases = [
        (0, os.open(file, os.O_RDONLY), 0),
        (1, os.open(file, os.O_RDWR), 1000),
        (1, os.open("/dev/null", os.O_RDWR), 0),
        (0, os.open("/dev/zero", os.O_RDWR), 0),
        (2, writer, 1000),
        (0, reader, 1000),
    ]
    for number, fd, owner in cases:
        os.fchown(fd, 0, -1) if fd in (reader, writer) else None
        program = init.begin()
        slot = program.inherit("stdio")
        for other in (0, 1, 2):
            program.call("dup3", program.inherit("null"), other, 0, step="stdio from /dev/null")
        program.call("dup3", slot, number, 0, step="attach")
        credentials.plan_stdio_owner(config(user={"uid": 1000, "gid": 5}), HOST, program)
        program.call("exit_group", 0, step="exit")
        empty = os.open("/dev/null", os.O_RDWR)
        outcome = init.run(program, 0, {"stdio": fd, "null": empty})
        os.close(empty)
        assert outcome.failure == "" and (os.fstat(fd).st_uid, os.fstat(fd).st_gid) == (owner, 0), number
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchown(fd, 0, 0)
        os.close(fd)
    assert (os.stat("/dev/null").st_uid, os.stat("/dev/null").st_mode) == (null.st_uid, null.st_mode)


# -- working directory -------------------------------------------------------------------------------------


def where(root: Path, asked: Any, *, leak: bool = False) -> init.Outcome:
    """Create and enter the working directory of `asked`; then `here` is made in it."""
    program = init.begin()
    supplies = {}
    if leak:
        # A descriptor of the host that init still has, as in CVE-2024-21626.
        supplies["leak"] = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        program.inherit("leak")
    enter(program, root)
    cwd.plan_create(asked, HOST, program)
    again = cwd.plan_enter_before_user(asked, HOST, program)
    credentials.plan_user(asked, HOST, program)
    cwd.plan_enter_after_user(asked, HOST, program, again)
    program.call("mkdirat", AT_FDCWD, "here", 0o700, step="make here", tolerate=(errno.EACCES, errno.EROFS))
    program.call("exit_group", 0, step="exit")
    outcome = init.run(program, 0, supplies)
    for fd in supplies.values():
        os.close(fd)
    return outcome


@pytest.mark.parametrize(
    "path,place",
    [
        ("/", ""),
        ("/bin", "bin"),
        ("/new", "new"),
        ("/new/and/deep", "new/and/deep"),
        ("//new/./x/", "new/x"),
        ("/bin/../new", "new"),
        ("/new/../other", "other"),
        ("/../../new", "new"),
        ("/absolute/deeper", "bin/deeper"),
        ("/up/deeper", "bin/deeper"),
    ],
)
def test_cwd_is_made_and_entered(root: Path, path: str, place: str) -> None:
    (root / "absolute").symlink_to("/bin")
    (root / "up").symlink_to("../../../../bin")
    outcome = where(root, config(cwd=path))
    assert outcome.failure == ""
    assert (root / place / "here").is_dir()
    if place:
        assert (root / place).stat().st_mode & 0o777 == 0o755


@pytest.fixture
def renaming(tmp_path: Path) -> Iterator[None]:
    """Somebody renames a file, somewhere on the host, all the time."""
    (tmp_path / "a").touch()
    script = "import os\nprint(flush=True)\nwhile True: os.rename('a', 'b'); os.rename('b', 'a')"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    yield
    process.kill()
    process.stdout.close()
    process.wait()


@pytest.mark.usefixtures("renaming")
def test_renames_elsewhere_do_not_disturb_a_path(root: Path) -> None:
    """openat2(2) says EAGAIN when it cannot tell whether ".." still leads into the root, so now and then here."""
    path = "/bin/.." * 9
    program = init.begin()
    how = program.data(open_how(os.O_PATH))
    top = os.open(root, os.O_PATH | os.O_DIRECTORY)
    place, fd = program.string(path), program.register()
    slot = program.inherit("top")
    for _ in range(20000):
        program.call("openat2", slot, place, how, OPEN_HOW_SIZE, step="open it", into=fd)
        program.call("close", fd, step="close it")
    program.call("exit_group", 0, step="exit")
    assert init.run(program, 0, {"top": top}).failure == ""
    for _ in range(20000):
        os.close(open_in_root(top, path, os.O_PATH))
    os.close(top)


def test_cwd_is_a_file(root: Path) -> None:
    outcome = where(root, config(cwd="/bin/testify"))
    assert outcome.failure == 'create cwd ("/bin/testify") set in config.json: not a directory'
    assert outcome.failures[0].path == "process.cwd"


def test_cwd_is_a_dangling_link(root: Path) -> None:
    (root / "link").symlink_to("/nowhere")
    assert where(root, config(cwd="/link")).failure.startswith('create cwd ("/link") set in config.json: ')
    assert not (root / "nowhere").exists()


def test_cwd_through_a_descriptor_of_the_host(root: Path) -> None:
    """CVE-2024-21626: /proc/self/fd/N of the image's own /proc must not lead out."""
    (root / "proc").mkdir()
    program = init.begin()
    program.call("unshare", 0x20000, step="own mount namespace")
    program.call("mount", "none", "/", 0, 0x4000 | 0x40000, 0, step="private")
    program.call("mount", "proc", str(root / "proc"), "proc", 0, 0, step="mount proc")
    leak = program.inherit("leak")
    enter(program, root)
    asked = config(cwd=f"/proc/self/fd/{leak}/tmp")
    again = cwd.plan_enter_before_user(asked, HOST, program)
    cwd.plan_enter_after_user(asked, HOST, program, again)
    program.call("exit_group", 0, step="exit")
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    outcome = init.run(program, 0, {"leak": fd})
    os.close(fd)
    assert outcome.failure.endswith("set in config.json failed: too many levels of symbolic links")


def test_cwd_outside_is_noticed(root: Path) -> None:
    """Even if init stood in a directory of the host: getcwd(2) tells."""
    program = init.begin()
    leak = program.inherit("leak")
    enter(program, root)
    asked = config()
    again = cwd.plan_enter_before_user(asked, HOST, program)
    program.call("fchdir", leak, step="stand outside")
    cwd.plan_enter_after_user(asked, HOST, program, again)
    program.call("exit_group", 0, step="exit")
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    outcome = init.run(program, 0, {"leak": fd})
    os.close(fd)
    assert "outside of the container's root" in outcome.failure and outcome.code == 1


def test_cwd_that_only_the_user_may_enter(root: Path) -> None:
    """The first attempt, made without CAP_DAC_OVERRIDE, is refused; the second is the user's."""
    (root / "private").mkdir(mode=0o700)
    os.chown(root / "private", 1000, 1000)
    asked = config(
        cwd="/private",
        user={"uid": 1000, "gid": 1000},
        capabilities=caps(bounding=[], permitted=["SETUID", "SETGID"]),
    )
    program = init.begin()
    enter(program, root)
    asked["process"]["capabilities"]["effective"] = asked["process"]["capabilities"]["permitted"]
    capabilities.plan_after_user(asked, able(), program)
    again = cwd.plan_enter_before_user(asked, HOST, program)
    credentials.plan_user(asked, HOST, program)
    cwd.plan_enter_after_user(asked, HOST, program, again)
    program.call("mkdirat", AT_FDCWD, "here", 0o700, step="make here")
    program.call("exit_group", 0, step="exit")
    assert init.run(program).failure == ""
    assert (root / "private" / "here").is_dir()


def test_cwd_that_only_root_may_enter(root: Path) -> None:
    (root / "private").mkdir(mode=0o700)
    assert where(root, config(cwd="/private", user={"uid": 1000, "gid": 1000})).failure == ""


# -- look-up and execve ------------------------------------------------------------------------------------


def execute(
    root: Path, *args: str, env: tuple[str, ...] = ("PATH=/bin",), uid: int = 0
) -> tuple[init.Outcome, str]:
    asked = config(args=list(args), env=list(env), user={"uid": uid, "gid": 0})
    program = init.begin()
    output = init.Output()
    output.attach(program)
    enter(program, root)
    envp, _ = environment.plan(asked, program)
    credentials.plan_user(asked, HOST, program)
    found = executable.plan_find(asked, HOST, program)
    executable.plan_exec(asked, program, found, envp)
    return init.run(program, 0, {"out": output.fd}), output.text


@pytest.mark.parametrize(
    "name,env",
    [
        ("testify", ("PATH=/no:/bin",)),
        ("/bin/testify", ("PATH=/no",)),
        ("bin/testify", ()),
        ("./bin/../bin/testify", ()),
        ("testify", ()),
        ("testify", ("PATH=bin",)),
        ("testify", ("PATH=/directory:/file:/bin",)),
    ],
)
def test_found(root: Path, name: str, env: tuple[str, ...]) -> None:
    (root / "directory" / "testify").mkdir(parents=True)
    (root / "file").mkdir()
    (root / "file" / "testify").write_text("x")
    outcome, text = execute(root, name, "args", "--", "env", env=env)
    assert outcome.failure == "" and outcome.code == 0
    assert f'["{name}", "args", "--", "env"]' in text.replace('","', '", "')
    assert "HOME=/" in text


@pytest.mark.parametrize(
    "name,text",
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("", 'exec: "": executable file not found in $PATH'),
        ("/bin/nosuch", 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
        ("/bin/testify/x", 'exec: "/bin/testify/x": stat /bin/testify/x: not a directory'),
        ("/loop", 'exec: "/loop": stat /loop: too many levels of symbolic links'),
        ("/bin", 'exec: "/bin": permission denied'),
        ("/fifo", 'exec: "/fifo": permission denied'),
        ("/text", 'exec: "/text": permission denied'),
        ("text", 'exec: "text": permission denied'),
    ],
)
def test_not_found(root: Path, name: str, text: str) -> None:
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo", 0o755)
    (root / "text").write_text("x")
    outcome, _ = execute(root, name, env=("PATH=/:/bin",))
    assert outcome.failure == text
    assert outcome.failures[0].path == "process.args"


def test_look_up_is_the_users(root: Path) -> None:
    """Executable for root, and not for the user that the program runs as."""
    (root / "bin" / "testify").chmod(0o700)
    assert execute(root, "testify", "pid")[0].code == 0
    assert execute(root, "testify", "pid", uid=1000)[0].failure == 'exec: "testify": permission denied'


def test_failing_execve(root: Path) -> None:
    (root / "bin" / "script").write_text("#!/no/such\n")
    (root / "bin" / "script").chmod(0o755)
    assert execute(root, "script")[0].failure == "exec script: no such file or directory"


# -- names, parameters, personality ------------------------------------------------------------------------


def test_names_and_personality() -> None:
    program = init.begin()
    output = init.Output()
    output.attach(program)
    asked: Any = {"hostname": "inner", "domainname": "of.it", "linux": {"personality": {"domain": "LINUX32"}}}
    hostname.plan(asked, HOST, program)
    personality.plan(asked, HOST, program)
    program.call(
        "execve",
        str(payload.testify()),
        program.strings(["testify", "uname"]),
        program.strings([]),
        step="exec",
    )
    outcome = init.run(program, NEWUTS, {"out": output.fd})
    assert outcome.failure == ""
    assert all(word in output.text for word in ('"inner"', '"of.it"', '"i686"'))


def test_sysctl_is_written_in_its_namespace() -> None:
    program = init.begin()
    proc = procfs.plan_open(program)
    asked: Any = {"linux": {"sysctl": {"net.ipv4.ip_default_ttl": "77", "kernel/shmmax": "123456"}}}
    sysctl.plan(asked, HOST, program, proc)
    fd, size = program.register(), program.register()
    buffer = program.buffer(64)
    for name in ("net/ipv4/ip_default_ttl", "kernel/shmmax"):
        program.call("openat", AT_FDCWD, f"/proc/sys/{name}", 0, step="open", into=fd)
        program.call("read", fd, buffer, 64, step="read", into=size)
        program.call("write", program.inherit("out"), buffer, size, step="tell")
    program.call("exit_group", 0, step="exit")
    output = init.Output()
    outcome = init.run(program, NEWNET | NEWIPC, {"out": output.fd})
    assert (outcome.failure, output.text) == ("", "77\n123456\n")
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() != "77\n"


@pytest.mark.parametrize(
    "key,value,word",
    [
        ("net.ipv4.nosuch", "1", "no such file or directory"),
        ("net.ipv4.ip_default_ttl", "x", "invalid argument"),
    ],
)
def test_sysctl_that_fails(key: str, value: str, word: str) -> None:
    program = init.begin()
    proc = procfs.plan_open(program)
    asked: Any = {"linux": {"sysctl": {key: value}}}
    sysctl.plan(asked, HOST, program, proc)
    outcome = init.run(program, NEWNET)
    assert outcome.failure == f"set sysctl {key} to {value}: {word}"
    assert outcome.failures[0].path == f"linux.sysctl.{key}"


# -- limits, from outside ----------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        import time

        try:
            time.sleep(60)
        finally:
            os._exit(0)
    yield pid
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_rlimits(sleeper: int) -> None:
    wanted = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": limits.INFINITY},
    ]
    asked = config(rlimits=wanted)
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        wanted.pop()
    limits.apply_rlimits(asked, sleeper)
    assert resource.prlimit(sleeper, resource.RLIMIT_NOFILE) == (100, 200)
    assert resource.prlimit(sleeper, resource.RLIMIT_CORE)[0] == 0


def test_limit_that_is_refused(sleeper: int) -> None:
    nr_open = int(Path("/proc/sys/fs/nr_open").read_text())
    with pytest.raises(KernelError) as caught:
        limits.apply_rlimits(
            config(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1, "hard": nr_open + 1}]), sleeper
        )
    assert str(caught.value) == (
        f"set RLIMIT_NOFILE to soft 1, hard {nr_open + 1}: operation not permitted "
        f"(fs.nr_open of this machine allows at most {nr_open})"
    )


def test_limit_above_the_hard_one(sleeper: int) -> None:
    if capabilities.passable()[0] >> 24 & 1:
        pytest.skip("this host has CAP_SYS_RESOURCE, so no limit is refused")
    resource.prlimit(sleeper, resource.RLIMIT_CORE, (0, 4096))
    with pytest.raises(KernelError) as caught:
        limits.apply_rlimits(config(rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 8192}]), sleeper)
    assert "more than the present hard limit 4096 takes CAP_SYS_RESOURCE" in str(caught.value)


def test_oom_score(sleeper: int) -> None:
    file = Path(f"/proc/{sleeper}/oom_score_adj")
    before = file.read_text()
    limits.apply_oom_score_adj(config(), sleeper)
    assert file.read_text() == before
    limits.apply_oom_score_adj(config(oomScoreAdj=321), sleeper)
    assert file.read_text() == "321\n"


def test_oom_score_that_is_refused(sleeper: int) -> None:
    if capabilities.passable()[0] >> 24 & 1:
        pytest.skip("this host has CAP_SYS_RESOURCE, so no score is refused")
    with pytest.raises(KernelError) as caught:
        limits.apply_oom_score_adj(config(oomScoreAdj=-999), sleeper)
    assert str(caught.value).startswith("set oomScoreAdj to -999: permission denied (it is ")


def test_probe_knows_the_capabilities() -> None:
    assert (probe().capabilities, probe().last_capability) == capabilities.passable()
