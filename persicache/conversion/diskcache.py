"""The directories of diskcache: those of Cache, Index and Deque, and of FanoutCache."""

# ruff: noqa: PTH118, S608 - plain os calls, as in files; the SQL is made of constants

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, Final

from persicache.codecs import Bytes, Owner
from persicache.conversion.codecs import plain
from persicache.conversion.files import Files
from persicache.conversion.record import Record, Records
from persicache.errors import CorruptEntry, PersicacheError
from persicache.storage import is_private_file
from persicache.storage.snapshots import RunSql, sqlite_snapshot

__all__ = ["DATABASE", "databases", "records"]

#: The database in each directory.
DATABASE: Final = "cache.db"
#: How a value is written, by the number in its row: as SQLite has it, or by one of the codecs.
RAW: Final = 1
MODES: Final = {2: "bytes", 3: "text", 4: "pickle"}
PAGE: Final = 500

_COLUMNS: Final = "rowid, key, raw, mode, filename, value, CAST(ifnull(size, 0) AS INTEGER)"
_LIVE: Final = "expire_time IS NULL OR expire_time > ?"


def databases(files: Files) -> list[str]:
    """Return the databases: one, or those of the shards of a FanoutCache."""
    if DATABASE in files.sizes:
        return [DATABASE]
    shards = (name.partition("/") for name in files.sizes)
    return sorted("".join(parts) for parts in shards if parts[0].isdecimal() and parts[2] == DATABASE)


def records(files: Files, *, allow_pickle: bool | None, clock: Callable[[], float] = time.time) -> Records:
    """Return what a cache holds; keys stay as they are. What has expired is left out."""
    now = clock()
    names = databases(files)
    nbytes = 0.0
    for name in names:
        with sqlite_snapshot(os.path.join(files.place, name)) as run:
            if not run("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'Cache'"):
                raise ValueError(f"{name!r} in {files.place!r} is an SQLite file of another program")
            nbytes += run(f"SELECT total(size) + count(*) FROM Cache WHERE {_LIVE}", (now,))[0][0]

    def each() -> Generator[Record, None, None]:
        for name in names:
            with sqlite_snapshot(os.path.join(files.place, name)) as run:
                yield from _Shard(files, name, run, allow_pickle=allow_pickle).records(now)

    return Records("diskcache", int(nbytes), each())


class _Shard:
    """The rows of one database, and the files that belong to them."""

    def __init__(self, files: Files, name: str, run: RunSql, *, allow_pickle: bool | None) -> None:
        self._files, self._run = files, run
        self._folder = name.removesuffix(DATABASE)
        # The log that belongs to it, too, is a part of it.
        database = os.path.join(files.place, name)
        self._is_private = all(is_private_file(database + suffix) for suffix in ("", "-wal", "-journal"))
        # A JSONDisk compresses keys and values, for diskcache they are bytes.
        self._is_json = bool(run("SELECT 1 FROM Settings WHERE key = 'disk_compress_level'"))
        self._codecs = {
            name: plain(name, allow_pickle=allow_pickle) for name in (*MODES.values(), "zlib-json")
        }

    def records(self, now: float) -> Iterator[Record]:
        last = -(2**63)
        sql = f"SELECT {_COLUMNS} FROM Cache WHERE rowid > ? AND ({_LIVE}) ORDER BY rowid LIMIT {PAGE}"
        while rows := self._run(sql, (last, now)):
            last = rows[-1][0]
            for _, raw_key, is_raw, mode, filename, value, size in rows:
                try:
                    key = self._key(raw_key, is_raw=bool(is_raw))
                except PersicacheError as error:
                    yield Record(raw_key, size + 1, _raising(error))
                else:
                    yield Record(key, size + 1, partial(self._value, key, mode, filename, value))

    def _key(self, raw: Any, *, is_raw: bool) -> Any:
        if self._is_json:
            return _hashable(self._decoded("zlib-json", raw, raw))
        return raw if is_raw else self._decoded("pickle", raw, raw)

    def _value(self, key: Any, mode: int, filename: str | None, value: Any) -> Any:
        data = value if filename is None else self._files.read(self._folder + filename.replace(os.sep, "/"))
        if mode not in {RAW, *MODES}:
            raise CorruptEntry(key=key, place=self._files.place, reason=f"its mode {mode!r} is unknown")
        if self._is_json:
            return self._decoded("zlib-json", key, data)
        return data if mode == RAW else self._decoded(MODES[mode], key, data)

    def _decoded(self, codec: str, key: Any, data: Any) -> Any:
        source = data if isinstance(data, Bytes) else Bytes(data, self._is_private)
        return self._codecs[codec].decode(source, Owner(key, repr(key), self._files.place)).value


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key  # JSON has no tuples


def _raising(error: Exception) -> Callable[[], Any]:
    def load() -> Any:
        raise error

    return load
