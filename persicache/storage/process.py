"""What each process makes for itself: filesystems don't survive a fork."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import fsspec.asyn

__all__ = ["PerProcess"]

T = TypeVar("T")

# Race: a fork while another thread holds fsspec's loop lock would leave it locked in the child
# for ever, and the child would inherit a loop without the thread that runs it.
os.register_at_fork(after_in_child=fsspec.asyn.reset_lock)

_all: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()
_inherited: list[object] = []


def _disown() -> None:
    _inherited.extend(each.pop() for each in list(_all))


# As a fork goes by, rather than by a look at the process's number in every call.
os.register_at_fork(after_in_child=_disown)


class PerProcess(Generic[T]):
    """The result of `make`, made when a process first asks for it.

    Parameters
    ----------
    make : callable
        Makes it. Threads that ask at once may each make one; all get the same.

    Attributes
    ----------
    own : object or None
        This process's own, None if it has none yet: for those who can't afford a call.

    Notes
    -----
    What a forked child inherits from its parent is kept, not dropped: its finalizers would talk
    to the parent's servers through the parent's sockets.
    """

    own: T | None = None

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        _all.add(self)

    def get(self) -> T:
        """Return this process's own."""
        own = self.own
        if own is None:
            # Race: of several threads the first one wins, since this is one step.
            own = vars(self).setdefault("own", self._make())
        return own

    def pop(self) -> T | None:
        """Forget this process's own, and return it if there was one."""
        own: T | None = vars(self).pop("own", None)
        return own
