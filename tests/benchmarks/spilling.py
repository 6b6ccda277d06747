"""More data than memory beside distributed's SpillBuffer, zict.Buffer, chest and diskcache."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from rich.table import Table

MIB = 1 << 20


class Load(NamedTuple):
    """What is put into a dictionary, and how often it is read then.

    Attributes
    ----------
    name : str
        What to call it.
    n_values, nbytes : int
        How many values, of how many bytes each.
    budget_nbytes : int
        What may be in memory.
    n_reads : int
        How many reads follow, of keys that are drawn by Zipf's law.
    """

    name: str
    n_values: int
    nbytes: int
    budget_nbytes: int
    n_reads: int


LOADS = (
    Load("1 GiB of 8 MiB arrays through 128 MiB, then 400 reads", 128, 8 * MIB, 128 * MIB, 400),
    Load("100,000 values of 1 KiB through 20 MiB, then 400 reads", 100_000, 1024, 20 * MIB, 400),
)


def persicache_spilldict(path: Path, budget: int) -> Any:
    """Make ours."""
    from persicache import SpillDict

    return SpillDict(available_memory=budget)


def spill_buffer(path: Path, budget: int) -> Any:
    """Make that of dask's workers."""
    from distributed.spill import SpillBuffer

    return SpillBuffer(str(path), target=budget)


def zict_buffer(path: Path, budget: int) -> Any:
    """Make zict's."""
    import zict

    slow = zict.Func(pickle.dumps, pickle.loads, zict.File(path))
    return zict.Buffer({}, slow, n=budget, weight=lambda _, value: len(memoryview(value).cast("B")))


def chest(path: Path, budget: int) -> Any:
    """Make chest's, which is older than Python 3.10."""
    import collections

    vars(collections).setdefault("MutableMapping", MutableMapping)
    from chest import Chest

    return Chest(available_memory=budget, path=str(path))


def diskcache(path: Path, budget: int) -> Any:
    """Make diskcache's, which keeps everything on disk."""
    from diskcache import Cache

    return Cache(path, size_limit=1 << 40)


CONTESTANTS: dict[str, Callable[[Path, int], Any]] = {
    "persicache": persicache_spilldict,
    "SpillBuffer": spill_buffer,
    "zict.Buffer": zict_buffer,
    "chest": chest,
    "diskcache": diskcache,
}


class Outcome(NamedTuple):
    """What a load took: seconds, resident bytes over the start at the peak, bytes written."""

    seconds: float
    peak_nbytes: float
    written_nbytes: float


def run(name: str, load: Load, path: Path) -> Outcome:
    """Put the load into a dictionary of this process."""
    d = CONTESTANTS[name](path, load.budget_nbytes)
    process, stop, peak = psutil.Process(), threading.Event(), [0]
    start_nbytes = process.memory_info().rss
    written = process.io_counters().write_chars

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    rng = np.random.default_rng(0)
    draws = (rng.zipf(1.3, load.n_reads) - 1) % load.n_values
    # Numbers that no compression makes smaller; each value is an object of its own.
    numbers = rng.random(load.nbytes // 8)
    is_large = load.nbytes >= MIB
    start = time.perf_counter()
    for i in range(load.n_values):
        value = numbers + i
        d[f"k{i}"] = value if is_large else value.tobytes()
    for i in draws.tolist():
        value = d[f"k{i}"]
        value = value if is_large else np.frombuffer(value)
        if float(value[::512].sum()) != float((numbers[::512] + i).sum()):
            raise AssertionError
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    return Outcome(seconds, peak[0] - start_nbytes, process.io_counters().write_chars - written)


def table(place: Path) -> Table:
    """Return times, memory and bytes written, each contestant in a process of its own."""
    shown = Table("load", "who", "seconds", "peak over start", "written", "seconds, persicache / peer")
    spawn = multiprocessing.get_context("spawn")
    for n, load in enumerate(LOADS):
        outcomes = {}
        # Who comes first gets the pages for its files from the machine, which on a virtual one takes
        # several times as long as to write them; all others get those of who was before. So the
        # first round isn't counted, and nobody leaves files behind.
        for name in ("persicache", *CONTESTANTS):
            path = place / f"spill-{n}-{name}"
            path.mkdir()
            with spawn.Pool(1) as pool:
                outcomes[name] = pool.apply(run, (name, load, path))
            shutil.rmtree(path)
        total = load.n_values * load.nbytes
        for i, (name, outcome) in enumerate(outcomes.items()):
            shown.add_row(
                load.name if not i else "",
                name,
                f"{outcome.seconds:.2f}",
                f"{outcome.peak_nbytes / MIB:.0f} MiB",
                f"{outcome.written_nbytes / total:.2f} x",
                "" if not i else f"{outcomes['persicache'].seconds / outcome.seconds:.2f}",
            )
        shown.add_section()
    return shown
