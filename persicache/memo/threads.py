"""Calls in a thread, from a coroutine: `in_thread`."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    import asyncio

__all__ = ["in_thread", "settled", "started"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread; who is cancelled meanwhile goes on at once, and so does the thread."""
    return await settled(started(function, *args, **kwargs))


def started(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Begin to call a function in a thread of the running loop, with the context variables of here."""
    import asyncio  # noqa: PLC0415 - whoever has a loop has it, and who has none needn't wait for it

    done: Future[T] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            result = context.run(function, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)
        else:
            done.set_result(result)

    try:
        asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:  # the loop, or the interpreter, is ending, and no thread begins any more
        work()
    return done


async def settled(future: Future[T]) -> T:
    """Wait for what another thread does; being cancelled stops the waiting and nothing else."""
    import asyncio  # noqa: PLC0415 - as above

    if not future.done():
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def wake(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                loop.call_soon_threadsafe(_settle, waiter)

        future.add_done_callback(wake)
        await waiter
    return future.result()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
