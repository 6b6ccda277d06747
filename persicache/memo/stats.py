"""What a memoized function did in this process."""

from __future__ import annotations

import threading
from typing import NamedTuple

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
        Time that the hits would have taken to compute, less the time they took.
    """

    hits: int = 0
    misses: int = 0
    errors: int = 0
    seconds_computing: float = 0.0
    seconds_saved: float = 0.0


class Counters:
    """Counts under a lock, because ``+=`` loses counts between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = Stats()
        self._hits = 0
        self._saved = 0.0

    def hit(self, cost_seconds: float, load_seconds: float) -> None:
        """Count a hit whose value cost so much when it was computed."""
        with self._lock:
            self._hits += 1
            if cost_seconds == cost_seconds:  # noqa: PLR0124 - not NaN, on the path of every hit
                self._saved += cost_seconds - load_seconds

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
        """Return the counts."""
        with self._lock:
            return self._stats._replace(hits=self._hits, seconds_saved=self._saved)
