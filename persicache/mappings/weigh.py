"""What a value weighs in memory."""

from __future__ import annotations

import sys
import types
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import numpy as np

from persicache.mappings.weigh_frames import parts_of_frame

__all__ = ["nbytes"]

#: Objects are looked into this deep; below, their own size counts.
MAX_DEPTH: Final = 100
#: Of longer containers as many items, spread evenly, are weighed and scaled up.
MAX_ITEMS: Final = 1000
#: Containers up to this length are weighed whole, if there is room.
FEW_ITEMS: Final = 16
#: How many objects are looked at for one value: tens of milliseconds.
MAX_OBJECTS: Final = 10_000
ARRAY_NBYTES: Final = 112
FRAME_NBYTES: Final = 300

_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str})
_BUFFERS: Final = (bytes, bytearray, memoryview)
_CONTAINERS: Final = (list, tuple, set, frozenset, deque)
# What belongs to the program, not to the value that refers to it.
_SHARED: Final = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)
# Their memory is not Python's, and `nbytes` says how much it is. (dask's, zarr's and h5py's says
# how much there would be.)
_SIZED_LIBRARIES: Final = frozenset({"pyarrow", "torch"})


def nbytes(value: Any) -> int:
    """Return about how many bytes of memory `value` takes, what it refers to included.

    Arrays count their data, frames and series their columns with the objects in them,
    containers their items, other objects their attributes, all else `sys.getsizeof`. What is
    referred to several times counts once; so does the memory that several views share, of
    which a single view counts its own part.

    Notes
    -----
    Of containers of more than 1,000 items a sample is weighed, and of a value of more than
    10,000 objects a smaller one: an estimate, made in tens of milliseconds at most. Beyond 100
    containers in one another nothing is counted. Modules, classes and functions weigh nothing
    beyond themselves.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.zeros(1_000_000)
    >>> 8_000_000 <= nbytes(a) < 8_000_200
    True
    >>> nbytes([a, a[:500_000], a]) < 8_001_000
    True
    >>> nbytes([b"x" * 10_000, b"y" * 10_000, b"z" * 10_000]) > 30_000
    True
    """
    weighing = _Weighing()
    own = weighing.visit(value, factor=1.0, until=MAX_OBJECTS, depth=0)
    return int(own + weighing.data_nbytes())


class _Weighing:
    """One value being weighed: what was seen of it."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        # Race: an id is taken again once its object is gone; what was made on the way stays.
        self._kept: list[Any] = []
        self._data: dict[int, _Memory] = {}  # by the id of what owns it
        self._n_visited = 0

    def data_nbytes(self) -> float:
        """Return the weight of the memory below arrays and buffers."""
        return sum(memory.nbytes() for memory in self._data.values())

    def visit(self, value: Any, *, factor: float, until: int, depth: int) -> float:
        """Return the weight of an object, and of what it refers to that was not seen yet.

        Parameters
        ----------
        factor : float
            How many objects it stands for.
        until : int
            How many objects may have been visited in the end.
        """
        if id(value) in self._seen:
            return 0.0
        self._seen.add(id(value))
        self._n_visited += 1
        if type(value) in _ATOMS:
            return factor * sys.getsizeof(value)
        frame_parts = parts_of_frame(value)
        # Their own getsizeof goes through every object, each time it is met.
        weight = factor * (FRAME_NBYTES if frame_parts is not None else self._own_nbytes(value, factor))
        if depth >= MAX_DEPTH or self._n_visited >= until:
            return weight
        inner: list[tuple[Any, float]] = []
        for items in [frame_parts] if frame_parts is not None else _parts(value):
            sample, scale = self._sample(items, room=until - self._n_visited)
            for item in sample:
                # The small ones first: then the whole room is left for those that need it.
                if type(item) in _ATOMS:
                    weight += self.visit(item, factor=factor * scale, until=until, depth=depth + 1)
                else:
                    inner.append((item, factor * scale))
        for n_done, (item, item_factor) in enumerate(inner):
            share = max(until - self._n_visited, 0) // (len(inner) - n_done)
            weight += self.visit(item, factor=item_factor, until=self._n_visited + share, depth=depth + 1)
        return weight

    def _own_nbytes(self, value: Any, factor: float) -> float:
        if isinstance(value, np.ndarray):
            owner = _owner(value)
            self._add_data(value, owner, value.nbytes, factor)
            return ARRAY_NBYTES
        try:
            if isinstance(value, _BUFFERS):
                owner = value.obj if isinstance(value, memoryview) else value
                self._add_data(value, owner, memoryview(value).nbytes, factor)
                return sys.getsizeof(value) - (len(value) if isinstance(value, (bytes, bytearray)) else 0)
            size = sys.getsizeof(value, 100)
            if type(value).__module__.partition(".")[0] in _SIZED_LIBRARIES:
                size += int(value.nbytes)
        except Exception:  # noqa: BLE001 - of its own __sizeof__, or a buffer that was released
            return 100
        return size

    def _add_data(self, value: Any, owner: Any, nbytes: int, factor: float) -> None:
        memory = self._data.get(id(owner))
        if memory is None:
            self._kept.append(owner)
            memory = self._data[id(owner)] = _Memory(_buffer_nbytes(owner))
        memory.shown_nbytes += factor * nbytes
        memory.n_shown += 1
        if value is owner or memory.n_shown == 1:
            memory.factor = factor
            memory.is_met = value is owner
        elif not memory.is_met:
            memory.factor = 1.0  # several of a sample show it: it is one for all

    def _sample(self, items: Collection[Any], *, room: int) -> tuple[list[Any], float]:
        """Return some of the items, and how many of all each stands for."""
        n = len(items)
        n_wanted = min(MAX_ITEMS, max(1, min(FEW_ITEMS, room), room // 4))
        sample = _spread(items, step=-(-n // n_wanted)) if n > n_wanted else list(items)
        self._kept.append(sample)
        if not sample or len(sample) >= n:
            return sample, 1.0
        # As many of the others are new as of the sample come once in it (Good and Turing):
        # a million references to a few objects are not a million objects.
        often = Counter(map(id, sample))
        once = sum(times == 1 for times in often.values())
        return sample, 1 + (n - len(sample)) * once / len(sample) / len(often)


def _spread(items: Collection[Any], *, step: int) -> list[Any]:
    if isinstance(items, (list, tuple, np.ndarray, np.flatiter)):
        return list(items[::step])
    try:
        return list(islice(items, 0, None, step))
    except RuntimeError:  # another thread changes it
        return list(items)[::step]


class _Memory:
    """Memory that arrays and buffers show parts of."""

    def __init__(self, nbytes: int | None) -> None:
        self._nbytes = float("inf") if nbytes is None else nbytes
        self.shown_nbytes = 0.0
        self.n_shown = 0
        self.factor = 1.0  # how many like it there are
        self.is_met = False  # whether its owner is in the value, too

    def nbytes(self) -> float:
        return min(self.shown_nbytes, self.factor * self._nbytes)


def _parts(value: Any) -> Iterator[Collection[Any]]:
    """Yield the collections of what an object refers to."""
    if isinstance(value, _SHARED):
        return
    if isinstance(value, np.ndarray):
        yield from _objects_in(value)
    elif isinstance(value, dict):
        yield value.keys()
        yield value.values()
    elif isinstance(value, _CONTAINERS):
        yield value
    yield _attributes(value)


def _attributes(value: Any) -> list[Any]:
    """Return what an object's __dict__ and __slots__ refer to."""
    try:
        inner = value.__dict__
    except Exception:  # noqa: BLE001 - a proxy may raise anything
        inner = None
    found: list[Any] = [inner] if isinstance(inner, dict) else []
    for cls in type(value).__mro__:
        if "__slots__" in vars(cls):
            found += _slots(value, vars(cls).values())
    return found


def _slots(value: Any, members: Iterable[Any]) -> Iterator[Any]:
    for member in members:
        if isinstance(member, types.MemberDescriptorType):
            try:
                yield member.__get__(value)
            except AttributeError:  # not set
                continue


def _owner(array: np.ndarray[Any, Any]) -> Any:
    """Return what owns the memory that an array shows."""
    owner: Any = array
    for _ in range(MAX_DEPTH):
        below = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
        if below is None:
            break
        owner = below
    return owner


def _buffer_nbytes(owner: Any) -> int | None:
    if isinstance(owner, np.ndarray):
        return owner.nbytes
    try:
        return memoryview(owner).nbytes
    except (TypeError, ValueError, BufferError):
        return None


def _objects_in(array: np.ndarray[Any, Any]) -> Iterator[Collection[Any]]:
    """Yield the objects in an array of objects, or in the fields of a structured one."""
    if not array.dtype.hasobject:
        return
    if array.dtype.fields is None:
        plain = array.view(np.ndarray)
        # Only what is sampled is taken out of it.
        yield plain.reshape(-1) if plain.flags.c_contiguous else plain.flat  # type: ignore[misc]
        return
    for name in array.dtype.fields:
        yield from _objects_in(array.view(np.ndarray)[name])
