"""An `async def` that remembers: `MemoizedCoroutine`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from persicache.keys import KeyName
from persicache.memo.base import Memoized
from persicache.memo.computation import Compute, Outcome, Steps
from persicache.memo.flights import Flight
from persicache.memo.mapping_async import AsyncMapped
from persicache.memo.ref import Ref, awaited
from persicache.memo.results import Read
from persicache.memo.threads import in_thread, settled, started
from persicache.storage import ABSENT, Expectation, Version

__all__ = ["MemoizedCoroutine"]

P = ParamSpec("P")
R = TypeVar("R")


class MemoizedCoroutine(Memoized[P, R]):
    """An ``async def`` whose results are kept in a store; what `persistent_memoize` returns for one.

    Awaiting it is as calling a `MemoizedFunction`. The store is read and written in threads, so
    that the loop goes on. Verbs that compute are awaited too, all others are not.

    Examples
    --------
    >>> from persicache import persistent_memoize
    >>> @persistent_memoize("memory://doc-coroutine")
    ... async def cube(x):
    ...     return x**3
    >>> async def main():
    ...     return await asyncio.gather(cube(2), cube(2), cube(3))
    >>> asyncio.run(main()), cube.stats().misses
    ([8, 8, 27], 2)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)
        else:
            # What asyncio.iscoroutinefunction looks for there.
            self._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of this call, or compute and store it."""
        outcome, where, key = self._recall(args, kwargs)
        if outcome is None:
            outcome, expect = await in_thread(self._look_up, where, key)
            if outcome is None:
                outcome = await self._run(where, key, args, kwargs, expect)
        return self._unwrapped(outcome)  # type: ignore[no-any-return]

    async def answer(self, ref: Ref[R], read: Read | None = None, *, is_missing: bool = False) -> R:
        """Return what a reference is to; `read` was read for it, or nothing was there to read."""
        outcome, expect = await in_thread(self.at_hand, ref, read, is_missing=is_missing)
        if outcome is None:
            outcome = await self._run(ref.where, ref.key, *ref.call(), expect)
        return self._unwrapped(outcome)  # type: ignore[no-any-return]

    def map(
        self,
        iterable: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        concurrency: int = 1,
    ) -> AsyncMapped[R]:
        """Return an asynchronous iterator over the results of many calls.

        As `MemoizedFunction.map`: the store is asked for many at once, and what it doesn't have
        is computed and stored, a batch ahead of what is taken.

        Parameters
        ----------
        iterable, *iterables : iterable
            The arguments, as for the builtin `map`.
        ordered : bool, default True
            Whether results come in the order of the calls; else as they complete.
        concurrency : int, default 1
            How many calls are computed at once.
        """
        return AsyncMapped(self, (iterable, *iterables), ordered=ordered, concurrency=concurrency)

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute this call anew, and store the result in place of any there is.

        If somebody else stores another one meanwhile, theirs stays.
        """
        where = self._where(args, kwargs)
        return self._unwrapped(  # type: ignore[no-any-return]
            await self._run(where, where.text, args, kwargs, ABSENT, anew=True)
        )

    async def _run(
        self,
        where: KeyName,
        key: object,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        expect: Expectation | Version,
        *,
        anew: bool = False,
    ) -> Outcome:
        """Go through the steps of a call whose result is not at hand."""
        loop = asyncio.get_running_loop()
        steps = self._steps(where, key, args, kwargs, expect, anew=anew, loop=loop)
        working: Future[Any] | None = None
        sent: Outcome | None = None
        try:
            while True:
                working = started(_advance, steps, sent)
                step, sent = await settled(working), None
                if isinstance(step, Outcome):
                    return step
                if isinstance(step, Compute):
                    sent = await self._computed(step, args, kwargs)
                    if not isinstance(sent.error, Exception | None):
                        # Cancelled: who waits for this, and the store, is told by a thread.
                        working = started(_advance, steps, sent)
                        return sent
                elif isinstance(step, Flight):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(step.look_seconds):
                            await settled(step.landed)
                else:
                    await asyncio.sleep(step)
        finally:
            # Race: who is cancelled leaves at once, and a thread may be at a step still.
            if working is not None:
                working.add_done_callback(lambda _: steps.close())

    async def _computed(self, step: Compute, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Outcome:
        with contextlib.nullcontext() if step.flight is None else step.flight.computing():
            # What goes wrong with these is no outcome of this call.
            args, kwargs = await awaited((args, kwargs))
            start = self._clock()
            try:
                value, error = await self.__wrapped__(*args, **kwargs), None
            except BaseException as raised:  # noqa: BLE001 - raised again at the end
                value, error = None, raised
            return Outcome(value, error, self._clock() - start)


def _advance(steps: Steps, sent: Outcome | None = None) -> Any:
    """Take the next step, and return it, or what came of the call."""
    try:
        return steps.send(sent)
    except StopIteration as end:  # which can't leave a thread
        return end.value
