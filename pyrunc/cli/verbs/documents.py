"""spec and features: what needs no container."""

from __future__ import annotations

from pyrunc.cli.main import show
from pyrunc.cli.options import BUNDLE, Command, Option
from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.log import Log


def _spec(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.cli.spec import write

    write(str(values["bundle"]) or ".", bool(values["rootless"]))
    return 0


def _features(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.cli.features import probed, text

    show(probed() if values["probe"] else text())
    return 0


def _completion(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.cli.completion import SHELLS, script

    if words[0] not in SHELLS:
        raise PyruncError(f"no completion for {words[0]}", remedy="use bash, zsh or fish", code="usage")
    show(script(words[0]))
    return 0


COMMANDS: Final = (
    Command(
        "spec",
        "write a config.json to start from",
        "",
        0,
        0,
        (
            BUNDLE,
            Option("rootless", "write a configuration that an ordinary user can run"),
        ),
        "Writes a config.json that runs a shell in the root file system `rootfs` of the bundle. An existing "
        "file is left alone.",
        _spec,
    ),
    Command(
        "features",
        "print what this runtime supports, as JSON",
        "",
        0,
        0,
        (Option("probe", "try out what of it this kernel lets this user do, and say why not the rest"),),
        "Prints the features document of the OCI runtime specification. It depends on this version of "
        "pyrunc only, not on the host. With --probe each entry of it has an answer instead: supported (by this "
        "build), available (here and now), and the reason if not.",
        _features,
    ),
    Command(
        "completion",
        "print the completion script for a shell",
        "bash|zsh|fish",
        1,
        1,
        (),
        "Prints a script that completes commands, options and the ids of containers. `make install` puts it where the "
        "shell looks. `source <(pyrunc completion bash)` loads it at once, in fish `pyrunc completion fish | source`.",
        _completion,
    ),
)
