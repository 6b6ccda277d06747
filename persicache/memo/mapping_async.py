"""The results of many calls of a coroutine function: `AsyncMapped`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from persicache.memo.batches import Batches, Item
from persicache.memo.threads import in_thread

if TYPE_CHECKING:
    from persicache.keys import KeyName
    from persicache.memo.base import Memoized

__all__ = ["AsyncMapped"]

R = TypeVar("R")


class AsyncMapped(AsyncIterator[R]):
    """An iterator over the results of many calls; what ``f.map(...)`` returns of an ``async def``.

    An exception that a call raises is raised in its place, and `anext` goes on with the call
    after it.

    Parameters
    ----------
    memoized : Memoized
        The function.
    iterables : iterable of iterable
        The arguments.
    ordered : bool
        Whether results come in the order of the calls.
    concurrency : int
        How many calls are computed at once.
    """

    def __init__(
        self,
        memoized: Memoized[..., Any],
        iterables: Iterable[Iterable[Any]],
        *,
        ordered: bool,
        concurrency: int,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be 1 or more, not {concurrency}")
        self._batches = Batches(memoized, iterables, copies=True)
        self._turns = asyncio.Semaphore(concurrency)
        self._under_way: dict[KeyName, asyncio.Task[Any]] = {}
        self._answers = self._in_order() if ordered else self._as_completed()

    async def __anext__(self) -> R:
        return await (await anext(self._answers))

    async def aclose(self) -> None:
        """Take no more results: what is being computed is cancelled."""
        await self._answers.aclose()

    async def _in_order(self) -> AsyncGenerator[asyncio.Task[Any], None]:
        tasks: deque[asyncio.Task[Any]] = deque()
        try:
            async for batch, most in self._started():
                tasks.extend(batch)
                while len(tasks) > most:
                    yield tasks.popleft()
        finally:
            await _cancel(tasks)

    async def _as_completed(self) -> AsyncGenerator[asyncio.Task[Any], None]:
        done: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
        pending: set[asyncio.Task[Any]] = set()
        try:
            async for batch, most in self._started():
                pending.update(batch)
                for task in batch:
                    task.add_done_callback(done.put_nowait)
                while len(pending) > most:
                    task = await done.get()
                    pending.remove(task)
                    yield task
        finally:
            await _cancel(pending)

    async def _started(self) -> AsyncGenerator[tuple[list[asyncio.Task[Any]], int], None]:
        """Yield the calls of each batch, and how many calls may go on beside the next."""
        try:
            while items := self._batches.take():
                await in_thread(self._batches.look_up, items)
                yield [self._start(item) for item in items], self._batches.size
                # Race: what was done since this batch was looked up, was not yet then.
                self._under_way = {
                    where: task for where, task in self._under_way.items() if not task.done()
                }
        except Exception:  # of the iterables: what they gave before comes before
            yield [], 0
            raise
        yield [], 0

    def _start(self, item: Item) -> asyncio.Task[Any]:
        if item.ref is None or item.read is not None:
            return asyncio.create_task(self._answer(item))
        where = item.ref.where
        first = self._under_way.get(where)
        if first is not None:
            item.is_missing = False
            return asyncio.create_task(self._after(first, item))
        task = asyncio.create_task(self._in_turn(item))
        self._under_way[where] = task
        return task

    async def _answer(self, item: Item) -> Any:
        return await item.answer()

    async def _in_turn(self, item: Item) -> Any:
        async with self._turns:
            return await item.answer()

    async def _after(self, first: asyncio.Task[Any], item: Item) -> Any:
        await asyncio.wait([first])
        return await self._in_turn(item)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
