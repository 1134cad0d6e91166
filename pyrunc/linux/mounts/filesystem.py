"""File systems made by the kernel: fsopen, fsconfig, fsmount, with the kernel's own sentence on failure."""

from __future__ import annotations

from pyrunc.kernel.constants import (
    FSCONFIG_CMD_CREATE,
    FSCONFIG_CMD_RECONFIGURE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    FSPICK_CLOEXEC,
    FSPICK_EMPTY_PATH,
)
from pyrunc.linux.mounts.facts import is_long
from pyrunc.linux.mounts.options import SUPERBLOCK_WORDS
from pyrunc.plan.program import ANY, ARENA, DETAIL, DETAIL_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.linux.mounts.options import Options
    from pyrunc.plan.program import Label, Program, Register

#: mount(2) takes a source, and all settings together, of at most a page with a NUL behind.
PAGE_MAX: Final = 4095
#: Without a device below, superblocks may be shared by all mounts of a namespace (sysfs by those of a network
#: namespace, say), so that a read-only superblock would make every other container of a pod read-only;
#: a read-only mount is enough.
SHARED_SUPERBLOCK: Final = frozenset(
    (
        "binfmt_misc",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "mqueue",
        "proc",
        "pstore",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tmpfs",
        "tracefs",
    )
)


class Failures:
    """Where file system contexts go when the kernel refuses something: read its sentence, then report.

    The tails stand together behind the mounts, so that they cost a mount nothing when it succeeds.
    """

    __slots__ = ("_tails", "program")

    def __init__(self, program: Program) -> None:
        self.program = program
        self._tails: list[tuple[Label, Register, Register, str, str]] = []

    def expect(self, context: Register, result: Register, step: str, of: str) -> Label:
        """The place to go to with the negated errno in `result` and the context still open."""
        label = self.program.label()
        self._tails.append((label, context, result, step, of))
        return label

    def emit(self) -> None:
        """Emit the tails; the program goes on behind them."""
        if not self._tails:
            return
        program = self.program
        behind = program.label()
        program.jump(behind)
        for label, context, result, step, of in self._tails:
            silent = program.label()
            program.place(label)
            # The context's log holds one message per read(2), the first one being the cause (fsopen(2)).
            program.call(
                "read",
                context,
                ARENA,
                DETAIL_SIZE,
                step="read the kernel's explanation",
                into=DETAIL,
                tolerate=ANY,
                otherwise=silent,
            )
            program.fail(result, step, of)
            program.place(silent)
            program.set(DETAIL, 0)
            program.fail(result, step, of)
        program.place(behind)
        self._tails = []


def make(
    program: Program,
    failures: Failures,
    kind: str,
    source: str,
    settings: Sequence[tuple[str, str | None]],
    attributes: int,
    *,
    step: str,
    of: str,
    context: Register | None = None,
) -> Register:
    """Emit making a file system of type `kind`, mounted nowhere yet.

    `settings`: (name, value), the value None for a flag. `attributes`: MOUNT_ATTR_ bits. `context`: one that
    was opened already; it is closed, and its register released. Returns the register of the mount's descriptor.
    """
    result = program.register()
    if context is None:
        context = program.register()
        program.call("fsopen", kind, FSOPEN_CLOEXEC, step=step, of=of, into=context)
    refused = failures.expect(context, result, step, of)
    if source:
        settings = [("source", source), *settings]
    _configure(program, context, result, refused, settings, FSCONFIG_CMD_CREATE, step, of)
    mount = program.register()
    program.call("fsmount", context, FSMOUNT_CLOEXEC, attributes, step=step, of=of, into=mount)
    program.call("close", context, step="close the file system context")
    program.release(context, result)
    return mount


def reconfigure(
    program: Program,
    failures: Failures,
    point: Register,
    settings: Sequence[tuple[str, str | None]],
    *,
    step: str,
    of: str,
) -> None:
    """Emit changing the settings of the file system mounted at `point` (the option `remount`)."""
    context = program.register()
    result = program.register()
    program.call("fspick", point, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH, step=step, of=of, into=context)
    refused = failures.expect(context, result, step, of)
    _configure(program, context, result, refused, settings, FSCONFIG_CMD_RECONFIGURE, step, of)
    program.call("close", context, step="close the file system context")
    program.release(context, result)


def _configure(
    program: Program,
    context: Register,
    result: Register,
    refused: Label,
    settings: Sequence[tuple[str, str | None]],
    command: int,
    step: str,
    of: str,
) -> None:
    for name, value in settings:
        if value is None:
            arguments: tuple[int | str, ...] = (FSCONFIG_SET_FLAG, name, 0, 0)
        else:
            arguments = (FSCONFIG_SET_STRING, name, value, 0)
        program.call(
            "fsconfig", context, *arguments, step=step, of=of, into=result, tolerate=ANY, otherwise=refused
        )
    program.call(
        "fsconfig", context, command, 0, 0, 0, step=step, of=of, into=result, tolerate=ANY, otherwise=refused
    )


def settings_of(kind: str, options: Options, remount: bool = False) -> list[tuple[str, str | None]]:
    """What the options say to the file system itself, as (name, value or None)."""
    settings: list[tuple[str, str | None]] = []
    if options.readonly and kind not in SHARED_SUPERBLOCK:
        settings.append(("ro", None))
    elif remount and options.clear & 1:
        settings.append(("rw", None))
    for name, on in options.superblock.items():
        word = SUPERBLOCK_WORDS[name][on]
        if on or (remount and word):
            settings.append((word, None))
    for word in options.data:
        name, equals, value = word.partition("=")
        if not equals:
            settings.append((word, None))
        elif name:
            settings.append((name, _unquoted(name, value)))
    return settings


def _unquoted(name: str, value: str) -> str:
    """`value` for fsconfig(2), which unlike mount(2) takes SELinux contexts without the quotes around their commas."""
    if value[:1] == value[-1:] == '"' and len(value) > 1:
        from pyrunc.linux.selinux import CONTEXTS

        if name in CONTEXTS:
            return value[1:-1]
    return value


#: How a file system is made: by a context, by mount(2), by a context with overlay's layers one by one, not at all.
CONTEXT, PAGE, LAYERS, NOT_AT_ALL = range(4)


def way_of(kind: str, source: str, settings: Sequence[tuple[str, str | None]], options: Options) -> int:
    """How the kernel takes these settings.

    fsconfig(2) takes 255 bytes for each, mount(2) a page for all together, and overlay (since Linux 6.8) any number
    of layers one by one.
    """
    if not is_long(source) and not any(is_long(value or name) for name, value in settings):
        return PAGE if any(options.flags.values()) else CONTEXT
    # A comma: there may have to be quotes around it (`flags.Context.data`).
    total = sum(
        [
            _size(name) + (1 + _size(value) + 2 * ("," in value) if value else 0) + 1
            for name, value in settings
        ]
    )
    if total <= PAGE_MAX + 1 and _size(source) <= PAGE_MAX:
        return PAGE
    if kind == "overlay" and not any(is_long(value or name) for name, value in layered(settings)):
        return LAYERS
    return NOT_AT_ALL


def layered(settings: Sequence[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """The settings of an overlay with one `lowerdir+` for each layer, where the layers can be told apart."""
    found: list[tuple[str, str | None]] = []
    for name, value in settings:
        if name == "lowerdir" and value and "\\" not in value and "::" not in value:
            found += [("lowerdir+", layer) for layer in value.split(":")]
        else:
            found.append((name, value))
    return found


def make_by_page(
    program: Program,
    kind: str,
    source: str,
    settings: Sequence[tuple[str, str | None]],
    options: Options,
    attributes: int,
    *,
    step: str,
    of: str,
) -> Register:
    """As `make`, by mount(2)."""
    from pyrunc.linux.mounts.old import OldProgram

    assert isinstance(program, OldProgram), "facts.is_for_a_page has told"
    before, program.translating = program.translating, True
    words = [*settings, *((name, None) for name, on in options.flags.items() if on)]
    mount = make(program, Failures(program), kind, source, words, attributes, step=step, of=of)
    program.translating = before
    return mount


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
