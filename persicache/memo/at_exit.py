"""What the end of a process does while it still can: `AtExit`."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - its handler ends all pools of threads: ours has to come first
import contextlib
import functools
import os
import threading
from collections.abc import Callable
from multiprocessing import util
from typing import Any, Final

__all__ = ["AtExit"]


class AtExit:
    """A piece of work for the end of this process; kept alive until it is done or cancelled.

    Not by `atexit`: the children of multiprocessing skip its handlers, and elsewhere they come
    too late for a place on the network. Its client has closed its connections by then, and can't
    make others, for want of threads.

    Parameters
    ----------
    work : callable
        What to do, in this process only, not in its forked children.
    priority : int
        What has a higher one is done earlier.
    """

    def __init__(self, work: Callable[[], object], *, priority: int) -> None:
        self.priority = priority
        self._done = util.Finalize(None, work, exitpriority=priority)
        _pending.add(self)
        _register()

    def do(self) -> Any:
        """Do it now, unless it was done or cancelled."""
        _pending.discard(self)
        return self._done()

    def cancel(self) -> None:
        """Never do it."""
        _pending.discard(self)
        self._done.cancel()


_pending: Final[set[AtExit]] = set()


@functools.cache
def _register() -> None:
    register = getattr(threading, "_register_atexit", None)
    if register is not None:  # else by what multiprocessing does
        register(_do_all)


def _do_all() -> None:
    for priority in sorted({each.priority for each in _pending}, reverse=True):
        # All at once: each waits for itself for a place that nobody answers for.
        threads = [
            threading.Thread(target=_do, args=(each,), daemon=True)
            for each in list(_pending)
            if each.priority == priority
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _do(work: AtExit) -> None:
    with contextlib.suppress(Exception):
        work.do()


os.register_at_fork(after_in_child=_pending.clear)
