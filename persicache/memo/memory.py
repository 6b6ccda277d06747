"""Results that this process has at hand: `Memory`."""

from __future__ import annotations

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
#: What an item takes beside its value: keys, and its places in the dictionaries.
_ITEM_NBYTES: Final = 500


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

    Attributes
    ----------
    changes : int
        How often a result was replaced or forgotten.
    """

    def __init__(self, most_nbytes: int) -> None:
        self._most = most_nbytes
        self._held: OrderedDict[object, tuple[Held, int]] = OrderedDict()
        #: The keys of each entry: a call has one for its plain arguments, and one for their digest.
        self._keys: dict[KeyName, list[object]] = {}
        self._used = 0
        self.changes = 0
        self._lock = ForkLock()
        #: What is larger is not held.
        self.most_item_nbytes = most_nbytes // 8

    def get(self, key: object) -> Held | None:
        """Return what is held under a key."""
        found = self._held.get(key)
        if found is None:
            return None
        try:  # noqa: SIM105 - suppress takes as long as all else here
            self._held.move_to_end(key)
        except KeyError:  # Race: it has just left
            pass
        return found[0]

    def put(self, key: object, held: Held, *, since: int) -> None:
        """Hold a result that was read.

        Parameters
        ----------
        key : object
            Under which.
        held : Held
            The result.
        since : int
            What `changes` was before it was read.
        """
        with self._lock:
            # Race: it may have been read before another took its place, and come here after.
            if self.changes == since:
                self._put(key, held)

    def replace(
        self, where: KeyName, key: object, held: Held | None, *, since: int, is_first: bool
    ) -> None:
        """Hold a result that was stored, in place of what is held of its entry.

        Parameters
        ----------
        where : KeyName
            The entry.
        key, held
            As for `put`; None to hold nothing.
        since : int
            What `changes` was before it was stored.
        is_first : bool
            Whether the store had nothing there that somebody may be reading.
        """
        with self._lock:
            is_last = self.changes == since
            self._forget(where)
            if not is_first:
                self.changes += 1
            if held is not None and is_last:
                self._put(key, held)

    def forget(self, where: KeyName) -> None:
        """Hold nothing of an entry, nor what is being read of it."""
        with self._lock:
            self.changes += 1
            self._forget(where)

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock:
            self.changes += 1
            self._held.clear()
            self._keys.clear()
            self._used = 0

    def _put(self, key: object, held: Held) -> None:
        size = _ITEM_NBYTES + (nbytes(held.value) if held.entry is None else len(held.entry.buffer))
        if size > self.most_item_nbytes:
            return
        self._remove(key)
        # Interrupted: a key too many here does no harm, one too few would hide what is held.
        self._keys.setdefault(held.where, []).append(key)
        self._held[key] = held, size
        self._used += size
        while self._used > self._most:
            self._remove(next(iter(self._held)))

    def _forget(self, where: KeyName) -> None:
        for key in self._keys.pop(where, ()):
            self._remove(key)

    def _remove(self, key: object) -> None:
        found = self._held.pop(key, None)
        if found is None:
            return
        held, size = found
        self._used -= size
        keys = self._keys.get(held.where)
        if keys is not None:
            keys.remove(key)
            if not keys:
                del self._keys[held.where]


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
