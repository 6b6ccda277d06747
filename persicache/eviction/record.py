"""What a store remembers of the accesses to a key, where no policy is kept: `Record`."""

from __future__ import annotations

import math
from typing import NamedTuple

from persicache.eviction.gdsf import MOST_WORTH
from persicache.eviction.policies import check_policy

__all__ = ["Record"]


class Record(NamedTuple):
    """The accesses to a key.

    Attributes
    ----------
    nbytes : int
        What its value weighs.
    cost_seconds : float
        What it would take to have it back.
    uses : int
        How often it was accessed, its first addition included.
    age : float
        GDSF's age when it was accessed last: what the key was worth that had just been evicted.
    """

    nbytes: int
    cost_seconds: float
    uses: int
    age: float = 0.0

    def worth(self, policy: str) -> float:
        """Return what a policy holds against evicting the key.

        The key that is worth least leaves first, and of equals the one whose last access is
        longest ago: as from a `Policy` that saw all accesses, as long as there are no more.

        Parameters
        ----------
        policy : str
            Its name.

        Raises
        ------
        ValueError
            If there is none of this name.

        Examples
        --------
        >>> record = Record(nbytes=100, cost_seconds=50.0, uses=3, age=1.0)
        >>> record.worth("lru"), record.worth("lfu"), record.worth("gdsf")
        (0.0, 3.0, 2.5)
        """
        check_policy(policy)
        if policy == "lru":
            return 0.0
        if policy == "lfu":
            return float(self.uses)
        cost = self.cost_seconds
        gain = min(cost / max(self.nbytes, 1), MOST_WORTH) if 0 <= cost < math.inf else 0.0
        return min(self.age + self.uses * gain, MOST_WORTH)
