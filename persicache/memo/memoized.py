"""A function that remembers: `MemoizedFunction`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from persicache.keys import KeyName
from persicache.memo import dask_slots
from persicache.memo.base import Memoized
from persicache.memo.computation import Compute, Outcome
from persicache.memo.flights import Flight
from persicache.memo.mapping import Mapped
from persicache.memo.ref import Ref, dereferenced, result_of
from persicache.memo.results import Read
from persicache.storage import ABSENT, Expectation, Version

__all__ = ["MemoizedFunction"]

P = ParamSpec("P")
R = TypeVar("R")


class MemoizedFunction(Memoized[P, R]):
    """A function whose results are kept in a store; what `persistent_memoize` returns.

    Calling it returns the stored result of the same call by the same code, or computes and
    stores it. What a call means, its key, is the digest of its arguments, bound to the
    signature, and of the function's code.

    Examples
    --------
    >>> from persicache import persistent_memoize
    >>> @persistent_memoize("memory://doc-memoized")
    ... def cube(x):
    ...     return x**3
    >>> cube(2), cube.contains(2), cube.contains(3), cube.lookup(x=2)
    (8, True, False, 8)
    >>> cube.forget(2), cube.forget(2), cube.clear()
    (True, False, 0)
    """

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of this call, or compute and store it."""
        outcome, where, key = self._recall(args, kwargs)
        if outcome is None:
            outcome, expect = self._look_up(where, key)
            if outcome is None:
                outcome = self._run(where, key, args, kwargs, expect)
        return self._unwrapped(outcome)  # type: ignore[no-any-return]

    def answer(self, ref: Ref[R], read: Read | None = None, *, is_missing: bool = False) -> R:
        """Return what a reference is to; `read` was read for it, or nothing was there to read."""
        outcome, expect = self.at_hand(ref, read, is_missing=is_missing)
        if outcome is None:
            outcome = self._run(ref.where, ref.key, *ref.call(), expect)
        return self._unwrapped(outcome)  # type: ignore[no-any-return]

    def map(
        self,
        iterable: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        ordered: bool = True,
        executor: Executor | None = None,
    ) -> Mapped[R]:
        """Return an iterator over the results of many calls, as the builtin `map` does.

        The store is asked for many at once. What it doesn't have is computed when its turn
        comes, and stored; equal calls are computed once.

        Parameters
        ----------
        iterable, *iterables : iterable
            The arguments: the first of each call, the second, and so on, until one iterable
            ends. Up to 1024 are taken ahead; of an iterator that gives what can be changed, none.
        ordered : bool, default True
            Whether results come in the order of the calls; else what is stored comes first.
        executor : concurrent.futures.Executor, optional
            What computes: threads, processes, a dask ``client.get_executor()``. Then a batch
            of calls is computed ahead, and ``ordered=False`` yields as they complete.

        Returns
        -------
        Mapped
            An exception that a call raises is raised in its place, and `next` goes on with the
            call after it.

        Examples
        --------
        >>> from persicache import persistent_memoize
        >>> @persistent_memoize("memory://doc-map")
        ... def power(x, n):
        ...     print("computing", x, n)
        ...     return x**n
        >>> list(power.map([2, 3, 2], [4, 2, 4]))
        computing 2 4
        computing 3 2
        [16, 9, 16]
        """
        return Mapped(self, (iterable, *iterables), ordered=ordered, executor=executor)

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute this call anew, and store the result in place of any there is.

        If somebody else stores another one meanwhile, theirs stays.
        """
        where = self._where(args, kwargs)
        return self._unwrapped(  # type: ignore[no-any-return]
            self._run(where, where.text, args, kwargs, ABSENT, anew=True)
        )

    def _run(
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
        steps = self._steps(where, key, args, kwargs, expect, anew=anew)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Compute):
                    step = steps.send(self._computed(step, args, kwargs))
                elif isinstance(step, Flight):
                    dask_slots.wait(step)
                    step = next(steps)
                else:
                    time.sleep(step)
                    step = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    def _computed(self, step: Compute, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Outcome:
        with contextlib.nullcontext() if step.flight is None else step.flight.computing():
            # What goes wrong with these is no outcome of this call.
            args, kwargs = dereferenced((args, kwargs), result_of)
            start = self._clock()
            try:
                value, error = self.__wrapped__(*args, **kwargs), None
            except BaseException as raised:  # noqa: BLE001 - raised again at the end
                value, error = None, raised
            return Outcome(value, error, self._clock() - start)
