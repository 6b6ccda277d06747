"""The files through which this process holds locks: what a forked child must close.

Race: a flock belongs to the open file, which a forked child shares: a child that outlives its
parent would keep the dead parent's lock. So the process knows which files are locks, and a child
closes them; a fork waits while one is being opened, and not yet noted, or closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from collections.abc import Callable
from io import FileIO

__all__ = ["let_go", "take"]

#: By descriptor. Not a WeakSet: its Python code, when one is collected, would swallow a Ctrl-C.
_held: dict[int, weakref.ref[FileIO]] = {}
_guard = threading.RLock()


def _forget_in_child() -> None:
    for known in _held.values():
        held = known()
        if held is not None:
            with contextlib.suppress(OSError):
                held.close()
    _held.clear()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_forget_in_child)


def take(opened: Callable[[], int]) -> FileIO:
    """Open a descriptor to lock by, with `opened`, and note it.

    It is an object, so that whoever is interrupted on the way in or out, as by Ctrl-C, closes it,
    and so unlocks it, when it is collected.
    """
    with _guard:
        held = FileIO(opened())
        _held[held.fileno()] = weakref.ref(held)
    return held


def let_go(held: FileIO) -> None:
    """Unlock and close what `take` returned."""
    with _guard:
        if held.closed:  # this is a forked child, which has closed it already
            return
        # Race: closing alone leaves the lock to a child being forked and not yet executing.
        try:  # a third of the time of contextlib.suppress
            fcntl.flock(held, fcntl.LOCK_UN)
        except OSError:
            pass
        finally:
            _held.pop(held.fileno(), None)
            held.close()
