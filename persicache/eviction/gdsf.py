"""What saves least time for its size leaves first: greedy-dual size-frequency."""

# ruff: noqa: D102 - the protocol has the docstrings

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final, NamedTuple

from persicache.eviction.lazy_heap import LazyHeap

__all__ = ["GDSF"]

#: More is as good as this: the sum of any two is a number still.
MOST_WORTH: Final = 1e300


class Standing(NamedTuple):
    """What a key has against being evicted, and since when, for those who have the same."""

    worth: float
    accessed: int


class GDSF:
    """The policy that evicts the key with the fewest seconds to be saved for its bytes.

    A key is worth ``uses * cost_seconds / nbytes`` more than the last key that was evicted when
    it was used last: so what was worth much once, and isn't used any more, ages. Of equals the
    least recently used leaves first.

    Notes
    -----
    L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
    Policy", HP Laboratories report HPL-98-69R1, 1998. The age that grows for ever there is taken
    off all keys here when as many were evicted as there are: it changes nobody's order, and
    small differences are never lost beside a large age.

    Examples
    --------
    >>> policy = GDSF()
    >>> policy.add("dear", nbytes=100, cost_seconds=60.0)
    >>> policy.add("large", nbytes=1_000_000, cost_seconds=60.0)
    >>> policy.add("cheap", nbytes=100, cost_seconds=0.01)
    >>> policy.victim()
    'large'
    """

    def __init__(self) -> None:
        self._now = 0
        self._age = 0.0
        self._n_evicted = 0
        self._standings: LazyHeap[Standing] = LazyHeap()
        self._gains: dict[Hashable, float] = {}
        self._uses: dict[Hashable, int] = {}

    def add(self, key: Hashable, *, nbytes: int = 1, cost_seconds: float = 0.0) -> None:
        if not (cost_seconds >= 0 and math.isfinite(cost_seconds)):
            raise ValueError(f"cost_seconds must be a number of seconds, not {cost_seconds!r}")
        self._gains[key] = min(cost_seconds / max(nbytes, 1), MOST_WORTH)
        self._uses[key] = self._uses.get(key, 0) + 1
        self._standings.put(key, self._standing(key))

    def touch(self, key: Hashable) -> None:
        self._uses[key] += 1
        self._standings.rise(key, self._standing(key))

    def remove(self, key: Hashable) -> None:
        self._standings.remove(key)
        del self._gains[key], self._uses[key]

    def evict(self, key: Hashable) -> None:
        # No key has less than the age, but for rounding.
        self._age = max(self._age, self._standings[key].worth)
        self.remove(key)
        self._n_evicted += 1
        if self._n_evicted > len(self._standings):
            self._rejuvenate()

    def victim(self) -> Hashable:
        return self._standings.least()

    def _standing(self, key: Hashable) -> Standing:
        self._now += 1
        worth = min(self._age + self._uses[key] * self._gains[key], MOST_WORTH)
        return Standing(worth, self._now)

    def _rejuvenate(self) -> None:
        age, self._age, self._n_evicted = self._age, 0.0, 0
        self._standings.change_all(lambda standing: Standing(standing.worth - age, standing.accessed))

    def __len__(self) -> int:
        return len(self._standings)

    def __contains__(self, key: object) -> bool:
        return key in self._standings
