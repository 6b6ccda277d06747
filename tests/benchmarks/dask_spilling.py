"""More data than memory on a dask cluster, beside its own SpillBuffer.

``python -m tests.benchmarks.dask_spilling`` prints the table alone, within three minutes.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import dask
import dask.array as da
from distributed import Client, LocalCluster, wait
from rich.console import Console
from rich.table import Table

MIB = 1 << 20
N_WORKERS = 2
# Both write through the page cache. Far more than this, and the disk itself is all that is timed.
LIMIT_NBYTES = 512 * MIB
CHUNK_NBYTES = 16 * MIB
#: The data, as a multiple of what the workers may use together.
TIMES = 3
#: No further round begins after so long.
MOST_SECONDS = 80.0


class Outcome(NamedTuple):
    """What a workload took: seconds in all, for each step, and how many workers were restarted."""

    seconds: float
    steps: dict[str, float]
    restarts: int


def steps(n_chunks: int) -> dict[str, Callable[[dict[str, Any]], None]]:
    """Return the workload: a matrix is made and kept, reduced, and joined with its transpose."""
    side = int((CHUNK_NBYTES // 8) ** 0.5)

    def make(state: dict[str, Any]) -> None:
        n = int(n_chunks**0.5)
        state["x"] = da.random.default_rng(0).random((n * side, n * side), chunks=side).persist()
        wait(state["x"])

    def reduce(state: dict[str, Any]) -> None:
        if not 0.49 < float(state["x"].mean().compute()) < 0.51:
            raise AssertionError

    def transpose(state: dict[str, Any]) -> None:
        state["y"] = (state["x"] + state["x"].T).persist()
        del state["x"]
        wait(state["y"])

    def reduce_again(state: dict[str, Any]) -> None:
        if not 0.99 < float(state["y"].mean().compute()) < 1.01:
            raise AssertionError

    return {"make": make, "mean": reduce, "x + x.T": transpose, "mean again": reduce_again}


def run(data: Any, *, limit_nbytes: int = LIMIT_NBYTES) -> Outcome:
    """Let a new cluster do the workload; `data` is what its workers keep their values in."""
    n_chunks = TIMES * N_WORKERS * limit_nbytes // CHUNK_NBYTES
    taken: dict[str, float] = {}
    state: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="persicache-bench-") as place,
        LocalCluster(
            n_workers=N_WORKERS,
            threads_per_worker=1,
            memory_limit=limit_nbytes,
            dashboard_address=":0",
            local_directory=place,
            silence_logs=logging.ERROR,
            **({} if data is None else {"data": data}),
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(lambda: __import__("dask.array"))
        pids = sorted(client.run(__import__("os").getpid).values())
        for name, step in steps(n_chunks).items():
            start = time.perf_counter()
            step(state)
            taken[name] = time.perf_counter() - start
        restarts = len(set(pids) - set(client.run(__import__("os").getpid).values()))
        state.clear()
    return Outcome(sum(taken.values()), taken, restarts)


def table(*, rounds: int = 2, limit_nbytes: int = LIMIT_NBYTES) -> Table:
    """Return the times of both, the best of some rounds in turn; of one, on a slow machine."""
    from persicache_dask import spill_data

    contestants = {"persicache": spill_data(), "SpillBuffer": None}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in contestants}
    start = time.perf_counter()
    for n in range(rounds):
        if n and time.perf_counter() - start > MOST_SECONDS:
            break
        for name, data in contestants.items():
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):
                outcomes[name].append(run(data, limit_nbytes=limit_nbytes))
    best = {name: min(each, key=lambda outcome: outcome.seconds) for name, each in outcomes.items()}
    total = TIMES * N_WORKERS * limit_nbytes
    shown = Table(
        "step",
        *best,
        "persicache / peer",
        title=f"{total // MIB} MiB on {N_WORKERS} workers of {limit_nbytes // MIB} MiB",
    )
    for step in best["persicache"].steps:
        ours, theirs = (best[name].steps[step] for name in contestants)
        shown.add_row(step, f"{ours:.2f} s", f"{theirs:.2f} s", f"{ours / theirs:.2f}")
    ours, theirs = (best[name].seconds for name in contestants)
    shown.add_section()
    shown.add_row("all", f"{ours:.2f} s", f"{theirs:.2f} s", f"{ours / theirs:.2f}")
    restarts = [sum(outcome.restarts for outcome in outcomes[name]) for name in contestants]
    shown.add_row("workers restarted", *map(str, restarts), "")
    return shown


if __name__ == "__main__":
    Console().print(table())
