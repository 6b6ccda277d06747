"""The bytes of an S3 object on their way: chunks out without joining, one buffer in."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from persicache.storage.blob import Buffer
from persicache.storage.contents import MAP_FROM_NBYTES

__all__ = ["ChunksFile", "body_of", "received"]

_JOIN_BELOW_NBYTES: Final = 1024 * 1024
_RECEIVE_NBYTES: Final = 1024 * 1024


class ChunksFile(io.RawIOBase):
    """A seekable file of the bytes of `chunks`, one after the other.

    Parameters
    ----------
    chunks : sequence of Buffer
        They are neither copied nor joined.

    Examples
    --------
    >>> file = ChunksFile([b"one ", b"two"])
    >>> file.read(), file.seek(3), file.read(2)
    (b'one two', 3, b' t')
    """

    def __init__(self, chunks: Sequence[Buffer]) -> None:
        super().__init__()
        self._chunks = [memoryview(chunk) for chunk in chunks if len(chunk)]
        self._ends = list(accumulate(map(len, self._chunks)))
        self._nbytes = self._ends[-1] if self._ends else 0
        self._position = 0

    def __len__(self) -> int:
        return self._nbytes

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to `offset`, counted as `whence` says."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._nbytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as the bytes go; return how far."""
        target = memoryview(buffer).cast("B")
        done = 0
        while done < len(target) and self._position < self._nbytes:
            index = bisect_right(self._ends, self._position)
            chunk = self._chunks[index]
            begin = self._position - (self._ends[index] - len(chunk))
            piece = chunk[begin : begin + len(target) - done]
            target[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done


def body_of(chunks: Sequence[Buffer]) -> bytes | ChunksFile:
    """Return `chunks` as the body of a request: joined if small."""
    return b"".join(chunks) if sum(map(len, chunks)) < _JOIN_BELOW_NBYTES else ChunksFile(chunks)


async def received(response: dict[str, Any]) -> Buffer:
    """Return the body of a response to a GET, in one buffer.

    Raises
    ------
    EOFError
        If it ends early. The client raises errors of its own for streams that break off.
    """
    nbytes = response["ContentLength"]
    async with response["Body"] as body:
        if nbytes < MAP_FROM_NBYTES:
            data: bytes = await body.read()
            if len(data) != nbytes:
                raise EOFError(f"{len(data)} of {nbytes} bytes came")
            return data
        buffer = bytearray(nbytes)
        done = 0
        while piece := await body.read(_RECEIVE_NBYTES):
            if done + len(piece) > nbytes:
                raise EOFError(f"more than {nbytes} bytes came")
            buffer[done : done + len(piece)] = piece
            done += len(piece)
    if done != nbytes:
        raise EOFError(f"{done} of {nbytes} bytes came")
    return buffer
