"""Waiting on a thread of a dask worker for who needs that thread: `wait`."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from typing import Any

__all__ = ["executor_here", "wait"]

_LOOK_SECONDS = 0.2


def executor_here() -> Any:
    """Return what the present thread works for, if that is a dask worker; else None."""
    pool = sys.modules.get("distributed.threadpoolexecutor")
    return None if pool is None else getattr(pool.thread_state, "executor", None)


def wait(landed: Future[Any], threads: list[threading.Thread]) -> None:
    """Wait for a computation in another thread.

    One on a dask worker that left its slot, as `worker_client` does, waits for other tasks, which
    may need the slot that this thread takes up: then this one leaves its slot too.

    Parameters
    ----------
    landed : concurrent.futures.Future
        Done when the computation is.
    threads : list of threading.Thread
        The thread that computes, once it does.
    """
    executor = executor_here()
    if executor is None:
        landed.exception()
        return
    while not landed.done():
        if threads and threads[0] not in executor._threads:  # noqa: SLF001 - dask has no public name for it
            if threading.current_thread() in executor._threads:  # noqa: SLF001 - as above
                sys.modules["distributed"].secede()
            landed.exception()
            return
        try:
            landed.exception(timeout=_LOOK_SECONDS)
        except TimeoutError:
            continue
