"""Rows in a SQLite file: `SqliteTable`."""

# ruff: noqa: D102 - the Protocol owns the docstrings
# ruff: noqa: PTH110, PTH116 - plain os calls, as in folders

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Final

from persicache.errors import BackendError, ConditionsUnsupported, ReadOnlyPlace
from persicache.storage.blob import ANY, Expectation, Version
from persicache.storage.contents import MAP_FROM_NBYTES
from persicache.storage.failure import failure, full_disk
from persicache.storage.files import file_identity, irregular
from persicache.storage.lock_file import LockFile
from persicache.storage.private_file import create_private, is_private_file
from persicache.storage.sqlite_layout import ENTRIES, SqliteLayout
from persicache.storage.sqlite_library import Connection, SqliteLibrary, primary_code, sqlite_library
from persicache.storage.sqlite_unlocked import UnlockedConnection
from persicache.storage.table import NESTED, PAGE, Change, Row, RowInfo, check_row, prefix_end

__all__ = ["SqliteTable"]

_BUSY: Final = 5
_READ_ONLY: Final = 8
_CANT_OPEN: Final = 14
_WAL_SECONDS: Final = 60.0
_new: Final = tuple.__new__  # a third of the time of Row(...), on the path of every get

# Race: SQLite keeps its own account of the locks that a process has. A child that inherits it
# believes that it has the locks of its parent, and has none. So nothing is open during a fork.
_live: weakref.WeakSet[SqliteTable] = weakref.WeakSet()
_paused: list[SqliteTable] = []
_inherited: list[SqliteTable] = []
_guard = threading.RLock()


def _before_fork() -> None:
    _guard.acquire()
    for table in list(_live):
        table.pause()
        _paused.append(table)


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop().resume()
    _guard.release()


def _after_fork_in_child() -> None:
    # The child doesn't use its parent's tables, so they stay as they are.
    _inherited.extend(_paused)
    _paused.clear()
    _live.clear()
    _guard.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


class _Session:
    """A connection, to which file, the lock around it, whether it saw the table, and is in use."""

    __slots__ = ("connection", "has_table", "identity", "in_use", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.connection: Connection | None = None
        self.identity: tuple[int, int] | None = None
        self.has_table = False
        self.in_use = False


class SqliteTable:
    """Rows in one table of a SQLite database.

    Parameters
    ----------
    path : str
        The file, absolute.
    table : str, default "persicache"
        Which table.
    durable : bool, default True
        Whether what was written survives a power cut.
    layout : SqliteLayout, default ENTRIES
        The table's columns.
    library : SqliteLibrary, optional
        Which SQLite; by default the best that there is.

    Notes
    -----
    A process has two connections: one writes, under a lock; the other reads, under another,
    so that reading doesn't wait for the disk. Don't open the same file with another copy of
    SQLite in the same process: the locks of one would be lost when the other closes the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     table = SqliteTable(f"{directory}/x.db")
    ...     table.put("a", Change([b"one"], "version 1", 0.0))
    ...     table.get("a")
    ...     table.close()
    Row(data=b'one', version='version 1', modified=0.0)
    """

    def __init__(
        self,
        path: str,
        *,
        table: str = "persicache",
        durable: bool = True,
        layout: SqliteLayout = ENTRIES,
        library: SqliteLibrary | None = None,
    ) -> None:
        # SQLite puts its log beside the file itself, not beside a link to it: what is locked, and
        # asked whether it is private, must be there, too.
        self._path = path = os.path.realpath(path)
        self._durable = durable
        self._library = library
        self._reads = _Session()
        self._writes = _Session()
        folder, _, base = path.rpartition("/")
        self._guard = LockFile(f"{folder}/.{base}.lock")
        self._layout = layout
        self._table = layout.identifier(table)
        self._sql = sql = layout.statements(self._table)
        self._sql_get = sql.get
        with _guard:
            _live.add(self)

    def __repr__(self) -> str:
        return f"SqliteTable({self._path!r}, table={self._table!r})"

    @property
    def place(self) -> str:
        return self._path

    def get(self, name: str) -> Row | None:
        # Without the context managers of the others, which cost as much as the query.
        session = self._reads
        with session.lock:
            try:
                connection = session.connection
                if not session.has_table or connection is None:
                    connection = self._ready(session, create=False)
                    if connection is None:
                        return None
                rows = connection.run(self._sql_get, (name,))
            except Exception as error:
                with self._trouble(f"read {name!r}"):
                    raise error from None
        if not rows:
            return None
        data, version, modified = rows[0]
        if len(data) < MAP_FROM_NBYTES:
            return _new(Row, (data, version, modified))
        return Row(bytearray(data), version, modified)

    def stat(self, name: str) -> RowInfo | None:
        with self._reading(f"read {name!r}") as connection:
            rows = [] if connection is None else connection.run(self._sql.stat, (name,))
        return RowInfo(name, *rows[0]) if rows else None

    def put(self, name: str, change: Change, *, expect: Expectation | Version = ANY) -> None:
        self._refuse(expect)
        values = self._layout.values(name, change)
        with self._writing(f"write {name!r}", create=True) as connection:
            assert connection is not None
            if expect is ANY:
                connection.run(self._sql.put, values)
                return
            with _transaction(connection):
                self._compare(connection, name, expect)
                connection.run(self._sql.put, values)

    def delete(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        self._refuse(expect)
        with self._writing(f"remove {name!r}", create=False) as connection:
            if connection is None:
                check_row(name, self.place, expect=expect, actual=None)
                return False
            if expect is ANY:
                return connection.change(self._sql.delete, (name,)) > 0
            with _transaction(connection):
                self._compare(connection, name, expect)
                return connection.change(self._sql.delete, (name,)) > 0

    def apply(self, changes: Mapping[str, Change]) -> None:
        gone = [(name,) for name, change in changes.items() if change.chunks is None]
        with self._writing("write several blobs", create=len(gone) < len(changes)) as connection:
            if connection is None:
                return
            with _transaction(connection):
                connection.change_each(
                    self._sql.put,
                    (
                        self._layout.values(name, change)
                        for name, change in changes.items()
                        if change.chunks is not None
                    ),
                )
                connection.change_each(self._sql.delete, gone)

    def scan(self, prefix: str = "") -> Iterator[RowInfo]:
        start, end = prefix, prefix_end(prefix)
        while True:
            with self._reading("list the blobs") as connection:
                if connection is None:
                    return
                if end is None:
                    rows = connection.run(self._sql.last_pages, (start,))
                else:
                    rows = connection.run(self._sql.page, (start, end))
            for row in rows:
                yield RowInfo(*row)
            if len(rows) < PAGE:
                return
            start = rows[-1][0] + "\0"

    def is_private(self) -> bool:
        return is_private_file(self._path)

    def flush(self) -> None:
        """Nothing is put off."""

    def close(self) -> None:
        for session in (self._reads, self._writes):
            with session.lock, self._trouble("close the file"):
                connection, session.connection, session.has_table = session.connection, None, False
                if connection is not None:
                    with self._alone():
                        connection.close()

    def pause(self) -> None:
        """Close the file, and let nobody open it until `resume`."""
        self._reads.lock.acquire()
        self._writes.lock.acquire()
        # A thread that forks in the middle of a statement, from a signal handler, can't close it.
        with contextlib.suppress(Exception):
            self.close()

    def resume(self) -> None:
        """Let the file be opened again; for the thread that called `pause`."""
        self._writes.lock.release()
        self._reads.lock.release()

    @contextlib.contextmanager
    def _reading(self, action: str) -> Iterator[Connection | None]:
        with self._reads.lock, self._trouble(action):
            yield self._ready(self._reads, create=False)

    @contextlib.contextmanager
    def _writing(self, action: str, *, create: bool) -> Iterator[Connection | None]:
        with self._writes.lock, self._trouble(action):
            if self._writes.in_use:
                raise BackendError(place=self.place, action=action, cause=NESTED)
            self._writes.in_use = True
            try:
                with self._alone(create=create):
                    # Whoever writes to a file that was removed or replaced writes to nobody, and
                    # must then read what is there now.
                    found = file_identity(self._path)
                    for session in (self._reads, self._writes):
                        if session.identity != found:
                            session.has_table = False
                    connection = self._ready(self._writes, create=create)
                    if connection is not None and connection.in_transaction:
                        # Race: who was interrupted as he undid it left it open, and all that is
                        # written would be a part of it.
                        connection.run("ROLLBACK")
                    yield connection
            finally:
                self._writes.in_use = False

    @contextlib.contextmanager
    def _alone(self, *, create: bool = False) -> Iterator[None]:
        """Keep other processes from writing and check-pointing, with a SQLite that needs it."""
        if not self._sqlite().has_wal_reset_bug or not (create or os.path.exists(self._path)):
            yield
            return
        with self._guard.exclusive():
            yield

    def _sqlite(self) -> SqliteLibrary:
        if self._library is None:
            self._library = sqlite_library()
        return self._library

    def _ready(self, session: _Session, *, create: bool) -> Connection | None:
        """Return the connection, None if there is no table and none is to be made."""
        if session.has_table:
            return session.connection
        if session.connection is not None and session.identity != file_identity(self._path):
            lost, session.connection = session.connection, None
            lost.close()
        if session.connection is None:
            if create:
                create_private(self._path, durable=self._durable)
            try:
                if not stat.S_ISREG(os.stat(self._path).st_mode):
                    raise irregular()
            except FileNotFoundError:
                return None
            # Before it is opened: if it is replaced in between, it is opened again.
            session.identity = file_identity(self._path)
            session.connection = self._connect()
        session.has_table = self._finds_table(session.connection)
        if create and not session.has_table:
            _turn_on_wal(session.connection)
            session.connection.run(self._sql.make)
            session.has_table = True
        return session.connection if session.has_table else None

    def _connect(self) -> Connection:
        try:
            return self._set_up()
        except self._sqlite().error as error:
            # Where nothing can be written a write-ahead log can't be opened; while there is none
            # it isn't needed.
            folder = self._path.rpartition("/")[0]
            has_no_log = not os.access(folder, os.W_OK) and not os.path.exists(f"{self._path}-wal")
            if primary_code(error) not in {_CANT_OPEN, _READ_ONLY} or not has_no_log:
                raise
        return UnlockedConnection(self._path, self._set_up)

    def _set_up(self, *, immutable: bool = False) -> Connection:
        connection: Connection = self._sqlite().connect(self._path, immutable=immutable)
        try:
            connection.run(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
            # A file that somebody else made must not run functions of its own.
            connection.run("PRAGMA trusted_schema = OFF")
        except BaseException:
            connection.close()
            raise
        return connection

    def _finds_table(self, connection: Connection) -> bool:
        columns = connection.run("SELECT name FROM pragma_table_info(?)", (self._table,))
        if not columns:
            return False
        if tuple(column for (column,) in columns) != self._layout.columns:
            cause = f"its table {self._table!r} was not made by persicache; choose another by ?table="
            if self._layout is not ENTRIES:
                cause = f"its table {self._table!r} has other columns than {self._layout.columns}"
            raise BackendError(place=self.place, action="open the table", cause=cause)
        return True

    def _refuse(self, expect: Expectation | Version) -> None:
        if expect is not ANY and not self._layout.has_versions:
            raise ConditionsUnsupported(place=self.place)

    def _compare(self, connection: Connection, name: str, expect: Expectation | Version) -> None:
        rows = connection.run(self._sql.stat, (name,))
        check_row(name, self.place, expect=expect, actual=rows[0][1] if rows else None)

    @contextlib.contextmanager
    def _trouble(self, action: str) -> Iterator[None]:
        try:
            yield
        except BackendError:
            raise
        except OSError as error:
            trouble = failure(error, place=self.place, action=action)
            raise trouble from trouble.__cause__
        except OverflowError as error:  # sqlite3's own, of 2 GiB and more
            raise BackendError(place=self.place, action=action, cause=error) from error
        except self._sqlite().error as error:
            kind = ReadOnlyPlace if primary_code(error) == _READ_ONLY else BackendError
            cause = full_disk(self._path, error) or error
            raise kind(place=self.place, action=action, cause=cause) from error


@contextlib.contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    # A deferred transaction that reads before it writes fails at once if another wrote meanwhile.
    try:
        connection.run("BEGIN IMMEDIATE")
        # Race: within the `try`, as who interrupts it here must not leave the transaction open.
        yield
        connection.run("COMMIT")
    except BaseException:
        # After some errors, a full disk among them, SQLite has rolled back already.
        with contextlib.suppress(Exception):
            connection.run("ROLLBACK")
        raise


def _turn_on_wal(connection: Connection) -> None:
    # Here SQLite doesn't wait for others by itself. Where there can be no shared memory, on a
    # network filesystem, it keeps the old journal.
    deadline = time.monotonic() + _WAL_SECONDS
    while True:
        try:
            connection.run("PRAGMA journal_mode = WAL")
        except Exception as error:
            if primary_code(error) != _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
