"""A lock that a forked child can take: `ForkLock`."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType

__all__ = ["ForkLock"]


class ForkLock:
    """A re-entrant lock that is free in a forked child, whoever held it in the parent.

    Parameters
    ----------
    repair : callable, optional
        A method, held weakly. Called under the lock before anything else in a forked child, as
        other threads aren't there to finish what they began; and after somebody who held it was
        interrupted, as by Ctrl-C.
    """

    def __init__(self, repair: Callable[[], None] | None = None) -> None:
        self._repair = None if repair is None else weakref.WeakMethod(repair)
        self._is_torn = False
        self._make()
        _live.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._is_torn:
            self._is_torn = False
            repair = None if self._repair is None else self._repair()
            if repair is not None:
                repair()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._is_torn = True
        self._lock.release()

    def wait(self) -> None:
        """Let others have the lock, until one of them says `notify_all`."""
        self._changed.wait()

    def notify_all(self) -> None:
        """Wake those who wait; the lock must be held."""
        self._changed.notify_all()

    def after_fork(self) -> None:
        """Be free, in the child; its one thread keeps what it held itself."""
        # What other threads did outside the lock isn't finished either.
        self._is_torn = True
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._make()

    def _make(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)


_live: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_live):
        lock.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
