"""Times of several contestants at the same work, taken in turns so that noise meets all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Result(NamedTuple):
    """How one piece of work went.

    Attributes
    ----------
    work : str
        What was done.
    seconds : dict
        The best time of a call, by contestant; persicache comes first.
    """

    work: str
    seconds: dict[str, float]


def race(
    work: str,
    contestants: Mapping[str, Callable[[int], object]],
    *,
    calls: int,
    rounds: int = 7,
) -> Result:
    """Let each contestant do the work `calls` times, round by round; keep its best round.

    Parameters
    ----------
    work : str
        What is done.
    contestants : mapping of str to callable
        Each is called with a number that differs in every call.
    calls : int
        Calls a round.
    rounds : int, default 7
        Rounds; the first is a warm-up.
    """
    best = dict.fromkeys(contestants, float("inf"))
    number = 0
    for turn in range(rounds):
        for name, do in contestants.items():
            gc.collect()
            numbers = range(number, number + calls)
            start = time.perf_counter()
            for i in numbers:
                do(i)
            seconds = (time.perf_counter() - start) / calls
            if turn:
                best[name] = min(best[name], seconds)
        number += calls
    return Result(work, best)
