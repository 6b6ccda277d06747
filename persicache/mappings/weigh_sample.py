"""Which of many items are looked at, and how many each of them stands for."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from heapq import nlargest
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any, Final

import numpy as np

from persicache.mappings.weigh_frames import is_frame

__all__ = ["Sample", "Scans"]

#: Items, and how many each of them stands for.
Sample = tuple[list[Any], float]

#: Of more items of a type as many, spread evenly, are looked at.
MAX_ITEMS: Final = 1000
#: Containers up to this length are looked at whole, if there is room.
FEW_ITEMS: Final = 16
#: How many items' types are looked at for one value, and how many items' own sizes: where they
#: are scattered in memory, that takes 0.1 us each.
MAX_TYPES: Final = 100_000
MAX_SIZES: Final = 20_000
#: So many types are told apart.
MOST_TYPES: Final = 4
#: How many objects there is room for in an item, lest those at the bottom are not met at all; for
#: something of pandas that is how much longer it takes.
FLAT_OBJECTS: Final = 4
ITEM_OBJECTS: Final = 32
FRAME_OBJECTS: Final = 200
#: Of items so many times as large as the mean, up to as many are looked at one by one.
LARGE: Final = 4
MAX_LARGE: Final = 100

_INDEXED: Final = (list, tuple, np.ndarray, np.flatiter)
_ITERATED: Final = (set, frozenset, deque)
_FLAT: Final = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, np.ndarray})
_SIZED: Final = frozenset({int, str, bytes, bytearray, list, tuple, dict, set, frozenset})


class Scans:
    """Takes samples of the containers in one value."""

    def __init__(self) -> None:
        self._n_types_left = MAX_TYPES
        self._n_sizes_left = MAX_SIZES

    def samples(self, items: Iterable[Any], n: int, *, room: int) -> Iterator[Sample]:
        """Yield samples of `n` items, each with how many of them one stands for.

        Parameters
        ----------
        items : iterable
            The items.
        n : int
            How many there are.
        room : int
            How many objects there may be visited for them.
        """
        n_wanted = _n_wanted(int, room)
        if n <= n_wanted and n * FRAME_OBJECTS <= room:
            yield _spread(items, n, step=1), 1.0
            return
        n_scanned = min(n, max(self._n_types_left, n_wanted))
        self._n_types_left -= n_scanned
        step = -(-n // n_scanned)
        scanned = _spread(items, n, step=step)
        if not scanned:
            return
        scale = n / len(scanned)
        types = Counter(map(type, scanned)).most_common()
        told = [cls for cls, _ in types[:MOST_TYPES]]
        for cls in told:
            group = [item for item in scanned if type(item) is cls] if len(types) > 1 else scanned
            yield from self._of_one_type(cls, group, scale=scale, room=room * len(group) // len(scanned))
        if len(types) > len(told):
            rest = [item for item in scanned if type(item) not in told]
            room_left = room * len(rest) // len(scanned)
            yield _even(rest, n_wanted=_n_wanted(object, room_left), scale=scale)

    def _of_one_type(self, cls: type, items: list[Any], *, scale: float, room: int) -> Iterator[Sample]:
        n_wanted = _n_wanted(cls, room)
        n = len(items)
        if n > n_wanted and n <= self._n_sizes_left and (cls in _SIZED or cls is np.ndarray):
            self._n_sizes_left -= n
            # Of a view getsizeof says less.
            size_of = attrgetter("nbytes") if cls is np.ndarray else sys.getsizeof
            sizes = list(map(size_of, items))
            least = LARGE * sum(sizes) / n
            large = [(size, i) for i, size in enumerate(sizes) if size > least]
            if large:
                large = nlargest(min(MAX_LARGE, n_wanted), large)
                yield [items[i] for _, i in large], scale
                taken = set(map(itemgetter(1), large))
                items = [item for i, item in enumerate(items) if i not in taken]
        yield _even(items, n_wanted=n_wanted, scale=scale)


def _n_wanted(cls: type, room: int) -> int:
    n_objects = FLAT_OBJECTS if cls in _FLAT else FRAME_OBJECTS if is_frame(cls) else ITEM_OBJECTS
    return min(MAX_ITEMS, max(1, min(FEW_ITEMS, room), room // n_objects))


def _even(items: list[Any], *, n_wanted: int, scale: float) -> Sample:
    """Return some of the items, spread evenly, and how many of all each stands for."""
    n = len(items)
    sample = items[:: -(-n // n_wanted)] if n > n_wanted else items
    if len(sample) == n and scale == 1:
        return sample, 1.0
    # As many of the others are new as of the sample come once in it (Good and Turing):
    # a million references to a few objects are not a million objects.
    often = Counter(map(id, sample))
    once = sum(times == 1 for times in often.values())
    return sample, 1 + (scale * n - len(sample)) * once / len(sample) / len(often)


def _spread(items: Any, n: int, *, step: int) -> list[Any]:
    """Return every so many of `n` items, or as many of the first and the last."""
    # As the class has it: a subclass may do anything.
    cls: Any = next(
        (base for base in (*_INDEXED, *_ITERATED) if issubclass(type(items), base)), type(items)
    )
    if cls in _INDEXED:
        return list(cls.__getitem__(items, slice(None, None, step)))
    if step == 1:
        return list(cls.__iter__(items))
    # To pass an item by takes as long as to take it.
    half = n // step // 2 + 1
    first = list(islice(cls.__iter__(items), half))
    return first + list(islice(cls.__reversed__(items), half)) if hasattr(cls, "__reversed__") else first
