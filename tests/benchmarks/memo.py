"""Memoization beside joblib.Memory and diskcache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import diskcache
import joblib
import numpy as np

from persicache import persistent_memoize
from tests.benchmarks.timing import Result, race

N_LARGE = 12_500_000  # float64 numbers: 100 MB


def add_one(x: int) -> int:
    """Return the next number."""
    return x + 1


def ones(n: int) -> np.ndarray:
    """Return a large array."""
    return np.ones(n)


def first(array: np.ndarray) -> float:
    """Return one number of many."""
    return float(array[0])


def results(place: Path) -> Iterator[Result]:
    """Yield hits, misses, large results and large arguments."""
    memory = joblib.Memory(place / "joblib", verbose=0)
    mapped = joblib.Memory(place / "joblib-mmap", mmap_mode="c", verbose=0)
    with diskcache.Cache(place / "diskcache") as cache:
        small = {
            "persicache": persistent_memoize(place / "persicache")(add_one),
            "diskcache": cache.memoize()(add_one),
            "joblib": memory.cache(add_one),
        }
        for function in small.values():
            function(1)
        hits = {name: lambda _, f=function: f(1) for name, function in small.items()}
        yield race("memo hit, int to int", hits, calls=2000, rounds=9)
        yield race("memo miss and store", small, calls=200)
        large = {
            "persicache": persistent_memoize(place / "persicache")(ones),
            "joblib mmap": mapped.cache(ones),
            "joblib": memory.cache(ones),
            "diskcache": cache.memoize()(ones),
        }
        for function in large.values():
            function(N_LARGE)
            function(N_LARGE)
        hits = {name: lambda _, f=function: f(N_LARGE) for name, function in large.items()}
        yield race("memo hit, 100 MB result", hits, calls=10, rounds=5)
        array = np.random.default_rng(0).random(N_LARGE)
        taking = {
            "persicache": persistent_memoize(place / "persicache")(first),
            "joblib": memory.cache(first),
            "diskcache": cache.memoize()(first),
        }
        for function in taking.values():
            function(array)
        hits = {name: lambda _, f=function: f(array) for name, function in taking.items()}
        yield race("memo hit, 100 MB argument", hits, calls=1, rounds=6)
