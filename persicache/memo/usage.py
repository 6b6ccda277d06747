"""What is known of how entries are used, across processes: `Usage`."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgpack

__all__ = ["UNKNOWN_COST", "Usage", "Use"]

FORMAT: Final = 1
#: Of a value of which nobody knows what it cost: asking its entry again won't tell.
UNKNOWN_COST: Final = -1.0
#: So many ages are kept, the latest ones.
MOST_AGES: Final = 1024
#: More hits are as good as these, and sums of them fit into what can be packed.
MOST_HITS: Final = 1 << 50


class Use(NamedTuple):
    """How one entry was used.

    Attributes
    ----------
    hits : int
        How often it was read.
    last_use : float
        When it was read last, or stored, in POSIX seconds.
    cost_seconds : float
        How long its value took to compute, NaN if nobody was asked, UNKNOWN_COST in vain.
    until : float
        When it says that it is no longer fresh, in POSIX seconds.
    """

    hits: int = 0
    last_use: float = 0.0
    cost_seconds: float = math.nan
    until: float = math.inf

    def joined(self, later: Use) -> Use:
        """Return this and another use of the same entry as one."""
        is_known = not math.isnan(later.cost_seconds)
        return Use(
            min(self.hits + later.hits, MOST_HITS),
            max(self.last_use, later.last_use),
            later.cost_seconds if is_known else self.cost_seconds,
            later.until if is_known else self.until,
        )


class Usage:
    """Uses of entries, by their digests; and GDSF's age at each time that something was evicted.

    Attributes
    ----------
    uses : dict of bytes to Use
        By the digests of the calls.
    ages : list of (float, float)
        Times and ages, in the order of time.
    replaces : tuple of str
        What else this was made of, and stands for.

    Examples
    --------
    >>> one, other = Usage(), Usage()
    >>> one.note(b"a", Use(hits=2, last_use=5.0))
    >>> other.note(b"a", Use(hits=1, last_use=7.0))
    >>> one.update(Usage.unpack(other.pack()))
    >>> one.uses[b"a"].hits, one.uses[b"a"].last_use
    (3, 7.0)
    """

    def __init__(self) -> None:
        self.uses: dict[bytes, Use] = {}
        self.ages: list[tuple[float, float]] = []
        self.replaces: tuple[str, ...] = ()

    def note(self, digest: bytes, use: Use) -> None:
        """Add a use to those of an entry."""
        known = self.uses.get(digest)
        self.uses[digest] = use if known is None else known.joined(use)

    def update(self, other: Usage) -> None:
        """Add all that another one knows."""
        for digest, use in other.uses.items():
            self.note(digest, use)
        self.ages = sorted({*self.ages, *other.ages})

    def age_at(self, time: float) -> float:
        """Return GDSF's age at a time."""
        index = bisect_right(self.ages, (time, math.inf))
        return self.ages[index - 1][1] if index else 0.0

    def grow_older(self, time: float, age: float) -> None:
        """Note that something worth `age` was evicted."""
        if age > self.age_at(time):
            insort(self.ages, (time, age))

    def keep(self, digests: Iterable[bytes], *, since: float) -> None:
        """Forget all other entries, and the ages that none of them has seen.

        Parameters
        ----------
        digests : iterable of bytes
            The entries that are left.
        since : float
            When the one that was used least recently was used.
        """
        uses = self.uses
        self.uses = {digest: uses[digest] for digest in digests if digest in uses}
        # It changes no order that all ages are less by the same: so they never grow large.
        base = self.age_at(since)
        ages = [(when, max(age - base, 0.0)) for when, age in self.ages if when > since]
        self.ages = ages[-MOST_AGES:]

    def pack(self) -> bytes:
        """Return this as bytes."""
        uses = {
            digest: list(use) if use.until < math.inf else list(use[:3])
            for digest, use in self.uses.items()
        }
        told = {"format": FORMAT, "uses": uses, "ages": self.ages, "replaces": self.replaces}
        packed: bytes = msgpack.packb(told)
        return packed

    @classmethod
    def unpack(cls, data: Any) -> Usage:
        """Return what `pack` made bytes of.

        Raises
        ------
        ValueError
            If these bytes are none of `pack`: somebody else's, or damaged.
        """
        usage = cls()
        try:
            told = msgpack.unpackb(data)
            if told["format"] != FORMAT:
                raise ValueError(f"it is of format {told['format']!r}, unknown here")
            usage.uses = {bytes(digest): _use(*use) for digest, use in told["uses"].items()}
            usage.ages = sorted((_finite(when), _finite(age)) for when, age in told["ages"])
            usage.replaces = tuple(map(str, told["replaces"]))
        except Exception as error:
            raise ValueError(f"this is no usage of entries: {error}") from error
        return usage


def _use(hits: Any, last_use: Any, cost_seconds: Any, until: Any = math.inf) -> Use:
    return Use(min(max(int(hits), 0), MOST_HITS), _finite(last_use), float(cost_seconds), float(until))


def _finite(number: Any) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{number!r} is no time and no age")
    return float(number)
