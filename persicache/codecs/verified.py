"""What this process has verified, so that it need not again."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Final

__all__ = ["Verified"]


class Verified:
    """A bounded set: beyond `max_size` members the oldest are forgotten.

    Examples
    --------
    >>> seen = Verified(max_size=2)
    >>> for member in "abc":
    ...     seen.add(member)
    >>> "a" in seen, "c" in seen
    (False, True)
    """

    MAX_SIZE: Final = 65536

    def __init__(self, *, max_size: int = MAX_SIZE) -> None:
        self._max_size = max_size
        self._members: dict[Hashable, None] = {}
        self._lock = threading.Lock()

    def __contains__(self, member: Hashable) -> bool:
        return member in self._members

    def __getstate__(self) -> int:
        # Another process has verified nothing yet.
        return self._max_size

    def __setstate__(self, max_size: int) -> None:
        self.__init__(max_size=max_size)  # type: ignore[misc]

    def add(self, member: Hashable) -> None:
        """Remember `member`."""
        with self._lock:
            self._members[member] = None
            while len(self._members) > self._max_size:
                del self._members[next(iter(self._members))]
