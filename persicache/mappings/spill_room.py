"""The memory that a SpillDict may use, and who leaves it next: `Room`."""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import Final

from persicache.eviction import Policy, new_policy
from persicache.mappings.spill_item import Item

__all__ = ["Room"]

#: What it takes to have a value back that never was: a look, and its bytes at 1 GiB/s.
LOOK_SECONDS: Final = 1e-4
READ_SECONDS: Final = 1.0 / (1 << 30)


class Room:
    """Counts what is in memory against a budget. Its owner calls it under a lock.

    Parameters
    ----------
    nbytes : int
        The budget.
    policy : str
        The name of the policy.

    Attributes
    ----------
    nbytes : int
        The budget.
    used : int
        The bytes of the values that are in memory, those on their way out included.

    Raises
    ------
    ValueError
        If there is no such policy.
    """

    def __init__(self, nbytes: int, policy: str) -> None:
        self.nbytes = nbytes
        self.used = 0
        self._name = policy
        self._policy: Policy = new_policy(policy)

    def fits(self, weight: int, *, instead_of: Item | None = None) -> bool:
        """Return whether there is room for so much, once a value that it replaces is gone."""
        free = instead_of.weight if instead_of is not None and instead_of.is_in_memory else 0
        return self.used - free + weight <= self.nbytes

    def enter(self, item: Item, *, instead_of: Item | None = None) -> None:
        """Count an item, in place of one that has its key."""
        key = item.key
        if instead_of is not None and instead_of.is_in_memory:
            self.used -= instead_of.weight
        if item.is_in_memory:
            self.used += item.weight
        if item.is_in_memory and not item.is_pinned:
            self._add(item)
        elif key in self._policy:
            self._policy.remove(key)

    def leave(self, item: Item) -> None:
        """Count an item no longer."""
        if item.is_in_memory:
            self.used -= item.weight
        if item.key in self._policy and not item.is_leaving:
            self._policy.remove(item.key)

    def touch(self, item: Item) -> None:
        """Note that a value was used."""
        if item.key in self._policy and not item.is_leaving:
            self._policy.touch(item.key)

    def victim(self, spared: Container[Hashable]) -> Hashable | None:
        """Take out who should leave next, but for some; None if there is nobody.

        It counts until it has left: see `leave`; who stays after all comes back by `stay`.
        """
        for _ in range(len(self._policy)):
            key = self._policy.victim()
            if key not in spared:
                self._policy.evict(key)
                return key
            self._policy.touch(key)
        return None

    def send_out(self, item: Item) -> None:
        """Take somebody out who was asked to leave."""
        item.is_leaving = True
        if item.key in self._policy:
            self._policy.remove(item.key)

    def stay(self, item: Item) -> None:
        """Let somebody in again who couldn't leave."""
        if not item.is_pinned:
            self._add(item)

    def pin(self, item: Item) -> None:
        """Let somebody stay for good."""
        if item.key in self._policy:
            self._policy.remove(item.key)

    def _add(self, item: Item) -> None:
        cost_seconds = item.cost_seconds or LOOK_SECONDS + item.weight * READ_SECONDS
        self._policy.add(item.key, nbytes=item.weight, cost_seconds=cost_seconds)

    def clear(self) -> None:
        """Forget everything."""
        self.used = 0
        self._policy = new_policy(self._name)
