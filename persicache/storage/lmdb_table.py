"""Rows in an LMDB environment: `LmdbTable`."""

# ruff: noqa: D102 - the Protocol owns the docstrings
# ruff: noqa: PTH110 - plain os calls, as in folders

from __future__ import annotations

import errno
import os
import struct
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from blake3 import blake3

from persicache.errors import BackendError, VersionConflict
from persicache.storage.blob import ANY, Buffer, Expectation, Version
from persicache.storage.failure import failure, full_disk
from persicache.storage.lmdb_environment import Environment, data_file, enter, leave, library
from persicache.storage.private_file import is_private_file
from persicache.storage.table import PAGE, Change, Row, RowInfo, check_row

__all__ = ["LmdbTable"]

# Magic, when it was written, how long are the version and the name (0 if the key is the name).
_HEADER: Final = struct.Struct("<3sdBI")
_HEADER_NBYTES: Final = _HEADER.size
_MAGIC: Final = b"pc1"
_MOST_KEY_NBYTES: Final = 511
_DIGEST_NBYTES: Final = 32
_KEPT_NBYTES: Final = _MOST_KEY_NBYTES - 1 - _DIGEST_NBYTES

T = TypeVar("T")

_new: Final = tuple.__new__  # a third of the time of Row(...), on the path of every get

#: What to do in a transaction with a table.
Work: TypeAlias = Callable[[Any, Any], T]


class LmdbTable:
    """Rows in one named database of an LMDB environment.

    Parameters
    ----------
    path : str
        The environment's folder, absolute; or the file of one that was made without a folder.
    table : str, default "persicache"
        Which database.
    durable : bool, default True
        Whether what was written survives a power cut.
    map_nbytes : int, optional
        How much the environment can hold to begin with, 1 GiB by default; it grows.
    """

    def __init__(
        self,
        path: str,
        *,
        table: str = "persicache",
        durable: bool = True,
        map_nbytes: int | None = None,
    ) -> None:
        self._path = os.path.realpath(path)
        self._table = table
        self._key = table.encode()
        self._durable = durable
        self._map_nbytes = map_nbytes
        self._opening = threading.Lock()
        self._environment: Environment | None = None
        self._user: object = None
        self._forgotten: Any = None

    def __repr__(self) -> str:
        return f"LmdbTable({self._path!r}, table={self._table!r})"

    @property
    def place(self) -> str:
        return self._path

    def get(self, name: str) -> Row | None:
        key = _key(name)
        environment = self._environment
        try:
            if environment is None:
                if self._is_missing():
                    return None
                environment = self._made()
            raw = environment.get(self._key, key)
            if raw is None:
                return None
            modified, after_version, after_name = self._parts(raw)
        except Exception as error:  # noqa: BLE001 - sorted out there
            if environment is not None and environment.is_closed:  # Race: by another thread
                return self.get(name)
            trouble = self._failed(error, f"read {name!r}")
            raise trouble from trouble.__cause__
        version = raw[_HEADER_NBYTES:after_version].decode("ascii")
        if isinstance(raw, bytes):
            return _new(Row, (raw[after_name:], version, modified))
        # Which leaves the rest where it is.
        del raw[:after_name]
        return Row(raw, version, modified)

    def stat(self, name: str) -> RowInfo | None:
        key = _key(name)

        def stat(transaction: Any, _: object) -> RowInfo | None:
            view = transaction.get(key)
            return None if view is None else self._info(name.encode(), view)

        return self._read(stat, None, "read", name)

    def put(self, name: str, change: Change, *, expect: Expectation | Version = ANY) -> None:
        key, value = _key(name), _value(name, change)

        def put(transaction: Any, _: object) -> None:
            if expect is not ANY:
                self._compare(transaction, key, name, expect)
            transaction.put(key, value)

        self._write(put, len(value), "write", name)

    def delete(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        key = _key(name)

        def delete(transaction: Any, _: object) -> bool:
            if expect is not ANY:
                self._compare(transaction, key, name, expect)
            return bool(transaction.delete(key))

        if self._is_missing():
            check_row(name, self.place, expect=expect, actual=None)
            return False
        return self._write(delete, 0, "remove", name)

    def apply(self, changes: Mapping[str, Change]) -> None:
        gone = [_key(name) for name, change in changes.items() if change.chunks is None]
        rows = [
            (_key(name), _value(name, change))
            for name, change in changes.items()
            if change.chunks is not None
        ]

        def apply(transaction: Any, table: Any) -> None:
            for key in gone:
                transaction.delete(key)
            with transaction.cursor(table) as cursor:
                cursor.putmulti(rows)

        if rows or not self._is_missing():
            self._write(apply, sum(len(value) for _, value in rows), "write", "several blobs")

    def scan(self, prefix: str = "") -> Iterator[RowInfo]:
        start: bytes | None = prefix.encode()[:_KEPT_NBYTES]
        while start is not None:
            page, start = self._page(start, prefix)
            yield from page

    def _page(self, start: bytes, prefix: str) -> tuple[list[RowInfo], bytes | None]:
        head, whole = prefix.encode()[:_KEPT_NBYTES], prefix.encode()

        def page(transaction: Any, table: Any) -> tuple[list[RowInfo], bytes | None]:
            found: list[RowInfo] = []
            with transaction.cursor(table) as cursor:
                more = cursor.set_range(start)
                for _ in range(PAGE):
                    if not more:
                        return found, None
                    key = bytes(cursor.key())
                    if not key.startswith(head):
                        return found, None
                    info = self._info(key, cursor.value())
                    if info.name.encode().startswith(whole):
                        found.append(info)
                    more = cursor.next()
                return found, bytes(cursor.key()) if more else None

        nothing: tuple[list[RowInfo], bytes | None] = ([], None)
        return self._read(page, nothing, "list", prefix)

    def is_private(self) -> bool:
        return is_private_file(data_file(self._path))

    def flush(self) -> None:
        """Nothing is put off."""

    def close(self) -> None:
        with self._opening:
            environment, self._environment = self._environment, None
            if environment is not None:
                self._forgotten.detach()
                leave(environment, self._user)

    def _read(self, work: Work[T], default: T, action: str, name: str) -> T:
        environment = None
        try:
            if self._environment is None and self._is_missing():
                return default
            environment = self._made()
            return environment.read(self._key, work, default)
        except Exception as error:  # noqa: BLE001 - sorted out there
            if environment is not None and environment.is_closed:  # Race: by another thread
                return self._read(work, default, action, name)
            trouble = self._failed(error, f"{action} {name!r}")
            raise trouble from trouble.__cause__

    def _write(self, work: Work[T], nbytes: int, action: str, name: str) -> T:
        environment = None
        try:
            environment = self._made()
            if environment.is_lost:  # what is written there nobody could find
                self.close()
                environment = self._made()
            return environment.write(self._key, work, nbytes=nbytes)
        except Exception as error:  # noqa: BLE001 - sorted out there
            if environment is not None and environment.is_closed:  # Race: by another thread
                return self._write(work, nbytes, action, name)
            trouble = self._failed(error, f"{action} {name!r}")
            raise trouble from trouble.__cause__

    def _is_missing(self) -> bool:
        return not os.path.exists(data_file(self._path))

    def _made(self) -> Environment:
        """Return the environment, made if there is none."""
        if self._environment is not None:
            return self._environment
        with self._opening:
            if self._environment is None:
                self._user = user = object()
                environment = enter(self._path, user, durable=self._durable, map_nbytes=self._map_nbytes)
                # What is forgotten without being closed is closed when the next is opened:
                # a finalizer can run in the middle of anything, a transaction included.
                self._forgotten = weakref.finalize(self, environment.users.discard, user)
                self._forgotten.atexit = False
                self._environment = environment
            return self._environment

    def _compare(self, transaction: Any, key: bytes, name: str, expect: Expectation | Version) -> None:
        view = transaction.get(key)
        actual = None if view is None else self._info(key, view).version
        check_row(name, self.place, expect=expect, actual=actual)

    def _parts(self, view: Buffer) -> tuple[float, int, int]:
        """Return when it was written, and where the version and the name end."""
        if len(view) >= _HEADER_NBYTES:
            magic, modified, nversion, nname = _HEADER.unpack_from(view)
            if magic == _MAGIC:
                end = _HEADER_NBYTES + nversion
                return modified, end, end + nname
        cause = f"its table {self._table!r} was not made by persicache; choose another by ?table="
        raise BackendError(place=self.place, action="read the table", cause=cause)

    def _info(self, key: bytes, view: memoryview) -> RowInfo:
        modified, after_version, after_name = self._parts(view)
        version = str(view[_HEADER_NBYTES:after_version], "ascii")
        name = str(view[after_version:after_name], "utf-8") or key.decode()
        return RowInfo(name, len(view) - after_name, version, modified)

    def _failed(self, error: Exception, action: str) -> Exception:
        """Return the error to raise, from its cause, for one that LMDB or the disk raised."""
        if isinstance(error, (BackendError, VersionConflict, ImportError)):
            return error
        if isinstance(error, OSError):
            return failure(error, place=self.place, action=action)
        if isinstance(error, library().Error):
            told = full_disk(self.place, error) or _as_os_error(error)
            trouble = failure(told, place=self.place, action=action)
            trouble.__cause__ = error
            return trouble
        return error


def _key(name: str) -> bytes:
    key = name.encode()
    if len(key) <= _MOST_KEY_NBYTES:
        return key
    # The beginning stays, so that a prefix still finds it; no UTF-8 has the byte 255 in it.
    return key[:_KEPT_NBYTES] + b"\xff" + blake3(key).digest(length=_DIGEST_NBYTES)


def _value(name: str, change: Change) -> bytes:
    if change.chunks is None:
        raise TypeError("a removal has no bytes")
    version = change.version.encode("ascii")
    whole = name.encode()
    kept = whole if len(whole) > _MOST_KEY_NBYTES else b""
    header = _HEADER.pack(_MAGIC, change.modified, len(version), len(kept))
    return b"".join((header, version, kept, *change.chunks))


def _as_os_error(error: Exception) -> Exception:
    """Return the OSError that LMDB's error tells of, if it does."""
    text = str(error)
    if type(error).__name__ == "ReadonlyError":
        return OSError(errno.EROFS, text)
    for number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC):
        if os.strerror(number) in text:
            return OSError(number, text)
    return error
