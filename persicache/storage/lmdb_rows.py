"""The rows of an LMDB environment as other programs keep them: `LmdbRows`."""

# ruff: noqa: PTH106, PTH108, PTH118 - plain os calls, as in folders

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from persicache.storage.lmdb_environment import library
from persicache.storage.lmdb_session import LmdbSession
from persicache.storage.table import PAGE

__all__ = ["LmdbRows", "is_table_record"]

#: What LMDB keeps of a table, among the rows that are in none: padding, flags, depth, the pages of
#: each kind, how many entries, and its first page.
TABLE_RECORD: Final = struct.Struct("=IHH5Q")
MOST_FLAGS: Final = 0x80
NO_PAGE: Final = 2**64 - 1
#: How many bytes a scan takes in one transaction, and one value more.
PAGE_NBYTES: Final = 16 * 1024**2


class LmdbRows:
    """Bytes under bytes, with nothing of persicache's around them.

    Parameters
    ----------
    path : str or path-like
        The environment's folder.
    table : bytes, optional
        The name of a table; by default the rows that are in none.
    durable : bool, default True
        Whether what was written survives a power cut.
    map_nbytes : int, optional
        How much the environment can hold to begin with, 1 GiB by default; it grows.

    Examples
    --------
    >>> import tempfile
    >>> rows = LmdbRows(tempfile.mkdtemp())
    >>> rows.change(b"n", lambda old: b"1" if old is None else old + b"1")
    >>> rows.change(b"n", lambda old: b"1" if old is None else old + b"1")
    >>> rows.get(b"n")
    b'11'
    >>> rows.close()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: bytes | None = None,
        durable: bool = True,
        map_nbytes: int | None = None,
    ) -> None:
        self.path = os.path.realpath(os.fspath(path))
        self._table = table
        self._session = LmdbSession(self.path, table=table, durable=durable, map_nbytes=map_nbytes)

    def __repr__(self) -> str:
        return f"LmdbRows({self.path!r}, table={self._table!r})"

    def get(self, key: bytes) -> bytes | None:
        """Return the bytes under `key`, None if there are none."""

        def get(transaction: Any, _: object) -> bytes | None:
            view = transaction.get(key)
            return None if view is None else bytes(view)

        return self._session.read(get, None, f"read {key!r}")

    def change(self, key: bytes, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the bytes under `key` by what a function makes of them, in one transaction.

        Parameters
        ----------
        key : bytes
            1 to 511 of them.
        change : callable
            From the bytes, or None if there are none, to the new ones; None removes the row. It
            can be called again before it counts.
        """

        def write(transaction: Any, _: object) -> None:
            view = transaction.get(key)
            old = None if view is None else bytes(view)
            new = change(old)
            if new is not None and new != old:
                transaction.put(key, new)
            elif new is None and old is not None:
                transaction.delete(key)

        self._session.write(write, 0, f"write {key!r}")

    def update(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Write several rows, all or none of them."""

        def update(transaction: Any, table: Any) -> None:
            with transaction.cursor(table) as cursor:
                cursor.putmulti(rows)

        self._session.write(update, sum(len(value) for _, value in rows), "write several rows")

    def clear(self) -> None:
        """Remove every row, in one transaction; other tables stay."""
        keys = list(self.keys())

        def clear(transaction: Any, _: object) -> None:
            for key in keys:
                transaction.delete(key)

        self._session.write(clear, 0, "clear the table")

    def keys(self) -> Iterator[bytes]:
        """Yield the keys in their order, as `items` does."""
        return (key for key, _ in self._scan(with_values=False))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows by their keys; what others write meanwhile may be among them."""
        return self._scan(with_values=True)

    def _scan(self, *, with_values: bool) -> Iterator[tuple[bytes, bytes]]:
        start: bytes | None = b""
        while start is not None:
            page, start = self._page(start, with_values=with_values)
            for key, value in page:
                if not (self._table is None and is_table_record(value) and self._is_table(key)):
                    yield key, value

    def _page(self, start: bytes, *, with_values: bool) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        def page(transaction: Any, table: Any) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
            found: list[tuple[bytes, bytes]] = []
            nbytes = 0
            with transaction.cursor(table) as cursor:
                more = cursor.set_range(start) if start else cursor.first()
                while more:
                    if len(found) == PAGE or nbytes > PAGE_NBYTES:
                        return found, bytes(cursor.key())
                    view = cursor.value()
                    value = bytes(view) if with_values or len(view) == TABLE_RECORD.size else b""
                    found.append((bytes(cursor.key()), value))
                    nbytes += len(value)
                    more = cursor.next()
            return found, None

        nothing: tuple[list[tuple[bytes, bytes]], bytes | None] = ([], None)
        return self._session.read(page, nothing, "list the rows")

    def _is_table(self, name: bytes) -> bool:
        try:
            return self._session.made().table(name, create=False) is not None
        except library().IncompatibleError:
            return False

    def make(self) -> None:
        """Make the environment and the table, unless they are there."""
        self._session.write(lambda _transaction, _table: None, 0, "make the table")

    def is_private(self) -> bool:
        """Return whether nobody but this user can write there."""
        return self._session.is_private()

    def close(self) -> None:
        """Give back what is open; it is opened again when it is used."""
        self._session.close()

    def destroy(self) -> None:
        """Remove the environment with all of its tables; other files in its folder stay."""
        self.close()
        for name in ("data.mdb", "lock.mdb"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.path, name))
        with contextlib.suppress(OSError):  # it is gone, or holds something else
            os.rmdir(self.path)


def is_table_record(value: bytes) -> bool:
    """Return whether a row that is in no table may stand for one: its own value can look so, too."""
    if len(value) != TABLE_RECORD.size:
        return False
    pad, flags, depth, *_, root = TABLE_RECORD.unpack(value)
    return bool(pad == 0 and flags < MOST_FLAGS and (depth == 0) == (root == NO_PAGE))
