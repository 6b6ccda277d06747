"""A heap that learns late of what rises: `LazyHeap`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from heapdict import heapdict

__all__ = ["LazyHeap"]

P = TypeVar("P")


class LazyHeap(Generic[P]):
    """Keys by priority; the least is found, and a priority rises by writing it down.

    The heap learns of it when the least key is sought: that of the heap is it if its priority is
    still the one it had there, else it sinks to its present place. Since nothing falls in
    between, nothing less is missed.

    Examples
    --------
    >>> heap = LazyHeap()
    >>> for priority, key in enumerate("abc"):
    ...     heap.put(key, priority)
    >>> heap.rise("a", 3)
    >>> heap.least()
    'b'
    """

    def __init__(self) -> None:
        self._priorities: dict[Hashable, P] = {}
        self._heap: Any = heapdict()

    def put(self, key: Hashable, priority: P) -> None:
        """Add a key, or give it any other priority."""
        self._priorities[key] = self._heap[key] = priority

    def rise(self, key: Hashable, priority: P) -> None:
        """Give a key a priority that is no less than it had; KeyError if it isn't there."""
        if key not in self._priorities:
            raise KeyError(key)
        self._priorities[key] = priority

    def remove(self, key: Hashable) -> P:
        """Remove a key and return its priority; KeyError if it isn't there."""
        priority = self._priorities.pop(key)
        del self._heap[key]
        return priority

    def least(self) -> Hashable:
        """Return the key of the least priority; KeyError if there is none."""
        if not self._priorities:
            raise KeyError("there is nothing to evict")
        while True:
            key: Hashable
            key, settled = self._heap.peekitem()
            priority = self._priorities[key]
            if priority == settled:
                return key
            self._heap[key] = priority

    def change_all(self, change: Callable[[P], P]) -> None:
        """Change every priority by a function that keeps their order."""
        self._heap.clear()
        for key, priority in self._priorities.items():
            self.put(key, change(priority))

    def __getitem__(self, key: Hashable) -> P:
        return self._priorities[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._priorities)

    def __len__(self) -> int:
        return len(self._priorities)

    def __contains__(self, key: object) -> bool:
        return key in self._priorities
