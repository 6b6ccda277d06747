"""Rows in an LMDB environment: `LmdbTable`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from blake3 import blake3

from persicache.errors import BackendError
from persicache.storage.blob import ANY, Buffer, Expectation, Version
from persicache.storage.lmdb_session import LmdbSession
from persicache.storage.table import PAGE, Change, Row, RowInfo, check_row

__all__ = ["LmdbTable"]

# Magic, when it was written, how long are the version and the name (0 if the key is the name).
_HEADER: Final = struct.Struct("<3sdBI")
_HEADER_NBYTES: Final = _HEADER.size
_MAGIC: Final = b"pc1"
_MOST_KEY_NBYTES: Final = 511
_DIGEST_NBYTES: Final = 32
_KEPT_NBYTES: Final = _MOST_KEY_NBYTES - 1 - _DIGEST_NBYTES

_new: Final = tuple.__new__  # a third of the time of Row(...), on the path of every get


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
        self._session = LmdbSession(self._path, table=self._key, durable=durable, map_nbytes=map_nbytes)

    def __repr__(self) -> str:
        return f"LmdbTable({self._path!r}, table={self._table!r})"

    @property
    def place(self) -> str:
        return self._path

    def get(self, name: str) -> Row | None:
        key = _key(name)
        session = self._session
        environment = session.environment
        try:
            if environment is None:
                if session.is_missing():
                    return None
                environment = session.made()
            raw = environment.get(self._key, key)
            if raw is None:
                return None
            modified, after_version, after_name = self._parts(raw)
        except Exception as error:  # noqa: BLE001 - sorted out there
            if environment is not None and environment.is_closed:  # Race: by another thread
                return self.get(name)
            trouble = session.failed(error, f"read {name!r}")
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

        return self._session.read(stat, None, f"read {name!r}")

    def put(self, name: str, change: Change, *, expect: Expectation | Version = ANY) -> None:
        key, value = _key(name), _value(name, change)

        def put(transaction: Any, _: object) -> None:
            if expect is not ANY:
                self._compare(transaction, key, name, expect)
            transaction.put(key, value)

        self._session.write(put, len(value), f"write {name!r}")

    def delete(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        key = _key(name)

        def delete(transaction: Any, _: object) -> bool:
            if expect is not ANY:
                self._compare(transaction, key, name, expect)
            return bool(transaction.delete(key))

        if self._session.is_missing():
            check_row(name, self.place, expect=expect, actual=None)
            return False
        return self._session.write(delete, 0, f"remove {name!r}")

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

        if rows or not self._session.is_missing():
            self._session.write(apply, sum(len(value) for _, value in rows), "write several blobs")

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
        return self._session.read(page, nothing, f"list {prefix!r}")

    def is_private(self) -> bool:
        return self._session.is_private()

    def flush(self) -> None:
        """Nothing is put off."""

    def close(self) -> None:
        self._session.close()

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
