"""What this process notes of the use of a function's entries, until the store has it: `UsageLog`."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Callable, Hashable
from typing import Final

from persicache.codecs import dump_object
from persicache.errors import BackendError
from persicache.mappings.fork_lock import ForkLock, Mender
from persicache.memo.at_exit import AtExit
from persicache.memo.background import Background, Stop
from persicache.memo.stats import Counters
from persicache.memo.usage import Usage, Use
from persicache.memo.usage_blobs import UsageBlobs
from persicache.storage import Storage

__all__ = ["UsageLog", "usage_log"]

#: How long what was noted waits to be written, in a process that goes on.
WAIT_SECONDS: Final = 120.0
#: More entries don't wait.
MOST_WAITING: Final = 1 << 16
#: So much of a digest tells entries apart.
DIGEST_NBYTES: Final = 16


class UsageLog:
    """The uses of a function's entries that this process saw, which are written down now and then.

    Trouble with that is nobody's: uses are forgotten then. A forked child has seen none.

    Parameters
    ----------
    storage : Storage
        The place.
    prefix : str
        What the names of the function's entries begin with.
    clock : callable
        Returns POSIX seconds.

    Attributes
    ----------
    blobs : UsageBlobs
        What was written down, by this process and others.
    """

    def __init__(self, storage: Storage, prefix: str, *, clock: Callable[[], float] = time.time) -> None:
        self.blobs = UsageBlobs(storage, prefix)
        self._prefix = prefix
        self._clock = clock
        self._lock = ForkLock()
        self._mender = Mender(self._repair)
        self._writing = ForkLock()
        self._background = Background(self._write)
        self._at_exit: AtExit | None = None
        self._sources: set[Counters] = set()
        self._noted = Usage()
        self._begin()

    def digest(self, text: str) -> bytes:
        """Return what stands for the entry of a call."""
        return bytes.fromhex(text[len(self._prefix) :].replace("/", ""))[:DIGEST_NBYTES]

    def note(self, uses: dict[str, Use], source: Counters | None = None) -> None:
        """Add uses, by the texts of the entries.

        Parameters
        ----------
        uses : dict of str to Use
            The uses.
        source : Counters, optional
            Who may have seen more when these are written; it lives until then.
        """
        with self._lock, self._mender:
            for text, use in uses.items():
                self._noted.note(self.digest(text), use)
            if source is not None:
                self._sources.add(source)
            if self._at_exit is None:
                self._at_exit = AtExit(self._finish, priority=0)
            is_due = self._clock() >= self._due or len(self._noted.uses) > MOST_WAITING
        if is_due:
            self._background.start()  # a call doesn't wait for that

    def flush(self) -> None:
        """Write down what waits."""
        self._background.join()
        self._write(Stop())

    def load(self) -> Usage:
        """Return all that is known, from the store and in this process.

        Raises
        ------
        BackendError
            If the store can't be read.
        """
        with self._writing:  # or what is written meanwhile would be nowhere, or twice
            self._settle()
            usage, _ = self.blobs.load()
            with self._lock, self._mender:
                usage.update(self._noted)
        return usage

    def clear(self) -> None:
        """Forget all uses."""
        with self._writing:
            self._settle()
            self._take()
            with contextlib.suppress(BackendError):
                self.blobs.clear()

    def _settle(self) -> None:
        with self._lock, self._mender:
            sources, self._sources = self._sources, set()
        for source in sources:
            source.settle(is_asked=True)

    def _take(self) -> Usage:
        with self._lock, self._mender:
            taken, self._noted = self._noted, Usage()
            self._due = self._clock() + WAIT_SECONDS
            # Race: who has noted something since he was asked is asked again.
            if not self._sources and self._at_exit is not None:
                self._at_exit.cancel()
                self._at_exit = None
        return taken

    def _write(self, _stop: Stop) -> None:
        with self._writing:
            self._settle()
            taken = self._take()
            if taken.uses:
                with contextlib.suppress(BackendError):
                    self.blobs.add(taken)
                    self.blobs.tidy()

    def _finish(self) -> None:
        # In a thread, as a place that nobody answers for must not keep a process from ending.
        if self._background.start():
            self._background.finish()
        else:
            self._write(Stop())

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._noted = Usage()
        self._sources = set()
        self._due = self._clock() + WAIT_SECONDS
        self._at_exit = None

    def _repair(self) -> None:
        if self._pid != os.getpid():  # what the parent saw it writes itself
            self._begin()


_logs: Final[weakref.WeakValueDictionary[Hashable, UsageLog]] = weakref.WeakValueDictionary()


def usage_log(storage: Storage, prefix: str) -> UsageLog:
    """Return this process's log of a function: one, however often the function is decorated."""
    try:
        key = (dump_object(storage), prefix)
    except Exception:  # noqa: BLE001 - a storage of somebody's own
        return UsageLog(storage, prefix)
    log = _logs.get(key)
    if log is None:
        log = _logs.setdefault(key, UsageLog(storage, prefix))
    return log
