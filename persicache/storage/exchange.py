"""Two files that take each other's names at one moment: `exchange`."""

from __future__ import annotations

import ctypes
import os
from typing import Final

__all__ = ["exchange"]

_HERE: Final = -100  # AT_FDCWD: paths count from the working directory
_EXCHANGE: Final = 2  # RENAME_EXCHANGE, see renameat2(2)

# Python has no function for it.
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
if _renameat2 is not None:
    _renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]


def exchange(first: str, second: str, *, dir_fd: int | None = None) -> bool:
    """Let two files take each other's names at once; False if that can't be done here, or now.

    Parameters
    ----------
    first, second : str
        Their paths.
    dir_fd : int, optional
        The descriptor of the directory that the paths are relative to.

    Examples
    --------
    >>> exchange("/nowhere/a", "/nowhere/b")
    False
    """
    if _renameat2 is None:
        return False
    fd = _HERE if dir_fd is None else dir_fd
    done: int = _renameat2(fd, os.fsencode(first), fd, os.fsencode(second), _EXCHANGE)
    return done == 0
