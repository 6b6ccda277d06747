"""The SQLite library: apsw's, which is newer, or the interpreter's."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

from persicache.errors import MissingDependency

__all__ = [
    "Connection",
    "SqliteLibrary",
    "has_wal_reset_bug",
    "interpreters_library",
    "primary_code",
    "sqlite_library",
]

_BUSY_SECONDS: Final = 60.0


class Connection(Protocol):
    """An open database, in autocommit mode."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun, and not ended."""

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement to its end, and return its rows."""

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement that changes rows, and return how many."""

    def change_each(self, sql: str, many: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of many values."""

    def close(self) -> None:
        """Close it."""


class SqliteLibrary(NamedTuple):
    """One way to SQLite.

    Attributes
    ----------
    connect : callable
        From the path of an existing file to a `Connection`; with ``immutable=True`` to one that
        takes no locks, for a file that nobody can change.
    error : type
        The base of its errors.
    has_wal_reset_bug : bool
        Whether connections that write and checkpoint at the same instant can corrupt the file.
    """

    connect: Any
    error: type[Exception]
    has_wal_reset_bug: bool


def has_wal_reset_bug(version: str) -> bool:
    """Return whether the SQLite of this version can lose a write that races a checkpoint.

    References
    ----------
    https://sqlite.org/wal.html#walresetbug

    Examples
    --------
    >>> [has_wal_reset_bug(version) for version in ("3.40.1", "3.44.6", "3.51.3")]
    [True, False, False]
    """
    number = tuple(int(part) for part in version.split(".")[:3])
    fixed_before = (3, 44, 6) <= number < (3, 45) or (3, 50, 7) <= number < (3, 51)
    return (3, 7, 0) <= number < (3, 51, 3) and not fixed_before


def primary_code(error: Exception) -> int:
    """Return the number that SQLite gives to what went wrong, 0 if it gives none."""
    for attribute in ("result", "sqlite_errorcode"):
        code = getattr(error, attribute, None)
        if isinstance(code, int):
            return code & 0xFF
    return 0


@functools.cache
def sqlite_library() -> SqliteLibrary:
    """Return the best SQLite that there is.

    Raises
    ------
    MissingDependency
        If there is none.
    """
    try:
        import apsw  # noqa: PLC0415 - an extra
    except ImportError:
        return interpreters_library()
    return SqliteLibrary(_Apsw, apsw.Error, has_wal_reset_bug(apsw.sqlite_lib_version()))


def interpreters_library() -> SqliteLibrary:
    """Return the SQLite that came with the interpreter."""
    try:
        import sqlite3  # noqa: PLC0415 - an interpreter can be built without
    except ImportError:
        raise MissingDependency(package="apsw", extra="sqlite") from None
    return SqliteLibrary(_Plain, sqlite3.Error, has_wal_reset_bug(sqlite3.sqlite_version))


class _Apsw:
    def __init__(self, path: str, *, immutable: bool = False) -> None:
        import apsw  # noqa: PLC0415 - an extra

        self._connection = (
            apsw.Connection(_immutable(path), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
            if immutable
            else apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        )
        self._connection.set_busy_timeout(int(_BUSY_SECONDS * 1000))
        self._spare: list[apsw.Cursor] = []

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        # Making a cursor takes a third of the time of a small query. Race: a signal handler or a
        # finalizer can query in the middle of this, and needs another one.
        cursor = self._spare.pop() if self._spare else self._connection.cursor()
        rows: list[tuple[Any, ...]] = cursor.execute(sql, values).fetchall()
        self._spare.append(cursor)
        return rows

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        self._connection.execute(sql, values)
        return self._connection.changes()

    def change_each(self, sql: str, many: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(sql, many)

    def close(self) -> None:
        self._connection.close()


class _Plain:
    def __init__(self, path: str, *, immutable: bool = False) -> None:
        import sqlite3  # noqa: PLC0415 - an interpreter can be built without

        self._connection = sqlite3.connect(
            _immutable(path) if immutable else path,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            uri=immutable,
        )

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        return self._connection.execute(sql, values).rowcount

    def change_each(self, sql: str, many: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(sql, many)

    def close(self) -> None:
        self._connection.close()


def _immutable(path: str) -> str:
    return f"file:{quote(path)}?immutable=1"
