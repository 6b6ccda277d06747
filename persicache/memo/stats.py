"""What a memoized function did in this process."""

from __future__ import annotations

import math
import operator
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from persicache.memo.usage import Use

__all__ = ["Counters", "Log", "Stats", "total_stats"]

#: So many hits are noted before they are added up,
MOST_NOTED: Final = 4096
#: or those of so long a time.
NOTING_SECONDS: Final = 1.0


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
    nbytes_saved : int
        The size in the store of the results of the hits.

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
    nbytes_saved: int = 0


class Log(Protocol):
    """What hears which entries were used."""

    def note(self, uses: dict[str, Use], source: Counters | None = None) -> None:
        """Add uses, by the texts of the entries; ask `source` for more before they are written."""


class Counters:
    """Counts that several threads add to; a forked child begins with none.

    Parameters
    ----------
    log : Log, optional
        What hears of the hits, later.
    clock : callable
        Returns POSIX seconds.
    """

    def __init__(self, log: Log | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock
        self._stats = Stats()
        self.begin()
        _total.join(self)

    def hit(self, text: str, cost_seconds: float, nbytes: int = 0) -> None:
        """Count a hit of the entry `text`, whose value took so long to compute, NaN if unknown."""
        # Appending is atomic, and on the path of every hit a lock would cost as much as a lookup.
        notes = self._notes
        now = self._clock()
        notes.append((text, cost_seconds, nbytes, now))
        if now > self._due or len(notes) > MOST_NOTED:
            self.settle()

    def miss(self, seconds: float) -> None:
        """Count a miss that took so long to compute."""
        with self._lock:
            self._add(Stats(misses=1, seconds_computing=seconds))

    def error(self) -> None:
        """Count trouble with the store."""
        with self._lock:
            self._add(Stats(errors=1))

    def _add(self, more: Stats) -> None:
        self._stats = _sum(self._stats, more)
        _total.add(more)

    def stats(self) -> Stats:
        """Add up what was noted, and return the counts."""
        self.settle()
        return self._stats

    def settle(self, *, is_asked: bool = False) -> None:
        """Add up what was noted; if the log asked, the next hit will tell it that there is more."""
        with self._lock:
            self._due = 0.0 if is_asked else self._clock() + NOTING_SECONDS
            n_hits = len(self._notes)
            notes = self._notes[:n_hits]
            # Race: what another thread notes meanwhile comes behind these.
            del self._notes[:n_hits]
            if not notes:
                return
            # As many as there were calls: a loop would take as long as the calls' other half.
            texts, costs, sizes, times = zip(*notes, strict=True)
            seconds = sum(costs)
            if math.isnan(seconds):
                seconds = sum(cost for cost in costs if not math.isnan(cost))
            self._add(Stats(hits=n_hits, seconds_saved=seconds, nbytes_saved=sum(sizes)))
        if self._log is not None:
            latest = dict(zip(texts, zip(times, costs, strict=True), strict=True))
            uses = {text: Use(hits, *latest[text]) for text, hits in Counter(texts).items()}
            self._log.note(uses, None if is_asked else self)

    def begin(self) -> None:
        """Have counted nothing."""
        self._lock = threading.Lock()
        self._stats = Stats()
        self._notes: list[tuple[str, float, int, float]] = []
        self._due = 0.0  # the first hit is told at once


class _Total:
    """What all counters of this process have counted, those that are gone included."""

    def __init__(self) -> None:
        self._counters: weakref.WeakSet[Counters] = weakref.WeakSet()
        self.begin()

    def begin(self) -> None:
        self._lock = threading.Lock()
        self._stats = Stats()

    def join(self, counters: Counters) -> None:
        with self._lock:
            self._counters.add(counters)

    def add(self, more: Stats) -> None:
        with self._lock:
            self._stats = _sum(self._stats, more)

    def stats(self) -> Stats:
        with self._lock:
            counters = list(self._counters)
        for each in counters:
            each.settle()
        return self._stats

    def after_fork(self) -> None:
        self.begin()
        for each in list(self._counters):
            each.begin()


_total: Final = _Total()

os.register_at_fork(after_in_child=_total.after_fork)


def total_stats() -> Stats:
    """Return what all memoized functions did together, in this process.

    Examples
    --------
    >>> from persicache import persistent_memoize, total_stats
    >>> before = total_stats()
    >>> @persistent_memoize("memory://doc-total-stats")
    ... def double(x):
    ...     return 2 * x
    >>> double(4), double(4)
    (8, 8)
    >>> after = total_stats()
    >>> after.hits - before.hits, after.misses - before.misses
    (1, 1)
    >>> double.clear()
    1
    """
    return _total.stats()


def _sum(one: Stats, other: Stats) -> Stats:
    return Stats(*map(operator.add, one, other))
