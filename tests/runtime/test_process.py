"""`process`: what the program finds about itself (config.md, "Process")."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from tests.support.runtime import Runtime

CAP_CHOWN, CAP_KILL, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN = 0, 5, 10, 21


def test_args(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["args"] = ["testify", "args", "--", "note", "", "a b", "ünï"]
    said = runtime.run(bundle).testimony
    assert said["args"] == ["testify", "args", "--", "note", "", "a b", "\xc3\xbcn\xc3\xaf"]


def test_many_and_long_args(runtime: Runtime) -> None:
    bundle = runtime.bundle().ask("args")
    bundle.process["args"] += ["--", *(["--"] * 2000), "x" * 100000]
    # the payload refuses the unknown command at the end, after it has told its arguments
    outcome = runtime.run(bundle)
    assert outcome.status == 99 and len(outcome.out) > 100000


@pytest.mark.parametrize(
    "path,env,found",
    [
        ("testify", ["PATH=/nowhere:/bin"], True),
        ("testify", ["PATH=/nowhere"], False),
        ("/bin/testify", ["PATH=/nowhere"], True),
        ("bin/testify", ["PATH=/nowhere"], True),
        ("./bin/testify", [], True),
        ("../bin/testify", [], True),
    ],
)
def test_program_is_looked_up_like_execvp(runtime: Runtime, path: str, env: list[str], found: bool) -> None:
    bundle = runtime.bundle()
    bundle.process["args"] = [path, "pid"]
    bundle.process["env"] = env
    if found:
        assert runtime.run(bundle).ok().testimony["pid"] == 1
    else:
        runtime.run(bundle).fails('exec: "testify"', "executable file not found in $PATH")


def test_look_up_passes_over_what_is_not_executable(runtime: Runtime) -> None:
    """As execvp: a directory or a file without the execute bit on PATH is passed over."""
    bundle = runtime.bundle().ask("pid")
    (bundle.rootfs / "a" / "testify").mkdir(parents=True)
    (bundle.rootfs / "b").mkdir()
    (bundle.rootfs / "b" / "testify").write_text("text")
    bundle.process["env"] = ["PATH=/a:/b:/bin"]
    assert runtime.run(bundle).ok().testimony["pid"] == 1


def test_env(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["env"] = ["PATH=/bin", "A=1", "EMPTY=", "B=x=y", "A=2", "HOME=/area"]
    env = runtime.ask(bundle, "env")["env"]
    assert sorted(env) == ["A=2", "B=x=y", "EMPTY=", "HOME=/area", "PATH=/bin"]


@pytest.mark.parametrize("entry", ["noequals", "=empty", ""])
def test_malformed_env(runtime: Runtime, entry: str) -> None:
    bundle = runtime.bundle()
    bundle.process["env"].append(entry)
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("env")
    before.assert_unchanged()


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "uid,given,home",
    [
        (0, None, "/root"),
        (1000, None, "/home/ann"),
        (4321, None, "/"),
        (0, "HOME=/area", "/area"),
        (0, "HOME=", "/root"),
    ],
)
def test_home(runtime: Runtime, uid: int, given: str | None, home: str) -> None:
    """HOME comes from the container's passwd file if it is not given."""
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": uid, "gid": 0}
    if given is not None:
        bundle.process["env"].append(given)
    assert f"HOME={home}" in runtime.ask(bundle, "env")["env"]


def test_home_with_hostile_passwd(runtime: Runtime) -> None:
    """The image's /etc/passwd may be anything; a FIFO must not block, a link must not leave the root."""
    bundle = runtime.bundle()
    (bundle.rootfs / "etc" / "passwd").unlink()
    os.mkfifo(bundle.rootfs / "etc" / "passwd")
    # Even opening it would have an effect, with a device on the hardware: this writer waits for a reader.
    with subprocess.Popen(["sh", "-c", f"exec 9> {bundle.rootfs}/etc/passwd"]) as writer:
        try:
            assert "HOME=/" in runtime.ask(bundle, "env")["env"]
            assert writer.poll() is None, "the FIFO was opened"
        finally:
            writer.kill()


def test_home_of_passwd_through_absolute_link(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "etc" / "passwd").unlink()
    (bundle.rootfs / "etc" / "passwd").symlink_to("/etc/real")
    (bundle.rootfs / "etc" / "real").write_text("root:x:0:0:root:/of-the-image:/bin/sh\n")
    assert "HOME=/of-the-image" in runtime.ask(bundle, "env")["env"]


@pytest.mark.parametrize("cwd", ["/", "/area", "/bin/../area", "/tmp/"])
def test_cwd(runtime: Runtime, cwd: str) -> None:
    bundle = runtime.bundle()
    bundle.process["cwd"] = cwd
    assert runtime.ask(bundle, "cwd")["cwd"] == os.path.normpath(cwd)


def test_cwd_that_is_missing_is_made(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["cwd"] = "/made/for/it"
    said = runtime.ask(bundle, "cwd", "stat /made/for/it")
    assert said["cwd"] == "/made/for/it"
    assert (said["stat /made/for/it"]["mode"], said["stat /made/for/it"]["uid"]) == (0o755, 0)


def test_cwd_through_a_link_of_the_image(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "link").symlink_to("/area")
    bundle.process["cwd"] = "/link"
    assert runtime.ask(bundle, "cwd")["cwd"] == "/area"


@pytest.mark.needs_root
def test_cwd_closed_to_root_without_capabilities_but_open_to_the_user(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "area").chmod(0o700)
    os.chown(bundle.rootfs / "area", 1000, 1000)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["cwd"] = "/area"
    assert runtime.ask(bundle, "cwd")["cwd"] == "/area"


@pytest.mark.needs_root
def test_user(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 1002, 0], "umask": 0o27}
    ids = runtime.ask(bundle, "ids")["ids"]
    assert ids["uid"] == [1000] * 3 and ids["gid"] == [1001] * 3
    assert set(ids["groups"]) - {1001} == {5, 1002, 0}
    assert ids["umask"] == 0o27


@pytest.mark.needs_root
def test_no_additional_gids_means_none(runtime: Runtime) -> None:
    """The caller's groups are dropped."""
    bundle = runtime.bundle()
    outcome = runtime.run(bundle.ask("ids"), extra_groups=[4, 24])
    assert set(outcome.ok().testimony["ids"]["groups"]) <= {0}


def test_umask_is_022_when_not_given(runtime: Runtime) -> None:
    """As runc and crun, whatever the caller's is."""
    outcome = runtime.run(runtime.bundle().ask("ids"), umask=0o077)
    assert outcome.ok().testimony["ids"]["umask"] == 0o22


def test_umask_zero(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["user"]["umask"] = 0
    assert runtime.ask(bundle, "ids")["ids"]["umask"] == 0


def caps(**sets: list[str]) -> dict[str, Any]:
    return {name: [f"CAP_{cap}" for cap in names] for name, names in sets.items()}


def test_capabilities(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["capabilities"] = caps(
        bounding=["CHOWN", "KILL", "NET_BIND_SERVICE", "SYS_ADMIN"],
        permitted=["CHOWN", "KILL", "NET_BIND_SERVICE"],
        effective=["CHOWN", "KILL"],
        inheritable=["KILL", "CHOWN"],
        ambient=["KILL"],
    )
    said = runtime.ask(bundle, "caps")["caps"]
    # root's execve gives back everything that is bounding and (inheritable or bounding): capabilities(7)
    assert said["bounding"] == [CAP_CHOWN, CAP_KILL, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN]
    assert said["inheritable"] == [CAP_CHOWN, CAP_KILL]


@pytest.mark.needs_root
def test_capabilities_of_a_user(runtime: Runtime) -> None:
    """Only ambient ones survive the execve of an ordinary user."""
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    some = ["CHOWN", "KILL", "NET_BIND_SERVICE"]
    bundle.process["capabilities"] = caps(
        bounding=some, permitted=some, effective=some, inheritable=some, ambient=["NET_BIND_SERVICE"]
    )
    said = runtime.ask(bundle, "caps")["caps"]
    assert said["effective"] == said["permitted"] == said["ambient"] == [CAP_NET_BIND_SERVICE]
    assert said["inheritable"] == [CAP_CHOWN, CAP_KILL, CAP_NET_BIND_SERVICE]


def test_no_capabilities(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["capabilities"] = {}
    said = runtime.ask(bundle, "caps")["caps"]
    assert all(names == [] for names in said.values()), said


def test_inheritable_stays_empty(runtime: Runtime) -> None:
    """CVE-2022-29162 and its kin."""
    assert runtime.ask(runtime.bundle(), "caps")["caps"]["inheritable"] == []


@pytest.mark.needs_root
def test_capability_that_cannot_be_granted_is_a_warning(runtime: Runtime) -> None:
    """It is outside the caller's bounding set: config.md wants a warning, not an error."""
    runtime.prefix = ["capsh", "--drop=cap_sys_boot", "--", "-c", 'exec "$@"', "bash"]
    bundle = runtime.bundle().ask("caps")
    wanted = ["KILL", "SYS_BOOT"]
    bundle.process["capabilities"] = caps(bounding=wanted, permitted=wanted, effective=wanted)
    outcome = runtime.run(bundle).ok()
    assert outcome.testimony["caps"]["effective"] == [CAP_KILL]
    (line,) = outcome.err.splitlines()
    assert "level=warning" in line and "CAP_SYS_BOOT" in line


def test_low_limit_of_open_files_with_many_masked_paths(runtime: Runtime) -> None:
    """init is under the container's limit, too, when it hides paths."""
    bundle = runtime.bundle()
    masked = [f"/many/{number}" for number in range(20)]
    for path in masked:
        (bundle.rootfs / path[1:]).mkdir(parents=True)
        (bundle.rootfs / path[1:] / "secret").touch()
    bundle.linux["maskedPaths"] = [*masked, "/proc/keys", "/sys/firmware"]
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10}]
    said = runtime.ask(bundle, "ls /many/0", "ls /many/19", "rlimits")
    assert said["ls /many/0"] == said["ls /many/19"] == []
    assert said["rlimits"]["RLIMIT_NOFILE"] == [10, 10]


def test_rlimits(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    wanted = {
        "RLIMIT_NOFILE": [512, 1000],
        "RLIMIT_CORE": [0, 4096],
        "RLIMIT_STACK": [4 << 20, 8 << 20],
        "RLIMIT_NPROC": [500, 600],
        "RLIMIT_CPU": [1000, 2000],
        "RLIMIT_MEMLOCK": [65536, 65536],
    }
    bundle.process["rlimits"] = [{"type": t, "soft": s, "hard": h} for t, (s, h) in wanted.items()]
    said = runtime.ask(bundle, "rlimits")["rlimits"]
    assert {name: said[name] for name in wanted} == wanted


def test_infinite_rlimit(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1}]
    assert runtime.ask(bundle, "rlimits")["rlimits"]["RLIMIT_CORE"] == [-1, -1]


@pytest.mark.parametrize(
    "rlimits",
    [
        [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}],
        [{"type": "RLIMIT_CORE", "soft": 0, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 1}],
        [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}],
    ],
    ids=["unknown", "twice", "soft-above-hard"],
)
def test_bad_rlimits(runtime: Runtime, rlimits: list[dict[str, Any]]) -> None:
    bundle = runtime.bundle()
    bundle.process["rlimits"] = rlimits
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("rlimit")
    before.assert_unchanged()


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(runtime: Runtime, wanted: bool) -> None:
    bundle = runtime.bundle()
    bundle.process["noNewPrivileges"] = wanted
    assert runtime.ask(bundle, "nnp")["nnp"] == int(wanted)


@pytest.mark.parametrize("adjust", [100, 1000])
def test_oom_score(runtime: Runtime, adjust: int) -> None:
    bundle = runtime.bundle()
    bundle.process["oomScoreAdj"] = adjust
    assert (
        runtime.ask(bundle, "read /proc/self/oom_score_adj")["read /proc/self/oom_score_adj"] == f"{adjust}\n"
    )


def test_oom_score_is_untouched_when_not_given(runtime: Runtime) -> None:
    with open("/proc/self/oom_score_adj") as file:
        mine = file.read()
    assert (
        runtime.ask(runtime.bundle(), "read /proc/self/oom_score_adj")["read /proc/self/oom_score_adj"]
        == mine
    )


@pytest.mark.parametrize("domain,number,machine", [("LINUX", 0, "x86_64"), ("LINUX32", 8, "i686")])
def test_personality(runtime: Runtime, domain: str, number: int, machine: str) -> None:
    bundle = runtime.bundle()
    bundle.linux["personality"] = {"domain": domain}
    said = runtime.ask(bundle, "personality", "uname")
    assert (said["personality"], said["uname"]["machine"]) == (number, machine)


def test_unknown_personality(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["personality"] = {"domain": "SOLARIS"}
    runtime.run(bundle).fails("personality")


def test_process_is_its_own_session(runtime: Runtime) -> None:
    ids = runtime.ask(runtime.bundle(), "ids")["ids"]
    assert (ids["sid"], ids["pgid"]) == (1, 1)


def test_runtime_is_not_to_be_found_inside(runtime: Runtime) -> None:
    """CVE-2019-5736: while it waits, the first process is a sealed copy that cannot be written to."""
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    target = f"/proc/{container.pid}/exe"
    with pytest.raises(OSError):
        os.close(os.open(target, os.O_RDWR))


def test_what_is_of_other_platforms_is_ignored(runtime: Runtime) -> None:
    """config.md "Platform-specific configuration"."""
    bundle = runtime.bundle()
    bundle.config["windows"] = {"layerFolders": ["C:\\layer"]}
    bundle.config["solaris"] = {"limitpriv": "default"}
    bundle.config["vm"] = {"kernel": {"path": "/vmlinuz"}}
    bundle.config["zos"] = {"namespaces": [{"type": "ipc"}]}
    bundle.config["freebsd"] = {"jail": {"host": "new"}}
    bundle.process["commandLine"] = "cmd /c exit 5"
    bundle.process["user"]["username"] = "nobody-of-this-name"
    assert runtime.ask(bundle, "pid", "ids")["pid"] == 1


@pytest.mark.needs_root  # for an ordinary user nothing goes without a user namespace
def test_without_anything_of_linux(runtime: Runtime) -> None:
    """`linux` is optional: every namespace is the caller's then."""
    bundle = runtime.bundle()
    del bundle.config["linux"]
    bundle.config["mounts"] = []  # needs a mount namespace
    bundle.config.pop("hostname", None)
    said = runtime.ask(bundle, "uname", "pid")
    assert said["uname"]["hostname"] == os.uname().nodename
    assert said["pid"] > 1


def test_unknown_properties_are_ignored(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.config["org.example.unknown"] = {"a": 1}
    bundle.process["unknownToo"] = [1]
    bundle.linux["andHere"] = "x"
    assert runtime.ask(bundle, "pid")["pid"] == 1


@pytest.mark.parametrize("name,value", [("hostname", "elsewhere"), ("domainname", "example.org")])
def test_names(runtime: Runtime, name: str, value: str) -> None:
    bundle = runtime.bundle()
    bundle.config[name] = value
    assert runtime.ask(bundle, "uname")["uname"][name] == value
    assert os.uname().nodename != "elsewhere"


@pytest.mark.parametrize("name", ["hostname", "domainname"])
def test_name_without_uts_namespace(runtime: Runtime, name: str) -> None:
    bundle = runtime.bundle().without_namespace("uts")
    bundle.config[name] = "elsewhere"
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(name, "uts")
    before.assert_unchanged()


@pytest.mark.needs_root
def test_sysctl(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["sysctl"] = {
        "net.ipv4.ip_forward": "1",
        "kernel.shmmax": "123456",
        "net/ipv4/ip_default_ttl": "77",
    }
    files = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/ip_default_ttl"]
    said = runtime.ask(bundle, *(f"read {file}" for file in files))
    assert [said[f"read {file}"].strip() for file in files] == ["1", "123456", "77"]
    with open(files[2]) as file:
        assert file.read().strip() != "77"


@pytest.mark.parametrize(
    "key",
    [
        "kernel.core_pattern",
        "vm.swappiness",
        "kernel.hostname",
        "kernel.nosuch",
        "../../etc/x",
        "net.ipv4.nosuch",
    ],
)
def test_sysctl_refused(runtime: Runtime, key: str) -> None:
    bundle = runtime.bundle()
    bundle.linux["sysctl"] = {key: "1"}
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("sysctl", key.rsplit(".", maxsplit=1)[-1].rsplit("/", maxsplit=1)[-1])
    before.assert_unchanged()


@pytest.mark.parametrize("key,kind", [("net.ipv4.ip_forward", "network"), ("kernel.shmmax", "ipc")])
def test_sysctl_of_the_hosts_namespace(runtime: Runtime, key: str, kind: str) -> None:
    bundle = runtime.bundle().without_namespace(kind).without_mount("/sys")
    bundle.linux["sysctl"] = {key: "1"}
    runtime.run(bundle).fails("sysctl", key)
