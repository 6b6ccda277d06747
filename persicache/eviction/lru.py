"""Least recently used leaves first."""

# ruff: noqa: D102 - the protocol has the docstrings

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from heapdict import heapdict

__all__ = ["LRU"]


class LRU:
    """The policy that evicts the key whose last access is longest ago.

    An access writes down one number. The heap learns of it when a victim is sought: the
    least key of the heap is the victim if its number is still the one it had there, else it
    sinks to its present place. Numbers only grow, so nothing that rises is missed.

    Examples
    --------
    >>> policy = LRU()
    >>> for key in "abc":
    ...     policy.add(key)
    >>> policy.touch("a")
    >>> policy.victim()
    'b'
    """

    def __init__(self) -> None:
        self._now = 0
        self._accessed: dict[Hashable, int] = {}
        self._heap: Any = heapdict()

    def add(self, key: Hashable, *, nbytes: int = 1, cost_seconds: float = 0.0) -> None:  # noqa: ARG002 - the protocol's
        self._now += 1
        self._accessed[key] = self._heap[key] = self._now

    def touch(self, key: Hashable) -> None:
        if key not in self._accessed:
            raise KeyError(key)
        self._now += 1
        self._accessed[key] = self._now

    def remove(self, key: Hashable) -> None:
        del self._accessed[key]
        del self._heap[key]

    def victim(self) -> Hashable:
        if not self._accessed:
            raise KeyError("there is nothing to evict")
        while True:
            key: Hashable
            key, settled = self._heap.peekitem()
            accessed = self._accessed[key]
            if accessed == settled:
                return key
            self._heap[key] = accessed

    def __len__(self) -> int:
        return len(self._accessed)

    def __contains__(self, key: object) -> bool:
        return key in self._accessed
