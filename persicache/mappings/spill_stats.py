"""What a SpillDict read and wrote, and what is on disk only: `SpillStats`, `OnDisk`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["OnDisk", "SpillStats"]


class OnDisk(NamedTuple):
    """The values that are on disk, and not in memory.

    Attributes
    ----------
    n_values : int
        How many there are.
    nbytes : int
        What they weigh in memory, as far as that is known.
    disk_nbytes : int
        What they take on disk; as they weigh, where that is not known.
    """

    n_values: int
    nbytes: int
    disk_nbytes: int


@dataclass
class SpillStats:
    """What was read and written since the dictionary was made.

    Attributes
    ----------
    hits, misses : int
        How many values that were asked for were in memory, and how many were on disk.
    hit_nbytes : int
        What the values weigh that were in memory.
    spills : int
        How many values were written to disk.
    spilled_nbytes, restored_nbytes : int
        What was written to disk and read from it, as the values weigh in memory.
    spill_seconds, restore_seconds : float
        How long that took, summed over threads.

    Examples
    --------
    >>> SpillStats(hits=3, misses=1).hit_rate
    0.75
    """

    hits: int = 0
    misses: int = 0
    hit_nbytes: int = 0
    spills: int = 0
    spilled_nbytes: int = 0
    restored_nbytes: int = 0
    spill_seconds: float = 0.0
    restore_seconds: float = 0.0

    @property
    def hit_rate(self) -> float:
        """The share of the values asked for that were in memory; NaN if none was."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else float("nan")
