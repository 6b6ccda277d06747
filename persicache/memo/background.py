"""Work that no call waits for: `Background`."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Final

from persicache.memo.at_exit import AtExit

__all__ = ["Background", "Stop"]

#: So long the end of a process waits for work that was begun, and then for its next pause.
EXIT_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 1.0

#: Set when the work has to end at its next pause.
Stop = threading.Event


class Background:
    """Does a piece of work in a thread that ends with it, never twice at once.

    A process that ends waits for it some seconds. A forked child has none under way.

    Parameters
    ----------
    work : callable
        Is given a `Stop`. What it raises is dropped.
    exit_seconds : float
        How long the end of a process waits.
    """

    def __init__(self, work: Callable[[Stop], object], *, exit_seconds: float = EXIT_SECONDS) -> None:
        self._work = work
        self._exit_seconds = exit_seconds
        self._thread: threading.Thread | None = None
        self._at_exit: AtExit | None = None
        self.forget()
        _all.add(self)

    def start(self) -> bool:
        """Begin, unless it is under way: then it is done once more. Return False if it can't begin."""
        with self._guard:
            self._is_wanted = True
            if self._thread is not None:
                return True
            thread = threading.Thread(target=self._run, name="persicache-upkeep", daemon=True)
            self._thread = thread
            self._at_exit = AtExit(self.finish, priority=10)
            try:
                thread.start()
            except RuntimeError:  # no thread begins once the interpreter ends, or beyond a limit
                self._end()
                return False
        return True

    def join(self) -> None:
        """Wait until nothing is under way."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def finish(self) -> None:
        """Wait for what is under way, but not for ever: the process ends."""
        thread = self._thread
        if thread is not None:
            thread.join(self._exit_seconds)
            self._stop.set()
            thread.join(PAUSE_SECONDS)
            self._end()

    def _run(self) -> None:
        while True:
            with self._guard:
                if not self._is_wanted or self._stop.is_set():
                    self._end()
                    return
                self._is_wanted = False
            with contextlib.suppress(Exception):
                self._work(self._stop)

    def _end(self) -> None:
        with self._guard:
            self._thread = None
            if self._at_exit is not None:
                self._at_exit.cancel()
            self._at_exit = None

    def forget(self) -> None:
        """Have nothing under way: in a forked child there isn't."""
        self._guard = threading.RLock()
        self._thread = None
        self._at_exit = None
        self._is_wanted = False
        self._stop = Stop()


_all: weakref.WeakSet[Background] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each.forget()


os.register_at_fork(after_in_child=_after_fork)
