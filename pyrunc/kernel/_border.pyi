"""Types of the extension module that pyrunc.native.build_ffi declares."""

from typing import Any

ffi: Any

class lib:
    """The functions of native/border.h."""

    @staticmethod
    def border_syscall(number: int, a: int, b: int, c: int, d: int, e: int, f: int, /) -> int: ...
    @staticmethod
    def border_spawn(spawn: Any, /) -> int: ...
