"""Striped lock files: who may change which names of a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zlib
from collections.abc import Iterator
from typing import Final

from persicache.errors import ConditionsUnsupported
from persicache.storage.folders import Folders, make_folders, set_mode
from persicache.storage.held import let_go, take

__all__ = ["StripedLocks"]

_STRIPES: Final = 256
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


class StripedLocks:
    """Locks for any number of names, in 256 files that are never removed.

    A name is locked through the file of its stripe, by `flock` on a descriptor of its own,
    so that threads exclude one another as processes do.

    Parameters
    ----------
    directory : str
        Where the lock files are; made when the first lock is taken.
    below : Folders, optional
        The folders that it is one of; then it is relative to their root.
    durable : bool, default False
        Whether the folders that are made for it survive a power cut, as must those above what
        does: whoever writes there later finds them made.

    Notes
    -----
    Removing a lock file would give two holders: one of the old file, one of the new.
    """

    __slots__ = ("_durable", "_folder", "_folders")

    def __init__(self, directory: str, *, below: Folders | None = None, durable: bool = False) -> None:
        self._folders = Folders(directory) if below is None else below
        self._folder = "" if below is None else directory
        self._durable = durable

    @contextlib.contextmanager
    def shared(self, name: str) -> Iterator[None]:
        """Keep whoever compares and swaps `name` out; others who share stay.

        Where the filesystem has no locks nobody can compare and swap, so nothing is lost
        by going on without one.
        """
        held = take(lambda: self._open(name))
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_SH)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            yield
        finally:
            let_go(held)

    @contextlib.contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Keep everybody else from changing `name`.

        Raises
        ------
        ConditionsUnsupported
            If the filesystem has no locks.
        """
        held = take(lambda: self._open(name))
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    raise ConditionsUnsupported(place=self._folders.root) from error
                raise
            yield
        finally:
            let_go(held)

    def _open(self, name: str) -> int:
        return self.open_file(f"{zlib.crc32(name.encode()) % _STRIPES:02x}")

    def open_file(self, stripe: str) -> int:
        """Return a descriptor of the file `stripe`, which is made if there is none."""
        try:
            return self._folders.open(f"{self._folder}/{stripe}" if self._folder else stripe, _OPEN)
        except FileNotFoundError:
            return self._create(stripe)

    def _create(self, stripe: str) -> int:
        with self._folders.entered(self._folder, make=True, durable=self._durable) as spot:
            if spot.fd is None:
                make_folders(spot.directory, durable=self._durable)
            path = spot.path(stripe)
            try:
                fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=spot.fd)
            except FileExistsError:  # Race: another made it meanwhile
                return os.open(path, _OPEN, dir_fd=spot.fd)
        set_mode(fd, 0o600)
        return fd
