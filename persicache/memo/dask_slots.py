"""Waiting on a thread of a dask worker for who needs that thread: `wait`."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persicache.memo.flights import Flight

__all__ = ["executor_here", "wait"]

_LOOK_SECONDS = 0.2


def executor_here() -> Any:
    """Return what the present thread works for, if that is a dask worker; else None."""
    pool = sys.modules.get("distributed.threadpoolexecutor")
    return None if pool is None else getattr(pool.thread_state, "executor", None)


def wait(flight: Flight) -> None:
    """Wait for a computation of somebody else, or for a while.

    One on a dask worker that left its slot, as `worker_client` does, waits for other tasks, which
    may need the slot that this thread takes up: then this one leaves its slot too.
    """
    executor, seconds = executor_here(), flight.look_seconds
    if executor is not None:
        seconds = _LOOK_SECONDS
        owned = executor._threads  # noqa: SLF001 - dask has no public name for it
        has_left = any(thread not in owned for thread in tuple(flight.threads))
        if has_left and threading.current_thread() in owned:
            sys.modules["distributed"].secede()
    with contextlib.suppress(TimeoutError):
        flight.landed.exception(timeout=seconds)
