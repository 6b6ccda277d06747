"""A dictionary that spills to disk when memory runs out: `SpillDict`."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, Never, Self, TypeVar

from persicache.errors import UntrustedPickle
from persicache.eviction import LRU, Policy
from persicache.mappings.budget import parse_nbytes
from persicache.mappings.fork_lock import ForkLock
from persicache.mappings.heap import Trimmer
from persicache.mappings.html import shown
from persicache.mappings.spill_item import NOWHERE, Item
from persicache.mappings.spill_place import GivenPlace, PrivatePlace, SpillPlace
from persicache.mappings.warn import warn_caller
from persicache.mappings.weigh import nbytes

__all__ = ["SpillDict"]

V = TypeVar("V")

UNSET: Final = object()
#: Giving memory back to the system takes a moment: it is not worth it for less.
MIN_TRIM_NBYTES: Final = 1 << 20
POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {"lru": LRU}


class SpillDict(MutableMapping[Any, V]):
    """A dictionary of live objects that keeps what doesn't fit into memory on disk.

    Up to `available_memory` the values are ordinary objects in memory. Beyond it the least
    recently used are written to `spill_to`, and read again when they are asked for. A value
    that comes back keeps its copy on disk, so each is written once: after changing a value
    in place, assign it again (``c[k] = v``), or the change may be gone when it leaves memory.

    Parameters
    ----------
    data : mapping or iterable of (key, value), optional
        What to start with.
    available_memory : int, float or str, default "auto"
        The budget: bytes, ``"2 GiB"``, a share of the machine's or the cgroup's memory such
        as 0.25, or ``"auto"``: a share of 0.3.
    spill_to : str, path-like or MutableMapping, optional
        Where to spill. By default a private directory in the place for temporary files,
        removed when the dictionary is closed or collected. What is in a given place is part
        of the dictionary, and stays there: see `flush`.
    policy : str, default "lru"
        Who leaves memory first: ``"lru"``, the least recently used.
    weigh : callable, default `persicache.nbytes`
        From a value to the bytes that it takes in memory.

    Raises
    ------
    ValueError
        If an option makes no sense; if what `weigh` says of a value is negative or no finite
        number; if the given place holds keys that are equal in Python, such as 1 and 1.0; and
        whenever the dictionary is used after it was closed.

    Notes
    -----
    All methods may be called from several threads; they wait for one another.

    A value that can't be stored stays in memory, with one warning. So does, in a given place,
    a value whose key can't be stored there; in the default place any hashable key can. These
    come on top of the budget if they exceed it.

    A failed write, as on a full disk, raises and changes nothing: every value is where it was.

    In a given place, values are lost that are in memory only when the dictionary is collected,
    or the interpreter exits: close it, by ``with`` or `close`, or `flush` it. A
    `ResourceWarning` tells when it was forgotten.

    A forked child has the dictionary as it was at the fork. In the default place it reads what
    was spilled before as long as the parent keeps it, removes nothing of the parent's, and
    spills into a directory of its own. A given place is one for both, as for any two processes.

    A SpillDict is not copied or pickled: ``SpillDict(c)``, ``dict(c)`` and ``update`` take over
    what is in it, and another process can open a given place after `flush`.

    Examples
    --------
    >>> import numpy as np
    >>> with SpillDict(available_memory="1 MiB") as c:
    ...     for i in range(10):
    ...         c[i] = np.full(65_536, i)  # half a MiB each
    ...     len(c), sorted(c.in_memory), int(c[0][7])
    (10, [9], 0)
    """

    def __init__(
        self,
        data: Mapping[Any, V] | Iterable[tuple[Any, V]] | None = None,
        *,
        available_memory: float | str = "auto",
        spill_to: str | os.PathLike[str] | MutableMapping[Any, V] | None = None,
        policy: str = "lru",
        weigh: Callable[[V], int] = nbytes,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}: give one of {sorted(POLICIES)}")
        self._budget = parse_nbytes(available_memory)
        self._weigh = weigh
        self._new_policy = POLICIES[policy]
        self._policy = self._new_policy()
        self._lock = ForkLock(self._repair)
        self._used = 0
        self._trimmer = Trimmer(every_nbytes=max(self._budget // 32, MIN_TRIM_NBYTES))
        self._is_closed = False
        # Every key has one item, and a new one takes its place in one step: whoever looks
        # without the lock finds the old or the new.
        self._items: dict[Hashable, Item] = {}
        self._place: SpillPlace
        if spill_to is None:
            self._place = PrivatePlace()
        else:
            self._place = place = GivenPlace(spill_to)
            self._items |= {
                key: Item(key, copy=copy, is_clean=True) for key, copy in place.copies().items()
            }
            weakref.finalize(self, _warn_of_lost, self._items, os.getpid(), repr(place))
        if data is not None:
            self.update(data)

    def __repr__(self) -> str:
        with self._lock:
            if self._is_closed:
                return f"{type(self).__name__}(closed)"
            n_on_disk = sum(not item.is_in_memory for item in self._items.values())
            return (
                f"{type(self).__name__}({len(self._items)} items, {shown(self._used)} of "
                f"{shown(self._budget)} in memory, {n_on_disk} on disk)"
            )

    @property
    def available_memory(self) -> int:
        """The budget in bytes."""
        return self._budget

    @property
    def memory_usage(self) -> int:
        """The bytes of the values that are in memory."""
        return self._used

    @property
    def in_memory(self) -> frozenset[Any]:
        """The keys whose values are in memory."""
        with self._lock:
            return frozenset(key for key, item in self._items.items() if item.is_in_memory)

    # One key

    def __getitem__(self, key: Hashable) -> V:
        with self._lock:
            item = self._open_items()[key]
            if item.is_in_memory:
                if not item.is_pinned:
                    self._policy.touch(key)
                return item.value  # type: ignore[no-any-return]
            value: V = self._read(key, item)
            self._restore(key, item, value)
            return value

    def __setitem__(self, key: Hashable, value: V) -> None:
        with self._lock:
            old = self._open_items().get(key)
            weight = self._weighed(value)
            item = Item(key, value=value, weight=weight)
            if old is not None:
                item.is_told = old.is_told
                if not self._place.is_private:
                    # Crash: it stays until the new value overwrites it; another process that
                    # opens the place before that finds the old value, not none.
                    item.copy = old.copy
                if key in self._policy:
                    self._policy.touch(key)  # so that it is spilled last, if at all
            # Full disk: room first, or straight through to the place; nothing has changed yet.
            failure = None
            if not self._make_room(weight, instead_of=old):
                failure = self._write(item)
                if failure is None:
                    item.value = NOWHERE
            self._items[key] = item
            self._forget(key, old)
            self._remember(key, item)
            if old is not None and old.copy is not None and self._place.is_private:
                self._remove_copy(old)
            if failure is not None:
                self._pin(key, item, failure)

    def __delitem__(self, key: Hashable) -> None:
        with self._lock:
            self._remove(key, self._open_items()[key])

    def __contains__(self, key: object) -> bool:
        return key in self._open_items()

    def pop(self, key: Hashable, default: Any = UNSET) -> Any:
        """Remove `key` and return its value; or the default, if there is one and no such key."""
        with self._lock:
            item = self._open_items().get(key)
            if item is None:
                if default is UNSET:
                    raise KeyError(key)
                return default
            value = item.value if item.is_in_memory else self._read(key, item)
            self._remove(key, item)
            return value

    def popitem(self) -> tuple[Any, V]:
        """Remove the item that came last, as a dict does, and return it; KeyError if there is none."""
        with self._lock:
            for key in reversed(self._open_items()):
                return key, self.pop(key)
            raise KeyError("the dictionary is empty")

    def setdefault(self, key: Hashable, default: V = None) -> V:  # type: ignore[assignment]
        """Return the value of `key`, after setting it to `default` if there is none."""
        with self._lock:
            if key not in self._open_items():
                self[key] = default
                return default
            return self[key]

    def spill(self, key: Hashable) -> bool:
        """Move the value of `key` out of memory; return whether it is out now.

        Raises
        ------
        KeyError
            If there is no such key.
        """
        with self._lock:
            item = self._open_items()[key]
            return not item.is_in_memory or self._spill(key, item)

    # All keys

    def __iter__(self) -> Iterator[Any]:
        with self._lock:
            return iter(list(self._open_items()))

    def __len__(self) -> int:
        return len(self._open_items())

    def clear(self) -> None:
        """Remove every item, without reading any."""
        with self._lock:
            items = self._open_items()
            copies = [item.copy for item in items.values() if item.copy is not None]
            try:
                self._place.remove_all(copies)
            except Exception:  # noqa: BLE001 - of any mapping; if it lasts, it comes again
                # One by one, so that what is left can still be read.
                for key, item in list(items.items()):
                    self._remove(key, item)
            self._forget_all()

    def flush(self) -> None:
        """Store every value that is in memory only, so that another process can open the place."""
        with self._lock:
            for key, item in list(self._open_items().items()):
                self._store(key, item)
            self._place.flush()

    def close(self) -> None:
        """Store what a given place doesn't hold yet, or remove the private one; and forget all.

        Closing it again does nothing; using it any other way is a ValueError.
        """
        with self._lock:
            if self._is_closed:
                return
            if not self._place.is_private:
                self.flush()
            self._forget_all()
            self._is_closed = True
            self._place.close()

    def __enter__(self) -> Self:
        self._open_items()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What it doesn't do

    def __copy__(self) -> Never:
        raise TypeError(
            "a SpillDict is not copied, as two can't own what it spilled: take SpillDict(c) for "
            "another one, dict(c) for all values in memory, or update() one of them with it"
        )

    def __deepcopy__(self, memo: object) -> Never:
        self.__copy__()

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError(
            "a SpillDict is not pickled, as what it spilled stays on this machine: pickle dict(c), or "
            "give it a place (spill_to=), flush() it, and open that place in the other process"
        )

    # Under the lock

    def _open_items(self) -> dict[Hashable, Item]:
        if self._is_closed:
            raise ValueError(
                "this SpillDict is closed, and what it held in memory or in a private place is gone: "
                "make a new one"
            )
        return self._items

    def _weighed(self, value: V) -> int:
        weight = self._weigh(value)
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(
                f"weigh= says that a {type(value).__name__} weighs {weight!r}: it must be a number of bytes"
            )
        return math.ceil(weight)

    def _make_room(self, weight: int, *, instead_of: Item | None = None) -> bool:
        """Spill until so much fits into the budget; return whether it does."""
        if weight > self._budget:
            return False
        while True:
            free = instead_of.weight if instead_of is not None and instead_of.is_in_memory else 0
            if self._used - free + weight <= self._budget:
                return True
            if not len(self._policy):
                return False
            victim = self._policy.victim()
            self._spill(victim, self._items[victim])

    def _restore(self, key: Hashable, item: Item, value: V) -> None:
        """Keep a value that was read in memory, if there is room."""
        weight = self._weighed(value)
        # A disk too full to make room is no reason not to hand out what was read.
        with contextlib.suppress(OSError, MemoryError):
            if self._make_room(weight):
                item.weight, item.value = weight, value
                self._remember(key, item)

    def _remember(self, key: Hashable, item: Item) -> None:
        if item.is_in_memory:
            self._used += item.weight
            if not item.is_pinned:
                self._policy.add(key, nbytes=item.weight)

    def _forget(self, key: Hashable, item: Item | None) -> None:
        if item is not None and item.is_in_memory:
            self._used -= item.weight
            if not item.is_pinned:
                self._policy.remove(key)

    def _forget_all(self) -> None:
        self._items.clear()
        self._policy = self._new_policy()
        self._used = 0

    def _spill(self, key: Hashable, item: Item) -> bool:
        # Crash, full disk: the value leaves memory only once it is stored.
        if not self._store(key, item):
            return False
        self._forget(key, item)
        item.value = NOWHERE
        self._trimmer.freed(item.weight)
        return True

    def _read(self, key: Hashable, item: Item) -> V:
        assert item.copy is not None
        value: V = self._place.read(key, item.copy)
        return value

    def _store(self, key: Hashable, item: Item) -> bool:
        """See that the place has a copy of a value; return whether it could be stored."""
        if item.is_clean or item.is_pinned:
            return item.is_clean
        failure = self._write(item)
        if failure is not None:
            self._pin(key, item, failure)
        return failure is None

    def _write(self, item: Item) -> Exception | None:
        """Write a value; return why it can't be stored, if it can't."""
        try:
            item.copy = self._place.write(item.key, item.value, old=item.copy)
        except UntrustedPickle as error:
            return error
        except (OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a mapping or a value may raise anything
            return error
        item.is_clean = True
        return None

    def _pin(self, key: Hashable, item: Item, failure: Exception) -> None:
        """Keep a value in memory for good, since it can't be stored."""
        item.is_pinned = True
        self._policy.remove(key)
        if item.copy is not None:
            self._remove_copy(item)  # of an older value, which this one can't overwrite
        if not item.is_told:
            item.is_told = True
            warn_caller(f"{key!r} stays in memory: {failure}")

    def _remove(self, key: Hashable, item: Item) -> None:
        # In a given place the copy goes first: if it can't be removed, the key is still there.
        if item.copy is not None and not self._place.is_private:
            self._place.remove(item.copy)
        del self._items[key]
        self._forget(key, item)
        if item.copy is not None and self._place.is_private:
            self._remove_copy(item)

    def _remove_copy(self, item: Item) -> None:
        """Remove the copy of a value that is no longer in use; if that fails, it only takes space."""
        copy, item.copy = item.copy, None
        assert copy is not None
        try:
            self._place.remove(copy)
        except Exception as error:  # noqa: BLE001 - of any mapping
            warn_caller(f"an old copy of {item.key!r} could not be removed: {error}")

    def _repair(self) -> None:
        # Race: forked while another thread was in here, or interrupted. Items change in one
        # step; what is counted beside them may have been half done.
        self._policy = self._new_policy()
        self._used = 0
        for key, item in self._items.items():
            self._remember(key, item)


def _warn_of_lost(items: dict[Hashable, Item], pid: int, place: str) -> None:
    n_lost = sum(not item.is_clean and not item.is_pinned for item in items.values())
    if n_lost and os.getpid() == pid:
        warnings.warn(
            f"a SpillDict was not closed: {n_lost} of its values are not in {place}, and lost; "
            "use it in a with block, or call flush() or close()",
            ResourceWarning,
            stacklevel=2,
        )
