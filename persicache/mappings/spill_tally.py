"""What a SpillDict has on disk only, counted as it changes: `Tally`."""

from __future__ import annotations

from collections.abc import Callable

from persicache.mappings.spill_item import Item
from persicache.mappings.spill_place import Copy
from persicache.mappings.spill_stats import OnDisk

__all__ = ["Tally"]


class Tally:
    """Counts the values that are on disk and not in memory. Its owner calls it under a lock.

    To go through all keys would take a dask worker of a million values half a second, a heartbeat.

    Parameters
    ----------
    nbytes_of : callable
        From a copy to what it takes on disk, or None if that isn't known.
    """

    def __init__(self, nbytes_of: Callable[[Copy], int | None]) -> None:
        self._nbytes_of = nbytes_of
        self.clear()

    @property
    def total(self) -> OnDisk:
        """What there is."""
        return OnDisk(self._n, self._nbytes, self._disk_nbytes)

    def add(self, item: Item) -> None:
        """Count an item, if it is on disk only."""
        self._count(item, 1)

    def remove(self, item: Item) -> None:
        """Count an item no longer, as it is about to change, or to go."""
        self._count(item, -1)

    def clear(self) -> None:
        """Forget everything."""
        self._n = self._nbytes = self._disk_nbytes = 0

    def _count(self, item: Item, times: int) -> None:
        if item.is_in_memory or item.copy is None:
            return
        taken = self._nbytes_of(item.copy)
        self._n += times
        self._nbytes += times * item.weight
        self._disk_nbytes += times * (item.weight if taken is None else taken)
