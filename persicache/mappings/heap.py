"""The C heap: giving back what was freed."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["Trimmer"]


class Trimmer:
    """Gives freed memory back to the system, now and then.

    glibc keeps a freed array of some MiB for the next one, unless it lies at the top of the
    heap. Whoever frees the oldest first then has the memory of what was freed beside that of
    what was mapped in its stead: twice the budget.

    Parameters
    ----------
    every_nbytes : int
        How much may be freed before it is given back. Giving back takes some 50 us.

    Notes
    -----
    Where the C library has no ``malloc_trim`` (musl, macOS) nothing is done: those give back
    large blocks by themselves.
    """

    def __init__(self, *, every_nbytes: int) -> None:
        self._every_nbytes = every_nbytes
        self._freed_nbytes = 0
        self._trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def freed(self, nbytes: int) -> None:
        """Note that so much was freed, and give back once it is enough."""
        self._freed_nbytes += nbytes
        if self._freed_nbytes >= self._every_nbytes and self._trim is not None:
            self._freed_nbytes = 0
            self._trim(0)
