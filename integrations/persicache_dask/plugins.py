"""What workers tell of memoization: `CacheWorkerPlugin`."""

from __future__ import annotations

import os
from typing import Any, Final

from distributed import Worker, WorkerPlugin

from persicache import total_stats

__all__ = ["METRIC", "CacheWorkerPlugin"]

#: The name of what is told, among the metrics of a worker.
METRIC: Final = "persicache"


class CacheWorkerPlugin(WorkerPlugin):
    """Has every worker tell, with each heartbeat, what memoized functions and `ResultCache` did there.

    The counts are those of `persicache.Stats`, of the worker's process since it began, among the
    worker's metrics: in ``client.scheduler_info()`` and on the scheduler, where `DashboardPlugin`
    shows them. Workers that share a process (``processes=False``) tell the same, and its ``pid``.

    Examples
    --------
    >>> from distributed import Client
    >>> from persicache import persistent_memoize
    >>> @persistent_memoize("memory://doc-worker-plugin")
    ... def double(x):
    ...     return 2 * x
    >>> with Client(n_workers=1, processes=False, dashboard_address=":0") as client:
    ...     _ = client.register_plugin(CacheWorkerPlugin())
    ...     client.submit(double, 4).result()
    ...     [told] = client.run(lambda dask_worker: dask_worker.metrics["persicache"](dask_worker)).values()
    8
    >>> told["misses"] >= 1
    True
    >>> double.clear()
    1
    """

    name = "persicache-worker"  # a worker needs one, however many clients register theirs

    def setup(self, worker: Worker) -> None:
        """Begin to tell."""
        worker.metrics[METRIC] = _told

    def teardown(self, worker: Worker) -> None:
        """Tell no more."""
        worker.metrics.pop(METRIC, None)


def _told(_worker: Worker) -> dict[str, Any]:
    return {**total_stats()._asdict(), "pid": os.getpid()}
