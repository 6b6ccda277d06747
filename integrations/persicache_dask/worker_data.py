"""What a dask worker holds, in memory and on disk: `WorkerData`."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Hashable, Iterator, MutableMapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike, fspath
from typing import Any, Final

import dask
import psutil
from distributed import Worker
from distributed.sizeof import safe_sizeof

from persicache import SpillDict, nbytes

__all__ = ["WorkerData"]

logger = logging.getLogger("distributed.worker.memory")

#: The share of the budget that is left alone. From there on values leave in the background, so
#: that there is room for the next ones by the time they come.
AT_EASE: Final = 0.9
#: How old a look at the memory of the process may be.
PATIENCE_SECONDS: Final = 0.01
#: How long nothing more is said of trouble with spilling.
QUIET_SECONDS: Final = 60.0
#: What dask's configuration is, where its own spilling is turned off.
DEFAULTS: Final = {"target": 0.6, "spill": 0.7}
#: So far beyond what dask says of a value it holds more than dask has seen.
UNSEEN_TIMES: Final = 2
UNSEEN_NBYTES: Final = 64 * 1024
#: Where values are spilled to, in the worker's local directory.
STORAGE: Final = "storage"


class WorkerData(MutableMapping[Any, Any]):
    """A worker's mapping from keys to values, a `SpillDict` as distributed wants it.

    Values that come find room at once, as long as others leave memory as fast, in the background:
    the event loop, which brings them, waits for the disk only if the budget, or the memory of the
    process, is used up all the same. Values that come back are mapped from their files.

    Parameters
    ----------
    worker_local_directory : str
        The worker's local directory, that distributed gives, and removes.
    available_memory : int, float or str, default "auto"
        The budget: see `persicache_dask.spill_data`.
    policy : {"lru", "lfu", "gdsf"}, default "lru"
        Who leaves memory first.
    spill_to : str or path-like, optional
        A local directory; by default ``storage`` in the worker's.

    Raises
    ------
    TypeError, ValueError
        If an option makes no sense.
    """

    def __init__(
        self,
        worker_local_directory: str,
        *,
        available_memory: float | str = "auto",
        policy: str = "lru",
        spill_to: str | PathLike[str] | None = None,
    ) -> None:
        self._given = available_memory
        self._values: SpillDict[Any] = SpillDict(
            available_memory=available_memory,
            policy=policy,
            private_in=f"{worker_local_directory}/{STORAGE}" if spill_to is None else fspath(spill_to),
            weigh=_weigh,
        )
        self._target, self._spill = _fraction("target"), _fraction("spill")
        self._limit_nbytes: int | None = None
        self._budget_nbytes = 0  # until the worker is known, which is being made when this is
        self._unmanaged_nbytes = 0
        self._measured = float("-inf")
        self._is_squeezed = False
        self._is_in_trouble = False
        self._told = float("-inf")
        self._thread = ThreadPoolExecutor(1, "persicache-spill")
        self._leaving: Future[None] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"

    def __getitem__(self, key: Hashable) -> Any:
        value = self._values[key]
        self._relax()  # it may have come from disk, and taken room
        return value

    def __setitem__(self, key: Hashable, value: Any) -> None:
        """Set a key; a value that there is no room for, nor on a full disk, is kept in memory."""
        if not self._budget_nbytes:
            self._settle()
        try:
            self._values[key] = value
        except Exception as error:  # noqa: BLE001 - as below
            # A task that is done must not fail for it. The worker pauses when its memory is full.
            self._tell(error)
            self._values.available_memory = self._values.memory_usage + _weigh(value)
            self._values[key] = value
        self._relax()

    def __delitem__(self, key: Hashable) -> None:
        del self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def available_memory(self) -> int:
        """The budget in bytes."""
        if not self._budget_nbytes:
            self._settle()
        return self._budget_nbytes

    # What the memory monitor asks for: distributed.spill.ManualEvictProto

    @property
    def fast(self) -> bool:
        """Whether something is in memory."""
        return self._values.memory_usage > 0

    def evict(self) -> int:
        """See that values leave memory until the process is below dask's target; never raises.

        Returns -1, by which the memory monitor knows that there is no more to be had at the moment:
        it would go on evicting on the event loop otherwise, and asks again within a moment.
        """
        self._is_squeezed = True
        self._let_leave()
        return -1

    # What the dashboard and Prometheus ask for

    @property
    def spilled_total(self) -> tuple[int, int]:
        """What the values that are on disk only weigh in memory, and what they take on disk."""
        return self._values.on_disk[1:]

    @property
    def slow(self) -> Sized:
        """Something as long as there are values that are on disk only."""
        return range(self._values.on_disk.n_values)

    @property
    def cumulative_metrics(self) -> dict[tuple[str, str], float]:
        """What was read and written so far, by what and unit."""
        stats = self._values.stats
        return {
            ("memory-read", "count"): stats.hits,
            ("memory-read", "bytes"): stats.hit_nbytes,
            ("disk-read", "count"): stats.misses,
            ("disk-read", "bytes"): stats.restored_nbytes,
            ("disk-read", "seconds"): stats.restore_seconds,
            ("disk-write", "count"): stats.spills,
            ("disk-write", "bytes"): stats.spilled_nbytes,
            ("disk-write", "seconds"): stats.spill_seconds,
        }

    # Leaving memory

    def _settle(self) -> None:
        """Find the budget, by the memory limit of the worker whose data this is."""
        # distributed tells a mapping nothing about its worker.
        for worker in list(getattr(Worker, "_instances", ())):
            if getattr(worker, "memory_manager", None) and worker.memory_manager.data is self:
                self._limit_nbytes = worker.memory_manager.memory_limit or None
        share = self._target if self._given == "auto" else self._given
        if self._limit_nbytes is not None and isinstance(share, float) and share <= 1:
            self._values.available_memory = int(share * self._limit_nbytes)
        self._budget_nbytes = self._values.available_memory

    def _measure(self) -> int:
        """Return the memory of this process, and note what of it isn't values."""
        self._measured = time.monotonic()
        process_nbytes = int(psutil.Process().memory_info().rss)
        self._unmanaged_nbytes = max(process_nbytes - self._values.memory_usage, 0)
        return process_nbytes

    def _measure_if_old(self) -> None:
        if time.monotonic() - self._measured > PATIENCE_SECONDS:
            self._measure()

    def _is_crowded(self, *, share: float, budget_share: float) -> bool:
        """Return whether values take more than a share of the budget, or with all else one of the limit."""
        used_nbytes = self._values.memory_usage
        if used_nbytes > budget_share * self._budget_nbytes:
            return True
        if self._limit_nbytes is None or not used_nbytes:
            return False
        return used_nbytes + self._unmanaged_nbytes > share * self._limit_nbytes

    def _is_at_ease(self) -> bool:
        """Return whether there is room for what comes next, and the monitor needn't act by then."""
        return not self._is_crowded(share=(self._target + self._spill) / 2, budget_share=AT_EASE)

    def _is_too_full(self) -> bool:
        if self._is_squeezed and self._limit_nbytes is not None:
            return self._measure() > self._target * self._limit_nbytes or not self._is_at_ease()
        self._measure_if_old()
        return not self._is_at_ease()

    def _relax(self) -> None:
        """See that values leave if there are many."""
        self._measure_if_old()
        if self._is_at_ease():
            return
        self._let_leave()
        # Values can come faster than others leave, much faster than the monitor looks. Who brings
        # them has to help then, or the nanny kills the worker.
        with self._telling():
            while self._is_crowded(share=self._spill, budget_share=1) and self._values.evict():
                pass

    def _let_leave(self) -> None:
        """See that a thread lets values leave."""
        with self._telling(), self._lock:
            if self._leaving is None or self._leaving.done():
                self._leaving = self._thread.submit(self._leave)

    def _leave(self) -> None:
        """Let values leave, in the background, until there is room."""
        with self._telling():
            while self._is_too_full() and self._values.evict():
                self._is_in_trouble = False
        self._is_squeezed = False
        if self._values.memory_usage <= self._budget_nbytes < self._values.available_memory:
            self._values.available_memory = self._budget_nbytes  # the trouble is over

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Let nobody who uses a value fail for what others do when they leave."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of a disk, or of the pickling of any value that should leave
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        """Log why something can't be spilled, and no more until something can, a minute later."""
        # On a full disk there is room for a small value every now and then.
        is_news = not self._is_in_trouble and time.monotonic() - self._told > QUIET_SECONDS
        self._is_in_trouble = True
        if is_news:
            self._told = time.monotonic()
            logger.error("Spilling failed; values stay in memory: %s: %s", type(error).__name__, error)


def _weigh(value: object) -> int:
    # The scheduler subtracts what is spilled from what it has counted itself, by dask's function,
    # which also knows the types that were registered with it. Ours sees into arrays of objects.
    theirs = int(safe_sizeof(value))
    ours = nbytes(value)
    return ours if ours > UNSEEN_TIMES * theirs + UNSEEN_NBYTES else theirs


def _fraction(name: str) -> float:
    """Return a share of a worker's memory, as dask is configured: that of values, or of the process."""
    given = dask.config.get(f"distributed.worker.memory.{name}")
    return float(given) if given else DEFAULTS[name]
