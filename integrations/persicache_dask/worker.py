"""A worker that spills by persicache: `SpillWorker`."""

from __future__ import annotations

from typing import Any

from distributed import Worker

from persicache_dask.spilling import configured

__all__ = ["SpillWorker"]


class SpillWorker(Worker):
    """A dask worker whose values spill by persicache.

    For ``dask worker --worker-class persicache_dask.SpillWorker``. Options are those of
    `spill_data`, from dask's configuration: ``persicache.spill.policy: gdsf``, or as a variable
    ``DASK_PERSICACHE__SPILL__POLICY=gdsf``.

    Parameters
    ----------
    *args, data, **options
        What a `distributed.Worker` takes. With `data` given, it is a worker like any other.

    Examples
    --------
    >>> import asyncio
    >>> from distributed import Client, Scheduler
    >>> async def compute():
    ...     async with Scheduler(dashboard_address=":0", port=0) as scheduler:
    ...         async with SpillWorker(scheduler.address, dashboard=False) as worker:
    ...             async with Client(scheduler.address, asynchronous=True) as client:
    ...                 return await client.submit(sum, [1, 2, 3]), type(worker.data).__name__
    >>> asyncio.run(compute())
    (6, 'WorkerData')
    """

    def __init__(self, *args: Any, data: Any = None, **options: Any) -> None:
        super().__init__(*args, data=configured() if data is None else data, **options)
