"""The tree codec: builtins, datetimes and numpy, nested in any way, without code execution.

A tree is msgpack. What msgpack doesn't know is one of its extension types, numbered by
`Kind`; large arrays and bytes lie outside the tree, in buffers. Types are exact: what comes
back has the type of what was stored, and a value of any other type, a subclass included, is
not a tree; only a memory-mapped array comes back as an ordinary one. A large array that occurs
twice comes back as one; other shared references come back as equal copies, as in JSON, and a
value that refers to one list or dict very often is not a tree, lest it explode.

References
----------
The msgpack specification, https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from struct import Struct
from typing import Any, Final, Protocol
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import msgpack
import numpy as np

from persicache.codecs import arrays

__all__ = ["FrameCodec", "NotATree", "pack_tree", "unpack_tree"]

#: Bytes from here on go to a buffer of their own.
LARGE_NBYTES: Final = 64 * 1024
#: Deeper values are not trees: unpacking them could overflow the reader's stack.
MAX_DEPTH: Final = 100
#: A tree has no shared references; where there are many, pickle is the better choice.
MOST_REPEATS: Final = 1000
COMPLEX: Final = Struct("<dd")


class Kind(IntEnum):
    """The extension types; a number is never given twice."""

    TUPLE = 0
    SET = 1
    FROZENSET = 2
    INT = 3
    COMPLEX = 4
    BYTEARRAY = 5
    RANGE = 6
    SLICE = 7
    ELLIPSIS = 8
    DATETIME = 9
    DATE = 10
    TIME = 11
    TIMEDELTA = 12
    TIMEZONE = 13
    ZONE = 14
    UUID = 15
    DECIMAL = 16
    FRACTION = 17
    LARGE_BYTES = 18
    ARRAY = 19
    SCALAR = 20
    OBJECTS = 21
    MASKED = 22
    FRAME = 23
    PAIRS = 24


class NotATree(Exception):
    """The value has a part that a tree can't hold."""


class FrameCodec(Protocol):
    """What packs pandas objects, where pickle isn't trusted."""

    def pack(self, value: object) -> tuple[Any, Any] | None:
        """Return ``(description, buffer)``; None if `value` is no pandas object."""

    def unpack(self, description: Any, buffer: Any) -> object:
        """Return the object that was packed."""


def pack_tree(
    value: object, *, frames: FrameCodec | None = None, most_repeats: int = MOST_REPEATS
) -> tuple[bytes, list[Any]]:
    """Return the body and the buffers of `value`.

    Parameters
    ----------
    value : object
        What to pack.
    frames : FrameCodec, optional
        What packs pandas objects; without it they are no trees.
    most_repeats : int, default 1000
        How many references to containers that were met before are still written as copies.

    Raises
    ------
    NotATree
        If a part of it is of no type that a tree knows, or lies too deep.

    Examples
    --------
    >>> body, buffers = pack_tree({"a": (1, 2.5)})
    >>> unpack_tree(body, buffers)
    {'a': (1, 2.5)}
    """
    try:
        if type(value) in NATIVE:
            return pack_native(value), []
        packer = _Packer(frames, most_repeats)
        body = pack_native(packer.node(value, 0))
    except (ValueError, OverflowError, RecursionError) as error:
        # Too long for msgpack (4 GiB), or a tree too deep for it.
        raise NotATree(str(error)) from error
    return body, packer.buffers


def unpack_tree(body: Any, buffers: list[Any], *, frames: FrameCodec | None = None) -> Any:
    """Return the value that `pack_tree` took apart; arrays lie in `buffers` without a copy."""
    if not buffers and body[:1] and body[0] in _SCALARS:
        return msgpack.unpackb(body, unicode_errors="surrogatepass")
    return _Unpacker(buffers, frames).load(body)


def pack_native(node: Any) -> bytes:
    """Return what msgpack makes of a value of a type in `NATIVE`, or of a tree of them.

    Raises
    ------
    ValueError, OverflowError
        If it is too long for msgpack (4 GiB).
    """
    packed: bytes = msgpack.packb(
        node, default=_big_int, strict_types=True, use_bin_type=True, unicode_errors="surrogatepass"
    )
    return packed


def _big_int(value: Any) -> msgpack.ExtType:
    # All other types were looked at before; an int beyond 64 bits shows up only here.
    return msgpack.ExtType(Kind.INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


#: What msgpack packs exactly; bytes are looked at one by one, because they may be large.
NATIVE: Final = frozenset({type(None), bool, int, float, str})
#: First bytes of what msgpack unpacks without an extension: None, bool, numbers, str, bytes.
_SCALARS: Final = frozenset(
    [
        *range(0x80),
        *range(0xA0, 0xC1),
        *range(0xC2, 0xC7),
        *range(0xCA, 0xD4),
        *range(0xD9, 0xDC),
        *range(0xE0, 0x100),
    ]
)


class _Packer:
    """Makes of a value what msgpack can pack, in one walk over its containers."""

    def __init__(self, frames: FrameCodec | None, most_repeats: int) -> None:
        self.buffers: list[Any] = []
        self._frames = frames
        self._containers: set[int] = set()
        self._repeats_left = most_repeats
        # By id; the array is kept so that its id is not given to another one meanwhile.
        self._arrays: dict[int, tuple[Any, msgpack.ExtType]] = {}

    def node(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in NATIVE:
            return value
        if depth > MAX_DEPTH:
            raise NotATree("it is nested too deep")
        if kind is list:
            self._meet(value)
            return self._items(value, depth)
        if kind is dict:
            self._meet(value)
            return self._pairs(value, depth)
        if kind is bytes:
            return value if len(value) < LARGE_NBYTES else self._ext(Kind.LARGE_BYTES, self._buffer(value))
        pack = _PACKERS.get(kind)
        if pack is not None:
            if kind is tuple:
                self._meet(value)
            code, payload = pack(value)
            return self._ext(code, self._items(payload, depth))
        if kind is bytearray:
            large = len(value) >= LARGE_NBYTES
            return self._ext(Kind.BYTEARRAY, [self._buffer(value) if large else bytes(value)])
        if kind is np.memmap:
            return self.node(np.asarray(value), depth)
        if kind is np.ndarray or kind is np.ma.MaskedArray or isinstance(value, np.generic):
            return self._numpy(value, depth)
        packed = self._frames.pack(value) if self._frames is not None else None
        if packed is None:
            raise NotATree(f"it holds a {kind.__module__}.{kind.__qualname__}")
        return self._ext(Kind.FRAME, [self.node(packed[0], depth + 1), self._buffer(packed[1])])

    def _meet(self, container: Any) -> None:
        """Count the references to one container: a few are copies, many would be an explosion."""
        if len(container) > 0 and id(container) in self._containers:
            self._repeats_left -= 1
            if self._repeats_left < 0:
                raise NotATree("it refers to the same containers over and over")
        self._containers.add(id(container))

    def _pairs(self, value: dict[Any, Any], depth: int) -> Any:
        keys = self._items(list(value), depth)
        values = self._items(list(value.values()), depth)
        packed = dict(zip(keys, values, strict=True))
        # Keys with a NaN in them differ, and look alike once they are packed.
        return packed if len(packed) == len(value) else self._ext(Kind.PAIRS, [keys, values])

    def _items(self, items: list[Any], depth: int) -> list[Any]:
        # One pass in C over the types spares a call for each of a million numbers.
        if NATIVE.issuperset(map(type, items)):
            return items
        return [self.node(item, depth + 1) for item in items]

    def _buffer(self, buffer: Any) -> int:
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def _ext(self, code: Kind, payload: Any) -> msgpack.ExtType:
        return msgpack.ExtType(code, pack_native(payload))

    def _numpy(self, value: Any, depth: int) -> msgpack.ExtType:
        known = self._arrays.get(id(value))
        if known is not None:
            return known[1]
        try:
            code, payload = self._describe(value, depth)
        except arrays.NotPlain as error:
            raise NotATree(str(error)) from error
        ext = self._ext(code, payload)
        self._arrays[id(value)] = (value, ext)
        return ext

    def _describe(self, value: Any, depth: int) -> tuple[Kind, list[Any]]:
        if isinstance(value, np.generic):
            descr, raw = arrays.describe_scalar(value)
            return Kind.SCALAR, [self.node(descr, depth + 1), raw]
        if isinstance(value, np.ma.MaskedArray):
            return Kind.MASKED, [self.node(part, depth + 1) for part in arrays.describe_masked(value)]
        if value.dtype == object:
            shape, is_fortran, items = arrays.describe_objects(value)
            return Kind.OBJECTS, [list(shape), is_fortran, self._items(items, depth)]
        descr, shape, is_fortran, data = arrays.describe(value)
        where = bytes(data) if len(data) < arrays.SMALL_NBYTES else self._buffer(data)
        return Kind.ARRAY, [self.node(descr, depth + 1), list(shape), is_fortran, where]


def _pack_datetime(value: dt.datetime) -> tuple[Kind, list[Any]]:
    fields = [*value.timetuple()[:6], value.microsecond, value.fold, value.tzinfo]
    return Kind.DATETIME, fields


def _pack_zone(value: ZoneInfo) -> tuple[Kind, list[Any]]:
    try:
        value.__reduce__()  # refuses a zone that was read from a file and has only borrowed its key
    except Exception as error:
        raise NotATree(str(error)) from error
    return Kind.ZONE, [value.key]


_PACKERS: Final[dict[type, Callable[[Any], tuple[Kind, list[Any]]]]] = {
    tuple: lambda v: (Kind.TUPLE, list(v)),
    set: lambda v: (Kind.SET, list(v)),
    frozenset: lambda v: (Kind.FROZENSET, list(v)),
    complex: lambda v: (Kind.COMPLEX, [COMPLEX.pack(v.real, v.imag)]),
    range: lambda v: (Kind.RANGE, [v.start, v.stop, v.step]),
    slice: lambda v: (Kind.SLICE, [v.start, v.stop, v.step]),
    type(...): lambda _: (Kind.ELLIPSIS, []),
    dt.datetime: _pack_datetime,
    dt.date: lambda v: (Kind.DATE, [v.year, v.month, v.day]),
    dt.time: lambda v: (Kind.TIME, [v.hour, v.minute, v.second, v.microsecond, v.fold, v.tzinfo]),
    dt.timedelta: lambda v: (Kind.TIMEDELTA, [v.days, v.seconds, v.microseconds]),
    dt.timezone: lambda v: (Kind.TIMEZONE, list(v.__getinitargs__())),
    ZoneInfo: _pack_zone,
    UUID: lambda v: (Kind.UUID, [v.bytes, v.is_safe.value]),
    Decimal: lambda v: (Kind.DECIMAL, [str(v)]),
    Fraction: lambda v: (Kind.FRACTION, [v.numerator, v.denominator]),
}


class _Unpacker:
    """Turns msgpack's extension types back into values."""

    def __init__(self, buffers: list[Any], frames: FrameCodec | None) -> None:
        self._buffers = buffers
        self._frames = frames
        self._arrays: dict[int, Any] = {}
        self._taken: set[int] = set()

    def load(self, body: Any) -> Any:
        return msgpack.unpackb(
            body,
            ext_hook=self._ext,
            raw=False,
            strict_map_key=False,
            unicode_errors="surrogatepass",
        )

    def _ext(self, code: int, payload: bytes) -> Any:
        if code == Kind.INT:
            return int.from_bytes(payload, "little", signed=True)
        parts = self.load(payload)
        make = _MAKERS.get(code)
        if make is not None:
            return make(parts)
        if code == Kind.LARGE_BYTES:
            return bytes(self._take(parts))
        if code == Kind.BYTEARRAY:
            (where,) = parts
            return bytearray(where if isinstance(where, bytes) else self._take(where))
        if code == Kind.ARRAY:
            return self._array(*parts)
        if code == Kind.FRAME and self._frames is not None:
            return self._frames.unpack(parts[0], self._take(parts[1]))
        raise ValueError(f"extension {code} is unknown")

    def _take(self, where: int) -> Any:
        # A small entry that copied one buffer a thousand times would fill the memory.
        if where in self._taken:
            raise ValueError("a buffer is used twice")
        self._taken.add(where)
        return self._buffers[where]

    def _array(self, descr: Any, shape: list[int], is_fortran: bool, where: bytes | int) -> Any:  # noqa: FBT001 - positions of a payload
        if isinstance(where, bytes):
            return arrays.restore(descr, shape, bytearray(where), is_fortran=is_fortran)
        known = self._arrays.get(where)
        if known is None:
            known = arrays.restore(descr, shape, self._buffers[where], is_fortran=is_fortran)
            self._arrays[where] = known
        return known


def _make_complex(parts: list[Any]) -> complex:
    return complex(*COMPLEX.unpack(parts[0]))


def _make_datetime(parts: list[Any]) -> dt.datetime:
    *fields, fold, tz = parts
    return dt.datetime(*fields).replace(tzinfo=tz, fold=fold)  # noqa: DTZ001 - given in the next call


def _make_time(parts: list[Any]) -> dt.time:
    *fields, fold, tz = parts
    return dt.time(*fields).replace(tzinfo=tz, fold=fold)


def _make_fraction(parts: list[Any]) -> Fraction:
    numerator, denominator = parts
    if type(numerator) is not int or type(denominator) is not int:
        raise TypeError("a fraction is of two ints")  # a text such as 1e99999999 would take for ever
    return Fraction(numerator, denominator)


_MAKERS: Final[dict[int, Callable[[Any], Any]]] = {
    Kind.TUPLE: tuple,
    Kind.SET: set,
    Kind.FROZENSET: frozenset,
    Kind.COMPLEX: _make_complex,
    Kind.RANGE: lambda parts: range(*parts),
    Kind.SLICE: lambda parts: slice(*parts),
    Kind.ELLIPSIS: lambda _: ...,
    Kind.DATETIME: _make_datetime,
    Kind.DATE: lambda parts: dt.date(*parts),
    Kind.TIME: _make_time,
    Kind.TIMEDELTA: lambda parts: dt.timedelta(*parts),
    Kind.TIMEZONE: lambda parts: dt.timezone(*parts),
    Kind.ZONE: lambda parts: ZoneInfo(parts[0]),
    Kind.UUID: lambda parts: UUID(bytes=parts[0], is_safe=SafeUUID(parts[1])),
    Kind.DECIMAL: lambda parts: Decimal(parts[0]),
    Kind.FRACTION: _make_fraction,
    Kind.PAIRS: lambda parts: dict(zip(*parts, strict=True)),
    Kind.SCALAR: lambda parts: arrays.restore_scalar(*parts),
    Kind.OBJECTS: lambda parts: arrays.restore_objects(*parts),
    Kind.MASKED: lambda parts: arrays.restore_masked(*parts),
}
