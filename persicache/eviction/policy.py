"""The contract of an eviction policy: who leaves first."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

__all__ = ["Policy"]


class Policy(Protocol):
    """Orders keys by how well they can be spared.

    A policy is pure: it does no I/O, reads no clock, starts no thread, and is not locked;
    its owner calls it under the lock that guards its own keys.
    """

    def add(self, key: Hashable, *, nbytes: int = 1, cost_seconds: float = 0.0) -> None:
        """Take a key in, or tell that its value is another one; counts as an access.

        Parameters
        ----------
        key : hashable
            The key.
        nbytes : int, default 1
            What its value weighs.
        cost_seconds : float, default 0
            What it would take to have it back.

        Raises
        ------
        ValueError
            If the policy minds costs, and this is none.
        """

    def touch(self, key: Hashable) -> None:
        """Note an access, in O(1); KeyError if the key was not added."""

    def remove(self, key: Hashable) -> None:
        """Forget a key; KeyError if it was not added."""

    def evict(self, key: Hashable) -> None:
        """Forget a key that is evicted: the others age by it; KeyError if it was not added."""

    def victim(self) -> Hashable:
        """Return the key to evict next, without removing it; KeyError if there is none."""

    def __len__(self) -> int: ...

    def __contains__(self, key: object) -> bool: ...
