"""Least recently used leaves first."""

# ruff: noqa: D102 - the protocol has the docstrings

from __future__ import annotations

from collections.abc import Hashable

from persicache.eviction.lazy_heap import LazyHeap

__all__ = ["LRU"]


class LRU:
    """The policy that evicts the key whose last access is longest ago.

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
        self._accessed: LazyHeap[int] = LazyHeap()

    def add(self, key: Hashable, *, nbytes: int = 1, cost_seconds: float = 0.0) -> None:  # noqa: ARG002 - the protocol's
        self._now += 1
        self._accessed.put(key, self._now)

    def touch(self, key: Hashable) -> None:
        self._now += 1
        self._accessed.rise(key, self._now)

    def remove(self, key: Hashable) -> None:
        self._accessed.remove(key)

    def evict(self, key: Hashable) -> None:
        self._accessed.remove(key)

    def victim(self) -> Hashable:
        return self._accessed.least()

    def __len__(self) -> int:
        return len(self._accessed)

    def __contains__(self, key: object) -> bool:
        return key in self._accessed
