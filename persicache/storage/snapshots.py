"""What databases of other programs hold, read without a change to them."""

# ruff: noqa: PTH116, PTH118, PTH202 - plain os calls, as in folders

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from persicache.errors import BackendError
from persicache.storage.lmdb_environment import data_file, library
from persicache.storage.lmdb_rows import PAGE_NBYTES, is_table_record
from persicache.storage.sqlite_library import sqlite_library
from persicache.storage.table import PAGE

__all__ = ["LmdbRow", "RunSql", "lmdb_snapshot", "sqlite_snapshot"]

#: From an SQL query and its values to the rows that it finds.
RunSql: TypeAlias = Callable[..., list[tuple[Any, ...]]]
#: The table, None for those in none; the key; the value.
LmdbRow: TypeAlias = tuple[bytes | None, bytes, bytes]

_TRIES: Final = 5
_MOST_TABLES: Final = 1024
_CHANGES: Final = "it was written meanwhile; let nobody write there, and begin again"


@contextlib.contextmanager
def sqlite_snapshot(path: str) -> Iterator[RunSql]:
    """Give a function that queries an SQLite file, which stays as it is.

    Whoever opens such a file, even to read it, makes files beside it or takes some away. So it
    is read as one that nobody can change; or, if a writer left a part of it in another file that
    belongs to it, in a copy.

    Parameters
    ----------
    path : str
        The file.

    Raises
    ------
    BackendError
        If somebody writes to it, again and again, or it is damaged.

    Examples
    --------
    >>> import sqlite3, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "x.db")
    >>> with contextlib.closing(sqlite3.connect(path)) as connection:
    ...     _ = connection.execute("CREATE TABLE t (n)").execute("INSERT INTO t VALUES (7)")
    ...     connection.commit()
    >>> with sqlite_snapshot(path) as run:
    ...     run("SELECT n FROM t")
    [(7,)]
    """
    _check_file(path)
    before = _stamps(path)
    with contextlib.ExitStack() as stack:
        library = sqlite_library()
        if len(before) > 1:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="persicache-"))
            connection = library.connect(_copied(path, folder))
        else:
            connection = library.connect(path, immutable=True)
        stack.callback(connection.close)

        def run(sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = []
            trouble: Exception | None = None
            try:
                rows = connection.run(sql, values)
            except (library.error, UnicodeDecodeError) as error:
                trouble = error
            # Then rows can be of several states, or of none; and the file can seem to be damaged.
            if len(before) == 1 and _stamps(path) != before:
                raise BackendError(place=path, action="read it as it was", cause=_CHANGES) from trouble
            if trouble is not None:
                raise BackendError(place=path, action="read it", cause=trouble) from trouble
            return rows

        yield run


def _check_file(path: str) -> None:
    """Raise BackendError if there is no file to be read: to open a pipe is to wait for a writer."""
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise BackendError(place=path, action="read it", cause=error) from error
    if not is_file:
        raise BackendError(place=path, action="read it", cause="it is no file")


def _stamps(path: str) -> dict[str, tuple[int, int]]:
    """Return when each file was written, and how long it is; those that hold nothing are left out."""
    found = {}
    for suffix in ("", "-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path + suffix)
            if status.st_size or not suffix:
                found[suffix] = (status.st_mtime_ns, status.st_size)
    return found


def _copied(path: str, folder: str) -> str:
    copy = os.path.join(folder, "copy.db")
    for _ in range(_TRIES):
        before = _stamps(path)
        with contextlib.suppress(FileNotFoundError):  # Race: a writer is done with it
            for suffix in before:
                shutil.copyfile(path + suffix, copy + suffix)
            if _stamps(path) == before:
                return copy
        for suffix in before:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copy + suffix)  # noqa: PTH108 - as above
    raise BackendError(place=path, action="copy it as it was", cause=_CHANGES)


def lmdb_snapshot(path: str) -> Iterator[LmdbRow]:
    """Yield the rows of an LMDB environment, which stays as it is: no lock is taken there.

    Parameters
    ----------
    path : str
        The environment's folder, or its file.

    Raises
    ------
    BackendError
        If somebody writes to it meanwhile, or has it open in this process, or it is damaged.
    """
    lmdb = library()
    file = data_file(path)
    _check_file(file)
    options = {"subdir": os.path.isdir(path), "readonly": True, "lock": False}  # noqa: PTH112 - as above
    try:
        with lmdb.open(
            path, map_size=max(os.path.getsize(file), 1), max_dbs=_MOST_TABLES, **options
        ) as environment:
            begun = environment.info()["last_txnid"]
            # To read what lies behind the end of the file would kill the process (SIGBUS).
            nbytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            if os.path.getsize(file) < nbytes:
                cause = f"the file is cut short, {nbytes} bytes belong to it"
                raise BackendError(place=path, action="read the environment", cause=cause)
            main = environment.open_db(None)
            named: list[bytes] = []
            for key, value in _rows(environment, main, path, begun):
                if is_table_record(value) and _is_table(environment, key):
                    named.append(key)
                else:
                    yield None, key, value
            for name in named:
                table = environment.open_db(name, create=False)
                for key, value in _rows(environment, table, path, begun):
                    yield name, key, value
    except lmdb.MapResizedError:
        raise BackendError(place=path, action="read it as it was", cause=_CHANGES) from None
    except lmdb.Error as error:
        # LMDB can't have it open twice in a process.
        advice = " Close what has it open." if "already open in this process" in str(error) else ""
        raise BackendError(place=path, action="read the environment", cause=f"{error}{advice}") from error


def _rows(environment: Any, table: Any, path: str, begun: int) -> Iterator[tuple[bytes, bytes]]:
    # Not a transaction all the while: whoever takes the rows may open tables in between.
    start: bytes | None = b""
    while start is not None:
        page: list[tuple[bytes, bytes]] = []
        nbytes = 0
        with environment.begin(db=table) as transaction, transaction.cursor() as cursor:
            more = cursor.set_range(start) if start else cursor.first()
            while more and len(page) < PAGE and nbytes < PAGE_NBYTES:
                page.append(cursor.item())
                nbytes += len(page[-1][1])
                more = cursor.next()
            start = cursor.key() if more else None
        # Without a lock a writer can't know of this reader. But the pages of a state that is the
        # latest are never used again; so what was read is whole if it still is.
        if environment.info()["last_txnid"] != begun:
            raise BackendError(place=path, action="read it as it was", cause=_CHANGES)
        yield from page


def _is_table(environment: Any, name: bytes) -> bool:
    try:
        environment.open_db(name, create=False)
    except library().IncompatibleError:
        return False
    return True
