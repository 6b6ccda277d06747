"""What kind of cache a place is: `records_at`."""

# ruff: noqa: PTH110, PTH113, PTH119, PTH120, PTH123 - plain os calls, as in files

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from persicache.conversion import chest, diskcache, joblib_memory, persidict, persistdict, stones
from persicache.conversion.files import Files, files_at
from persicache.conversion.record import Records
from persicache.storage.snapshots import lmdb_snapshot, sqlite_snapshot

__all__ = ["records_at"]

KNOWN: Final = "chest, persidict, persistdict, stones, joblib.Memory or diskcache"
SQLITE_BEGINS: Final = b"SQLite format 3\0"
LMDB_FILE: Final = "data.mdb"
#: What persicache's own entries end in, and rows of LMDB begin with.
OWN_EXTENSION: Final = ".pc"
OWN_ROW: Final = b"pc1"
#: How its tables in SQLite are made.
OWN_TABLE: Final = "%(name TEXT PRIMARY KEY NOT NULL, version TEXT %"


def records_at(
    place: str, *, allow_pickle: bool | None, storage_options: Mapping[str, Any] | None = None
) -> Records:
    """Return what the cache at `place` holds.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it is none of the caches that are known.
    """
    if "://" not in place:
        if not os.path.exists(place):
            raise FileNotFoundError(f"there is nothing to convert at {place!r}")
        if os.path.isfile(place) and os.path.basename(place) != diskcache.DATABASE:
            return _in_file(place, allow_pickle=allow_pickle)
        if os.path.isfile(place):  # the database of a cache, by its own path
            place = os.path.dirname(place)
    return _in_files(files_at(place, storage_options), allow_pickle=allow_pickle)


def _in_file(path: str, *, allow_pickle: bool | None) -> Records:
    with open(path, "rb") as file:
        head = file.read(len(SQLITE_BEGINS))
    if head == SQLITE_BEGINS:
        found = persistdict.sqlite_records(path)
        if found is None:
            with sqlite_snapshot(path) as run:
                own = run("SELECT 1 FROM sqlite_master WHERE sql LIKE ?", (OWN_TABLE,))
            raise _own(path) if own else _unknown(path, "it is an SQLite file of another program")
        return found
    if os.path.basename(path) == LMDB_FILE:
        return _in_environment(os.path.dirname(path), allow_pickle=allow_pickle)
    found = persistdict.json_records(path)
    if found is None:
        raise _unknown(path, "it is neither a JSON object of texts nor an SQLite file")
    return found


def _in_files(files: Files, *, allow_pickle: bool | None) -> Records:
    names = files.sizes
    if chest.KEYS_FILE in names:
        return chest.records(files, allow_pickle=allow_pickle)
    if diskcache.databases(files):
        return diskcache.records(files, allow_pickle=allow_pickle)
    if LMDB_FILE in names:
        return _in_environment(files.place, allow_pickle=allow_pickle)
    if any(name.endswith(OWN_EXTENSION) for name in names):
        raise _own(files.place)
    if joblib_memory.is_one(files):
        return joblib_memory.records(files, allow_pickle=allow_pickle)
    if persidict.is_one(files):
        return persidict.records(files, allow_pickle=allow_pickle)
    if not names:
        why = "it holds nothing (to convert an empty one of persidict, give FileDirDict(base_dir=...))"
        raise _unknown(files.place, why)
    foreign_first = sorted(names, key=lambda name: (name.endswith(persidict.ENDINGS), name))
    shown = ", ".join(map(repr, islice(foreign_first, 5)))
    raise _unknown(files.place, f"it holds {shown}")


def _in_environment(path: str, *, allow_pickle: bool | None) -> Records:
    first = next(lmdb_snapshot(path), None)
    if first is not None and first[2].startswith(OWN_ROW):
        raise _own(path)
    return stones.records(path, allow_pickle=allow_pickle)


def _own(place: str) -> ValueError:
    return ValueError(
        f"{place!r} is a store of persicache already: give persicache.open(...) if you want a copy"
    )


def _unknown(place: str, why: str) -> ValueError:
    return ValueError(f"{place!r} is not a cache of {KNOWN}: {why}. An open dictionary can be given, too")
