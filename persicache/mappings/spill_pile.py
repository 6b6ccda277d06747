"""Many small blobs in one file: `Pile`."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Pile", "Slot"]

#: No slot is smaller, and all begin at a multiple of it.
_GRAIN: Final = 64
#: Of a slot at most one part in so many is empty, from 8 grains on.
_FINENESS: Final = 8


class Slot(NamedTuple):
    """Where a blob lies in a pile.

    Attributes
    ----------
    offset : int
        Where it begins.
    nbytes : int
        How long it is.
    """

    offset: int
    nbytes: int


class Pile:
    """Blobs in a file of this process, without a file each, which takes many times as long.

    A slot that is free again is used for the next blob of about its size. Nothing here tells
    one blob from another: who reads a slot that was given up can find another's bytes in it,
    and has to recognise its own.

    Parameters
    ----------
    path : str
        The file, which must not exist yet.

    Raises
    ------
    OSError
        If it can't be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     pile = Pile(f"{directory}/pile")
    ...     slot = pile.write([b"one ", b"two"])
    ...     pile.read(slot)
    b'one two'
    """

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._fd = fd
        self._end = 0
        self._n_used = 0
        self._free: dict[int, list[int]] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, fd)

    def __len__(self) -> int:
        return self._n_used

    def write(self, chunks: Sequence[bytes | bytearray | memoryview]) -> Slot:
        """Store a blob; OSError, and nothing is stored, if the disk is full."""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        slot = Slot(self._allocated(_room(len(data))), len(data))
        try:
            view, offset = memoryview(data), slot.offset
            while view:
                n_written = os.pwrite(self._fd, view, offset)
                view, offset = view[n_written:], offset + n_written
        except BaseException:
            self.remove(slot)
            raise
        return slot

    def read(self, slot: Slot) -> bytes:
        """Return what is in a slot; fewer bytes if the file was cut."""
        return os.pread(self._fd, slot.nbytes, slot.offset)

    def remove(self, slot: Slot) -> None:
        """Give a slot up."""
        with self._lock:
            self._free.setdefault(_room(slot.nbytes), []).append(slot.offset)
            self._n_used -= 1

    def _allocated(self, room: int) -> int:
        with self._lock:
            self._n_used += 1
            free = self._free.get(room)
            if free:
                return free.pop()
            offset = self._end
            self._end += room
            return offset


def _room(nbytes: int) -> int:
    """Return the size of the slot for a blob: one of a few, so that free ones fit others."""
    step = max(_GRAIN, 1 << max(nbytes.bit_length() - _FINENESS.bit_length(), 0))
    return -(-max(nbytes, 1) // step) * step
