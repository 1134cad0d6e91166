"""Read a bundle's config.json: strict JSON, strict UTF-8, no name twice in one object.

The package `json` costs 5 ms to import, so the hot path drives its C scanner directly; `json` itself is imported to
say what is wrong with a file, and where the scanner does not exist. Sources: runtime-spec bundle.md and config.md
("Property names within objects MUST be unique", UTF-8), RFC 8259.
"""

from __future__ import annotations

import os

from pyrunc.errors import KernelError, PyruncError

try:
    import _json  # not `from`: tests compare with and without it
except ImportError:  # an interpreter without C accelerators
    _json = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.config.spec import Config

#: Bytes. The largest honest configuration (thousands of mounts, a full seccomp profile) stays below 1 MiB.
SIZE_LIMIT = 16 << 20
#: What JSON calls white space.
BLANK = " \t\n\r"


class Loaded:
    """A bundle that was read: its absolute directory, the configuration, and the bytes it came from."""

    __slots__ = ("bundle", "config", "raw")

    def __init__(self, bundle: str, config: Config, raw: bytes) -> None:
        self.bundle = bundle
        self.config = config
        self.raw = raw


class _Twice(Exception):
    """An object gives a name twice."""


def load(bundle: str, name: str = "config.json") -> Loaded:
    """Read the configuration `name` (relative to the bundle) of the directory `bundle`.

    Raises `KernelError` if the bundle cannot be entered or the file not be read, `PyruncError` if there is no such
    file, `Rejected` if it is not strict JSON.
    """
    path = os.path.realpath(bundle)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise PyruncError(
            f"bundle {path!r}: the path is not UTF-8, so the container's state cannot name it",
            remedy="rename the directory",
            code="invalid-bundle",
        ) from None
    try:
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of(f"open bundle {bundle}", error) from None
    try:
        raw = read(name, directory)
    except FileNotFoundError:
        raise PyruncError(
            f"JSON specification file {name} not found",
            remedy=f"write {os.path.join(path, name)}, for example with `pyrunc spec`",
            code="invalid-bundle",
        ) from None
    except OSError as error:
        raise KernelError.of(f"read {os.path.join(path, name)}", error) from None
    finally:
        os.close(directory)
    return Loaded(path, load_json(raw, name), raw)


def read(path: str, directory: int | None = None) -> bytes:
    """The bytes of the regular file `path` (relative to the descriptor `directory`), at most `SIZE_LIMIT`.

    Raises OSError as open(2) and read(2) do, `PyruncError` if it is no regular file or too large.
    """
    # O_NONBLOCK: a FIFO put in the file's place must not hang the runtime.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(file)
        if status.st_mode & 0o170000 != 0o100000:  # S_IFMT, S_IFREG; the module `stat` is not needed for this
            raise PyruncError(f"read {path}: not a regular file", code="invalid-bundle")
        return read_all(file, path, status.st_size)
    finally:
        os.close(file)


def read_all(file: int, path: str, expected: int = 4096) -> bytes:
    """All bytes up to the end of the descriptor `file`, at most `SIZE_LIMIT`; about as many as `expected`.

    Raises OSError as read(2) does, `PyruncError` naming `path` if it is too much.
    """
    parts = []
    size = 0
    while part := os.read(file, min(expected, SIZE_LIMIT) + 1):
        parts.append(part)
        size += len(part)
        if size > SIZE_LIMIT:
            raise PyruncError(f"read {path}: larger than {SIZE_LIMIT >> 20} MiB", code="invalid-bundle")
    return b"".join(parts)


def load_document(path: str) -> tuple[Any, str]:
    """The JSON value that an operator names: in the file `path`, or on standard input for "-"; and what errors call it.

    Raises KernelError, and what `read_all` and `load_json` do.
    """
    source = "standard input" if path == "-" else path
    try:
        # Not only regular files: `<(…)` of a shell is a pipe.
        file = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            raw = read_all(file, source)
        finally:
            os.close(file)
    except OSError as error:
        raise KernelError.of(f"read {source}", error) from None
    return load_json(raw, source), source


def load_json(raw: bytes, source: str) -> Any:
    """The value of the JSON text `raw`; `source` names it in errors.

    Raises `Rejected` for anything but one JSON value in UTF-8: syntax errors (with line and column), NaN and Infinity,
    names given twice (with their path), unpaired surrogates, nesting or numbers beyond the interpreter's limits.
    """
    try:
        text = raw.decode()
        if "\\ud" in text or "\\uD" in text:
            _refuse_surrogates(text, source)
        if _json is None:
            return _diagnose(text, source)
        start = len(text) - len(text.lstrip(BLANK))
        value, end = _scan(text, start)
        if text[end:].strip(BLANK):
            raise ValueError
        return value
    except UnicodeDecodeError as error:
        _reject(source, f"byte {error.start} is not UTF-8")
    except RecursionError:
        _reject(source, "is nested too deeply")
    except (StopIteration, ValueError, SystemError, _Twice):
        # SystemError: the scanner means to raise json.JSONDecodeError, and json is not imported here.
        return _diagnose(text, source)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Twice
    return value


def _constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


class _Settings:
    """What the C scanner asks its context for."""

    strict = True
    object_hook = None
    object_pairs_hook = _object
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _constant


if _json is not None:
    _scan = _json.make_scanner(_Settings)  # type: ignore[arg-type]


def _reject(source: str, text: str, path: str = "") -> None:
    from pyrunc.errors import Rejected
    from pyrunc.validate.report import Problem

    raise Rejected([Problem(path, text)], source) from None


def _refuse_surrogates(text: str, source: str) -> None:
    r"""Refuse escapes such as \\ud800 outside a pair: no UTF-8 exists for them, and no file has such a name."""
    position = 0
    while (position := text.find("\\", position)) >= 0:
        if text[position + 1 : position + 3] not in ("ud", "uD"):
            position += 2  # another escape; of `\\\\ud800` both backslashes are stepped over
            continue
        if text[position + 3 : position + 4] in "01234567":
            position += 6  # up to U+D7FF these are Korean syllables
            continue
        high = text[position + 3 : position + 4] in "89abAB"
        paired = (
            text[position + 6 : position + 9] in ("\\ud", "\\uD")
            and text[position + 9 : position + 10] in "cdefCDEF"
        )
        if not (high and paired):
            line = text.count("\n", 0, position) + 1
            column = position - text.rfind("\n", 0, position)
            _reject(
                source, f"line {line}, column {column}: {text[position : position + 6]} is half a character"
            )
        position += 12


def _diagnose(text: str, source: str) -> Any:
    """Read `text` again, slowly, to say what is wrong with it; its value if nothing is."""
    import json

    twice: list[tuple[dict[str, Any], list[str]]] = []

    def remember(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            again = []
            for name, _ in pairs:
                if name in seen:
                    again.append(name)
                seen.add(name)
            twice.append((value, again))
        return value

    if text.startswith("\ufeff"):
        _reject(source, "starts with a byte order mark, which JSON does not allow")
    try:
        value = json.loads(text, object_pairs_hook=remember, parse_constant=_constant)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:].removesuffix(": ").removesuffix(" at")
        _reject(source, f"line {error.lineno}, column {error.colno}: {reason}")
    except RecursionError:
        _reject(source, "is nested too deeply")
    except ValueError as error:  # NaN and Infinity, or a number of more digits than int() takes
        _reject(source, "holds a number of thousands of digits" if "digits" in str(error) else str(error))
    if twice:
        _reject_twice(value, twice, source)
    return value


def _reject_twice(value: Any, twice: list[tuple[dict[str, Any], list[str]]], source: str) -> None:
    """Refuse the names given twice, each with its path in `value`."""
    from pyrunc.errors import Rejected
    from pyrunc.validate.report import PROBLEM_LIMIT, Problem, member

    names = {id(found): dict.fromkeys(given) for found, given in twice}
    problems: list[Problem] = []
    walk: list[tuple[str, Any]] = [("", value)]
    while walk and len(problems) < PROBLEM_LIMIT:
        path, node = walk.pop()
        if isinstance(node, dict):
            problems += [
                Problem(member(path, name), "is given more than once") for name in names.get(id(node), ())
            ]
            walk += [(member(path, name), below) for name, below in reversed(node.items())]
        elif isinstance(node, list):
            walk += [(f"{path}[{index}]", below) for index, below in reversed(list(enumerate(node)))]
    raise Rejected(problems, source)
