"""Dictionaries on disk beside diskcache and zict.File."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import zict

from persicache import PersiDict
from tests.benchmarks.timing import Result, race


def results(place: Path) -> Iterator[Result]:
    """Yield sets and gets of small and of large values."""
    with diskcache.Cache(place / "diskcache") as cache:
        dictionaries: dict[str, Any] = {
            "persicache": PersiDict(place / "persicache", durable=False),
            "diskcache": cache,
            "zict.File": zict.Func(pickle.dumps, pickle.loads, zict.File(place / "zict")),
        }
        text = "x" * 100
        yield race("set, 100 B", {name: setter(d, text) for name, d in dictionaries.items()}, calls=300)
        yield race(
            "overwrite, 100 B", {name: setter(d, text, 1) for name, d in dictionaries.items()}, calls=300
        )
        yield race(
            "get, 100 B", {name: getter(d) for name, d in dictionaries.items()}, calls=2000, rounds=9
        )
        array = np.random.default_rng(0).random(1 << 20)
        yield race(
            "set, 8 MiB array", {name: setter(d, array, 4) for name, d in dictionaries.items()}, calls=8
        )
        yield race("get, 8 MiB array", {name: getter(d) for name, d in dictionaries.items()}, calls=8)
        durable = {"persicache": PersiDict(place / "durable")}
        yield race("set, 100 B, durable", {name: setter(d, text) for name, d in durable.items()}, calls=50)


def setter(d: Any, value: object, n_keys: int = 1 << 62) -> Callable[[int], None]:
    """Return what sets the i-th key, of so many."""

    def do(i: int) -> None:
        d[f"key{i % n_keys}"] = value

    return do


def getter(d: Any) -> Callable[[int], object]:
    """Return what gets one key, over and over."""
    return lambda _: d["key0"]
