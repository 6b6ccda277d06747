"""What a memoized function did in this process."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Final, NamedTuple

__all__ = ["Counters", "Stats"]


class Stats(NamedTuple):
    """Counts since the function was decorated, in this process.

    Attributes
    ----------
    hits : int
        Calls that were answered from the store.
    misses : int
        Calls that had to be computed.
    errors : int
        Misses that were due to trouble with the store or an entry.
    seconds_computing : float
        Time spent in the function.
    seconds_saved : float
        Time that the results of the hits took when they were computed.

    Examples
    --------
    >>> Stats(hits=9, misses=1).hits
    9
    """

    hits: int = 0
    misses: int = 0
    errors: int = 0
    seconds_computing: float = 0.0
    seconds_saved: float = 0.0


class Counters:
    """Counts that several threads add to."""

    #: So many hits are noted before they are added up.
    MOST_NOTED: Final = 4096

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = Stats()
        self._costs: deque[float] = deque()

    def hit(self, text: str, cost_seconds: float) -> None:  # noqa: ARG002
        """Count a hit of the entry `text`, whose value took so long to compute, NaN if unknown."""
        # Appending is atomic, and on the path of every hit a lock would cost as much as a lookup.
        costs = self._costs
        costs.append(cost_seconds)
        if len(costs) > self.MOST_NOTED:
            self.stats()

    def miss(self, seconds: float) -> None:
        """Count a miss that took so long to compute."""
        with self._lock:
            old = self._stats
            self._stats = old._replace(
                misses=old.misses + 1, seconds_computing=old.seconds_computing + seconds
            )

    def error(self) -> None:
        """Count trouble with the store."""
        with self._lock:
            self._stats = self._stats._replace(errors=self._stats.errors + 1)

    def stats(self) -> Stats:
        """Add up what was noted, and return the counts."""
        with self._lock:
            costs = [self._costs.popleft() for _ in range(len(self._costs))]
            old = self._stats
            saved = old.seconds_saved + sum(cost for cost in costs if not math.isnan(cost))
            self._stats = old._replace(hits=old.hits + len(costs), seconds_saved=saved)
            return self._stats
