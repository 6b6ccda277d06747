"""How much of a function's results a store may hold: `Limits`."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, Final

from persicache.eviction import check_policy
from persicache.mappings import parse_nbytes

__all__ = ["Limits"]

#: The share of a limit that is left when it was passed: so that not every store passes it.
LOW_WATER: Final = 0.9


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a store.

    Attributes
    ----------
    max_nbytes : float
        How many bytes there may be; infinity for any number.
    max_entries : float
        How many entries.
    policy : str
        Who leaves first.
    """

    max_nbytes: float = math.inf
    max_entries: float = math.inf
    policy: str = "gdsf"

    @classmethod
    def of(cls, *, max_size: object, max_entries: object, policy: object) -> Limits:
        """Check the options `max_size`, `max_entries` and `policy`.

        Raises
        ------
        TypeError, ValueError
            That names the option, what was given, and what it can be.

        Examples
        --------
        >>> Limits.of(max_size="10 GiB", max_entries=None, policy="lru").max_nbytes
        10737418240
        """
        check_policy(policy)
        return cls(_nbytes(max_size), _entries(max_entries), str(policy))

    def __bool__(self) -> bool:
        return min(self.max_nbytes, self.max_entries) < math.inf

    def share(self, nbytes: float, entries: float) -> float:
        """Return which part of a limit this is: more than 1 is too much."""
        return max(nbytes / self.max_nbytes, entries / self.max_entries)

    def is_low(self, nbytes: int, entries: int, next_nbytes: int) -> bool:
        """Return whether enough was evicted, if the next to leave is of `next_nbytes`.

        What makes up more than the difference between low water and high is not evicted for
        that: a large result that fits doesn't leave only because others did.
        """
        if self.share(nbytes, entries) > 1:
            return False
        if entries > math.ceil(LOW_WATER * self.max_entries) if self.max_entries < math.inf else False:
            return False
        return nbytes <= LOW_WATER * self.max_nbytes or next_nbytes > (1 - LOW_WATER) * self.max_nbytes


def _nbytes(max_size: Any) -> float:
    if max_size is None:
        return math.inf
    # What a share of the memory would be is no size of a store.
    is_size = isinstance(max_size, (str, numbers.Integral)) and not isinstance(max_size, bool)
    try:
        if is_size and str(max_size).strip().lower() != "auto":
            return parse_nbytes(max_size)
    except ValueError:
        pass
    error = ValueError if is_size else TypeError
    raise error(f"max_size must be a number of bytes, a text such as '10 GiB', or None, not {max_size!r}")


def _entries(max_entries: Any) -> float:
    if max_entries is None:
        return math.inf
    if not isinstance(max_entries, numbers.Integral) or isinstance(max_entries, bool):
        raise TypeError(f"max_entries must be a number of entries, or None, not {max_entries!r}")
    if max_entries < 1:
        raise ValueError(f"max_entries must be 1 or more, or None, not {max_entries!r}")
    return int(max_entries)
