"""Asks real shells what they would offer at the end of a line."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shlex
import subprocess
import time
from pathlib import Path

from tests.support.patience import patient

#: Sends the words that zsh is given to offer to a file; calls that only sort them out are left alone.
_CAPTURE = r"""
unsetopt zle_bracketed_paste
PS1='' PS2='' RPS1=''
zstyle ':completion:*' verbose no
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a offered
    builtin compadd -O offered "$@"
    print -rl -- $offered >> $OFFERED
    builtin compadd "$@"
}
finished() { print -r -- '--end--' >> $OFFERED; }
complete-and-tell() { zle complete-word; finished; }
zle -N complete-and-tell
zle -C complete-word complete-word _main_complete
bindkey '^I' complete-and-tell
print ready >> $OFFERED
"""


def offered(shell: str, script: Path | None, line: str, folder: Path, share: Path | None = None) -> list[str]:
    """What `shell` offers at the end of `line`, which begins with the program's path; `folder` is its home.

    It has loaded the completion `script`, or looks for one itself in the folder `share` (PREFIX/share).
    """
    load = f"source {script}" if script else ""
    if shell == "bash":
        # Where the package bash-completion looks, when it is asked for a program that it does not know yet.
        return _bash(load or f"source {share}/bash-completion/completions/pyrunc", line, folder)
    if shell == "fish":
        # It looks only for the completion of what it could run.
        path = f"{os.path.dirname(line.split(' ', maxsplit=1)[0])}:{os.environ['PATH']}"
        return _fish(
            load, line, folder, {"XDG_DATA_DIRS": f"{share}:/usr/share", "PATH": path} if share else {}
        )
    return _zsh(load, line, folder, f"fpath=({share}/zsh/site-functions $fpath)" if share else "")


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def _bash(load: str, line: str, folder: Path) -> list[str]:
    # As readline cuts a line: "=" is a word of its own.
    words = []
    for word in line.split(" "):
        name, equals, value = word.partition("=")
        words += (
            [name, *(["="] if equals else []), *([value] if value else [])]
            if word.startswith("-")
            else [word]
        )
    code = (
        f"{load}; COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; "
        '_pyrunc "${COMP_WORDS[0]}"; printf \'%s\\n\' "${COMPREPLY[@]}"'
    )
    return _lines(["bash", "--norc", "--noprofile", "-c", code], folder)


def _fish(load: str, line: str, folder: Path, more: dict[str, str]) -> list[str]:
    command = ["fish", "-c", f"{load}; complete -C {shlex.quote(line)}"]
    return [text.partition("\t")[0] for text in _lines(command, folder, more)]


def _lines(command: list[str], folder: Path, more: dict[str, str] | None = None) -> list[str]:
    done = subprocess.run(
        command,
        env=_environment(folder) | (more or {}),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=patient(30),
    )
    assert done.stderr == "", done.stderr
    return [text for text in done.stdout.splitlines() if text]


def _zsh(load: str, line: str, folder: Path, before: str) -> list[str]:
    """zsh completes on a terminal only."""
    told, setup = folder / "offered", folder / "setup.zsh"
    told.write_text("")
    setup.write_text(f"{before}\nautoload -Uz compinit; compinit -u -D\n{load}\n{_CAPTURE}")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe("zsh", ["zsh", "-f", "-i"], _environment(folder) | {"OFFERED": str(told)})
    try:
        os.write(terminal, f"source {setup}\n".encode())
        _until(told, "ready", terminal)
        told.write_text("")
        os.write(terminal, line.encode() + b"\t")
        _until(told, "--end--", terminal)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    return [text for text in told.read_text().splitlines() if text and text != "--end--"]


def _until(file: Path, word: str, terminal: int) -> None:
    screen = b""
    deadline = time.monotonic() + patient(30)
    while word not in file.read_text().splitlines():
        assert time.monotonic() < deadline, screen.decode(errors="replace")
        if select.select([terminal], [], [], 0.02)[0]:
            with contextlib.suppress(OSError):
                screen += os.read(terminal, 65536)
