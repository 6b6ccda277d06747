"""The files of persistdict: JSON documents and SQLite files."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from functools import partial
from typing import Final

from persicache.codecs import Bytes
from persicache.conversion.codecs import plain
from persicache.conversion.files import read_file
from persicache.conversion.record import Record, Records, lazily
from persicache.storage.snapshots import RunSql, sqlite_snapshot

__all__ = ["json_records", "sqlite_records", "tables"]

PAGE: Final = 500
_JSON: Final = plain("json", allow_pickle=None)


def json_records(path: str) -> Records | None:
    """Return what a JSON document holds; None if it isn't an object of texts that are JSON."""
    try:
        texts = json.loads(bytes(read_file(path).buffer) or b"{}")
    except (ValueError, RecursionError):  # of what is nested too deeply
        return None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        return None
    if texts and not any(map(_is_json, texts.values())):
        return None
    datas = {key: text.encode(errors="surrogatepass") for key, text in texts.items()}  # JSON has halves
    records = (_record(key, data, path) for key, data in datas.items())
    return Records("persistdict", sum(map(len, datas.values())), records)


def tables(run: RunSql) -> list[str]:
    """Return the tables of an SQLite file that are persistdict's, by their columns."""
    names = [name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return [name for name in names if _columns(run, name) == [("key", "TEXT", 1), ("value", "TEXT", 0)]]


def _columns(run: RunSql, table: str) -> list[tuple[object, ...]]:
    return [(row[1], row[2], row[5]) for row in run(f"PRAGMA table_info({_quoted(table)})")]


def sqlite_records(path: str) -> Records | None:
    """Return what the tables of an SQLite file hold; None if there is none of persistdict's.

    Of several tables each key becomes a tuple: table and key.
    """
    with sqlite_snapshot(path) as run:
        names = tables(run)
        length = "SELECT total(length(CAST(value AS BLOB))) FROM "
        sizes = [run(length + _quoted(name))[0][0] for name in names]

    def each() -> Generator[Record, None, None]:
        with sqlite_snapshot(path) as run:
            for name in names:
                for key, data in _rows(run, name):
                    yield _record(key if len(names) == 1 else (name, key), data or b"", path)

    return Records("persistdict", int(sum(sizes)), each()) if names else None


def _rows(run: RunSql, table: str) -> Iterator[tuple[str, bytes]]:
    # Bytes, since SQLite holds texts that are none to Python.
    sql = f"SELECT key, CAST(value AS BLOB) FROM {_quoted(table)} WHERE key > ? ORDER BY key LIMIT {PAGE}"  # noqa: S608 - quoted
    rows = run(sql.replace("key > ?", "?"), (1,))
    while rows:
        yield from rows
        rows = run(sql, (rows[-1][0],))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # of what is nested too deeply
        return False
    return True


def _record(key: object, data: bytes, place: str) -> Record:
    read = partial(Bytes, data, is_private=False)
    return Record(key, len(data), lazily(_JSON, read, key=key, place=place))
