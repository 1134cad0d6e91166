"""`--init` with a terminal, which is the program's."""

from __future__ import annotations

from pathlib import Path

from tests.support.init_process import child_of, children
from tests.support.runtime import Runtime, wait_for
from tests.support.terminal import ConsoleSocket


def test_terminal(runtime: Runtime) -> None:
    """The program's session has it, and its keys; init is elsewhere."""
    bundle = runtime.bundle().ask("tty", "open /dev/tty rw", "signals")
    bundle.process["terminal"] = True
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--init", "--console-socket", str(socket.path)).ok()
        master = socket.receive()
        text = master.read("ready").replace("\r\n", "\n")
        said = bundle.testimony(text)
        assert said["tty"]["isatty"] == [True, True, True]
        assert said["tty"]["session"] == said["tty"]["sid"] == 2
        assert said["open /dev/tty rw"] == 0
        stat = Path(f"/proc/{container.pid}/stat").read_text().split()
        assert stat[6] == "0", "init has no controlling terminal"
        master.write("\x03")
        master.read('"signal","answer":2}')
        master.resize(50, 60)
        master.read('"signal","answer":28}')
        master.close()  # hang up: SIGHUP is for the leader of the session
        wait_for(lambda: container.kill("TERM").status == 0 and container.status == "stopped", say="its end")


def test_job_control(runtime: Runtime) -> None:
    """An interactive shell can put jobs into the foreground: nobody of another group has the terminal."""
    bundle = runtime.bundle()
    bundle.process.update(terminal=True, args=["sh", "-i"])
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--init", "--console-socket", str(socket.path)).ok()
        master = socket.receive()
        master.write("sleep 1000\n")
        wait_for(lambda: in_foreground(child_of(container)) == children(child_of(container)), say="the job")
        master.write("\x1a")
        master.read("Stopped")
        master.write("kill %1; fg; echo $((6*7))\n")
        master.read("42")
        master.write("exit 5\n")
        master.read()
    assert "job control turned off" not in master.text
    container.stops()


def in_foreground(pid: int) -> list[int]:
    """The leader of the foreground group of the terminal of a process."""
    return [int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[5])]
