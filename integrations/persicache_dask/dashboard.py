"""A tab of dask's dashboard: `DashboardPlugin`."""

from __future__ import annotations

from distributed import Scheduler, SchedulerPlugin

from persicache import MissingDependency

__all__ = ["DashboardPlugin"]


class DashboardPlugin(SchedulerPlugin):
    """Adds a tab to dask's dashboard, ``/persicache``, that shows live what the workers' caches do.

    Workers tell it by `CacheWorkerPlugin`. The tab stays for as long as the scheduler does.

    Raises
    ------
    MissingDependency
        On registering, if bokeh isn't installed where the scheduler runs.
    ValueError
        If the scheduler was started without a dashboard.

    Examples
    --------
    >>> from distributed import Client
    >>> from persicache_dask import CacheWorkerPlugin
    >>> with Client(n_workers=1, processes=False, dashboard_address=":0") as client:
    ...     _ = client.register_plugin(CacheWorkerPlugin())
    ...     client.register_plugin(DashboardPlugin())
    ...     client.dashboard_link.replace("/status", "/persicache")
    'http://...:.../persicache'
    """

    name = "persicache-dashboard"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Add the tab, unless it is there."""
        try:
            from persicache_dask.page import add_page  # noqa: PLC0415 - a scheduler needs no bokeh
        except ModuleNotFoundError as error:
            package = (error.name or "bokeh").partition(".")[0]
            raise MissingDependency(package=package, extra="dask") from error
        add_page(scheduler)
