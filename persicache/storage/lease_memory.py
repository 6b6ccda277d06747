"""Leases in this process's memory: `MemoryLeases`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Final

from persicache.storage.lease_pauses import pauses
from persicache.storage.names import check_name

__all__ = ["MemoryLease", "MemoryLeases"]

_LEAST_SECONDS: Final = 0.001
_MOST_SECONDS: Final = 0.05

# The process's, as is the memory that they are about; a child gets a memory of its own.
_holders: dict[tuple[str, str], object] = {}
os.register_at_fork(after_in_child=_holders.clear)


class MemoryLease:
    """A lease of one of this process's threads; it ends when nobody has it any more.

    Parameters
    ----------
    key : tuple of str
        The place and the name.
    mark : object
        What stands for it among the holders.
    """

    __slots__ = ("_key", "_mark", "_to_release")

    def __init__(self, key: tuple[str, str], mark: object) -> None:
        self._key = key
        self._mark = mark
        self._to_release = [mark]

    @property
    def is_lost(self) -> bool:
        return _holders.get(self._key) is not self._mark

    def release(self) -> None:
        try:
            # Race: of several threads one gets it; the others could remove that of the next holder.
            mark = self._to_release.pop()
        except IndexError:
            return
        if _holders.get(self._key) is mark:  # not in a forked child
            del _holders[self._key]

    __del__ = release


class MemoryLeases:
    """Leases that the threads of this process exclude one another by.

    Parameters
    ----------
    url : str
        The place.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def tries(self, name: str) -> Generator[float, None, MemoryLease]:
        check_name(name)
        key, mark = (self._url, name), object()
        waits = pauses(_LEAST_SECONDS, _MOST_SECONDS)
        while _holders.setdefault(key, mark) is not mark:
            yield next(waits)
        return MemoryLease(key, mark)
