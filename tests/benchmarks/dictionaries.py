"""Dictionaries on disk beside diskcache, zict.File, and the bare system calls."""

from __future__ import annotations

import os
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
        ours = dictionaries["persicache"]
        bare = {"bare writev": file_writer(place / "bare", array)}
        sets = {name: setter(d, array, 4) for name, d in dictionaries.items()}
        yield race("set, 8 MiB array", sets | bare, calls=8)
        yield race("get, 8 MiB array", {name: getter(d) for name, d in dictionaries.items()}, calls=8)
        np.save(place / "array.npy", array)
        reads = {
            "persicache": lambda _: touch(ours["key0"]),
            "numpy.load, mapped": lambda _: touch(np.load(place / "array.npy", mmap_mode="c")),
        }
        yield race("get an 8 MiB array and touch every page", reads, calls=20)
    durable = {
        "persicache": setter(PersiDict(place / "durable"), text),
        "two fsyncs": file_syncer(place / "bare"),
    }
    yield race("set, 100 B, durable", durable, calls=50)


def setter(d: Any, value: object, n_keys: int = 1 << 62) -> Callable[[int], None]:
    """Return what sets the i-th key, of so many."""

    def do(i: int) -> None:
        d[f"key{i % n_keys}"] = value

    return do


def getter(d: Any) -> Callable[[int], object]:
    """Return what gets one key, over and over."""
    return lambda _: d["key0"]


def touch(array: np.ndarray) -> float:
    """Read a number of every page."""
    return float(array[::512].sum())


def file_writer(folder: Path, array: np.ndarray) -> Callable[[int], None]:
    """Return what writes an array as a new file, and removes one of those before."""
    folder.mkdir(exist_ok=True)
    data = memoryview(array).cast("B")

    def do(i: int) -> None:
        fd = os.open(folder / f"{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.writev(fd, [data])
        os.close(fd)
        (folder / f"{i - 4}").unlink(missing_ok=True)

    return do


def file_syncer(folder: Path) -> Callable[[int], None]:
    """Return what writes a small file, and syncs it and its folder."""

    def do(i: int) -> None:
        fd = os.open(folder / f"synced{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, b"x" * 300)
        os.fsync(fd)
        os.close(fd)
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    return do
