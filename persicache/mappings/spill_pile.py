"""Many small blobs in one file: `Pile`."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final

__all__ = ["Pile"]

#: No room for a blob is smaller, and all begin at a multiple of it.
_GRAIN: Final = 64
#: Of what a blob has at most one part in so many is empty, from 8 grains on.
_FINENESS: Final = 8


class Pile:
    """Blobs in a file of this process, without a file each, which takes many times as long.

    Where a blob lies is an offset, and it has a length: its owner keeps both. Room that is free
    again is used for the next blob of about that size. Nothing here tells one blob from another:
    who reads what was given up can find another's bytes there, and has to recognise its own.

    Parameters
    ----------
    path : str
        The file; what was in it before is gone.

    Raises
    ------
    OSError
        If it can't be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     pile = Pile(f"{directory}/pile")
    ...     offset = pile.write(b"one two")
    ...     pile.read(offset, 7)
    b'one two'
    """

    def __init__(self, path: str) -> None:
        # Race: who was interrupted as he made one leaves its file.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._fd = fd
        self._end = 0
        self._n_used = 0
        self._free: dict[int, list[int]] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, fd)

    def __len__(self) -> int:
        return self._n_used

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Store a blob, and return its offset; OSError, and nothing is stored, if the disk is full."""
        nbytes = len(data)
        offset = self._allocated(_room(nbytes))
        try:
            n_written = os.pwrite(self._fd, data, offset)
            while n_written < nbytes:
                n_written += os.pwrite(self._fd, memoryview(data)[n_written:], offset + n_written)
        except BaseException:
            self.remove(offset, nbytes)
            raise
        return offset

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return what lies there; fewer bytes if the file was cut."""
        return os.pread(self._fd, nbytes, offset)

    def remove(self, offset: int, nbytes: int) -> None:
        """Give a blob up."""
        with self._lock:
            self._free.setdefault(_room(nbytes), []).append(offset)
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
    """Return how much room a blob gets: one of a few sizes, so that free ones fit others."""
    step = max(_GRAIN, 1 << max(nbytes.bit_length() - _FINENESS.bit_length(), 0))
    return -(-max(nbytes, 1) // step) * step
