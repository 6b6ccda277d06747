"""A place in memory that is somebody's own: `MemoryRoom`."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final
from uuid import uuid4

from persicache.storage.open import open_storage

__all__ = ["MemoryRoom"]

#: Rooms that nobody can reach any more. Emptied when another is made, and not when one is collected:
#: that can be in the middle of anything.
_left: Final[deque[str]] = deque()


class MemoryRoom:
    """A place below ``memory://`` that nobody else has, given back when it is collected.

    Examples
    --------
    >>> MemoryRoom().url == MemoryRoom().url
    False
    """

    def __init__(self) -> None:
        while _left:
            storage = open_storage(_left.popleft())
            storage.remove_many([info.name for info in storage.scan()])
        self.url = f"memory://own-{uuid4().hex}"
        weakref.finalize(self, _left.append, self.url).atexit = False
