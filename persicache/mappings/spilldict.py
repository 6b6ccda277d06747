"""A dictionary that spills to disk when memory runs out: `SpillDict`."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Literal, Never, Self, TypeVar, get_args

from persicache.errors import Shown, UncopyableValue
from persicache.mappings.fork_lock import ForkLock, Mender
from persicache.mappings.heap import Trimmer
from persicache.mappings.html import shown, summary
from persicache.mappings.persidict import PersiDict
from persicache.mappings.progress import ProgressOption
from persicache.mappings.progress import progress as show_progress
from persicache.mappings.spill_holder import Holder
from persicache.mappings.spill_item import NOWHERE, Item
from persicache.mappings.spill_options import (
    check_function,
    check_private_in,
    check_spill_to,
    parse_budget,
    parse_weight,
)
from persicache.mappings.spill_place import Copy, GivenPlace, PrivatePlace, SpillPlace
from persicache.mappings.spill_rest import REFUSALS, lost, store_rest_of
from persicache.mappings.spill_room import Room
from persicache.mappings.spill_stats import OnDisk, SpillStats
from persicache.mappings.spill_tally import Tally
from persicache.mappings.warn import warn_caller
from persicache.mappings.weigh import nbytes

__all__ = ["SpillDict"]

V = TypeVar("V")

UNSET: Final = object()
#: Giving memory back to the system takes a moment: it is not worth it for less.
MIN_TRIM_NBYTES: Final = 1 << 20
#: How many items a notebook shows.
MOST_SHOWN: Final = 10
#: How long a thread waits for another before it looks whether that is still at it.
PATIENCE_SECONDS: Final = 1.0
#: Threads that `prefetch` reads with.
N_READERS: Final = 4
OnReturn = Literal["view", "copy"]


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
    private_in : str or path-like, optional
        A local directory to make the private one in, on a faster or larger disk.
    policy : {"lru", "lfu", "gdsf"}, default "lru"
        Who leaves memory first: the least recently used, the least frequently used, or what
        takes least time to have back for its bytes.
    weigh : callable, default `persicache.nbytes`
        From a value to the bytes that it takes in memory.
    on_return : {"view", "copy"}, default "view"
        Whether ``c[k]`` is the very object in memory, or a deep copy, which is the caller's own.
    on_miss : callable, optional
        Called with a key before its value is read from disk.
    on_overflow : callable, optional
        Called before values leave memory, with the bytes of the one that there is no room for.
    on_evict : callable, optional
        Called with a key and its value before that leaves memory. If it returns True the value is
        stored, though it was before: somebody has changed it in place.

    Raises
    ------
    TypeError, ValueError
        If an option makes no sense; if what `weigh` says of a value is no number of bytes; if the
        given place holds keys that are equal in Python, such as 1 and 1.0; and whenever the
        dictionary is used after it was closed.
    RuntimeError
        If a hook spills or stores the key that it is called for, or clears, refreshes or closes the
        dictionary; all else it may do.
    UncopyableValue
        If ``on_return="copy"`` and a value can't be copied; ``pop`` hands out the value itself.

    Notes
    -----
    All methods may be called from several threads. Values are written and read while others go
    on: a thread waits only for a key that another is reading, writing or removing, or for the
    memory that another is making free. A key that is set or removed while its old value is being
    written has the new value, or none.

    With ``on_return="view"`` a value that is changed in place is changed in memory, and on disk
    only if it was not written before: assign it to be sure. With "copy" no change in place of what
    it handed out changes the dictionary; what is set is the very object until it leaves memory.

    A value that can't be stored stays in memory, with one warning. So does, in a given place,
    a value whose key can't be stored there; in the default place any hashable key can. These
    come on top of the budget if they exceed it.

    The budget is for values. What a dictionary has to know of each key, some 400 bytes, comes on
    top, too: 40 MB for 100,000 keys.

    Any other failure to write, as on a full disk or with a server that is down, raises and changes
    nothing: every value is where it was. That a value or its key can't be stored, a mapping says by
    a TypeError, ValueError, OverflowError, AttributeError, RecursionError or PicklingError.

    Of what is in memory only, a given place gets the rest when the dictionary is closed, by
    ``with`` or `close`; or collected, or when the interpreter exits. A warning tells what it can't
    store, and how much was lost to a full disk or a server that is down. A process that is killed
    loses what was set since the last `flush`, and so does a forked child with a dictionary that
    its parent made, unless it calls `flush` itself.

    A forked child has the dictionary as it was at the fork. In the default place it reads what
    was spilled before as long as the parent keeps it, removes nothing of the parent's, and
    spills into a directory of its own. A given place is one for both, as for any two processes.

    A SpillDict is not copied, joined to a new one by ``|``, or pickled: ``SpillDict(c)``, ``dict(c)``,
    ``update`` and ``|=`` take over what is in it, and another process can open a given place after `flush`.

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
        private_in: str | os.PathLike[str] | None = None,
        policy: str = "lru",
        weigh: Callable[[V], int] = nbytes,
        on_return: OnReturn = "view",
        on_miss: Callable[[Any], object] | None = None,
        on_overflow: Callable[[int], object] | None = None,
        on_evict: Callable[[Any, V], object] | None = None,
    ) -> None:
        if on_return not in get_args(OnReturn):
            raise ValueError(f"on_return must be one of {get_args(OnReturn)}, not {on_return!r}")
        check_function("weigh", weigh)
        for option, hook in (("on_miss", on_miss), ("on_overflow", on_overflow), ("on_evict", on_evict)):
            if hook is not None:
                check_function(option, hook)
        self._room = Room(parse_budget(available_memory), policy)
        self._weigh = weigh
        self._hands_out_copies = on_return == "copy"
        self._on_miss = on_miss
        self._on_overflow = on_overflow
        self._on_evict = on_evict
        self._lock = ForkLock()
        self._mender = Mender(self._repair)
        self._changed = threading.Condition(self._lock)
        self._pid = os.getpid()
        # Keys whose copies are being read, written or removed, outside the lock, and by whom.
        self._busy: dict[Hashable, Holder] = {}
        self._stats = SpillStats()
        self._trimmer = _trimmer_for(self._room.nbytes)
        self._is_closed = False
        # Every key has one item, and a new one takes its place in one step: whoever looks
        # without the lock finds the old or the new.
        self._items: dict[Hashable, Item] = {}
        self._place: SpillPlace
        if spill_to is None:
            self._place = PrivatePlace(None if private_in is None else check_private_in(private_in))
        else:
            check_spill_to(spill_to, private_in=private_in)
            self._place = GivenPlace(spill_to)
        self._tally = Tally(self._place.nbytes_of)
        if isinstance(self._place, GivenPlace):
            for key, copied in self._place.copies().items():
                self._find(key, copied)
            store_rest_of(self, self._items, self._place)
        if data is not None:
            self.update(data)

    def __repr__(self) -> str:
        with self._lock, self._mender:
            if self._is_closed:
                return f"{type(self).__name__}(closed)"
            n, n_on_disk = len(self._items), sum(not item.is_in_memory for item in self._items.values())
            return (
                f"{type(self).__name__}({n} item{'' if n == 1 else 's'}, {shown(self._room.used)} of "
                f"{shown(self._room.nbytes)} in memory, {n_on_disk} on disk)"
            )

    def _repr_html_(self) -> str:
        with self._lock, self._mender:
            if self._is_closed:
                return summary(repr(self), {}, [], [])
            items = list(self._items.values())
            used, budget, stats = self._room.used, self._room.nbytes, self._stats
            facts: dict[str, object] = {
                "items": len(items),
                "in memory": f"{shown(used)} of {shown(budget)}",
                "on disk": sum(not item.is_in_memory for item in items),
                "spilled": shown(stats.spilled_nbytes),
                "restored": shown(stats.restored_nbytes),
            }
            rows = [
                (repr(Shown(item.key)), shown(item.weight), "memory" if item.is_in_memory else "disk")
                for item in items[:MOST_SHOWN]
            ]
        if len(items) > len(rows):
            rows.append(("…", "", ""))
        bar = f'<meter min="0" max="{budget}" value="{min(used, budget)}" style="width: 20em"></meter>'
        return bar + summary(type(self).__name__, facts, ["key", "weighs", "is in"], rows)

    @property
    def available_memory(self) -> int:
        """The budget in bytes.

        Set it to any amount that the parameter takes. Values that a smaller one has no room for
        leave memory at once; if one of them can't be written, that raises, and the budget stays.
        """
        return self._room.nbytes

    @available_memory.setter
    def available_memory(self, amount: float | str) -> None:
        nbytes = parse_budget(amount)
        with self._lock, self._mender:
            self._open_items()
            before, self._room.nbytes = self._room.nbytes, nbytes
            self._changed.notify_all()  # some may wait for room that there is now
        try:
            self._shrink()
        except BaseException:
            with self._lock, self._mender:
                if self._room.nbytes == nbytes:  # Race: else another has set it since
                    self._room.nbytes = before
                    self._changed.notify_all()
            raise
        self._trimmer = _trimmer_for(nbytes)

    @property
    def memory_usage(self) -> int:
        """The bytes of the values that are in memory."""
        return self._room.used

    @property
    def in_memory(self) -> frozenset[Any]:
        """The keys whose values are in memory."""
        with self._lock, self._mender:
            return frozenset(key for key, item in self._items.items() if item.is_in_memory)

    @property
    def on_disk(self) -> OnDisk:
        """How many values are on disk and not in memory, and their bytes."""
        with self._lock, self._mender:
            return self._tally.total

    @property
    def stats(self) -> SpillStats:
        """What was read and written so far."""
        with self._lock, self._mender:
            return copy.copy(self._stats)

    # One key

    def __getitem__(self, key: Hashable) -> V:
        return self._handed_out(key, self._get(key))

    def _peek(self, key: Hashable) -> V:
        """Return a value that is on its way to somewhere else, so that it takes nobody's room here."""
        return self._handed_out(key, self._get(key, keeps=False))

    def _handed_out(self, key: Hashable, value: V) -> V:
        if not self._hands_out_copies:
            return value
        try:
            return copy.deepcopy(value)
        except MemoryError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UncopyableValue(key=key, reason=reason) from error

    def __setitem__(self, key: Hashable, value: V) -> None:
        self._set(key, value)

    def __delitem__(self, key: Hashable) -> None:
        self._take(key, reads=False)

    def __contains__(self, key: object) -> bool:
        return key in self._open_items()

    def pop(self, key: Hashable, default: Any = UNSET) -> Any:
        """Remove `key` and return its value; or the default, if there is one and no such key."""
        try:
            return self._take(key, reads=True)
        except KeyError:
            if default is UNSET:
                raise
            return default

    def popitem(self) -> tuple[Any, V]:
        """Remove the item that came last, as a dict does, and return it; KeyError if there is none."""
        while True:
            with self._lock, self._mender:
                key = next(reversed(self._open_items()), UNSET)
            if key is UNSET:
                raise KeyError("the dictionary is empty")
            with contextlib.suppress(KeyError):  # Race: another took it
                return key, self._take(key, reads=True)

    def setdefault(self, key: Hashable, default: V = None) -> V:  # type: ignore[assignment]
        """Return the value of `key`, after setting it to `default` if there is none."""
        while True:
            if self._set(key, default, if_absent=True):
                return self._handed_out(key, default)
            with contextlib.suppress(KeyError):  # Race: another removed it
                return self[key]

    def spill(self, key: Hashable) -> bool:
        """Move the value of `key` out of memory; return whether it is out now.

        Raises
        ------
        KeyError
            If there is no such key.
        """
        while True:
            with self._lock, self._mender:
                item = self._open_items()[key]
                if not item.is_in_memory:
                    return True
                if item.is_pinned:
                    return False
                if not self._begin(key):
                    continue
                self._room.send_out(item)
            self._spill(item)
            now = self._items.get(key)
            if now is None or now is item:  # Race: else it was set again meanwhile
                return now is None or not now.is_in_memory

    def evict(self) -> int:
        """Move the value that can best be spared out of memory; return its bytes, 0 if there is none."""
        while True:
            with self._lock, self._mender:
                self._open_items()
                item = self._victim()
            if item is None:
                return 0
            self._spill(item)
            if not item.is_pinned:  # else it couldn't be spared: another one
                return 0 if item.is_in_memory else item.weight

    def prefetch(self, keys: Iterable[Any]) -> None:
        """Read the values of `keys` into memory, several at once, as far as they fit in together.

        Keys that there are none of are passed over.
        """
        nbytes = 0  # of what is there by now

        def read(key: Hashable) -> None:
            nonlocal nbytes
            with self._lock, self._mender:
                item = self._open_items().get(key)
                # What was never here, in a given place, weighs nothing until it is read.
                if item is None or nbytes >= self._room.nbytes:
                    return
            with contextlib.suppress(KeyError):  # Race: removed meanwhile
                self._get(key)
            with self._lock, self._mender:
                nbytes += item.weight

        with ThreadPoolExecutor(N_READERS, "persicache-prefetch") as readers:
            wanted, known_nbytes = [], 0
            with self._lock, self._mender:
                items = self._open_items()
                for key in keys:
                    known_nbytes += items[key].weight if key in items else 0
                    if known_nbytes > self._room.nbytes:
                        break
                    wanted.append(key)
            for reading in [readers.submit(read, key) for key in wanted]:
                reading.result()

    # All keys

    def __iter__(self) -> Iterator[Any]:
        with self._lock, self._mender:
            return iter(list(self._open_items()))

    def __reversed__(self) -> Iterator[Any]:
        with self._lock, self._mender:
            return reversed(list(self._open_items()))

    def __len__(self) -> int:
        return len(self._open_items())

    def __ior__(self, other: Mapping[Any, V] | Iterable[tuple[Any, V]]) -> Self:
        """Set the items of a mapping, or pairs."""
        self.update(other)
        return self

    def update(self, other: Any = (), /, *, overwrite: bool = True, **more: V) -> None:  # type: ignore[override]
        """Set the items of a mapping, of an object with keys(), or of pairs.

        What another SpillDict, or a PersiDict, has in a file is not read or written where this one
        can have the same file: in local directories of one filesystem, both private or both
        given, for a key that a given place does not have yet. It is on disk then, not in memory.

        Parameters
        ----------
        other : mapping or iterable of (key, value), optional
            What to set.
        overwrite : bool, default True
            Whether keys that are there get new values.
        **more
            More items.
        """
        if isinstance(other, Mapping) or hasattr(other, "keys"):
            for key in other.keys():  # noqa: SIM118 - not all are mappings
                # One after the other is read, and not what wouldn't be set.
                if (not overwrite and key in self) or self._link(key, other, overwrite=overwrite):
                    continue
                try:
                    value = other._peek(key) if isinstance(other, SpillDict) else other[key]  # noqa: SLF001 - its own kind
                except KeyError:
                    if isinstance(other, SpillDict) and key not in other:
                        continue  # Race: removed meanwhile
                    raise
                self._set(key, value, if_absent=not overwrite)
        else:
            for key, value in other:
                self._set(key, value, if_absent=not overwrite)
        for key, value in more.items():
            self._set(key, value, if_absent=not overwrite)

    def clear(self) -> None:
        """Remove every item, without reading any."""
        with self._lock, self._mender:
            items = self._settled_items()
            copies = [item.copy for item in items.values() if item.copy is not None]
            try:
                self._place.remove_all(copies)
            except Exception:  # noqa: BLE001 - of any mapping; if it lasts, it comes again
                # One by one, so that what is left can still be read.
                for key, item in list(items.items()):
                    if item.copy is not None:
                        self._place.remove(item.copy)
                    del items[key]
                    self._tally.remove(item)
                    self._room.leave(item)
            self._forget_all()

    def flush(self, *, progress: ProgressOption = None) -> None:
        """Store every value that is in memory only, so that another process can open the place.

        Parameters
        ----------
        progress : bool or callable, optional
            Whether to show a bar; or a function to be called with the bytes stored so far, and in
            all, as the values weigh. By default a bar is shown on a terminal or in a notebook, if
            it takes more than two seconds.
        """
        with self._lock, self._mender:
            waiting = [
                (key, item.weight)
                for key, item in self._open_items().items()
                if not (item.is_clean or item.is_pinned)
            ]
        with show_progress(
            progress, title="flush", total_nbytes=sum(each for _, each in waiting)
        ) as advance:
            for key, weight in waiting:
                self._store(key)
                advance(weight)
        self._place.flush()

    def refresh(self) -> None:
        """See which keys others have stored in a given place since, or removed from it.

        What is in memory stays as it is, but for what was stored before and is gone.
        """
        if not isinstance(self._place, GivenPlace):
            return
        with self._lock, self._mender:
            # Race: what this one is just storing or removing must not be taken for others' doing.
            items = self._settled_items()
            found = self._place.copies()
            for item in [item for key, item in items.items() if item.is_clean and key not in found]:
                self._drop(item)
            for key, copied in found.items():
                if key not in items:
                    self._find(key, copied)

    def close(self) -> None:
        """Store what a given place doesn't hold yet, or remove the private one; and forget all.

        A warning tells which values a given place can't store, so that they are lost. Closing it
        again does nothing; using it any other way is a ValueError.
        """
        if not self._is_closed and not self._place.is_private:
            self.flush()
        with self._lock, self._mender:
            if self._is_closed:
                return
            self._settled_items()
            pinned: list[Hashable] = []
            if not self._place.is_private:
                self.flush()  # Race: what was set since the first, which let others go on meanwhile
                pinned = [key for key, item in self._items.items() if item.is_pinned]
            self._forget_all()
            self._is_closed = True
            self._place.close()
        if pinned:
            warn_caller(lost(pinned, self._place))

    def drop(self) -> None:
        """Remove every item, from a given place too, and close.

        The folder of a given place stays, as others may have it open.
        """
        with self._lock, self._mender:  # Race: what is set in between would be stored, and stay
            self.clear()
            self.close()

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

    # A key's value. Copies are read, written and removed outside the lock, by one thread a key.

    def _get(self, key: Hashable, *, keeps: bool = True) -> V:
        is_told = self._on_miss is None
        while True:
            with self._lock, self._mender:
                item = self._open_items()[key]
                value: V = item.value if item.is_in_memory else item.passing
                if value is not NOWHERE:
                    self._room.touch(item)
                    self._stats.hits += 1
                    self._stats.hit_nbytes += item.weight
                    return value
                if is_told and not self._begin(key):
                    continue
            if not is_told and self._on_miss is not None:
                self._on_miss(key)
                is_told = True
                continue
            with self._ending(key):
                value, is_its = self._read(key, item)
                if is_its and keeps:  # who waits for it takes it from here, rather than to read it again
                    item.passing = value
            if is_its:
                if not keeps:
                    return value
                try:
                    self._keep(item, value)
                finally:
                    item.passing = NOWHERE
                return value

    def _set(self, key: Hashable, value: V, *, if_absent: bool = False) -> bool:
        """Set a key, or only one that isn't there; return whether it was set."""
        new = Item(key, value=value, weight=self._weighed(value))
        is_told = self._on_overflow is None
        while True:
            with self._lock, self._mender:
                old = self._open_items().get(key)
                if if_absent and old is not None:
                    return False
                # In a given place both values have one copy: not while that is being written.
                if not self._place.is_private and self._is_busy(key):
                    self._wait()
                    continue
                # Full disk: room first, or straight through to the place; nothing has changed yet.
                if self._room.fits(new.weight, instead_of=old):
                    orphan = self._replace(old, new)
                    break
                if is_told:
                    if old is not None:
                        self._room.touch(old)  # so that it is spilled last, if at all
                    is_too_large = new.weight > self._room.nbytes
                    victim = None if is_too_large else self._victim()
                    if victim is None and not is_too_large and self._is_busy():
                        self._wait()  # for somebody who is on the way out
                        continue
                    if victim is None and not self._begin(key):
                        continue
            if not is_told and self._on_overflow is not None:
                self._on_overflow(new.weight)
                is_told = True
                continue
            if victim is not None:
                self._spill(victim)
                continue
            orphan = self._set_on_disk(key, new)
            break
        self._discard(key, orphan)
        if new.is_pinned:
            # It is set, and takes memory from others; if they can't leave now, then later.
            with contextlib.suppress(Exception):
                self._shrink()
        return True

    def _set_on_disk(self, key: Hashable, new: Item) -> Copy | None:
        """Set a key to a value that memory has no room for; return the copy of what it replaced."""
        with self._ending(key):
            if not self._place.is_private and key in self._items:
                new.copy = self._items[key].copy
            self._ask_before_evicting(new)
            failure = self._write(new)
            with self._lock, self._mender:
                if failure is None:
                    new.value = NOWHERE
                orphan = self._replace(self._items.get(key), new)
            if failure is not None:
                self._pin(new, failure)
        return orphan

    def _link(self, key: Hashable, other: object, *, overwrite: bool) -> bool:
        """Set a key to what another has on disk only, by having the same file; return whether it is set."""
        if other is self:
            return True
        if not isinstance(other, (SpillDict, PersiDict)):
            return False
        while True:
            with self._lock, self._mender:
                # In a given place a key has one name, and a link can't take it from an older file.
                if key in self._open_items() and not (overwrite and self._place.is_private):
                    return False
                if self._begin(key):
                    break
        new = Item(key, is_clean=True)
        with self._ending(key):
            if isinstance(other, SpillDict):
                other._lend(key, new, self._place)  # noqa: SLF001 - its own kind
            else:
                new.copy = self._place.link(Copy(None, key), GivenPlace(other))
            if new.copy is None:
                return False
            with self._lock, self._mender:
                old = self._items.get(key)
                is_late = old is not None and not overwrite  # Race: set meanwhile
                orphan = new.copy if is_late else self._replace(old, new)
        self._discard(key, orphan)
        return True

    def _lend(self, key: Hashable, new: Item, place: SpillPlace) -> None:
        """Let an item of another dictionary have the copy of a key, if the value isn't in memory."""
        with self._lock, self._mender:
            item = self._open_items().get(key)
            # Race: who waited here, holding a key of the other, could wait for one who waits for that.
            if item is None or item.is_in_memory or self._is_busy(key) or not self._begin(key):
                return
        with self._ending(key):
            assert item.copy is not None
            new.copy = place.link(item.copy, self._place)
            new.weight, new.cost_seconds = item.weight, item.cost_seconds

    def _take(self, key: Hashable, *, reads: bool) -> Any:
        """Remove a key; return its value if that is wanted, or in memory."""
        while True:
            with self._lock, self._mender:
                item = self._open_items()[key]
                value = item.value
                must_read = reads and not item.is_in_memory
                if not must_read and self._place.is_private:
                    orphan = self._drop(item)
                    break
                if not self._begin(key):
                    continue
            with self._ending(key):
                if must_read:
                    value, is_its = self._read(key, item)
                    if not is_its:
                        continue
                try:
                    # In a given place the copy goes first: if it can't be removed, the key is still there.
                    if item.copy is not None and not self._place.is_private:
                        self._place.remove(item.copy)
                    with self._lock, self._mender:
                        # Race: if it was replaced since, this came first.
                        if self._items.get(key) is not item:
                            return value
                        orphan = self._drop(item)
                except Exception:
                    raise
                except BaseException:
                    # Race: the copy may be gone, and a key that has none can't be read any more.
                    with self._lock, self._mender:
                        if self._items.get(key) is item:
                            self._drop(item)
                    raise
            break
        self._discard(key, orphan)
        return value

    def _keep(self, item: Item, value: V) -> None:
        """Keep a value that was read in memory, if there is room."""
        weight = self._weighed(value)
        while True:
            with self._lock, self._mender:
                if self._items.get(item.key) is not item or item.is_in_memory:
                    return
                self._tally.remove(item)
                item.weight = weight
                self._tally.add(item)
                if weight > self._room.nbytes:
                    return
                if self._room.fits(weight):
                    self._tally.remove(item)
                    item.value = value
                    self._room.enter(item)
                    return
                victim = self._victim()
                if victim is None:
                    if not self._is_busy():
                        return
                    self._wait()
                    continue
            try:
                self._spill(victim)
            except Exception:  # noqa: BLE001 - of any mapping
                return  # a disk too full to make room is no reason not to hand out what was read

    def _shrink(self) -> None:
        """Let values leave memory until the others fit, or none is left that could."""
        while True:
            with self._lock, self._mender:
                if self._is_closed or self._room.fits(0):
                    return
                victim = self._victim()
                if victim is None:
                    if not self._is_busy():
                        return
                    self._wait()  # for somebody who is on the way out
                    continue
            self._spill(victim)

    def _store(self, key: Hashable) -> None:
        """See that the place has a copy of the value of a key, if it can be stored."""
        while True:
            with self._lock, self._mender:
                item = self._open_items().get(key)
                if item is None or item.is_clean or item.is_pinned:
                    return
                if not self._begin(key):
                    continue
            with self._ending(key):
                failure = self._write(item)
                if failure is not None:
                    self._pin(item, failure)
                if self._items.get(key) is item:
                    return
            self._discard(key, item.copy)  # Race: replaced or removed since, in a private place

    def _spill(self, item: Item) -> None:
        """Let the value of an item that was sent out leave memory, once it is stored."""
        with self._ending(item.key):
            try:
                self._ask_before_evicting(item)
                # Crash, full disk: the value leaves memory only once it is stored.
                failure = None if item.is_clean else self._write(item)
                if failure is not None:
                    self._pin(item, failure)
            finally:
                with self._lock, self._mender:
                    is_current = self._items.get(item.key) is item
                    item.is_leaving = False
                    if is_current and item.is_clean:
                        self._room.leave(item)
                        item.value = NOWHERE
                        self._tally.add(item)
                    elif is_current:
                        self._room.stay(item)
        if not is_current:
            self._discard(item.key, item.copy)  # Race: as above
        self._trimmer.freed(item.weight)

    def _ask_before_evicting(self, item: Item) -> None:
        if self._on_evict is None or not self._on_evict(item.key, item.value) or not item.is_clean:
            return
        item.is_clean = False
        if self._place.is_private:  # where each copy has a file of its own
            outdated, item.copy = item.copy, None
            self._discard(item.key, outdated)

    def _read(self, key: Hashable, item: Item) -> tuple[Any, bool]:
        """Return what the copy of an item holds, and whether the item is still that of the key."""
        assert item.copy is not None
        start = time.perf_counter()
        try:
            value = self._place.read(key, item.copy)
        except Exception:
            if self._items.get(key) is item:
                raise
            return None, False  # Race: its copy went when it was replaced or removed
        item.cost_seconds = time.perf_counter() - start
        with self._lock, self._mender:
            if self._items.get(key) is not item:
                # Race: in a pile its copy's place may have been given to another's, while it was read.
                return None, False
            self._stats.misses += 1
            self._stats.restored_nbytes += item.weight
            self._stats.restore_seconds += item.cost_seconds
        return value, True

    def _write(self, item: Item) -> Exception | None:
        """Write a value; return why it can't be stored, if the place says that it can't."""
        start = time.perf_counter()
        try:
            item.copy = self._place.write(item.key, item.value, old=item.copy)
        except REFUSALS as error:
            return error
        item.is_clean = True
        with self._lock, self._mender:
            self._stats.spills += 1
            self._stats.spilled_nbytes += item.weight
            self._stats.spill_seconds += time.perf_counter() - start
        return None

    def _pin(self, item: Item, failure: Exception) -> None:
        """Keep a value in memory for good, since it can't be stored."""
        with self._lock, self._mender:
            item.is_pinned = True
            if self._items.get(item.key) is item:
                self._room.pin(item)
        if item.copy is not None:  # of an older value, which this one can't overwrite
            copy, item.copy = item.copy, None
            self._discard(item.key, copy)
        if not item.is_told:
            item.is_told = True
            warn_caller(f"{item.key!r} stays in memory: {failure}")

    def _discard(self, key: Hashable, copy: Copy | None) -> None:
        """Remove a copy that is no longer in use; if that fails, it only takes space."""
        if copy is None:
            return
        try:
            self._place.remove(copy)
        except Exception as error:  # noqa: BLE001 - of any mapping
            warn_caller(f"an old copy of {key!r} could not be removed: {error}")

    # Under the lock

    def _open_items(self) -> dict[Hashable, Item]:
        if self._is_closed:
            raise ValueError(
                "this SpillDict is closed, and what it held in memory or in a private place is gone: "
                "make a new one"
            )
        return self._items

    def _settled_items(self) -> dict[Hashable, Item]:
        """Return the items when nobody reads or writes any."""
        if self._mine():
            raise RuntimeError("not in a hook of this SpillDict, which goes on with a value afterwards")
        while self._is_busy():
            self._wait()
        return self._open_items()

    def _weighed(self, value: V) -> int:
        return parse_weight(self._weigh(value), value)

    def _begin(self, key: Hashable) -> bool:
        """Take a key for oneself; if another has it, wait, and return False to look again."""
        if self._is_busy(key):
            self._wait()
            return False
        self._busy[key] = Holder.above(threading.get_ident())
        return True

    def _is_busy(self, key: Hashable = UNSET) -> bool:
        """Return whether another thread reads or writes the value of a key, or any that can be waited for.

        Raises
        ------
        RuntimeError
            If this thread itself does with this key, and has called a hook, say, that asks for it.
        """
        mine = self._mine()
        if key is UNSET:
            # Race: two who wait for each other, each on the way out and in its hook.
            return bool(self._busy) and not mine
        if key in mine:
            raise RuntimeError(f"{Shown(key)!r} is just being read or written, for which this was called")
        return key in self._busy

    def _mine(self) -> list[Hashable]:
        """Return the keys that this thread itself has taken."""
        # The caller's: one that named itself would keep what its callers hold until it is collected.
        me, here = threading.get_ident(), sys._getframe(1)  # noqa: SLF001 - there is no other way
        mine = [key for key, holder in self._busy.items() if holder.thread == me]
        for key in mine:
            if not self._busy[key].is_at_it(here):  # Race: it was interrupted, as by Ctrl-C
                self._give_back(key)
        return [key for key in mine if key in self._busy]

    def _wait(self) -> None:
        """Let others have the lock until they say that something has changed."""
        if self._changed.wait(PATIENCE_SECONDS):
            return
        # Race: who has taken a key may have been interrupted, and never come back.
        frames = sys._current_frames()  # noqa: SLF001 - as above
        for key, holder in list(self._busy.items()):
            if not holder.is_at_it(frames.get(holder.thread)):
                self._give_back(key)

    def _give_back(self, key: Hashable) -> None:
        self._busy.pop(key, None)
        item = self._items.get(key)
        if item is not None and item.is_leaving:  # and was interrupted on its way
            item.is_leaving = False
            self._room.stay(item)
        self._changed.notify_all()

    @contextlib.contextmanager
    def _ending(self, key: Hashable) -> Iterator[None]:
        """Give back, at the end, a key that was taken."""
        try:
            yield
        finally:
            with self._lock, self._mender:
                self._give_back(key)

    def _victim(self) -> Item | None:
        """Send out the item that can best be spared; None if there is none."""
        while (key := self._room.victim(self._busy)) is not None:
            item = self._items.get(key)
            if item is not None and item.is_in_memory and not item.is_leaving:
                self._busy[key] = Holder.above(threading.get_ident())
                item.is_leaving = True
                return item
        return None

    def _replace(self, old: Item | None, new: Item) -> Copy | None:
        """Let an item take the place of another; return the copy that nobody needs any more."""
        orphan = None
        if old is not None:
            self._tally.remove(old)
            new.is_told = old.is_told
            if self._place.is_private:
                orphan = self._orphan(old)
            elif new.copy is None:
                # Crash: it stays until the new value overwrites it; another process that opens
                # the place before that finds the old value, not none.
                new.copy = old.copy
        self._items[new.key] = new
        self._tally.add(new)
        self._room.enter(new, instead_of=old)
        self._changed.notify_all()
        return orphan

    def _drop(self, item: Item) -> Copy | None:
        """Forget an item; return the copy that nobody needs any more."""
        del self._items[item.key]
        self._tally.remove(item)
        self._room.leave(item)
        self._changed.notify_all()
        return self._orphan(item) if self._place.is_private else None

    @staticmethod
    def _orphan(item: Item) -> Copy | None:
        # Who is just writing it finds that its item is gone, and discards it.
        return None if item.is_leaving else item.copy

    def _find(self, key: Hashable, copied: Copy) -> None:
        """Have a key that is in the place, but not known here."""
        self._items[key] = item = Item(key, copy=copied, is_clean=True)
        self._tally.add(item)

    def _forget_all(self) -> None:
        self._items.clear()
        self._tally.clear()
        self._room.clear()

    def _repair(self) -> None:
        # Race: forked while another thread was in here, or interrupted. Items change in one
        # step; what is counted beside them may have been half done.
        if os.getpid() != self._pid:
            # Nobody is here to finish what other threads of the parent had begun.
            self._pid = os.getpid()
            self._busy.clear()
            for item in self._items.values():
                item.is_leaving = False
        self._room.clear()
        self._tally.clear()
        for item in self._items.values():
            self._room.enter(item)
            self._tally.add(item)


def _trimmer_for(budget_nbytes: int) -> Trimmer:
    return Trimmer(every_nbytes=max(budget_nbytes // 8, MIN_TRIM_NBYTES))
