"""The descriptors through which this process holds locks: what a forked child must close.

Race: a flock belongs to the open file, which a forked child shares: a child that outlives its
parent would keep the dead parent's lock. So the process knows which descriptors are locks, and a
child closes them; a fork waits while one is being opened, and not yet noted, or closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable

__all__ = ["let_go", "take"]

_held: set[int] = set()
_guard = threading.RLock()


def _forget_in_child() -> None:
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_forget_in_child)


def take(opened: Callable[[], int]) -> int:
    """Open a descriptor to lock by, with `opened`, and note it."""
    with _guard:
        fd = opened()
        _held.add(fd)
    return fd


def let_go(fd: int) -> None:
    """Unlock and close what `take` returned."""
    with _guard:
        if fd not in _held:  # this is a forked child, which has closed it already
            return
        _held.discard(fd)
        # Race: closing alone leaves the lock to a child being forked and not yet executing.
        try:  # a third of the time of contextlib.suppress
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            pass
        finally:
            os.close(fd)
