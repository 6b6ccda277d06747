"""Results that this process has at hand: `Memory`."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from persicache.codecs import Bytes
from persicache.keys import KeyName
from persicache.mappings import nbytes
from persicache.mappings.fork_lock import ForkLock

__all__ = ["Held", "Memory", "is_immutable"]

_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
#: Of longer tuples nobody looks whether all is immutable in them.
_MOST_ITEMS: Final = 64
#: What an item takes beside its value: keys, and its place in the dictionary.
_ITEM_NBYTES: Final = 400


class Held(NamedTuple):
    """A result in memory: the value, if nobody can change it, or the bytes of its entry.

    Attributes
    ----------
    where : KeyName
        Its entry.
    value : object
        The value, None if there is an entry.
    entry : Bytes or None
        The whole entry, from which each caller gets a value of its own.
    cost_seconds : float
        How long it took to compute.
    until : float
        When it is no longer fresh, in POSIX seconds.
    nbytes : int
        The size of the entry.
    """

    where: KeyName
    value: Any
    entry: Bytes | None
    cost_seconds: float
    until: float
    nbytes: int


class Memory:
    """Results up to so many bytes; the least recently used leave.

    Parameters
    ----------
    most_nbytes : int
        How many bytes there is room for; 0 for none.
    """

    def __init__(self, most_nbytes: int) -> None:
        self._most = most_nbytes
        self._held: OrderedDict[object, tuple[Held, int]] = OrderedDict()
        self._used = 0
        self._lock = ForkLock()
        #: What is larger is not held.
        self.most_item_nbytes = most_nbytes // 8

    def get(self, key: object) -> Held | None:
        """Return what is held under a key."""
        found = self._held.get(key)
        if found is None:
            return None
        with contextlib.suppress(KeyError):  # Race: it has just left
            self._held.move_to_end(key)
        return found[0]

    def put(self, key: object, held: Held) -> None:
        """Hold a result, if it is small enough."""
        size = _ITEM_NBYTES + (nbytes(held.value) if held.entry is None else len(held.entry.buffer))
        if size > self.most_item_nbytes:
            return
        with self._lock:
            self._remove(key)
            self._held[key] = held, size
            self._used += size
            while self._used > self._most:
                _, (_, gone) = self._held.popitem(last=False)
                self._used -= gone

    def forget(self, where: KeyName) -> None:
        """Hold nothing of an entry."""
        with self._lock:
            for key in [key for key, (held, _) in self._held.items() if held.where == where]:
                self._remove(key)

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._held.clear()
            self._used = 0

    def _remove(self, key: object) -> None:
        found = self._held.pop(key, None)
        if found is not None:
            self._used -= found[1]


def is_immutable(value: object, room: int = _MOST_ITEMS) -> bool:
    """Return whether nobody can change a value, so that all can have the same.

    Examples
    --------
    >>> is_immutable((1, "two", (b"3", None))), is_immutable((1, []))
    (True, False)
    """
    if type(value) in _ATOMS:
        return True
    if type(value) not in {tuple, frozenset}:
        return False
    items: Any = value
    return len(items) <= room and all(is_immutable(item, room - len(items)) for item in items)
