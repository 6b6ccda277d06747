"""Blobs as the rows of a table: `TableStorage`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from persicache.errors import BackendError, BlobNotFound
from persicache.storage.blob import ANY, Blob, BlobInfo, Buffer, Expectation, Identify, Known, Version
from persicache.storage.loops import read_each, read_each_changed, remove_each, write_each
from persicache.storage.names import check_expectation, check_name, check_prefix, head_version, is_name
from persicache.storage.process import PerProcess
from persicache.storage.table import Change, RowInfo, Table
from persicache.storage.table_place import TablePlace, check_options, make_table

__all__ = ["TableStorage"]

_KNOWN_SECONDS: Final = 0.1  # in which only a loop asks twice
_new: Final = tuple.__new__  # a third of the time of Change(...), on the path of every access


class TableStorage:
    """Blobs in a SQLite file, an LMDB environment or a JSON document.

    Parameters
    ----------
    place : TablePlace
        Which.
    durable : bool, default True
        Whether a write that returned survives a power cut.
    storage_options : mapping, optional
        ``commit_every``: of so many writes one transaction is made, and those that wait for
        it are lost if the process is killed. For LMDB ``map_nbytes``, how much it can hold to
        begin with.
    identify : callable, optional
        From the head of a blob to the version that it carries. Blobs that carry none get a
        random one.
    clock : callable
        Returns seconds, and never goes back.

    Examples
    --------
    >>> import tempfile
    >>> from persicache.storage.table_place import place_of_path
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     storage = TableStorage(place_of_path(f"{directory}/x.db", {}))
    ...     version = storage.write("a/b", [b"one ", b"two"])
    ...     print(storage.read("a/b").buffer)
    ...     storage.close()
    b'one two'
    """

    def __init__(
        self,
        place: TablePlace,
        *,
        durable: bool = True,
        storage_options: Mapping[str, Any] | None = None,
        identify: Identify | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._durable = durable
        self._options = {key: value for key, value in (storage_options or {}).items() if value is not None}
        self._identify = identify
        check_options(place, self._options)
        self._made = PerProcess(self._make)
        self._url = place.url
        self._clock = clock
        self._private_until = -math.inf

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self._place, self._durable, self._options, self._identify)

    def __repr__(self) -> str:
        return f"TableStorage({self._url!r}, durable={self._durable})"

    @property
    def url(self) -> str:
        return self._url

    @property
    def can_compare_and_swap(self) -> bool:
        return True

    @property
    def is_durable(self) -> bool:
        return self._durable and self._options.get("commit_every", 1) == 1

    @property
    def is_private(self) -> bool:
        # Looking at the file costs more than all else of a small set or get.
        now = self._clock()
        if now < self._private_until:
            return True
        is_private = self._made.get().is_private()
        if is_private:
            self._private_until = now + _KNOWN_SECONDS
        return is_private

    def read(self, name: str) -> Blob:
        check_name(name)
        row = (self._made.own or self._made.get()).get(name)
        if row is None:
            raise BlobNotFound(name=name, place=self._url)
        data, version, modified = row
        return _new(_RowBlob, (data, version, modified, name, self))

    def write(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version = ANY) -> Version:
        check_name(name)
        if expect is not ANY:
            check_expectation(expect)
        change = self._change(chunks)
        (self._made.own or self._made.get()).put(name, change, expect=expect)
        return change.version

    def remove(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        check_name(name)
        check_expectation(expect)
        return self._made.get().delete(name, expect=expect)

    def stat(self, name: str) -> BlobInfo:
        info = self._info(name)
        return BlobInfo(name, info.nbytes, info.modified)

    def version(self, name: str) -> Version:
        return self._info(name).version

    def scan(self, prefix: str = "") -> Iterator[BlobInfo]:
        check_prefix(prefix)
        return self._scan(prefix)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        return read_each(self, names)

    def read_changed(self, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
        return read_each_changed(self, known)

    def write_many(self, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
        for name in items:
            check_name(name)
        changes = {name: self._change(chunks) for name, chunks in items.items()}
        try:
            self._made.get().apply(changes)
        except BackendError:
            # Nothing is written. One by one, what can be written is: the others of a value
            # that is too large.
            return write_each(self, items)
        return {name: change.version for name, change in changes.items()}

    def remove_many(self, names: Iterable[str]) -> None:
        changes = {}
        for name in names:
            check_name(name)
            changes[name] = Change(None, "", 0.0)
        try:
            self._made.get().apply(changes)
        except BackendError:
            remove_each(self, changes)

    def read_head(self, name: str, nbytes: int) -> bytes:
        # A database reads a row whole, whatever is asked of it.
        return bytes(memoryview(self.read(name).buffer)[:nbytes])

    def is_private_for(self, name: str) -> bool:
        check_name(name)
        return self.is_private

    def flush(self) -> None:
        """Write what waits for others to be written with."""
        self._made.get().flush()

    def close(self) -> None:
        self._private_until = -math.inf
        self._made.get().close()

    def _make(self) -> Table:
        return make_table(self._place, durable=self._durable, options=self._options)

    def _change(self, chunks: Sequence[Buffer]) -> Change:
        version = head_version(self._identify, chunks) or os.urandom(16).hex()
        return _new(Change, (chunks, version, time.time()))

    def _info(self, name: str) -> RowInfo:
        check_name(name)
        info = self._made.get().stat(name)
        if info is None:
            raise BlobNotFound(name=name, place=self._url)
        return info

    def _scan(self, prefix: str) -> Iterator[BlobInfo]:
        for info in self._made.get().scan(prefix):
            # Others can use the file through fsspec, with names that no blob has.
            if is_name(info.name) is not None:
                yield BlobInfo(info.name, info.nbytes, info.modified)


class _RowBlob(NamedTuple):
    """A `Blob` that was read from a table."""

    buffer: Buffer
    version: Version
    modified: float
    name: str
    storage: TableStorage

    def __repr__(self) -> str:
        return f"<RowBlob of {len(self.buffer)} bytes, version {self.version}>"

    @property
    def stamp(self) -> object:
        # The same bytes, with the version that they carry, can be written twice; and whoever
        # tampers with them keeps the version, but not the time.
        return self.storage.url, self.name, self.version, self.modified

    @property
    def is_private(self) -> bool:
        return self.storage.is_private


def _rebuild(
    place: TablePlace,
    durable: bool,  # noqa: FBT001 - pickled positionally
    options: Mapping[str, Any],
    identify: Identify | None,
) -> TableStorage:
    return TableStorage(place, durable=durable, storage_options=options, identify=identify)
