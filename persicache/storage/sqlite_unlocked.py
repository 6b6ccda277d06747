"""A SQLite file of which this process can't open the log: `UnlockedConnection`."""

# ruff: noqa: D102 - the Protocol owns the docstrings
# ruff: noqa: PTH110, PTH116 - plain os calls, as in folders

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from persicache.errors import BackendError
from persicache.storage.files import Stamp, stamp_of
from persicache.storage.sqlite_library import Connection

__all__ = ["UnlockedConnection"]

_TRIES: Final = 100
_TICK_SECONDS: Final = 0.05


class UnlockedConnection:
    """A `Connection` to a file that nobody is writing to now, though somebody may at any time.

    It takes no locks, as where it is used it can't. So it looks whether the file changed while
    it was read, and then reads again, in a database opened anew; and once there is a log, with
    locks.

    Parameters
    ----------
    path : str
        The file.
    connect : callable
        Opens it, without locks if ``immutable=True``.
    """

    def __init__(self, path: str, connect: Callable[..., Connection]) -> None:
        self._path = path
        self._connect = connect
        self._connection: Connection | None = None
        self._stamp: Stamp | None = None

    @property
    def in_transaction(self) -> bool:
        return False

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        for _ in range(_TRIES):
            connection = self._current()
            try:
                rows = connection.run(sql, values)
            except Exception:
                if self._is_as_it_was():
                    raise
            else:
                if self._is_as_it_was():
                    return rows
            self.close()
        raise BackendError(place=self._path, action="read", cause="others write to it all the time")

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        return self._current().change(sql, values)

    def change_each(self, sql: str, many: Iterable[Sequence[Any]]) -> None:
        self._current().change_each(sql, many)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _current(self) -> Connection:
        if self._connection is not None and not self._is_as_it_was():
            self.close()
        if self._connection is None:
            status = os.stat(self._path)
            # Race: within a tick of the clock it can be written twice and look the same.
            time.sleep(min(_TICK_SECONDS, max(0.0, status.st_mtime + _TICK_SECONDS - time.time())))
            has_log = self._has_log()
            self._stamp = None if has_log else stamp_of(status)
            self._connection = self._connect(immutable=not has_log)
        return self._connection

    def _is_as_it_was(self) -> bool:
        """Return whether what was read since it was opened is true; with locks it is."""
        return self._stamp is None or (not self._has_log() and stamp_of(os.stat(self._path)) == self._stamp)

    def _has_log(self) -> bool:
        return os.path.exists(f"{self._path}-wal")
