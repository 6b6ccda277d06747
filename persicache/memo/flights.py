"""One computation for all in this process who want the same: `Flight`."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Generator, Hashable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from persicache.memo.dask_slots import executor_here

if TYPE_CHECKING:
    import asyncio

__all__ = ["Flight", "Task", "is_under_way", "join", "land", "waiting"]


class Task(NamedTuple):
    """What goes on in an event loop.

    Attributes
    ----------
    loop : asyncio.AbstractEventLoop
        The loop.
    steps : weakref of a generator
        What the task takes the steps of.
    """

    loop: asyncio.AbstractEventLoop
    steps: weakref.ref[Generator[Any, Any, Any]]

    def close_if_stranded(self) -> None:
        """Close the steps of a task that will never be resumed, as its loop is closed."""
        steps = self.steps()
        if steps is not None and self.loop.is_closed():
            with contextlib.suppress(ValueError):  # a thread is at a step still
                steps.close()


class Flight:
    """A computation under way.

    Attributes
    ----------
    landed : concurrent.futures.Future
        Done when the computation is: True if its result is in the store, False if it won't be,
        None if it was given up.
    task : Task or None
        What computes, if it isn't a thread that does.
    follows : bool
        Whether another one, for the same, has just landed: its result may be there now.
    """

    def __init__(self, task: Task | None = None) -> None:
        self.task = task
        self.landed: Future[bool | None] = Future()
        self.follows = False
        #: The thread that computes, once one does.
        self.threads: list[threading.Thread] = []
        #: What it waits for in turn, each in a thread or task of its own.
        self.waits_for: list[Flight] = []

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Tell of what is called meanwhile that it is part of this computation."""
        token = _computing.set((*_computing.get(), self))
        self.threads[:] = [threading.current_thread()]
        try:
            yield
        finally:
            # A task that its loop never ended is ended by the garbage collector, in a context of others.
            with contextlib.suppress(ValueError):
                _computing.reset(token)
            self.threads.clear()

    @property
    def look_seconds(self) -> float | None:
        """How often those who wait look whether it still goes on; None if it does until it lands."""
        return None if self.task is None else _LOOK_SECONDS


_LOOK_SECONDS: Final = 0.5
#: What is under way in this process.
_flights: Final[dict[Hashable, Flight]] = {}
#: What the present thread or task is computing, the outermost first. New tasks inherit it.
_computing: Final[ContextVar[tuple[Flight, ...]]] = ContextVar("persicache_computing", default=())
#: What has landed last.
_landed: Final[dict[Hashable, None]] = {}
_MOST_LANDED: Final = 1024
#: Guards who waits for whom, and what has landed: held for a few steps.
_guard = threading.Lock()


def join(key: Hashable, task: Task | None = None) -> tuple[Flight, bool]:
    """Return the flight for `key`, and whether it is a new one: the caller's, who has to `land` it."""
    new = Flight(task)
    flight = _flights.setdefault(key, new)  # one step, so that of several threads one has it
    if flight is new:
        new.follows = key in _landed
    return flight, flight is new


def land(key: Hashable, flight: Flight, *, is_stored: bool | None) -> None:
    """End a flight: another can start from now on, and those who wait go on."""
    if is_stored:
        # Race: who looked for the result before it was stored may begin once this is over.
        with _guard:
            _landed.pop(key, None)
            _landed[key] = None
            if len(_landed) > _MOST_LANDED:
                del _landed[next(iter(_landed))]
    if _flights.get(key) is flight:  # a forked child has none of its parent's
        del _flights[key]
    flight.landed.set_result(is_stored)


def is_under_way(key: Hashable) -> bool:
    """Return whether somebody in this process is computing just this."""
    return key in _flights


@contextlib.contextmanager
def waiting(flight: Flight) -> Iterator[bool]:
    """Note that the present computation waits for a flight; give whether it may.

    It may not if that waits for this one in turn: both would wait for ever.
    """
    mine = _computing.get()
    if mine and executor_here() is not None:
        # A task of dask inherits what its worker's loop was called from, maybe another's computation.
        mine = tuple(each for each in mine if threading.current_thread() in each.threads)
    if not mine:
        yield True
        return
    with _guard:
        may_wait = not _reaches(flight, frozenset(mine))
        if may_wait:
            mine[-1].waits_for.append(flight)
    try:
        yield may_wait
    finally:
        if may_wait:
            with _guard:
                mine[-1].waits_for.remove(flight)


def _reaches(flight: Flight, goals: frozenset[Flight]) -> bool:
    return flight in goals or any(_reaches(each, goals) for each in flight.waits_for)


def _forget() -> None:
    # Race: what threads of the parent were at, nobody ends in a forked child.
    global _guard  # noqa: PLW0603 - another thread may have held it at the fork
    _guard = threading.Lock()
    _flights.clear()


os.register_at_fork(after_in_child=_forget)
