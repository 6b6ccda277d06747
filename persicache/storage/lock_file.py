"""A lock that is a file: `LockFile`."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Final

from persicache.storage.folders import make_folders, set_mode
from persicache.storage.held import let_go, take

__all__ = ["LockFile"]

_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class LockFile:
    """An exclusive lock by `flock` on a file of its own, that is never removed.

    Threads exclude one another as processes do.

    Parameters
    ----------
    path : str
        The file; made, with mode 0600, when the lock is first taken.

    Notes
    -----
    Removing a lock file would give two holders: one of the old file, one of the new.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[int]:
        """Keep everybody else out; give the descriptor of the file, open to read and write."""
        held = take(self._open)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield held.fileno()
        finally:
            let_go(held)

    @contextlib.contextmanager
    def shared(self) -> Iterator[int | None]:
        """Keep out those who want to be alone; give the descriptor, None if there is no file yet."""
        try:
            # To read is enough, so that it works in a place where one can't write.
            held = take(lambda: os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        except FileNotFoundError:
            yield None
            return
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            yield held.fileno()
        finally:
            let_go(held)

    def _open(self) -> int:
        try:
            return os.open(self._path, _OPEN)
        except FileNotFoundError:
            return self._create()

    def _create(self) -> int:
        # Whoever writes something durable there later finds the folders made.
        make_folders(os.path.dirname(self._path), durable=True)  # noqa: PTH120 - a str is what comes and goes
        try:
            fd = os.open(self._path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # Race: another made it meanwhile
            return os.open(self._path, _OPEN)
        set_mode(fd, 0o600)
        return fd
