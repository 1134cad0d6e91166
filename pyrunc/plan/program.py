"""The program: a flat list of system calls that `pyrunc-init` carries out inside the container.

A `Program` is built by the rooms under `pyrunc.linux`, one `call` after the other, each with a label that a
person understands. Nothing here touches the system: a program is data, and can be shown, compared and
tested without root. `encode` gives the bytes that `pyrunc/native/init.c` maps and interprets; the layout of
both sides is `pyrunc/native/init.h`.

Memory. The steps are mapped read-only, the arena (strings, structures, buffers) privately at the fixed
address `ARENA`, so that addresses are known while compiling and no relocation is needed.

Patterns. A configuration may list a thousand of a kind (bind mounts). The steps of one are then emitted once
as a `pattern`, with a `Blank` in place of each argument that differs, and `fill` adds them for every one: the
same bytes as if they were emitted each time, for a fraction of the time.

Registers. 64 signed 64-bit registers. A `call` may put its result into one, and any argument may be one.
Register 0 (`TALK`) holds the descriptor on which failures are reported, register 1 (`DETAIL`) the length of
the text in the detail buffer that goes with a failure.
"""

from __future__ import annotations

from struct import Struct

from pyrunc.kernel.numbers import SYSCALLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Final, Union

    Text = Union[str, "Blank"]
    Argument = Union[int, str, bytes, "Register", "Blank"]
    Call = tuple[str, tuple[Argument, ...]]

#: Where the arena is mapped in pyrunc-init (native/init.h: ARENA_ADDRESS).
ARENA: Final = 0x3000_0000_0000
#: Where the steps are mapped (native/init.h: STEPS_ADDRESS).
STEPS: Final = 0x2FF0_0000_0000
#: Size of the detail buffer, the first thing in the arena (native/init.h: DETAIL_SIZE).
DETAIL_SIZE: Final = 256

MAGIC: Final = b"PYRUNC\x00\x01"
PAGE: Final = 4096
REGISTERS: Final = 64
NO_REGISTER: Final = 0xFF
MASK: Final = (1 << 64) - 1
#: struct step: its size, and where the target and the first argument are (native/init.h).
STEP: Final = 64
STEP_AT_TARGET: Final = 12
STEP_AT_ARGUMENTS: Final = 16

OP_CALL, OP_BRANCH, OP_SET, OP_LOAD, OP_STORE, OP_FAIL = range(6)
EQ, NE, LT, GE, BITS = range(5)
#: In `tolerate`: every errno.
ANY: Final = (255,)

#: struct step, by the number of its arguments.
_step: Final = tuple([Struct(f"<HBBH2x4si{count}Q{8 * (6 - count)}x").pack for count in range(7)])
_put_target = Struct("<i").pack_into
_put_argument = Struct("<Q").pack_into
_header = Struct("<8sIIQQ").pack


class Register:
    """One of init's registers."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __repr__(self) -> str:
        return f"r{self.index}"


class Label:
    """A place in the program to go to, known once `Program.place` was called."""

    __slots__ = ("index",)

    def __init__(self) -> None:
        self.index = -1


class Blank:
    """An argument in a pattern, for which `fill` puts in its `index`-th value."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Pattern:
    """Steps made by `Program.pattern`: their code, where in it each value goes, the ends of their labels."""

    __slots__ = ("blanks", "calls", "code", "endings")

    def __init__(
        self, code: bytes, blanks: list[tuple[int, int]], endings: list[str], calls: list[Call]
    ) -> None:
        self.code = code
        count = 1 + max([index for _, index in blanks], default=-1)
        self.blanks = [tuple([at for at, index in blanks if index == which]) for which in range(count)]
        self.endings = endings
        self.calls = calls

    def filled(self, values: tuple[Argument, ...]) -> list[Call]:
        """The calls with these values."""
        return [
            (name, tuple([values[word.index] if isinstance(word, Blank) else word for word in args]))
            for name, args in self.calls
        ]


TALK: Final = Register(0)
DETAIL: Final = Register(1)


class Program:
    """System calls in order, with their data.

    `inherit(name)` numbers the descriptors that the runtime hands to init: `slots` maps each name to its
    number, from `first_slot` on (below are stdio and the descriptors preserved for the container).

    `held`: how many descriptors init holds at once beyond the few of any container.
    `given`: (what is said, value) of every descriptor that init will hand to the runtime, in order (`talk.give`).
    """

    def __init__(self, first_slot: int = 3) -> None:
        self.first_slot = first_slot
        self.slots: dict[str, int] = {}
        self.held = 0
        self.given: list[tuple[int, int]] = []
        self._code = bytearray()
        # What the code was made from, for show and errors: (name or pattern, arguments, label, JSON path).
        self._written: list[tuple[str | Pattern, tuple[Argument, ...], str, str]] = []
        self._jumps: list[tuple[int, Label]] = []
        self._blanks: list[tuple[int, int]] = []
        self._is_pattern = False
        self._arena = bytearray(DETAIL_SIZE)
        self._interned: dict[bytes, int] = {}
        self._free = list(range(REGISTERS - 1, 1, -1))

    # -- data ------------------------------------------------------------------------------------------

    def string(self, text: str | bytes) -> int:
        """The address of `text` as a C string; equal strings share one."""
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        known = self._interned.get(raw)
        if known is None:
            known = self._interned[raw] = ARENA + len(self._arena)
            self._arena += raw
            self._arena.append(0)
        return known

    def data(self, raw: bytes, align: int = 8) -> int:
        """The address of a private copy of `raw`, which init may overwrite."""
        arena = self._arena
        arena += bytes(-len(arena) % align)
        address = ARENA + len(arena)
        arena += raw
        return address

    def buffer(self, size: int) -> int:
        """The address of `size` zero bytes, aligned to 8."""
        return self.data(bytes(size))

    def pointers(self, addresses: Sequence[int]) -> int:
        """The address of a NULL-terminated array of pointers, such as argv and envp."""
        return self.data(b"".join([a.to_bytes(8, "little") for a in addresses]) + bytes(8))

    def strings(self, texts: Iterable[str | bytes]) -> int:
        """The address of a NULL-terminated array of C strings."""
        return self.pointers([self.string(text) for text in texts])

    def fold(self) -> int:
        """Begin a new page of the arena; its address. What is emitted from now on shares nothing with what was."""
        arena = self._arena
        arena += bytes(-len(arena) % PAGE)
        self._interned = {}
        return ARENA + len(arena)

    # -- registers, descriptors, places ----------------------------------------------------------------

    def register(self) -> Register:
        """A register of one's own, until `release`."""
        return Register(self._free.pop())

    def release(self, *registers: Register) -> None:
        """Give registers back for reuse."""
        for register in registers:
            self._free.append(register.index)

    def inherit(self, name: str) -> int:
        """The number of the descriptor that the runtime will supply under `name`."""
        return self.slots.setdefault(name, self.first_slot + len(self.slots))

    def label(self) -> Label:
        """A place to be set later with `place`."""
        return Label()

    def place(self, label: Label) -> None:
        """Let `label` mean the next step."""
        if self._is_pattern:
            raise ValueError("a label in a pattern")
        label.index = len(self)

    # -- steps -----------------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        *args: Argument,
        step: str,
        of: str = "",
        into: Register | None = None,
        tolerate: tuple[int, ...] = (),
        otherwise: Label | None = None,
    ) -> None:
        """Emit the system call `name`.

        `args` are integers, registers, or text and bytes (passed as addresses of C strings). `step` says in
        words what this does and becomes the error message; `of` is the JSON path it comes from. `into`
        receives the result, or the negated errno if that is one of `tolerate` (at most four, or `ANY`);
        after a tolerated errno the program goes on at `otherwise`, or at the next step if that is None.
        Any other errno ends init with a report. EINTR is always retried.
        """
        self._emit(OP_CALL, SYSCALLS[name], name, args, step, of, into, tolerate, otherwise)

    def branch(
        self, register: Register, relation: int, value: int | Register, target: Label, step: str = ""
    ) -> None:
        """Go to `target` if `register` stands in `relation` (EQ, NE, LT, GE, BITS = any bit of) to `value`."""
        self._emit(OP_BRANCH, relation, "branch", (register, value), step, "", None, (), target)

    def jump(self, target: Label) -> None:
        """Go to `target`."""
        self._emit(OP_BRANCH, EQ, "jump", (0, 0), "", "", None, (), target)

    def set(self, register: Register, value: Argument) -> None:
        """Put an integer, another register or the address of a text into `register`."""
        self._emit(OP_SET, 0, "set", (value,), "", "", register, (), None)

    def load(self, register: Register, address: int | Register | Blank, size: int, step: str = "") -> None:
        """Read `size` (1, 2, 4, 8) bytes at `address`, unsigned, into `register`."""
        self._emit(OP_LOAD, size, "load", (address,), step, "", register, (), None)

    def store(self, address: int, value: int | Register, size: int, step: str = "") -> None:
        """Write the low `size` (1, 2, 4, 8) bytes of `value` to `address`."""
        self._emit(OP_STORE, size, "store", (address, value), step, "", None, (), None)

    def fail(self, errno: int | Register, step: str, of: str = "") -> None:
        """End init with a report of `errno` (a register may hold it negated); 0: the step says all."""
        self._emit(OP_FAIL, 0, "fail", (errno,), step, of, None, (), None)

    def _emit(
        self,
        op: int,
        number: int,
        name: str,
        args: tuple[Argument, ...],
        step: str,
        of: str,
        into: Register | None,
        tolerate: tuple[int, ...],
        target: Label | None,
    ) -> None:
        registers = 0
        values = []
        for argument in args:
            if isinstance(argument, int):
                values.append(argument & MASK)
            elif isinstance(argument, Register):
                registers |= 1 << len(values)
                values.append(argument.index)
            elif isinstance(argument, Blank):
                self._blanks.append((len(self._code) + STEP_AT_ARGUMENTS + 8 * len(values), argument.index))
                values.append(0)
            else:
                values.append(self.string(argument))
        if target is not None:
            self._jumps.append((len(self), target))
        self._code += _step[len(values)](
            number, op, NO_REGISTER if into is None else into.index, registers, bytes(tolerate), 1, *values
        )
        self._written.append((name, args, step, of))

    # -- patterns --------------------------------------------------------------------------------------

    def pattern(self, emit: Callable[[], None]) -> Pattern:
        """The steps that `emit` emits, not into the program but as a pattern for `fill`.

        Labels of steps are written without what `fill` puts before them, and without JSON path. Registers are
        as they are now: those that the pattern uses must be nobody else's as long as it is filled in. A pattern
        has no branches.
        """
        outer = self._code, self._written, self._jumps, self._blanks
        self._code, self._written, self._jumps, self._blanks = bytearray(), [], [], []
        self._is_pattern = True
        try:
            emit()
            if self._jumps:
                raise ValueError("a branch in a pattern")
            return Pattern(bytes(self._code), self._blanks, [text for text, _ in self.texts], self.calls)
        finally:
            self._code, self._written, self._jumps, self._blanks = outer
            self._is_pattern = False

    def fill(self, pattern: Pattern, step: str, of: str, *values: int | str) -> None:
        """Emit the steps of `pattern` with these values; `step` begins the label of each."""
        if len(values) != len(pattern.blanks):
            raise ValueError(f"{step}: {len(values)} values for {len(pattern.blanks)} blanks")
        code = self._code
        start = len(code)
        code += pattern.code
        for index, value in enumerate(values):
            word = self.string(value) if isinstance(value, str) else value & MASK
            for at in pattern.blanks[index]:
                _put_argument(code, start + at, word)
        self._written.append((pattern, values, step, of))

    # -- the result ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._code) // STEP

    @property
    def calls(self) -> list[Call]:
        """Each step as it was written: (system call or operation, arguments)."""
        found: list[Call] = []
        for what, args, _, _ in self._written:
            if isinstance(what, Pattern):
                found += what.filled(args)
            else:
                found.append((what, args))
        return found

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Each step in words: (label, JSON path)."""
        return self.texts_from(0)

    def texts_from(self, first: int) -> list[tuple[str, str]]:
        """As `texts`, of the steps from number `first` on; what is before them costs nothing."""
        found: list[tuple[str, str]] = []
        wanted = len(self) - first
        for what, _, step, of in reversed(self._written):
            if len(found) >= wanted:
                break
            if isinstance(what, Pattern):
                found += [(step + ending, of) for ending in reversed(what.endings)]
            else:
                found.append((step, of))
        return found[wanted - 1 :: -1] if wanted > 0 else []

    def text(self, index: int) -> tuple[str, str]:
        """Step number `index` in words."""
        return self.texts_from(index)[0]

    def encode(self) -> bytes:
        """The bytes for pyrunc-init: a header page, the steps, the arena from a page boundary on."""
        body = self._code
        for index, label in self._jumps:
            if label.index < 0:
                raise ValueError(f"step {index} ({self.text(index)[0]}) goes to a label never placed")
            _put_target(body, index * STEP + STEP_AT_TARGET, label.index - index)
        if self._blanks:
            raise ValueError("a blank outside of a pattern")
        arena_at = PAGE + len(body) + (-len(body) % PAGE)
        header = _header(MAGIC, len(self), 0, arena_at, len(self._arena))
        return b"".join(
            (header, bytes(PAGE - len(header)), body, bytes(arena_at - PAGE - len(body)), self._arena)
        )
