"""A lock that a forked child can take, and no Ctrl-C leaves behind: `ForkLock`, and `Mender`."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["ForkLock", "Mender"]

_RLock: Any = type(threading.RLock())


class ForkLock(_RLock):  # type: ignore[misc]  # C has no types
    """A re-entrant lock that is free in a forked child, whoever held it in the parent.

    It is entered and left by C code. A Ctrl-C that came in a method of Python could come before
    the lock was given back, and all other threads would wait for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        _live.add(self)

    def after_fork(self) -> None:
        """Be free, in the child; its one thread keeps what it held itself."""
        if self.acquire(blocking=False):
            self.release()
        else:
            self._at_fork_reinit()


class Mender:
    """Repairs what a lock guards, if it may be half done: ``with lock, mender:``.

    Parameters
    ----------
    repair : callable
        A method, held weakly. Called under the lock before anything else in a forked child, as
        other threads aren't there to finish what they began; and after somebody who held it was
        interrupted, as by Ctrl-C.
    """

    def __init__(self, repair: Callable[[], None]) -> None:
        self._repair = weakref.WeakMethod(repair)
        self._is_torn = False
        _live.add(self)

    def __enter__(self) -> None:
        if self._is_torn:
            repair = self._repair()
            if repair is not None:
                repair()
            self._is_torn = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._is_torn = True

    def after_fork(self) -> None:
        """Look again, in the child: what other threads did outside the lock isn't finished either."""
        self._is_torn = True


_live: weakref.WeakSet[ForkLock | Mender] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_live):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
