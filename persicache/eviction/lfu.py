"""Least frequently used leaves first."""

# ruff: noqa: D102 - the protocol has the docstrings

from __future__ import annotations

from collections.abc import Hashable

from persicache.eviction.lazy_heap import LazyHeap

__all__ = ["LFU"]


class LFU:
    """The policy that evicts the key with the fewest accesses; of these, the least recently used.

    Accesses are counted from when a key was added last.

    Examples
    --------
    >>> policy = LFU()
    >>> for key in "aabccc":
    ...     policy.touch(key) if key in policy else policy.add(key)
    >>> policy.victim()
    'b'
    """

    def __init__(self) -> None:
        self._now = 0
        self._uses: LazyHeap[tuple[int, int]] = LazyHeap()

    def add(self, key: Hashable, *, nbytes: int = 1, cost_seconds: float = 0.0) -> None:  # noqa: ARG002 - the protocol's
        if key in self._uses:
            self.touch(key)
            return
        self._now += 1
        self._uses.put(key, (1, self._now))

    def touch(self, key: Hashable) -> None:
        count, _ = self._uses[key]
        self._now += 1
        self._uses.rise(key, (count + 1, self._now))

    def remove(self, key: Hashable) -> None:
        self._uses.remove(key)

    def evict(self, key: Hashable) -> None:
        self._uses.remove(key)

    def victim(self) -> Hashable:
        return self._uses.least()

    def __len__(self) -> int:
        return len(self._uses)

    def __contains__(self, key: object) -> bool:
        return key in self._uses
