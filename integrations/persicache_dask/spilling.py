"""More data than memory on dask workers: `spill_data`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike, fspath

import dask

from persicache import SpillDict
from persicache_dask.worker_data import WorkerData

__all__ = ["configured", "spill_data"]


def spill_data(
    *,
    available_memory: float | str = "auto",
    policy: str = "lru",
    spill_to: str | PathLike[str] | None = None,
) -> Callable[[str], WorkerData]:
    """Return what to give as `data` to a LocalCluster or a Worker, so that it spills by persicache.

    Parameters
    ----------
    available_memory : int, float or str, default "auto"
        The budget of each worker's values: bytes, ``"2 GiB"``, or a share of its memory limit
        such as 0.5. ``"auto"`` is the share ``distributed.worker.memory.target`` of dask's
        configuration, 0.6 by default. A worker without a limit has the machine's memory in
        its stead, and "auto" is 0.3 of that.
    policy : {"lru", "lfu", "gdsf"}, default "lru"
        Who leaves memory first: the least recently used, the least frequently used, or what
        takes least time to have back for its bytes.
    spill_to : str or path-like, optional
        A directory on the worker's machine, on a fast local disk. Each worker makes a private one
        in it, and removes it. By default the worker's own local directory.

    Raises
    ------
    TypeError, ValueError
        If an option makes no sense.

    Notes
    -----
    What is spilled is neither compressed nor limited: ``spill-compression`` and ``max-spill`` of dask's
    configuration are for its own SpillBuffer. A value that can't be pickled stays in memory, and so
    does every value when the disk is full; the worker pauses then, before its memory is.

    Each value is written once. What a task changes in place in its input, which dask asks it not to
    do, is undone if the value was spilled before and is again.

    Examples
    --------
    >>> from distributed import Client, LocalCluster
    >>> import dask.array as da
    >>> cluster = LocalCluster(
    ...     n_workers=1, processes=False, dashboard_address=":0", memory_limit="1 GiB",
    ...     data=spill_data(available_memory=0.5, policy="gdsf"),
    ... )
    >>> with cluster, Client(cluster):
    ...     int(da.ones(1000, chunks=100).sum().compute())
    1000
    """
    # What is wrong is told here, rather than by a worker that doesn't start.
    SpillDict[object](available_memory=available_memory, policy=policy).close()
    if spill_to is not None:
        spill_to = fspath(spill_to)
        if "://" in spill_to:
            raise ValueError(f"spill_to must be a directory on the worker's machine, not {spill_to!r}")
    return partial(WorkerData, available_memory=available_memory, policy=policy, spill_to=spill_to)


def configured() -> Callable[[str], WorkerData]:
    """Return `spill_data` with the options in dask's configuration, under ``persicache.spill``."""
    options = dask.config.get("persicache.spill", {}) or {}
    return spill_data(**{name.replace("-", "_"): value for name, value in options.items()})
