"""The files of a directory tree, published and removed with compare-and-swap."""

# ruff: noqa: PTH108, PTH116 - plain os calls: a Path costs as much as the call itself

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from persicache.errors import VersionConflict
from persicache.storage.blob import ABSENT, ANY, Buffer, Expectation, Identify, Version
from persicache.storage.draft import HAS_NAMELESS, Draft
from persicache.storage.folders import Folders, Spot
from persicache.storage.locks import StripedLocks
from persicache.storage.names import check_expectation, head_version

__all__ = [
    "READ_FLAGS",
    "Files",
    "Stamp",
    "file_identity",
    "irregular",
    "stamp_of",
    "stamp_version",
    "unlink_at",
]

#: What is planted in place of a file must neither lead elsewhere nor make the reader wait.
READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: Device, inode, change and modification time in nanoseconds, size.
Stamp = tuple[int, int, int, int, int]

_HEAD_NBYTES: Final = 64
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
#: What is said where files have a name from the first, or no other than that.
_NO_NAMELESS: Final = _NO_LINKS | {errno.EISDIR, errno.EINVAL, errno.EACCES, errno.EXDEV}


class Files:
    """Files below a root, whose errors are plain OSErrors and VersionConflicts.

    Parameters
    ----------
    folders : Folders
        The folders below the root.
    durable : bool
        Whether what is in a published file survives a power cut. Its name does when the
        caller has synced the folder.
    identify : callable or None
        From the head of a file to the version that it carries.
    """

    __slots__ = ("_durable", "_folders", "_identify", "_locks", "_root")

    def __init__(self, folders: Folders, *, durable: bool, identify: Identify | None) -> None:
        self._folders = folders
        self._root = folders.root
        self._durable = durable
        self._identify = identify
        self._locks = StripedLocks(".persicache/locks", below=folders, durable=durable)

    def publish(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version) -> Version:
        """Store `chunks` as `name` if `expect` holds, and return the new version."""
        check_expectation(expect)
        folder, _, last = name.rpartition("/")
        spot = self._folders.at(folder)
        if spot is not None:
            return self._publish_at(spot, last, name, chunks, expect)
        with self._folders.entered(folder, make=True, durable=self._durable) as spot:
            return self._publish_at(spot, last, name, chunks, expect)

    def _publish_at(
        self, spot: Spot, last: str, name: str, chunks: Sequence[Buffer], expect: Expectation | Version
    ) -> Version:
        path = spot.path(last)
        is_new = expect is ABSENT or (expect is ANY and not os.access(path, os.F_OK, dir_fd=spot.fd))
        # What must survive a power cut goes the way that all filesystems know well.
        if is_new and HAS_NAMELESS and not self._durable:
            version = self._publish_new(spot, path, chunks)
            if version is not None:
                return version
        with Draft(spot.directory, durable=self._durable, fd=spot.fd) as draft:
            draft.fill(chunks)
            if expect is ANY:
                # Race: whoever compares and swaps holds this lock alone. Without it a write
                # could fall between their look and their replacement, and be lost.
                with self._locks.shared(name):
                    draft.replace(path)
            elif expect is ABSENT:
                self._create(draft, name, path)
            else:
                self._swap(draft, name, path, expect)
            return self._version(draft, chunks)

    def _publish_new(self, spot: Spot, path: str, chunks: Sequence[Buffer]) -> Version | None:
        """Store `chunks` where there is nothing; None if there is something, or it can't be done so."""
        try:
            with Draft(spot.directory, durable=self._durable, fd=spot.fd, nameless=True) as draft:
                draft.fill(chunks)
                # Race: needs no lock, as in `_create`.
                draft.link(path)
                return self._version(draft, chunks)
        except (FileExistsError, FileNotFoundError):
            # Race: another made it meanwhile; or removed the folder, which looked empty.
            return None
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
            return None

    def _version(self, draft: Draft, chunks: Sequence[Buffer]) -> Version:
        # Race: renaming and linking change the file's times, so the version comes last; by the
        # open descriptor, since the name may belong to another file by now.
        carried = head_version(self._identify, chunks)
        return stamp_version(stamp_of(draft.status())) if carried is None else carried

    def unlink(self, name: str, *, expect: Expectation | Version) -> bool:
        """Remove `name` if `expect` holds; return whether it was there."""
        check_expectation(expect)
        if expect is ANY:
            return self._unlink_any(name)
        if expect is ABSENT:
            self._compare(name, ABSENT)
            return False
        with self._locks.exclusive(name):
            self._compare(name, expect)
            return self._unlink(name)

    def current(self, name: str) -> Version | None:
        """Return the version of `name` now, None if it is absent."""
        try:
            fd = self._folders.open(name, READ_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise irregular()
            carried = None if self._identify is None else self._identify(os.read(fd, _HEAD_NBYTES))
        finally:
            os.close(fd)
        return stamp_version(stamp_of(status)) if carried is None else carried

    def _unlink_any(self, name: str) -> bool:
        folder, _, last = name.rpartition("/")
        try:
            with self._folders.entered(folder) as spot:
                os.stat(spot.path(last), dir_fd=spot.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        with self._locks.shared(name):
            return self._unlink(name)

    def _unlink(self, name: str) -> bool:
        folder, _, last = name.rpartition("/")
        try:
            with self._folders.entered(folder) as spot:
                unlink_at(spot, last)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _create(self, draft: Draft, name: str, path: str) -> None:
        # Race: linking fails if the name is taken, at once for everybody, so it needs no lock:
        # one who compares holds the lock only while there is a file, and nobody can remove it.
        try:
            draft.link(path)
        except FileExistsError:
            raise self._conflict(name, ABSENT, self.current(name)) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # This filesystem has no hard links, for anybody: then everybody takes the lock.
            self._swap(draft, name, path, ABSENT)

    def _swap(self, draft: Draft, name: str, path: str, expect: Expectation | Version) -> None:
        with self._locks.exclusive(name):
            self._compare(name, expect)
            draft.replace(path)

    def _compare(self, name: str, expect: Expectation | Version) -> None:
        actual = self.current(name)
        if actual != (None if expect is ABSENT else expect):
            raise self._conflict(name, expect, actual)

    def _conflict(self, name: str, expected: object, actual: object) -> VersionConflict:
        return VersionConflict(name=name, place=self._root, expected=expected, actual=actual)


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what changes whenever another file takes the name."""
    return (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size)


def stamp_version(stamp: Stamp) -> Version:
    """Return the version of a file that carries none in its head."""
    _, inode, changed_ns, modified_ns, nbytes = stamp
    return f"{inode:x}-{changed_ns:x}-{modified_ns:x}-{nbytes:x}"


def file_identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from one that takes its place while it is open; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def irregular() -> OSError:
    """Return the error for what has the name of a blob and is no plain file."""
    return OSError(errno.EINVAL, "there is something other than a plain file")


def unlink_at(spot: Spot, name: str) -> None:
    """Remove the file `name` at `spot`."""
    if spot.fd is None:
        os.unlink(spot.path(name))
    else:
        os.unlink(name, dir_fd=spot.fd)
