"""A dictionary that spills to disk when memory runs out: `SpillDict`."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from persicache.errors import (
    BackendError,
    PersicacheWarning,
    UnencodableKey,
    UnencodableValue,
    UntrustedPickle,
)
from persicache.eviction import LRU, Policy
from persicache.mappings.budget import parse_nbytes
from persicache.mappings.heap import Trimmer
from persicache.mappings.persidict import PersiDict
from persicache.mappings.weigh import nbytes

__all__ = ["SpillDict"]

V = TypeVar("V")

NOWHERE: Final = object()
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

    Notes
    -----
    All methods may be called from several threads; they wait for one another.

    A value that can't be stored stays in memory, with one warning. So does, in a given place,
    a value whose key can't be stored there; in the default place any hashable key can.

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
        self._policy = POLICIES[policy]()
        self._lock = threading.RLock()
        self._fast: dict[Hashable, V] = {}
        self._weights: dict[Hashable, int] = {}
        self._used = 0
        self._trimmer = Trimmer(every_nbytes=self._budget // 32)
        # In memory for good: what could not be stored.
        self._pinned: set[Hashable] = set()
        self._slow, self._remove_place = _open_place(self, spill_to)
        self._is_private = spill_to is None
        self._numbers = count()
        # Keys with a copy on disk, and the keys of the copies; the copy of a key in memory is
        # the same value.
        self._stored: dict[Hashable, Any] = {} if self._is_private else {key: key for key in self._slow}
        if data is not None:
            self.update(data)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self)} items, {_shown(self._used)} of {_shown(self._budget)} "
            f"in memory, {len(self) - len(self._fast)} on disk)"
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
            return frozenset(self._fast)

    def __getitem__(self, key: Hashable) -> V:
        with self._lock:
            if key in self._fast:
                if key not in self._pinned:
                    self._policy.touch(key)
                return self._fast[key]
            value = self._slow[self._stored[key]]
            # A disk too full to make room is no reason not to hand out what was read.
            with contextlib.suppress(BackendError):
                self._keep(key, value)
            return value

    def __setitem__(self, key: Hashable, value: V) -> None:
        with self._lock:
            self._keep(key, value, is_new=True)
            if self._used > self._budget:
                self._make_room(self._budget)

    def __delitem__(self, key: Hashable) -> None:
        with self._lock:
            if key not in self:
                raise KeyError(key)
            # The copy goes first: if it can't be removed, the key is still there.
            slow_key = self._stored.get(key, NOWHERE if self._is_private else key)
            if slow_key is not NOWHERE:
                self._slow.pop(slow_key, None)
            self._stored.pop(key, None)
            self._forget(key)

    def __contains__(self, key: object) -> bool:
        return key in self._fast or key in self._stored

    def __iter__(self) -> Iterator[Any]:
        with self._lock:
            keys = [*self._fast, *(key for key in self._stored if key not in self._fast)]
        return iter(keys)

    def __len__(self) -> int:
        with self._lock:
            return len(self._fast) + sum(1 for key in self._stored if key not in self._fast)

    def spill(self, key: Hashable) -> bool:
        """Move the value of `key` out of memory; return whether it is out now.

        Raises
        ------
        KeyError
            If there is no such key.
        """
        with self._lock:
            if key not in self._fast:
                if key not in self._stored:
                    raise KeyError(key)
                return True
            return self._spill(key)

    def flush(self) -> None:
        """Store every value that is in memory only, so that another process can open the place."""
        with self._lock:
            for key in list(self._fast):
                if key not in self._pinned:
                    self._store(key)
            if isinstance(self._slow, PersiDict):
                self._slow.flush()

    def close(self) -> None:
        """Store what a given place doesn't hold yet, or remove the private one; and forget all."""
        with self._lock:
            if not self._is_private:
                self.flush()
            for key in list(self._fast):
                self._forget(key)
            self._stored.clear()
            self._remove_place()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _keep(self, key: Hashable, value: V, *, is_new: bool = False) -> None:
        """Take a value into memory, where there is room for it."""
        weight = self._weigh(value)
        replaced = self._weights.get(key, 0)
        if key in self._policy:
            self._policy.touch(key)  # so that the value to be replaced is spilled last, if at all
        # Room first, so that the peak is the budget; and if the disk is full, nothing has changed.
        self._make_room(self._budget - weight + replaced)
        self._forget(key)
        if is_new:
            self._disown(key)
        self._fast[key] = value
        self._weights[key] = weight
        self._used += weight
        self._policy.add(key, nbytes=weight)

    def _disown(self, key: Hashable) -> None:
        # In a private place the old copy is of no use. In a given one it stays until the new
        # value overwrites it: were this process killed now, another one still finds the old.
        old = self._stored.pop(key, NOWHERE)
        if self._is_private and old is not NOWHERE:
            self._slow.pop(old, None)

    def _make_room(self, target: int) -> None:
        while self._used > target and len(self._policy):
            self._spill(self._policy.victim())

    def _spill(self, key: Hashable) -> bool:
        # Crash, full disk: the value leaves memory only once it is stored.
        if not self._store(key):
            return False
        weight = self._weights[key]
        self._forget(key)
        self._trimmer.freed(weight)
        return True

    def _store(self, key: Hashable) -> bool:
        if key in self._stored:
            return True
        slow_key = next(self._numbers) if self._is_private else key
        try:
            self._slow[slow_key] = self._fast[key]
        except (UnencodableValue, UnencodableKey, UntrustedPickle) as error:
            self._pin(key, error)
            return False
        self._stored[key] = slow_key
        return True

    def _pin(self, key: Hashable, error: Exception) -> None:
        if key not in self._pinned:
            self._pinned.add(key)
            self._policy.remove(key)
            if not self._is_private:
                with contextlib.suppress(UnencodableKey):
                    self._slow.pop(key, None)  # an older value, which this one can't overwrite
            warnings.warn(f"{key!r} stays in memory: {error}", PersicacheWarning, stacklevel=2)

    def _forget(self, key: Hashable) -> None:
        """Drop a value from memory."""
        if key in self._fast:
            del self._fast[key]
            self._used -= self._weights.pop(key)
            if key in self._pinned:
                self._pinned.remove(key)
            else:
                self._policy.remove(key)


def _open_place(
    owner: object, spill_to: str | os.PathLike[str] | MutableMapping[Any, V] | None
) -> tuple[MutableMapping[Any, V], Callable[[], object]]:
    if isinstance(spill_to, MutableMapping):
        return spill_to, lambda: None
    if spill_to is not None:
        return PersiDict(spill_to), lambda: None
    directory = tempfile.mkdtemp(prefix="persicache-spill-")
    # What this process has just written needs no second look at its checksum.
    place: PersiDict[V] = PersiDict(directory, durable=False, verify="header")
    return place, weakref.finalize(owner, _remove_directory, directory, os.getpid())


def _remove_directory(directory: str, pid: int) -> None:
    # A forked child inherits the finalizer, not the directory.
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)


def _shown(amount: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:  # noqa: PLR2004 - the units' ratio
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
