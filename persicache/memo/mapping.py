"""The results of many calls: `Mapped`."""

from __future__ import annotations

import contextvars
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from persicache.memo.batches import Batches, Item
from persicache.memo.computation import Outcome
from persicache.memo.ref import Ref

if TYPE_CHECKING:
    from persicache.keys import KeyName
    from persicache.memo.base import Memoized

__all__ = ["Mapped"]

R = TypeVar("R")


class Mapped(Iterator[R]):
    """An iterator over the results of many calls; what ``f.map(...)`` returns.

    An exception that a call raises is raised in its place, and `next` goes on with the call
    after it.

    Parameters
    ----------
    memoized : Memoized
        The function.
    iterables : iterable of iterable
        The arguments.
    ordered : bool
        Whether results come in the order of the calls.
    executor : Executor or None
        What computes.
    """

    def __init__(
        self,
        memoized: Memoized[..., R],
        iterables: Iterable[Iterable[Any]],
        *,
        ordered: bool,
        executor: Executor | None,
    ) -> None:
        batches = Batches(memoized, iterables, copies=executor is not None)
        if executor is None:
            self._answers = _one_by_one(batches, ordered=ordered)
        else:
            spread = _Spread(memoized, batches, executor)
            self._answers = spread.in_order() if ordered else spread.as_completed()

    def __next__(self) -> R:
        return next(self._answers)()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Take no more results: what an executor hasn't begun is not computed."""
        self._answers.close()


def _batch(batches: Batches) -> list[Item]:
    items = batches.take()
    batches.look_up(items)
    return items


def _one_by_one(batches: Batches, *, ordered: bool) -> Generator[Callable[[], Any], None, None]:
    while items := _batch(batches):
        if not ordered:
            items.sort(key=lambda item: item.is_missing)
        items.reverse()
        while items:  # what is at the back of this batch needn't wait for its front to go
            yield items.pop().answer


class _Spread:
    """Calls whose results an executor computes, a batch ahead of those that are taken."""

    def __init__(self, memoized: Memoized[..., Any], batches: Batches, executor: Executor) -> None:
        self._memoized = memoized
        self._batches = batches
        self._executor = executor
        self._here = _process()
        self._under_way: dict[KeyName, Future[Any]] = {}
        #: Whether what other processes store is in the store of this one.
        self._shares: dict[object, bool] = {}

    def in_order(self) -> Generator[Callable[[], Any], None, None]:
        slots: deque[tuple[Callable[[], Any], Future[Any] | None]] = deque()
        try:
            for items, most in self._ahead():
                slots.extend(map(self._slot, items))
                while len(slots) > most:
                    yield slots.popleft()[0]
        finally:
            _cancel(future for _, future in slots)

    def as_completed(self) -> Generator[Callable[[], Any], None, None]:
        done: SimpleQueue[Future[Any]] = SimpleQueue()
        waiting: dict[Future[Any], list[Callable[[], Any]]] = {}
        try:
            for items, most in self._ahead():
                for answer, future in map(self._slot, items):
                    if future is None:
                        yield answer
                    elif future in waiting:
                        waiting[future].append(answer)
                    else:
                        waiting[future] = [answer]
                        future.add_done_callback(done.put)
                while len(waiting) > most:
                    yield from waiting.pop(done.get())
        finally:
            _cancel(waiting)

    def _ahead(self) -> Iterator[tuple[list[Item], int]]:
        """Yield each batch, and how many calls may be waited for when the next one is taken."""
        try:
            while items := _batch(self._batches):
                yield items, self._batches.size
        except Exception:  # of the iterables: what they gave before comes before
            yield [], 0
            raise
        yield [], 0

    def _slot(self, item: Item) -> tuple[Callable[[], Any], Future[Any] | None]:
        """Return what gives a call's result, and what it waits for, if it does."""
        ref = item.ref
        if ref is None or item.read is not None or self._memoized.is_held(ref):
            return item.answer, None
        future = self._under_way.get(ref.where)
        if future is not None:
            item.is_missing = False
            return partial(_after, future, item), future
        if isinstance(self._executor, ThreadPoolExecutor):
            # So that a call in there knows what it is a part of.
            future = self._executor.submit(contextvars.copy_context().run, _answer, ref)
        else:
            future = self._executor.submit(_answer, ref)
        self._under_way[ref.where] = future
        return partial(self._received, future, ref), future

    def _received(self, future: Future[Any], ref: Ref[Any]) -> Any:
        try:
            process, seconds, value = future.result()
        finally:
            del self._under_way[ref.where]
        if process != self._here:
            if process not in self._shares:
                # In trouble, nothing could be stored.
                self._shares[process] = self._memoized.seems_stored(ref.where, in_trouble=True)
            if not self._shares[process]:
                self._memoized.adopt(ref, Outcome(value, None, seconds))
        return value


def _after(future: Future[Any], item: Item) -> Any:
    wait([future])
    return item.answer()


def _answer(ref: Ref[Any]) -> tuple[object, float, Any]:
    start = time.perf_counter()
    value = ref.get()
    return _process(), time.perf_counter() - start, value


def _process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _cancel(futures: Iterable[Future[Any] | None]) -> None:
    for future in futures:
        if future is not None:
            future.cancel()
