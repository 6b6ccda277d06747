"""One call whose result is not at hand, from looking who else computes it to storing what came."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from persicache.errors import BackendError
from persicache.keys import KeyName
from persicache.memo import flights
from persicache.memo.flights import Flight, Task
from persicache.storage import Expectation, Lease, Version

if TYPE_CHECKING:
    import asyncio

    from persicache.memo.base import Memoized

__all__ = ["Computation", "Compute", "Outcome", "Step", "Steps"]


class Compute(NamedTuple):
    """A step of a call: compute, as a part of this flight, if there is one."""

    flight: Flight | None


class Outcome(NamedTuple):
    """What came of a computation, or of a whole call.

    Attributes
    ----------
    value : object
        What was returned.
    error : BaseException or None
        What was raised instead.
    seconds : float
        How long it took.
    """

    value: Any
    error: BaseException | None
    seconds: float


#: What to do next: sleep for so many seconds, wait for another's computation, though not for
#: longer than its `look_seconds` at once, compute.
Step: TypeAlias = float | Flight | Compute
#: The steps of a call; what came of it is returned. After `Compute` an Outcome is sent.
Steps: TypeAlias = Generator[Step, Any, Outcome]


class Computation:
    """A call whose result is not at hand.

    Waiting and computing are left to whoever takes the steps, so that threads and tasks can
    both go through them.

    Parameters
    ----------
    memoized : Memoized
        The function.
    where : KeyName
        Where the result is, or will be.
    key : object
        Under which memory holds it; None if it shall not.
    about : mapping
        What the entry says of the call.
    expect : ABSENT, ANY or str
        What is in the store instead of a good result.
    anew : bool
        Whether a good result is no reason not to compute.
    loop : asyncio.AbstractEventLoop, optional
        What the steps are taken in, if it isn't a thread.
    """

    def __init__(
        self,
        memoized: Memoized[..., Any],
        where: KeyName,
        key: object,
        about: Mapping[str, Any],
        expect: Expectation | Version,
        *,
        anew: bool,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._memoized = memoized
        self._where = where
        self._key = key
        self._about = about
        self._expect = expect
        self._anew = anew
        self._loop = loop
        self._task: Task | None = None

    def alone(self) -> Steps:
        """Compute, whoever else does."""
        if self._anew:
            self._expect = self._memoized.version_of(self._where)
        outcome: Outcome = yield Compute(None)
        self._keep(outcome)
        return outcome

    def together(self) -> Steps:
        """Compute, unless another thread, process or host does; then wait for its result."""
        steps = self._together()
        if self._loop is not None:
            self._task = Task(self._loop, weakref.ref(steps))
        return steps

    def _together(self) -> Steps:
        name = (self._memoized.url, self._where.name)
        while True:
            flight, is_mine = flights.join(name, self._task)
            if is_mine:
                break
            with flights.waiting(flight) as may_wait:
                while may_wait and not flight.landed.done():
                    if flight.task is not None:
                        flight.task.close_if_stranded()
                    yield flight
            if not may_wait:  # that is part of what this is part of
                return (yield from self.alone())
            found = self._found()
            if found is not None:
                return found
            if flight.landed.result() is not None:
                # It raised, can't be stored, or is gone again: no reason for one to wait for the other.
                return (yield from self.alone())
        is_stored: bool | None = None
        try:
            outcome, is_stored = yield from self._in_turn(flight)
        finally:
            flights.land(name, flight, is_stored=is_stored)
        return outcome

    def _in_turn(self, flight: Flight) -> Generator[Step, Any, tuple[Outcome, bool | None]]:
        """Compute when no other process does."""
        lease, trouble = None, None
        try:
            tries = self._memoized.leases.tries(self._where.name)
            found, lease = yield from self._lease(tries)
            if found is not None:
                return found, True
        except BackendError as error:
            trouble = error
        try:
            if self._anew:
                self._expect = self._memoized.version_of(self._where)
            elif (lease is not None or flight.follows) and (found := self._found()) is not None:
                # Race: who had it before stored a result since it was looked for.
                return found, True
            outcome = yield Compute(flight)
            # Else it was cancelled, or interrupted: another may begin again.
            is_stored = self._keep(outcome) if isinstance(outcome.error, Exception | None) else None
            if trouble is not None and is_stored:  # else more was said than that
                self._memoized.could_not_lease(trouble)
            return outcome, is_stored
        finally:
            if lease is not None:
                lease.release()

    def _lease(
        self, tries: Generator[float, None, Lease]
    ) -> Generator[Step, Any, tuple[Outcome | None, Lease | None]]:
        """Return the lease, or the result that whoever has it stores meanwhile."""
        while True:
            try:
                pause = next(tries)
            except StopIteration as end:
                return None, end.value
            try:
                yield pause
            except GeneratorExit:
                tries.close()
                raise
            found = self._found()
            if found is not None:
                tries.close()
                return found, None

    def _found(self) -> Outcome | None:
        return None if self._anew else self._memoized.found(self._where, self._key)

    def _keep(self, outcome: Outcome) -> bool:
        return self._memoized.keep(self._where, self._key, outcome, self._about, self._expect)
