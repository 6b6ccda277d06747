"""What a value weighs in memory."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import numpy as np

from persicache.mappings.weigh_arrow import Piece, pieces_of_arrow
from persicache.mappings.weigh_frames import is_frame, parts_of_frame
from persicache.mappings.weigh_memory import Memory, Opaque, memory_of, owner_of, shown_nbytes
from persicache.mappings.weigh_sample import Sample, Scans

__all__ = ["nbytes"]

#: Objects are looked into this deep; below, their own size counts.
MAX_DEPTH: Final = 100
#: How many objects are looked at for one value: tens of milliseconds.
MAX_OBJECTS: Final = 8_000
ARRAY_NBYTES: Final = 112
FRAME_NBYTES: Final = 400
#: What is taken for an object that doesn't tell.
UNKNOWN_NBYTES: Final = 100
#: Python's allocator rounds up to this; the C library's, which has the larger ones, adds as much.
ALIGNMENT: Final = 16
SMALL_NBYTES: Final = 512
#: numpy keeps texts up to this in an array itself; of the others as many are looked at.
INLINE_NBYTES: Final = 15
MAX_TEXTS: Final = 1000

_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str})
_BUFFERS: Final = (bytes, bytearray, memoryview)
_CONTAINERS: Final = (list, tuple, set, frozenset, deque)
# What belongs to the program, not to the value that refers to it.
_SHARED: Final = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)
# Their items are memory of their own.
_HEADS: Final[dict[Any, int]] = {list: sys.getsizeof([]), dict: sys.getsizeof({})}
# torch's memory is not Python's, and `nbytes` says how much it is. (dask's, zarr's and h5py's says
# how much there would be.)
_SIZED_LIBRARY: Final = "torch"


def nbytes(value: Any) -> int:
    """Return about how many bytes of memory `value` takes, what it refers to included.

    Arrays count their data, frames and series their columns with the objects in them,
    containers their items, other objects their attributes, all else `sys.getsizeof`. What is
    referred to several times counts once; so does the memory that several views share, of
    which views count their own part: all of it, if nobody else holds the array that they show.

    Notes
    -----
    For arrays, frames and sparse matrices it is within 10 % of the memory taken, for containers of
    Python objects within 30 %; or within 1 MiB, if that is more. What allocators keep beside that
    is not counted: Arrow's may hold up to twice the size of a column of text that was just made.

    Rows and columns that were taken out of a frame, or of a table of Arrow, count their own part,
    though they may keep the whole in memory: copy them, to be sure that they don't.

    An array that is a map of a file counts the pages that it can make resident, whether they are
    by now or not.

    Of containers of more than some 1,000 items a sample is weighed, and of a value of more than
    8,000 objects a smaller one: an estimate, made in tens of milliseconds at most. A sample has
    some items of each type, and the largest; but of more than 100,000 items not all are looked
    at for that. Beyond 100 containers in one another nothing is counted.
    Modules, classes and functions weigh nothing beyond themselves.

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
    if type(value) in _ATOMS or type(value) is bytes:
        return _allocated(sys.getsizeof(value))
    weighing = _Weighing()
    own = weighing.visit(value, factor=1.0, until=MAX_OBJECTS, depth=0)
    return int(own + weighing.data_nbytes())


class _Weighing:
    """One value being weighed: what was seen of it."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        # Race: an id is taken again once its object is gone; what was made on the way stays.
        self._kept: list[Any] = []
        self._data: dict[int, Memory] = {}  # by the id of what owns it
        self._pieces: dict[int, Memory] = {}  # of Arrow, by address
        self._scans = Scans()
        self._n_visited = 0

    def data_nbytes(self) -> float:
        """Return the weight of the memory below arrays and buffers."""
        return sum(memory.nbytes() for known in (self._data, self._pieces) for memory in known.values())

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
            return factor * _allocated(sys.getsizeof(value))
        may_look_inside = depth < MAX_DEPTH and self._n_visited < until
        try:
            weight = factor * self._own_nbytes(value, factor)
            samples = list(self._samples(value, room=until - self._n_visited)) if may_look_inside else []
        except Exception:  # noqa: BLE001 - a proxy, or what overrides as much, may raise anything
            return factor * UNKNOWN_NBYTES
        inner: list[tuple[Any, float]] = []
        for items, scale in samples:
            self._kept.append(items)
            for item in items:
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
        # Of the type, not isinstance: that asks the object, which may say, or do, anything.
        cls = type(value)
        if issubclass(cls, np.ndarray):
            array = value if cls is np.ndarray else np.ndarray.view(value, np.ndarray)
            owner = owner_of(array)
            self._add_data(value, owner, shown_nbytes(array, owner), factor)
            return ARRAY_NBYTES + (ALIGNMENT if owner is value else 0)
        if issubclass(cls, _BUFFERS):
            owner = value.obj if cls is memoryview else value
            self._add_data(value, owner, memoryview(value).nbytes, factor)
            return _allocated(sys.getsizeof(value)) - (0 if cls is memoryview else len(value))
        if is_frame(cls):
            return FRAME_NBYTES  # their own getsizeof goes through every object, each time it is met
        pieces = pieces_of_arrow(value)
        if pieces is not None:
            self._add_pieces(pieces, factor)
            return UNKNOWN_NBYTES
        size = _allocated(sys.getsizeof(value), head=_HEADS.get(cls, 0))
        if cls not in _PLAIN and (attributes := _dict_of(value)) is not None:
            # Its head is made when somebody asks for it: until then there are only the values.
            size += _allocated(sys.getsizeof(attributes) - _HEADS[dict])
        return size + int(value.nbytes) if cls.__module__.partition(".")[0] == _SIZED_LIBRARY else size

    def _samples(self, value: Any, *, room: int) -> Iterator[Sample]:
        """Yield some of what an object refers to, and how many each of these stands for."""
        cls = type(value)
        if issubclass(cls, _SHARED):
            return
        if is_frame(cls):
            yield from parts_of_frame(value)
            return
        if issubclass(cls, np.ndarray):
            for items in _objects_in(np.ndarray.view(value, np.ndarray)):
                yield from self._scans.samples(items, len(items), room=room)
        elif issubclass(cls, dict):
            # As the class has it: a subclass may do anything.
            for items in (dict.keys(value), dict.values(value)):
                yield from self._scans.samples(items, len(items), room=room)
        elif issubclass(cls, _CONTAINERS):
            base: Any = next(base for base in _CONTAINERS if issubclass(cls, base))
            yield from self._scans.samples(value, base.__len__(value), room=room)
        elif issubclass(cls, functools.partial):
            yield [value.func, *value.args, *value.keywords.values()], 1.0
        if cls not in _PLAIN:
            attributes = _dict_of(value) or {}
            yield from self._scans.samples(attributes.values(), len(attributes), room=room)
            yield _slots(value), 1.0

    def _add_data(self, value: Any, owner: Any, nbytes: int, factor: float) -> None:
        memory = self._data.get(id(owner))
        if memory is None:
            memory = self._data[id(owner)] = memory_of(owner)
        memory.add(nbytes, factor, is_owner=value is owner)

    def _add_pieces(self, pieces: Iterable[Piece], factor: float) -> None:
        for piece in pieces:
            memory = self._pieces.get(piece.address)
            if memory is None:
                memory = self._pieces[piece.address] = Memory(piece.nbytes)
            memory.add(piece.shown_nbytes, factor, is_owner=False)


# They have no attributes.
_PLAIN: Final = frozenset({dict, *_CONTAINERS, *_BUFFERS, np.ndarray})


def _allocated(size: int, *, head: int = 0) -> int:
    """Return what an allocator takes for an object of some bytes, whose head is apart."""
    rest = size - head
    rest += ALIGNMENT if rest > SMALL_NBYTES else 0
    return -(-head // ALIGNMENT) * ALIGNMENT + -(-rest // ALIGNMENT) * ALIGNMENT


def _dict_of(value: Any) -> dict[str, Any] | None:
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except Exception:  # noqa: BLE001 - it has none, or a property that may raise anything
        return None
    return attributes if type(attributes) is dict else None


def _slots(value: Any) -> list[Any]:
    found = []
    for cls in type(value).__mro__:
        for member in cls.__dict__.values() if "__slots__" in cls.__dict__ else ():
            if isinstance(member, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # not set
                    found.append(member.__get__(value))
    return found


def _objects_in(array: np.ndarray[Any, Any]) -> Iterator[Collection[Any]]:
    """Yield the objects in an array of objects, or in the fields of a structured one."""
    if not array.dtype.hasobject:
        return
    if array.dtype.fields is not None:
        for name in array.dtype.fields:
            yield from _objects_in(array[name])
    elif array.dtype.kind == "O":
        # Only what is sampled is taken out of it.
        yield array.reshape(-1) if array.flags.c_contiguous else array.flat  # type: ignore[misc]
    else:  # numpy's text of any length
        yield [_text_beside(array)]


def _text_beside(array: np.ndarray[Any, Any]) -> Opaque:
    """Return what an array of text of any length holds outside of its data."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    some = [len(str(text).encode()) for text in flat[:: max(1, array.size // MAX_TEXTS)]]
    beside = sum(n + 1 for n in some if n > INLINE_NBYTES)
    return Opaque(beside * array.size // max(1, len(some)))
