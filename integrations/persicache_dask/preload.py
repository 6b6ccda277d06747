"""Let a dask worker spill by persicache: ``dask worker --preload persicache_dask.preload``.

Or, where the command line isn't at hand, ``DASK_DISTRIBUTED__WORKER__PRELOAD=persicache_dask.preload``.
Options are those of `persicache_dask.spill_data`, from dask's configuration under ``persicache.spill``.
"""

from __future__ import annotations

from typing import Any

from persicache_dask.spilling import configured

__all__ = ["dask_setup"]


async def dask_setup(worker: Any) -> None:
    """Give a worker that is starting its data; distributed calls it.

    Parameters
    ----------
    worker : distributed.Worker
        The worker.
    """
    data = configured()(worker.local_directory)
    worker.memory_manager.data = worker.state.data = data
