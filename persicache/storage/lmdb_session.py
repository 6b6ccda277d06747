"""What one user has of an LMDB environment, opened when it is needed: `LmdbSession`."""

# ruff: noqa: PTH116 - plain os calls, as in folders

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from persicache.errors import BackendError, VersionConflict
from persicache.storage.failure import failure, full_disk
from persicache.storage.lmdb_environment import Environment, data_file, enter, leave, library
from persicache.storage.private_file import is_private_file

__all__ = ["LmdbSession"]

T = TypeVar("T")

#: What to do in a transaction with a table.
Work: TypeAlias = Callable[[Any, Any], T]


class LmdbSession:
    """One table of an LMDB environment, and errors that say what could not be done to it.

    Parameters
    ----------
    path : str
        The environment's folder or file, absolute and free of links.
    table : bytes or None
        The name of the table; None for the rows that are in none.
    durable : bool
        Whether what was written survives a power cut.
    map_nbytes : int, optional
        How much the environment can hold to begin with, 1 GiB by default; it grows.
    """

    def __init__(
        self, path: str, *, table: bytes | None, durable: bool, map_nbytes: int | None = None
    ) -> None:
        self.environment: Environment | None = None
        self._path = path
        self._table = table
        self._durable = durable
        self._map_nbytes = map_nbytes
        self._opening = threading.Lock()
        self._user: object = None
        self._forgotten: Any = None

    def read(self, work: Work[T], default: T, action: str) -> T:
        """Return what `work` makes of a transaction and the table; `default` if there is none."""
        environment = None
        try:
            if self.environment is None and self.is_missing():
                return default
            environment = self.made()
            return environment.read(self._table, work, default)
        except Exception as error:  # noqa: BLE001 - sorted out there
            if environment is not None and environment.is_closed:  # Race: by another thread
                return self.read(work, default, action)
            trouble = self.failed(error, action)
            raise trouble from trouble.__cause__

    def write(self, work: Work[T], nbytes: int, action: str) -> T:
        """Return what `work` does in a transaction of its own, that is about to add `nbytes`."""
        environment = None
        try:
            environment = self.made()
            if environment.is_lost:  # what is written there nobody could find
                self.close()
                environment = self.made()
            return environment.write(self._table, work, nbytes=nbytes)
        except Exception as error:  # noqa: BLE001 - sorted out there
            if environment is not None and environment.is_closed:  # Race: by another thread
                return self.write(work, nbytes, action)
            trouble = self.failed(error, action)
            raise trouble from trouble.__cause__

    def is_missing(self) -> bool:
        """Return whether nobody has made the environment yet."""
        try:
            os.stat(data_file(self._path))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # it may be there: who opens it is told why not
            return False
        return False

    def is_private(self) -> bool:
        """Return whether nobody but this user can write there."""
        return is_private_file(data_file(self._path))

    def made(self) -> Environment:
        """Return the environment, made if there is none."""
        if self.environment is not None:
            return self.environment
        with self._opening:
            if self.environment is None:
                self._user = user = object()
                environment = enter(self._path, user, durable=self._durable, map_nbytes=self._map_nbytes)
                # What is forgotten without being closed is closed when the next is opened:
                # a finalizer can run in the middle of anything, a transaction included.
                self._forgotten = weakref.finalize(self, environment.users.discard, user)
                self._forgotten.atexit = False
                self.environment = environment
            return self.environment

    def close(self) -> None:
        """Give the environment back; it is opened again when it is needed."""
        with self._opening:
            environment, self.environment = self.environment, None
            if environment is not None:
                self._forgotten.detach()
                leave(environment, self._user)

    def failed(self, error: Exception, action: str) -> Exception:
        """Return the error to raise, from its cause, for one that LMDB or the disk raised."""
        if isinstance(error, (BackendError, VersionConflict, ImportError)):
            return error
        if isinstance(error, OSError):
            return failure(error, place=self._path, action=action)
        if isinstance(error, library().Error):
            told = full_disk(self._path, error) or _as_os_error(error)
            trouble = failure(told, place=self._path, action=action)
            trouble.__cause__ = error
            return trouble
        return error


def _as_os_error(error: Exception) -> Exception:
    """Return the OSError that LMDB's error tells of, if it does."""
    text = str(error)
    if type(error).__name__ == "ReadonlyError":
        return OSError(errno.EROFS, text)
    for number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC):
        if os.strerror(number) in text:
            return OSError(number, text)
    return error
