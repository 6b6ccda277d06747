"""What the tests of several processes at one PersiDict run in each; spawned children import it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from persicache import ETAG_IS_THE_SAME, ITEM_NOT_AVAILABLE, PersiDict

WORKERS = 8
_barrier: Any = None


def _join(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603 - a pool has no other way to hand it to its workers
    _barrier = barrier


@contextmanager
def pool_of(*, processes: bool) -> Iterator[multiprocessing.pool.Pool]:
    """Give workers, spawned processes or threads: each task goes to one of its own."""
    if processes:
        spawn = multiprocessing.get_context("spawn")
        pool = spawn.Pool(WORKERS, _join, (spawn.Barrier(WORKERS),))
    else:
        pool = multiprocessing.pool.ThreadPool(WORKERS, _join, (threading.Barrier(WORKERS),))
    with pool:
        yield pool


def _begin(place: dict[str, Any]) -> PersiDict[Any]:
    # All at once, and so that nobody takes two tasks.
    _barrier.wait(60)
    return PersiDict(**place)


def count(n: Any) -> int:
    return 1 if n is ITEM_NOT_AVAILABLE else n + 1


def count_up(place: dict[str, Any], times: int) -> None:
    """Add one to "n", `times` times."""
    d = _begin(place)
    for _ in range(times):
        d.transform_item("n", transformer=count, n_retries=None)
    d.close()


def claim(place: dict[str, Any], me: int, n: int) -> list[int]:
    """Try to be the first to set each of `n` keys; return those that were."""
    d = _begin(place)
    won = []
    for i in range(n):
        if i % 2:
            is_mine = d.setdefault(("claim", i), me) == me
        else:
            done = d.set_item_if(
                ("claim", i), value=me, condition=ETAG_IS_THE_SAME, expected_etag=ITEM_NOT_AVAILABLE
            )
            is_mine = done.condition_was_satisfied
            assert done.new_value == d["claim", i]
        if is_mine:
            won.append(i)
    d.close()
    return won


def overwrite_or_read(place: dict[str, Any], me: int, nbytes: int, versions: int) -> list[int]:
    """Overwrite an array by others of equal numbers, or read it until the last; return those seen."""
    d = _begin(place)
    seen = [0]
    if me == 0:
        for version in range(1, versions + 1):
            d["large"] = np.full(nbytes // 8, float(version))
    elif me <= 2:
        while seen[-1] < versions:
            array = d["large"]
            assert len(array) == nbytes // 8
            first = float(array[0])
            assert array.min() == array.max() == first, f"mixed: {array.min()} to {array.max()}"
            seen.append(int(first))
    d.close()
    return seen


def churn(place: dict[str, Any], me: int, turns: int) -> None:
    """Add entries and remove them again, one by one and in batches."""
    d = _begin(place)
    for turn in range(turns):
        # Some within folders that come and go with them.
        mine = [("churn", me, turn, i) for i in range(3)]
        d.set_many(dict.fromkeys(mine, "x" * 100))
        d["churn", me] = turn
        d["x" * 300, me] = turn
        d.discard_many(mine[:2])
        del d[mine[2]], d["churn", me], d["x" * 300, me]
    d.close()
