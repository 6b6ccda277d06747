"""Memory that objects hold, or show parts of: `Memory`."""

from __future__ import annotations

import mmap
import sys
from typing import Any, Final

import numpy as np

__all__ = ["Memory", "Opaque", "memory_of", "owner_of", "shown_nbytes"]

#: How many times what owns memory may be owned by something else.
MAX_OWNERS: Final = 100


class Opaque:
    """Memory that has a size, and no parts."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes

    def __sizeof__(self) -> int:
        return self._nbytes


class Memory:
    """Memory, and what is shown of it.

    Parameters
    ----------
    nbytes : int, optional
        How much it is, if that is known.
    owner : Any, optional
        The object that it goes with. Its id is not taken again before this is gone.
    """

    def __init__(self, nbytes: int | None, owner: Any = None) -> None:
        self._nbytes = float("inf") if nbytes is None else nbytes
        self._owner = owner
        self._shown_nbytes = 0.0
        self._n_shown = 0
        self._factor = 1.0  # how many like it there are
        self._is_met = False  # whether its owner is in the value, too

    def add(self, nbytes: int, factor: float, *, is_owner: bool) -> None:
        """Note that something shows some bytes of it, and stands for as many as `factor`."""
        self._shown_nbytes += factor * nbytes
        self._n_shown += 1
        if is_owner or self._n_shown == 1:
            self._factor = factor
            self._is_met = is_owner
        elif not self._is_met:
            self._factor = 1.0  # several of a sample show it: it is one for all

    def nbytes(self) -> float:
        """Return how much of it the value takes."""
        # Views that nobody else shares it with keep all of it.
        if type(self._owner) is np.ndarray and not self._is_met and self.n_references() <= self._n_shown:
            return self._factor * self._nbytes
        return min(self._shown_nbytes, self._factor * self._nbytes)

    def n_references(self) -> int:
        """Return how many others refer to its owner."""
        return sys.getrefcount(self._owner) - _OWN_REFERENCES


# Interpreters differ in what they count themselves.
_OWN_REFERENCES = 0
_OWN_REFERENCES = Memory(0, np.zeros(1)).n_references()


def memory_of(owner: Any) -> Memory:
    """Return the memory that an object owns."""
    if isinstance(owner, np.ndarray):
        return Memory(owner.nbytes, owner)
    try:
        size = memoryview(owner).nbytes
    except (TypeError, ValueError, BufferError):
        return Memory(None, owner)
    return Memory(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE if type(owner) is mmap.mmap else size, owner)


def owner_of(array: np.ndarray[Any, Any]) -> Any:
    """Return what owns the memory that an array shows."""
    owner: Any = array
    for _ in range(MAX_OWNERS):
        below = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
        if below is None:
            break
        owner = below
    return owner


def shown_nbytes(array: np.ndarray[Any, Any], owner: Any) -> int:
    """Return how much memory can be resident for an array: of a map, the pages that it touches."""
    if type(owner) is not mmap.mmap or array.size == 0:
        return array.nbytes
    ends = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    start: int = array.__array_interface__["data"][0]
    first = start + sum(end for end in ends if end < 0)
    last = first + sum(map(abs, ends)) + array.itemsize - 1
    n_pages = last // mmap.PAGESIZE - first // mmap.PAGESIZE + 1
    # One that takes every thousandth number touches a page for each.
    n_pages = min(n_pages, array.size * (2 + array.itemsize // mmap.PAGESIZE))
    return int(n_pages) * mmap.PAGESIZE
