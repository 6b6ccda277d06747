"""What objects of Arrow hold: `pieces_of_arrow`."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

__all__ = ["Piece", "pieces_of_arrow"]

#: Of tables in more chunks only the whole counts.
MAX_CHUNKS: Final = 1000


class Piece(NamedTuple):
    """A buffer: where it is, how large, and how much of it is shown."""

    address: int
    nbytes: int
    shown_nbytes: int


def pieces_of_arrow(value: Any) -> list[Piece] | None:
    """Return the buffers of an array, table or batch, or a buffer itself.

    None if it is none of these. What shares a buffer has a piece at the same address.
    """
    arrow: Any = sys.modules.get("pyarrow")
    if not hasattr(arrow, "Table"):  # not while it is imported
        return None
    cls = type(value)
    if issubclass(cls, arrow.Buffer):
        return [_piece(value, 1.0)]
    if issubclass(cls, arrow.Array):
        return list(_pieces([value], arrow))
    if issubclass(cls, arrow.ChunkedArray):
        columns = [value]
    elif issubclass(cls, (arrow.Table, arrow.RecordBatch)):
        columns = value.columns
    else:
        return None
    if sum(getattr(column, "num_chunks", 1) for column in columns) > MAX_CHUNKS:
        nbytes = min(value.nbytes, value.get_total_buffer_size())
        return [Piece(id(value), nbytes, nbytes)]
    chunks = [chunk for column in columns for chunk in getattr(column, "chunks", [column])]
    return list(_pieces(chunks, arrow))


def _pieces(arrays: list[Any], arrow: Any) -> Iterator[Piece]:
    for array in arrays:
        buffers = [buffer for buffer in array.buffers() if buffer is not None]
        whole = sum(buffer.size for buffer in buffers)
        part = min(1.0, array.nbytes / whole) if whole else 1.0
        yield from (_piece(buffer, part) for buffer in buffers)
        if isinstance(array, arrow.DictionaryArray):
            yield from _pieces([array.dictionary], arrow)


def _piece(buffer: Any, part: float) -> Piece:
    # A large one is mapped, by whoever did it: its pages are what can be resident.
    size = -(-buffer.size // mmap.PAGESIZE) * mmap.PAGESIZE if buffer.size > mmap.PAGESIZE else buffer.size
    return Piece(buffer.address, size, int(part * size))
