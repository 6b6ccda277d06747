"""Copies of blobs in the memory of this process: `MemoryCopies`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from persicache.mappings.fork_lock import ForkLock, Mender
from persicache.mappings.near_copies import Copy
from persicache.mappings.near_room import Room
from persicache.storage import MAP_FROM_NBYTES, Buffer, Version

__all__ = ["MemoryCopies"]

#: What a copy takes beside its bytes: names, version, and its places in three dictionaries.
_EXTRA_NBYTES: Final = 1024


class MemoryCopies:
    """Copies that one process has; another begins without.

    Parameters
    ----------
    limit_nbytes : int
        How much memory they may take.

    Examples
    --------
    >>> copies = MemoryCopies(1 << 20)
    >>> copies.keep("a", [b"one ", b"two"], "v1", is_private=True)
    >>> copies.load("a").buffer
    b'one two'
    """

    outlives_process: Final = False

    def __init__(self, limit_nbytes: int) -> None:
        self._limit_nbytes = limit_nbytes
        self._lock = ForkLock()
        self._mender = Mender(self._clear)
        self._clear()

    def __reduce__(self) -> tuple[object, ...]:
        return MemoryCopies, (self._limit_nbytes,)

    def __repr__(self) -> str:
        return f"MemoryCopies({self._limit_nbytes})"

    def load(self, name: str) -> Copy | None:
        with self._lock, self._mender:
            copy = self._copies.get(name)
            if copy is None:
                return None
            self._room.touch(name)
        if len(copy.buffer) < MAP_FROM_NBYTES:
            return copy
        return copy._replace(buffer=bytearray(copy.buffer))

    def keep(self, name: str, chunks: Sequence[Buffer], version: Version, *, is_private: bool) -> None:
        nbytes = sum(map(len, chunks)) + _EXTRA_NBYTES
        if not self._room.fits(nbytes):
            self.drop(name)
            return
        try:
            copy = Copy(b"".join(chunks), version, object(), is_private)
        except MemoryError:
            self.drop(name)
            return
        with self._lock, self._mender:
            for victim in self._room.take(name, nbytes):
                del self._copies[victim]
            self._copies[name] = copy

    def drop(self, name: str) -> None:
        with self._lock, self._mender:
            self._room.leave(name)
            self._copies.pop(name, None)

    def close(self) -> None:
        with self._lock, self._mender:
            self._clear()

    def _clear(self) -> None:
        self._copies: dict[str, Copy] = {}
        self._room = Room(self._limit_nbytes)
