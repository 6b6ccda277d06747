"""Memoization beside functools.lru_cache, diskcache, joblib.Memory and cachier.

The budget of a hit, from a directory, of a function from int to int; `budget` measures it:

=========  ====  ===================================================================
part         us  what it does
=========  ====  ===================================================================
code        0.4  look whether all code and constants are those of the key
bind        0.3  see that the call is positional and complete
digest      1.1  write the arguments canonically, hash that behind the hash of the code
name        0.8  write the digest as the name of an entry
read        5.3  open, fstat, read, close
verify      2.1  hash header, body and key, compare
decode      0.5  msgpack
count       1.1  note the hit, for `stats` and for who leaves first
the rest    7.4  what lies between: calls, and what handles trouble
the whole  19
=========  ====  ===================================================================
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
import joblib
import numpy as np
import pandas as pd
from cachier import cachier
from rich.table import Table

from persicache import persistent_memoize
from persicache.codecs import envelope
from persicache.codecs.entry import TREE
from persicache.codecs.tree import unpack_tree
from tests.benchmarks.timing import Result, race
from tests.s3server import serving

N_LARGE = 12_500_000  # float64 numbers: 100 MB
N_ROWS = 1_000_000


def add_one(x: int) -> int:
    """Return the next number."""
    return x + 1


def ones(n: int) -> np.ndarray:
    """Return a large array."""
    return np.ones(n)


def table_of(n: int) -> pd.DataFrame:
    """Return a frame of numbers, times, categories and texts, which are Arrow's."""
    numbers = np.random.default_rng(0)
    columns: dict[str, Any] = {f"x{i}": numbers.random(n) for i in range(4)}
    columns |= {f"n{i}": numbers.integers(0, 1 << 40, n) for i in range(2)}
    columns["time"] = pd.date_range("2013", periods=n, freq="s")
    columns["kind"] = pd.Categorical(numbers.choice(["a", "b", "c"], n))
    for name in ("short", "long"):
        texts = pd.Series(numbers.integers(0, 1 << 40, n).astype(str))
        columns[name] = (texts if name == "short" else texts * 3).astype("string[pyarrow]")
    return pd.DataFrame(columns)


def first(array: np.ndarray) -> float:
    """Return one number of many."""
    return float(array[0])


def height(frame: pd.DataFrame) -> int:
    """Return how many rows there are."""
    return len(frame)


def results(place: Path) -> Iterator[Result]:
    """Yield hits, misses, large results and large arguments."""
    with diskcache.Cache(place / "diskcache") as cache:
        kept = _Kept(place, cache)
        yield from _small(kept)
        yield _hits("memo hit, 100 MB result", kept.all_of(ones), N_LARGE, calls=10)
        yield _hits("memo hit, result of 1M rows", kept.all_of(table_of), N_ROWS, calls=4)
        array = np.random.default_rng(0).random(N_LARGE)
        yield _rated(_hits("memo hit, 100 MB argument", kept.all_of(first), array), array.nbytes)
        frame = table_of(N_ROWS)
        nbytes = int(frame.memory_usage(index=False, deep=True).sum())
        yield _rated(_hits("memo hit, argument of 1M rows", kept.all_of(height), frame), nbytes)


class _Kept:
    """The contestants, each with a place of its own."""

    def __init__(self, place: Path, cache: diskcache.Cache) -> None:
        self._place = place
        self._cache = cache

    def all_of(self, function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        """Memoize a function with each that keeps results on disk, ours without its memory."""
        return {
            "persicache": persistent_memoize(self._place / "memo", memory=None)(function),
            "diskcache": self._cache.memoize()(function),
            "joblib": joblib.Memory(self._place / "joblib", verbose=0).cache(function),
            "joblib mmap": joblib.Memory(self._place / "joblib-mmap", mmap_mode="c", verbose=0).cache(
                function
            ),
            # With all results in one file, as by default, a miss takes longer with each.
            "cachier": cachier(cache_dir=self._place / "cachier", separate_files=True)(function),
        }

    def in_memory(self, function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        """Memoize a function with each that holds results in memory."""
        return {
            "persicache": persistent_memoize(self._place / "memo")(function),
            "lru_cache": functools.lru_cache(function),
            "cachier, memory": cachier(backend="memory")(function),
        }


def _small(kept: _Kept) -> Iterator[Result]:
    small = kept.all_of(add_one)
    yield _hits("memo hit, int to int, directory", small, 1, calls=2000, rounds=9)
    in_memory = kept.in_memory(add_one)
    yield _hits("memo hit, int to int, memory", in_memory, 1, calls=2000, rounds=9)
    del small["persicache"]  # its memory is on, here
    missing = {
        "persicache": persistent_memoize(kept._place / "memo-misses")(add_one),
        "persicache, single_flight=False": persistent_memoize(
            kept._place / "memo-alone", single_flight=False
        )(add_one),
        **small,
    }
    yield race("memo miss and store, int to int", missing, calls=200)


def _hits(
    work: str, functions: dict[str, Callable[..., Any]], argument: Any, *, calls: int = 1, rounds: int = 6
) -> Result:
    """Race hits of one call; each has stored it before."""
    for function in functions.values():
        function(argument)
    do = {name: lambda _, f=function: f(argument) for name, function in functions.items()}
    return race(work, do, calls=calls, rounds=rounds)


def _rated(result: Result, nbytes: int) -> Result:
    rate = nbytes / result.seconds["persicache"] / 1e9
    return result._replace(work=f"{result.work}: {rate:.1f} GB/s of {nbytes / 1e6:.0f} MB")


def budget(place: Path) -> dict[str, float]:
    """Return the seconds of each part of a hit from a directory, of what is between, and of all."""
    f = persistent_memoize(place / "budget", memory=None)(add_one)
    f(1)
    calls, results, counters = f._calls, f._results, f._counters
    where = calls.locate((1,), {})
    read, codec = results.entries.storage.read, results.entries.codec
    blob = read(where.name)
    data = bytes(blob.buffer)
    ad = codec._ad + where.text.encode()
    plain = envelope.open_plain(data, ad, TREE)
    assert plain is not None, "a hit takes another way than what is measured here"
    each = {
        "code": lambda _: calls.is_current(),
        "bind": lambda _: calls._bind((1,), {}),
        "digest": lambda _: calls._digest((1,)),
        "name": lambda _: calls.locate((1,), {}),
        "read": lambda _: read(where.name),
        "verify": lambda _: envelope.open_plain(data, ad, TREE),
        "decode": lambda _: unpack_tree(plain[0], []),
        "count": lambda _: counters.hit(where.text, 0.0, len(data)),
        "the whole": lambda _: f(1),
    }
    parts = race("the parts of a hit", each, calls=2000, rounds=9).seconds
    parts["name"] -= parts["digest"]  # which it begins with
    whole = parts.pop("the whole")
    return {**parts, "the rest": whole - sum(parts.values()), "the whole": whole}


def requests() -> dict[str, int]:
    """Return how many requests a call asks of S3."""
    counted = {}
    with serving() as server:
        server.make_bucket("bucket")
        for name, single_flight in (("without a lease", False), ("with a lease", True)):
            memoize = persistent_memoize(
                f"s3://bucket/{single_flight}",
                memory=None,
                single_flight=single_flight,
                storage_options=server.storage_options,
            )
            f = memoize(add_one)
            f(0)  # asks, once, what the server can do
            for what in ("miss", "hit"):
                server.clear()
                f(1)
                counted[f"{what}, {name}"] = len(server.requests())
    return counted


def table(place: Path) -> Table:
    """Return the budget of a hit, and the requests of one to S3."""
    shown = Table("part of a hit, int to int, directory", "us", title="where the time goes")
    for name, seconds in budget(place).items():
        shown.add_row(name, f"{seconds * 1e6:.2f}")
    shown.add_section()
    for name, number in requests().items():
        shown.add_row(f"requests to S3: {name}", str(number))
    return shown
