"""The C heap, Arrow's too: giving back what was freed."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

__all__ = ["Trimmer"]


class Trimmer:
    """Gives freed memory back to the system, now and then.

    glibc keeps a freed array of some MiB for the next one, unless it lies at the top of the
    heap. Whoever frees the oldest first then has the memory of what was freed beside that of
    what was mapped in its stead: twice the budget. Arrow allocates past glibc, and keeps what is
    freed in pools of its own.

    Parameters
    ----------
    every_nbytes : int
        How much may be freed before it is given back. Giving back takes some 50 us.

    Notes
    -----
    A C library without ``malloc_trim`` (musl, macOS) gives back large blocks by itself.
    """

    def __init__(self, *, every_nbytes: int) -> None:
        self._every_nbytes = every_nbytes
        self._freed_nbytes = 0
        self._trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def freed(self, nbytes: int) -> None:
        """Note that so much was freed, and give back once it is enough."""
        self._freed_nbytes += nbytes
        if self._freed_nbytes < self._every_nbytes:
            return
        self._freed_nbytes = 0
        if self._trim is not None:
            self._trim(0)
        pyarrow: Any = sys.modules.get("pyarrow")
        if hasattr(pyarrow, "default_memory_pool"):  # not while it is imported
            pyarrow.default_memory_pool().release_unused()
