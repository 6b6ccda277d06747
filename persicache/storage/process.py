"""What each process makes for itself: filesystems don't survive a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

import fsspec.asyn

__all__ = ["PerProcess"]

T = TypeVar("T")

# Race: a fork while another thread holds fsspec's loop lock would leave it locked in the child
# for ever, and the child would inherit a loop without the thread that runs it.
os.register_at_fork(after_in_child=fsspec.asyn.reset_lock)


class PerProcess(Generic[T]):
    """The result of `make`, made when a process first asks for it.

    Parameters
    ----------
    make : callable
        Makes it. Threads that ask at once may each make one; all get the same.

    Notes
    -----
    What a forked child inherits from its parent is kept, not dropped: its finalizers would talk
    to the parent's servers through the parent's sockets.
    """

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return this process's own."""
        pid = os.getpid()
        try:
            return self._made[pid]
        except KeyError:
            return self._made.setdefault(pid, self._make())

    def pop(self) -> T | None:
        """Forget this process's own, and return it if there was one."""
        return self._made.pop(os.getpid(), None)
