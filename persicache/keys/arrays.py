"""Writers of numpy arrays, scalars and dtypes: by dtype, shape, and items in C order.

The memory layout doesn't matter, and nothing is copied whole: a contiguous array is hashed
where it lies, any other in blocks.
"""

from __future__ import annotations

import itertools
from array import array
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from persicache.keys.codes import write_class
from persicache.keys.containers import write_each
from persicache.keys.writers import (
    begin,
    class_name,
    finish,
    hasher_for,
    write,
    write_buffer,
    write_text,
    writes_family,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persicache.keys.writers import Seen

__all__ = ["write_items"]

# Large enough to be copied in tiles and hashed by several threads.
_BLOCK_NBYTES: Final = 1 << 22
_SMALL_NBYTES: Final = 64 * 1024
_BLOCK_ITEMS: Final = 8192
# Columns of a tile: measured, four times as fast as no tiles on large Fortran-ordered matrices.
_TILE: Final = 128

# An x86 long double is 80 bits in 128, and what is in the rest is left over from elsewhere.
_LONG_DOUBLE_NBYTES: Final = 10 if np.finfo(np.longdouble).nmant == 63 else np.dtype("g").itemsize  # noqa: PLR2004 - its bits


@writes_family(np.ndarray)
def _write_array(out: bytearray, value: np.ndarray[Any, Any], seen: Seen) -> None:
    cls = type(value)
    plain = value.view(np.ndarray)
    if cls is np.ndarray or cls is np.memmap:
        if not value.dtype.hasobject:
            out += b"A"
            write_items(out, plain, seen)
        elif not begin(out, value, seen):
            body = bytearray(b"A")
            write_items(body, plain, seen)
            # However short: what lies in the array was written elsewhere.
            finish(out, value, seen, body, long_nbytes=0)
        return
    write_text(out, b"S", class_name(cls))
    write_class(out, cls, seen)
    write_items(out, plain, seen)
    write(out, dict(getattr(value, "__dict__", {})), seen)


@writes_family(np.generic)
def _write_scalar(out: bytearray, value: np.generic, seen: Seen) -> None:
    out += b"n"
    write_items(out, np.asarray(value), seen)


@writes_family(np.dtype)
def _write_dtype(out: bytearray, value: np.dtype[Any], seen: Seen) -> None:
    out += b"q"
    if value.metadata:
        out += b"m"
        write(out, dict(value.metadata), seen)
    if value.fields is not None and value.names is not None:
        out += b"{%x;%x;" % (len(value.names), value.itemsize)
        for name in value.names:
            field, offset, *title = value.fields[name]
            write(out, (name, field, offset, tuple(title)), seen)
    elif value.subdtype is not None:
        out += b"["
        write(out, value.subdtype, seen)
    elif value.kind == "T":
        out += b"T"
        dtype: Any = value
        has_na = hasattr(dtype, "na_object")
        write(out, (dtype.coerce, has_na, dtype.na_object if has_na else None), seen)
    else:
        write_text(out, b"=", value.str)


def write_items(out: bytearray, items: np.ndarray[Any, Any], seen: Seen) -> None:
    """Append a plain array's dtype, shape and items."""
    write(out, items.dtype, seen)
    out += b"(%x;" % items.ndim
    for length in items.shape:
        out += b"%x;" % length
    if items.dtype.names is not None:
        # Field by field, and so without what lies between them.
        for name in items.dtype.names:
            write_items(out, items[name], seen)
    elif items.dtype.kind in "OT":
        _write_objects(out, items, seen)
    elif items.dtype.char in "gG":
        _write_bytes(out, _significant(items))
    else:
        _write_bytes(out, items)


def _write_bytes(out: bytearray, items: np.ndarray[Any, Any]) -> None:
    nbytes = items.size * items.itemsize
    if nbytes < _SMALL_NBYTES:
        write_buffer(out, b"b", items.tobytes())
        return
    hasher = hasher_for(nbytes)
    for block in _blocks(items):
        hasher.update(block.reshape(-1).view(np.uint8).data)
    out += b"b%x#" % nbytes
    out += hasher.digest()


def _significant(items: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # A view needs contiguous items of this machine's order. A full copy, for a type that nobody
    # has much of.
    items = items.astype(items.dtype.newbyteorder("="), copy=False)
    parts = np.ascontiguousarray(items).reshape(-1).view(np.longdouble)
    return parts.view(np.uint8).reshape(len(parts), -1)[:, :_LONG_DOUBLE_NBYTES]


def _blocks(items: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield C-contiguous pieces that follow one another in C order."""
    if items.flags.c_contiguous:
        yield items
    elif items.size * items.itemsize <= _BLOCK_NBYTES:
        yield _contiguous(items)
    else:
        row_nbytes = max(items[0].size * items.itemsize, 1)
        if row_nbytes > _BLOCK_NBYTES:
            yield from itertools.chain.from_iterable(map(_blocks, items))
        else:
            step = _BLOCK_NBYTES // row_nbytes
            for start in range(0, len(items), step):
                yield _contiguous(items[start : start + step])


def _contiguous(items: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if items.ndim < 2 or abs(items.strides[0]) >= abs(items.strides[-1]):  # noqa: PLR2004 - a matrix
        return np.ascontiguousarray(items)
    # Transposed: in tiles, so that every cache line that is read is used up.
    copy = np.empty(items.shape, items.dtype)
    for start in range(0, items.shape[-1], _TILE):
        copy[..., start : start + _TILE] = items[..., start : start + _TILE]
    return copy


def _write_objects(out: bytearray, items: np.ndarray[Any, Any], seen: Seen) -> None:
    # Block by block, so that the bytes of a million strings don't pile up.
    hasher = hasher_for(0)
    flat = items.ravel()
    for start in range(0, items.size, _BLOCK_ITEMS):
        block = flat[start : start + _BLOCK_ITEMS].tolist()
        body = bytearray()
        if set(map(type, block)) == {str}:
            body += b"s"
            body += array("Q", map(len, block)).tobytes()
            write_text(body, b"s", "".join(block))
        else:
            body += b"o"
            write_each(body, block, seen)
        hasher.update(body)
    out += b"*"
    out += hasher.digest()
