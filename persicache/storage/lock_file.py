"""A lock that is a file: `LockFile`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from typing import Final

from persicache.storage.folders import make_folders

__all__ = ["LockFile"]

_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW

# Race: as for the striped locks, a forked child must not keep a dead parent's lock.
_held: set[int] = set()
_guard = threading.RLock()


def _forget_in_child() -> None:
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_forget_in_child)


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
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            _close(fd)

    @contextlib.contextmanager
    def shared(self) -> Iterator[int | None]:
        """Keep out those who want to be alone; give the descriptor, None if there is no file yet."""
        try:
            with _guard:
                # To read is enough, so that it works in a place where one can't write.
                fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                _held.add(fd)
        except FileNotFoundError:
            yield None
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield fd
        finally:
            _close(fd)

    def _open(self) -> int:
        with _guard:
            try:
                fd = os.open(self._path, _OPEN)
            except FileNotFoundError:
                fd = self._create()
            _held.add(fd)
        return fd

    def _create(self) -> int:
        make_folders(os.path.dirname(self._path))  # noqa: PTH120 - a str is what comes and goes
        try:
            fd = os.open(self._path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # Race: another made it meanwhile
            return os.open(self._path, _OPEN)
        os.fchmod(fd, 0o600)  # whatever the umask left of the mode
        return fd


def _close(fd: int) -> None:
    with _guard:
        if fd not in _held:  # this is a forked child, which has closed it already
            return
        _held.discard(fd)
        # Race: closing alone leaves the lock to a child being forked and not yet executing.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
