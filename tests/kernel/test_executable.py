"""Look-up and execve, as pyrunc-init carries them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrunc.linux import credentials, environment, executable
from tests.support import program as init
from tests.support.process_steps import HOST, config, enter


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
