"""Several requests in flight at once, on the event loop of a filesystem."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import Any, Final, TypeVar

__all__ = ["IN_FLIGHT", "in_flight"]

#: How many requests a process has open at once.
IN_FLIGHT: Final = 64

A = TypeVar("A")
R = TypeVar("R")


def in_flight(
    loop: asyncio.AbstractEventLoop,
    request: Callable[[A], Coroutine[Any, Any, R]],
    arguments: Iterable[A],
    *,
    limit: int = IN_FLIGHT,
) -> Iterator[R]:
    """Yield the results of ``request(argument)``, those that come first first.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        A loop that runs in another thread.
    request : callable
        Makes the coroutine of one argument.
    arguments : iterable
        Taken from as results are taken, so that no more than `limit` are in memory.
    limit : int, default 64
        How many are in flight.
    """
    remaining = iter(arguments)
    pending: set[Future[R]] = set()
    try:
        while True:
            for argument in islice(remaining, limit - len(pending)):
                pending.add(asyncio.run_coroutine_threadsafe(request(argument), loop))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            while done:
                yield done.pop().result()
    finally:
        for future in pending:
            future.cancel()
