"""Several processes at one place, and very many entries."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache

from persicache import PersiDict
from tests.benchmarks.timing import Result, race

N_PROCESSES = 4
N_EACH = 2000
N_MANY = 100_000


def results(place: Path) -> Iterator[Result]:
    """Yield times of one operation out of very many."""
    contestants = {
        "persicache, directory": (open_persicache, place / "crowd"),
        "persicache, SQLite": (open_persicache, place / "crowd.db"),
        "persicache, LMDB": (open_persicache, f"lmdb://{place}/crowd"),
        "diskcache": (diskcache.Cache, place / "crowd-diskcache"),
    }
    seconds = {name: crowd(opened, where) for name, (opened, where) in contestants.items()}
    work = f"{N_PROCESSES} processes x {N_EACH:,} set + get of 100 B: one operation"
    yield Result(work, {"persicache": seconds["persicache, directory"], **seconds})

    many = {"persicache, directory": place / "many", "persicache, SQLite": place / "many.db"}
    for where in many.values():
        PersiDict(where, durable=False).set_many((i, None) for i in range(N_MANY))
    counts = {name: lambda _, where=where: len(PersiDict(where)) for name, where in many.items()}
    counts["os.scandir"] = lambda _: sum(1 for path in (place / "many").iterdir() if path.is_file())
    yield race(
        f"open and count {N_MANY:,} entries",
        {"persicache": counts["persicache, directory"], **counts},
        calls=1,
        rounds=3,
    )


def open_persicache(where: Any) -> PersiDict[Any]:
    """Open a dictionary that needn't survive a power cut, as the others."""
    return PersiDict(where, durable=False)


def crowd(opened: Callable[[Any], Any], where: Any) -> float:
    """Return how long an operation takes when several processes are at it; nothing may be lost."""
    spawn = multiprocessing.get_context("spawn")
    start, done = spawn.Barrier(N_PROCESSES + 1), spawn.Barrier(N_PROCESSES + 1)
    workers = [spawn.Process(target=work, args=(opened, where, i, start, done)) for i in range(N_PROCESSES)]
    for worker in workers:
        worker.start()
    start.wait()
    before = time.perf_counter()
    done.wait()
    seconds = time.perf_counter() - before
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"something was lost in {where}")
    return seconds / (N_PROCESSES * N_EACH * 2)


def work(opened: Callable[[Any], Any], where: Any, me: int, start: Any, done: Any) -> None:
    """Set keys and get them again; what was got must be what was set."""
    d = opened(where)
    d[f"warm{me}"] = ""
    start.wait()
    for i in range(N_EACH):
        text = f"{me} {i} ".ljust(100, "x")
        d[f"{me}-{i}"] = text
        if d[f"{me}-{i}"] != text:
            raise AssertionError
    done.wait()
    for i in range(N_EACH):
        if not d[f"{me}-{i}"].startswith(f"{me} {i} "):
            raise AssertionError
