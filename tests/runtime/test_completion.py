"""`completion`: what bash, zsh and fish offer with the scripts that pyrunc prints, each asked itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runtime import Runtime
from tests.support.shells import offered

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Line:
    """A line to complete in a shell, as far as the name of the program."""

    def __init__(self, runtime: Runtime, shell: str) -> None:
        self.shell = shell
        self.folder = runtime.folder / "home"
        self.folder.mkdir()
        self.script = runtime.folder / f"pyrunc.{shell}"
        self.script.write_text(runtime.verb("completion", shell).ok().out)
        # The shells know a program by its last name.
        self.program = runtime.folder / "bin" / "pyrunc"
        self.program.parent.mkdir()
        self.program.symlink_to(runtime.command[0])
        assert len(runtime.command) == 1

    def __call__(self, rest: str) -> set[str]:
        return set(offered(self.shell, self.script, f"{self.program} {rest}", self.folder))


@pytest.fixture
def line(runtime: Runtime, shell: str) -> Line:
    return Line(runtime, shell)


def test_commands(line: Line) -> None:
    assert line("st") == {"start", "state"}
    assert {"create", "run", "delete", "completion", "prune"} <= line("")
    assert line("--debug --log-format json sta") == {"start", "state"}


def test_options(line: Line) -> None:
    assert line("delete --f") == {"--force"}
    assert {"--force", "--regex", "--help"} <= line("delete --")
    assert "--force" not in line("state --")
    assert {"--root", "--log", "--cgroup-manager"} <= line("--")


def test_values(line: Line) -> None:
    assert line("--log-format ") == {"text", "json"}
    assert line("list --format j") == {"json"}
    assert line("--cgroup-manager ") == {"cgroupfs", "systemd", "disabled"}
    assert {"TERM", "KILL", "HUP"} <= line("kill --signal ")
    assert line("completion ") == set(SHELLS)


def test_paths(line: Line) -> None:
    for name in ("folder-a", "folder-b"):
        (line.folder / name).mkdir()
    (line.folder / "folder-file").touch()
    assert {name.rstrip("/") for name in line("create --bundle fold")} == {"folder-a", "folder-b"}
    assert {name.rstrip("/") for name in line("--log fold")} == {"folder-a", "folder-b", "folder-file"}


def test_ids(runtime: Runtime, line: Line) -> None:
    """Those under the --root of the line, where the command takes one."""
    made = [runtime.container(runtime.bundle().sleeper()) for _ in range(2)]
    for container in made:
        container.create().ok()
    ids = {container.id for container in made}
    first = made[0].id
    for root in (f"--root {runtime.root}", f"--root={runtime.root}"):
        assert line(f"{root} state ") == ids
        assert line(f"{root} --debug delete --force {first} ") >= ids - {first}
        assert line(f"{root} kill --all {first[:-1]}") == ids
    assert {"TERM", "KILL"} <= line(f"--root {runtime.root} kill {first} ")
    assert line(f"--root {runtime.root} kill --signal TERM {first} ") >= ids - {first}
    assert not ids & line(f"--root {runtime.folder / 'nowhere'} state ")


def test_a_root_with_other_characters(runtime: Runtime, line: Line) -> None:
    """The shell's own words in its name are not carried out."""
    twin = runtime.like()
    twin.root = line.folder / "$(touch harm); touch harm"
    container = twin.container(twin.bundle().sleeper())
    container.create().ok()
    found = line(f"--root '{twin.root}' state ")
    assert not (line.folder / "harm").exists()
    if line.shell != "bash":  # which leaves the quotes where they are
        assert found == {container.id}


def test_what_another_program_reads_is_left_alone(runtime: Runtime, line: Line) -> None:
    assert "--tty" in line("exec --t")
    assert line("exec some-id sh --t") == set()


@pytest.mark.parametrize("name", ["BASH", "sh", ""])
def test_another_shell(runtime: Runtime, name: str) -> None:
    runtime.verb("completion", name).fails("no completion for", "bash, zsh or fish")


def test_installed_where_the_shell_looks(runtime: Runtime, line: Line) -> None:
    share = Path(runtime.command[0]).resolve().parent.parent / "share"
    path = f"{line.program.parent}/pyrunc"
    assert set(offered(line.shell, None, f"{path} st", line.folder, share)) == {"start", "state"}
    installed = [
        file.read_text() for file in share.rglob("*pyrunc*") if file.is_file() and file.suffix != ".8"
    ]
    assert len(installed) == 3 and line.script.read_text() in installed


def test_nothing_but_the_shell_is_needed(line: Line) -> None:
    """The script says nothing and fails nowhere when it is loaded a second time."""
    script = Path(line.script)
    script.write_text(script.read_text() * 2)
    assert line("st") == {"start", "state"}
