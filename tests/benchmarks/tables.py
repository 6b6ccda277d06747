"""Many small values in one SQLite file or one LMDB environment, beside diskcache and plain lmdb."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
import lmdb

from persicache import PersiDict
from tests.benchmarks.dictionaries import getter, setter
from tests.benchmarks.timing import Result, race

BATCH = 256
TEXT = "x" * 100


def results(place: Path) -> Iterator[Result]:
    """Yield sets and gets of 100 B, one by one and in batches."""
    yield from _beside_diskcache(place)
    yield from _beside_lmdb(place)


def _beside_diskcache(place: Path) -> Iterator[Result]:
    with diskcache.Cache(place / "tables-diskcache") as cache, cache.transact():
        cache["key0"] = TEXT
    for how, every in (("", 1), (f", {BATCH} a transaction", BATCH)):
        ours = PersiDict(
            place / f"tables-{every}.db", durable=False, storage_options={"commit_every": every}
        )
        with diskcache.Cache(place / "tables-diskcache") as cache, ours:
            dictionaries: dict[str, Any] = {"persicache": ours, "diskcache": cache}
            sets = {name: setter(d, TEXT) for name, d in dictionaries.items()}
            if every > 1:
                sets["diskcache"] = _in_transactions(cache)
            yield race(f"SQLite: set, 100 B{how}", sets, calls=4 * BATCH)
            ours.flush()
            gets = {name: getter(d) for name, d in dictionaries.items()}
            yield race(f"SQLite: get, 100 B{how}", gets, calls=2000, rounds=9)


def _in_transactions(cache: diskcache.Cache) -> Callable[[int], None]:
    """Return what sets so many keys in one transaction, when it is called for the last of them."""

    def do(i: int) -> None:
        if i % BATCH == BATCH - 1:
            with cache.transact():
                for number in range(i - BATCH + 1, i + 1):
                    cache[f"key{number}"] = TEXT

    return do


def _beside_lmdb(place: Path) -> Iterator[Result]:
    url = f"lmdb://{place}/tables-lmdb"
    waiting = PersiDict(url, durable=False, storage_options={"commit_every": BATCH})
    with PersiDict(url, durable=False) as at_once, waiting:
        environment = lmdb.open(str(place / "tables-lmdb-plain"), map_size=1 << 30, sync=False)
        plain = PlainLmdb(environment)
        dictionaries = {"persicache": waiting, "lmdb": plain}
        sets = {name: setter(d, TEXT) for name, d in dictionaries.items()}
        yield race(f"LMDB: set, 100 B, {BATCH} a transaction", sets, calls=8 * BATCH)
        many = {"persicache": _many(at_once.set_many), "lmdb": _many(plain.set_many)}
        yield race(f"LMDB: set_many of {BATCH}, 100 B", many, calls=8)
        waiting.flush()
        gets = {name: getter(d) for name, d in dictionaries.items()}
        yield race("LMDB: get, 100 B", gets, calls=4000, rounds=9)
        single = {"persicache": setter(at_once, TEXT), "lmdb": lambda i: plain.set_many({f"key{i}": TEXT})}
        yield race("LMDB: set, 100 B, a transaction each", single, calls=4 * BATCH)
        environment.close()


def _many(set_many: Callable[[dict[str, str]], None]) -> Callable[[int], None]:
    return lambda i: set_many({f"key{number}": TEXT for number in range(i * BATCH, (i + 1) * BATCH)})


class PlainLmdb:
    """What lmdb does for a dictionary of pickles without any guard or check."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self._writing: Any = None
        self._count = 0

    def __setitem__(self, key: str, value: object) -> None:
        if self._writing is None:
            self._writing = self._environment.begin(write=True)
        self._writing.put(key.encode(), pickle.dumps(value))
        self._count += 1
        if self._count == BATCH:
            self._writing.commit()
            self._writing, self._count = None, 0

    def set_many(self, items: dict[str, str]) -> None:
        """Set all in one transaction."""
        with self._environment.begin(write=True) as transaction:
            for key, value in items.items():
                transaction.put(key.encode(), pickle.dumps(value))

    def __getitem__(self, key: str) -> object:
        with self._environment.begin() as transaction:
            return pickle.loads(transaction.get(key.encode()))
