"""Values that are kept as long as they are worth their bytes: `KeptValues`."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Hashable, Iterable
from typing import Any, Final, NamedTuple

from persicache import SpillDict, nbytes
from persicache.eviction import new_policy

__all__ = ["KeptStats", "KeptValues"]

#: By default, as many times the memory may be kept in all.
TIMES_MEMORY: Final = 10
#: What it takes to have a value back: a look, and its bytes at 1 GiB/s.
LOOK_SECONDS: Final = 1e-3
READ_SECONDS: Final = 1.0 / (1 << 30)


class KeptStats(NamedTuple):
    """How well keeping values goes.

    Attributes
    ----------
    n_values : int
        How many there are.
    nbytes : int
        What they weigh.
    hits : int
        How often one of them was used.
    saved_seconds : float
        What those had taken to make.
    """

    n_values: int
    nbytes: int
    hits: int
    saved_seconds: float


class KeptValues:
    """What was dear to make, in memory and on disk; what saves least time for its bytes goes first.

    Values are copied when they come and when they go, so that nobody changes what is kept. All
    methods may be called from several threads.

    Parameters
    ----------
    available_memory : int, float or str, default "auto"
        What may be in memory, as for a `persicache.SpillDict`.
    max_size : int, float or str, optional
        What may be kept in all, written likewise; by default ten times the memory.

    Examples
    --------
    >>> kept = KeptValues(available_memory="1 MiB")
    >>> kept.put("a", [1, 2], cost_seconds=3.0)
    True
    >>> kept.get("a")
    [1, 2]
    """

    def __init__(
        self, *, available_memory: float | str = "auto", max_size: float | str | None = None
    ) -> None:
        self._values: SpillDict[Any] = SpillDict(available_memory=available_memory, on_return="copy")
        self._max_nbytes = TIMES_MEMORY * self._values.available_memory
        if max_size is not None:
            with SpillDict[Any](available_memory=max_size) as parsed:
                self._max_nbytes = parsed.available_memory
        self._lock = threading.Lock()
        self._policy = new_policy("gdsf")
        self._weights: dict[Hashable, int] = {}
        self._costs: dict[Hashable, float] = {}
        self._nbytes = 0
        self._hits = 0
        self._saved_seconds = 0.0

    def __len__(self) -> int:
        return len(self._weights)

    def __contains__(self, key: object) -> bool:
        return key in self._weights

    @property
    def stats(self) -> KeptStats:
        """How well that went so far."""
        with self._lock:
            return KeptStats(len(self._weights), self._nbytes, self._hits, self._saved_seconds)

    def get(self, key: Hashable) -> Any:
        """Return a value, which is the caller's own.

        Raises
        ------
        KeyError
            If it isn't kept any more.
        Exception
            If it can't be read or copied; it isn't kept any more then.
        """
        try:
            value = self._values[key]
        except Exception:
            with self._lock:
                if key in self._weights:
                    self._policy.remove(key)
                    self._forget(key)
            raise
        with self._lock:
            if key in self._weights:
                self._policy.touch(key)
                self._saved_seconds += self._costs[key]
            self._hits += 1
        return value

    def put(self, key: Hashable, value: object, *, cost_seconds: float) -> bool:
        """Keep a value, if it is worth it and can be; return whether it is kept.

        Parameters
        ----------
        key : hashable
            What to ask for it by.
        value : Any
            The value.
        cost_seconds : float
            What it took to make.
        """
        weight = max(nbytes(value), 1)
        if weight > self._max_nbytes or cost_seconds <= LOOK_SECONDS + weight * READ_SECONDS:
            return False
        try:
            self._values[key] = copy.deepcopy(value)
        except Exception:  # noqa: BLE001 - of any value, or a full disk: it is only not kept
            return False
        with self._lock:
            self._nbytes += weight - self._weights.get(key, 0)
            self._weights[key] = weight
            self._costs[key] = cost_seconds
            self._policy.add(key, nbytes=weight, cost_seconds=cost_seconds)
            leaving = self._leaving()
        self._remove(leaving)
        return key not in leaving

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            keys = list(self._weights)
            self._weights.clear()
            self._costs.clear()
            self._policy = new_policy("gdsf")
            self._nbytes = 0
        self._remove(keys)

    def _leaving(self) -> set[Hashable]:
        """Return who has to go, counted no longer."""
        leaving = set()
        while self._nbytes > self._max_nbytes:
            key = self._policy.victim()
            self._policy.evict(key)
            self._forget(key)
            leaving.add(key)
        return leaving

    def _forget(self, key: Hashable) -> None:
        self._nbytes -= self._weights.pop(key)
        del self._costs[key]

    def _remove(self, keys: Iterable[Hashable]) -> None:
        # Race: what another put again meanwhile may go with it, and is missed when it is asked for.
        for key in keys:
            with contextlib.suppress(KeyError):
                del self._values[key]
