"""A table whose writes wait for one another: `BatchedTable`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from multiprocessing import util
from typing import Final

from persicache.errors import BackendError
from persicache.storage.blob import ANY, Expectation, Version
from persicache.storage.table import NESTED, Change, Row, RowInfo, Table, joined, own_copy

__all__ = ["BatchedTable"]

_MOST_NBYTES: Final = 32 * 1024**2
_GONE: Final = Change(None, "", 0.0)
_new: Final = tuple.__new__  # a third of the time of Change(...), on the path of every set


class BatchedTable:
    """A table that makes every so many changes in one transaction.

    What waits is seen by whoever reads through this table, and by nobody else. It is written
    after `every` changes or 32 MiB, before a change with a condition, on `flush` and `close`,
    and when the process ends; a process that is killed loses it.

    Parameters
    ----------
    table : Table
        Where it is written.
    every : int
        After how many changes.
    """

    def __init__(self, table: Table, *, every: int) -> None:
        self._table = table
        self._every = every
        self._lock = threading.RLock()
        self._waiting: dict[str, Change] = {}
        self._count = 0
        self._nbytes = 0
        self._is_flushing = False
        self._at_exit: util.Finalize | None = None

    def __repr__(self) -> str:
        return f"BatchedTable({self._table!r}, every={self._every})"

    @property
    def place(self) -> str:
        return self._table.place

    def get(self, name: str) -> Row | None:
        # Race: a change leaves the waiting ones when it is in the table, so look here first.
        change = self._waiting.get(name)
        if change is None:
            return self._table.get(name)
        if change.chunks is None:
            return None
        return Row(own_copy(joined(change)), change.version, change.modified)

    def stat(self, name: str) -> RowInfo | None:
        change = self._waiting.get(name)
        if change is None:
            return self._table.stat(name)
        if change.chunks is None:
            return None
        return _info(name, change)

    def put(self, name: str, change: Change, *, expect: Expectation | Version = ANY) -> None:
        if expect is not ANY:
            with self._lock:
                self.flush()
                self._table.put(name, change, expect=expect)
            return
        _, version, modified = change
        # The caller may change its buffers while they wait.
        data = bytes(joined(change))
        self._wait(name, _new(Change, ([data], version, modified)), len(data))

    def delete(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        with self._lock:
            if expect is not ANY:
                self.flush()
                return self._table.delete(name, expect=expect)
            was_there = self.stat(name) is not None
            if was_there:
                self._wait(name, _GONE, 0)
            return was_there

    def apply(self, changes: Mapping[str, Change]) -> None:
        # It is a batch already, and must not wait if it is meant to be one transaction.
        with self._lock:
            self.flush()
            self._table.apply(changes)

    def scan(self, prefix: str = "") -> Iterator[RowInfo]:
        with self._lock:
            waiting = dict(self._waiting)
        # Race: what is written meanwhile is found in the table too, and told of once.
        for info in self._table.scan(prefix):
            change = waiting.pop(info.name, None)
            if change is None:
                yield info
            elif change.chunks is not None:
                yield _info(info.name, change)
        for name, change in waiting.items():
            if change.chunks is not None and name.startswith(prefix):
                yield _info(name, change)

    def is_private(self) -> bool:
        return self._table.is_private()

    def flush(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            self._refuse_nested()
            self._is_flushing = True
            try:
                self._table.apply(self._waiting)
                self._waiting, self._count, self._nbytes = {}, 0, 0
            finally:
                self._is_flushing = False
            if self._at_exit is not None:
                self._at_exit.cancel()
                self._at_exit = None

    def close(self) -> None:
        with self._lock:
            self.flush()
            self._table.close()

    def _wait(self, name: str, change: Change, nbytes: int) -> None:
        with self._lock:
            self._refuse_nested()
            before = self._waiting.get(name)
            self._waiting[name] = change
            self._count += 1
            self._nbytes += nbytes
            if self._at_exit is None:
                # Not `atexit`, which the children of multiprocessing skip. It keeps this table
                # alive as long as something waits.
                self._at_exit = util.Finalize(None, self.flush, exitpriority=0)
            # Nobody writes later what an exit handler leaves: the finalizers have run.
            if self._count < self._every and self._nbytes < _MOST_NBYTES and not util.is_exiting():
                return
            try:
                self.flush()
            except BaseException:
                # This one failed, and must not be made later; those before it were accepted. If it
                # waits no more, it was made, and then interrupted.
                if self._waiting.get(name) is change:
                    self._count -= 1
                    self._nbytes -= nbytes
                    if before is None:
                        del self._waiting[name]
                    else:
                        self._waiting[name] = before
                raise

    def _refuse_nested(self) -> None:
        # What is added while the waiting ones are written would be forgotten with them.
        if self._is_flushing:
            raise BackendError(place=self.place, action="change the table", cause=NESTED)


def _info(name: str, change: Change) -> RowInfo:
    return RowInfo(name, len(joined(change)), change.version, change.modified)
