"""When results were used last, by whatever process: `Uses`."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable
from functools import cache
from multiprocessing.util import Finalize
from typing import Any, Final, TypeAlias

from persicache import PersicacheError, PersiDict

__all__ = ["ResultKey", "Uses"]

#: Label, code and arguments of a call.
ResultKey: TypeAlias = tuple[str, ...]

#: How long what was noted waits, in a process that goes on.
WAIT_SECONDS: Final = 120.0
#: And how long the end of a process waits for places that may not answer, all together.
MOST_SECONDS = 5.0
#: Of so many who write their notes, one puts all notes together.
WRITES_PER_TIDY: Final = 32


class Uses:
    """Notes of the use of results, written into the place now and then, and when the process ends.

    So a hit costs no write. Trouble with notes is nobody's: a result seems older then.

    Parameters
    ----------
    notes : PersiDict
        Where they are written to.
    clock : callable
        Returns POSIX seconds.
    draw : callable
        Draws from [0, 1).

    Examples
    --------
    >>> uses = Uses(PersiDict("memory://doc-uses"), clock=lambda: 7.0)
    >>> uses.note(("f", "code", "args"))
    >>> uses.load()
    {('f', 'code', 'args'): 7.0}
    >>> uses.clear()
    """

    def __init__(
        self,
        notes: PersiDict[dict[ResultKey, float]],
        *,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._notes = notes
        self._clock = clock
        self._draw = draw
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._noted: dict[ResultKey, float] = {}
        self._due = self._clock() + WAIT_SECONDS

    def note(self, key: ResultKey) -> None:
        """Note that a result is used now."""
        if self._pid != os.getpid():  # what a forked child's parent saw it writes itself
            self._begin()
        now = self._noted[key] = self._clock()
        _waiting.add(self)
        _flush_at_exit(self._pid)
        if now >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write down what waits."""
        _waiting.discard(self)
        if self._pid != os.getpid():
            return
        # Race: what another thread notes between these is lost, and no more than a time.
        noted, self._noted = self._noted, {}
        self._due = self._clock() + WAIT_SECONDS
        if noted:
            with contextlib.suppress(PersicacheError):
                self._notes[uuid.uuid4()] = dict(noted)
                if self._draw() * WRITES_PER_TIDY < 1:
                    self._replace()

    def load(self) -> dict[ResultKey, float]:
        """Return when each result was used last, as far as that was written down."""
        for uses in list(_waiting):
            if uses._notes.url == self._notes.url:  # noqa: SLF001 - its own kind
                uses.flush()
        return self._read()[0]

    def forget(self, keys: Collection[ResultKey]) -> None:
        """Forget these results."""
        with contextlib.suppress(PersicacheError):
            self._replace(without=keys)

    def clear(self) -> None:
        """Forget all."""
        self._noted = {}
        self._notes.clear()

    def _replace(self, without: Collection[ResultKey] = ()) -> None:
        """Make one note of all."""
        latest, found = self._read()
        # Crash: the new note comes before the old ones go, and twice the same does no harm.
        self._notes[uuid.uuid4()] = {key: used for key, used in latest.items() if key not in without}
        self._notes.discard_many(found)

    def _read(self) -> tuple[dict[ResultKey, float], list[Any]]:
        latest: dict[ResultKey, float] = {}
        found: list[Any] = []
        for name, noted in self._readable():
            found.append(name)
            for key, used in noted.items():
                latest[key] = max(used, latest.get(key, 0.0))
        return latest, found

    def _readable(self) -> Iterable[tuple[Any, dict[ResultKey, float]]]:
        with contextlib.suppress(PersicacheError):  # damaged notes are told of after all others
            yield from self._notes.items()


@cache
def _flush_at_exit(_pid: int) -> None:
    # The children of multiprocessing skip what other processes do at their end.
    Finalize(None, _flush_all, exitpriority=0)
    # Exit handlers come too late: s3fs has closed its connections by then, and new ones need a thread
    # pool, which ends with the threads.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(_flush_all)


def _flush_all() -> None:
    waiting = list(_waiting)
    _waiting.clear()
    # In threads, as places that nobody answers for must not keep a process from ending.
    threads = [threading.Thread(target=uses.flush, daemon=True) for uses in waiting]
    for thread in threads:
        thread.start()
    end = time.monotonic() + MOST_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


#: Those with something to write; several can note the use of one place: each Memory has its own.
_waiting: Final[set[Uses]] = set()
