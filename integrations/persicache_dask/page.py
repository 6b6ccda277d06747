"""The page ``/persicache`` of the dashboard."""

from __future__ import annotations

from typing import Any, Final

from bokeh.document import Document
from bokeh.layouts import column
from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    DataTable,
    Div,
    FactorRange,
    NumberFormatter,
    TableColumn,
)
from bokeh.plotting import figure
from bokeh.server.tornado import BokehTornado
from dask.utils import format_bytes, format_time
from distributed import Scheduler
from distributed.dashboard.components import add_periodic_callback
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from distributed.dashboard.core import BokehApplication
from distributed.dashboard.scheduler import template_variables
from tornado.ioloop import IOLoop

from persicache_dask.plugins import METRIC

__all__ = ["CachePanel", "add_page", "cache_page"]

#: The page's path, and what its tab says.
PAGE: Final = "persicache"
#: How often it is brought up to date, in milliseconds; workers tell about as often.
UPDATE_MILLISECONDS: Final = 500
#: The table's columns: a field, its title, and the format of its numbers.
COLUMNS: Final = (
    ("worker", "Worker", None),
    ("hits", "Hits", "0,0"),
    ("misses", "Misses", "0,0"),
    ("share", "Hit rate", "0 %"),
    ("errors", "Trouble", "0,0"),
    ("nbytes_saved", "Bytes from the store", "0.0 b"),
    ("seconds_saved", "Seconds saved", "0,0.0"),
    ("seconds_computing", "Seconds computing", "0,0.0"),
    ("spilled", "Spilled", "0.0 b"),
)
NO_WORKERS: Final = (
    "No worker tells what its cache does. <code>client.register_plugin(persicache_dask.CacheWorkerPlugin())"
    "</code> has them tell."
)


class CachePanel:
    """What the workers' caches do: a sentence of totals, a bar and a row for each worker.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose workers to show.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._shown: dict[str, list[Any]] = {}
        self.source = ColumnDataSource({field: [] for field, _, _ in COLUMNS})
        self.heading = Div(text="", styles={"font-size": "120%"})
        self._bars = figure(
            height=_height(0),
            x_range=DataRange1d(start=0),
            y_range=FactorRange(),
            sizing_mode="stretch_width",
            tools="",
            toolbar_location=None,
            title="Calls",
        )
        self._bars.hbar_stack(
            ["hits", "misses"],
            y="worker",
            height=0.8,
            color=["#2b8a5b", "#c9a227"],
            legend_label=["hits", "misses"],
            source=self.source,
        )
        self._bars.add_layout(self._bars.legend[0], "right")  # not over the bars
        table = DataTable(
            source=self.source,
            index_position=None,
            columns=[_column(*each) for each in COLUMNS],
            sizing_mode="stretch_width",
        )
        self.root = column(self.heading, self._bars, table, sizing_mode="stretch_width")
        self.update()

    def update(self) -> None:
        """Show what the workers told last."""
        rows = [_row(each) for each in self._scheduler.workers.values() if METRIC in each.metrics]
        found = {field: [row[field] for row in rows] for field, _, _ in COLUMNS}
        if found == self._shown and self.heading.text:
            return  # nothing to send
        self._shown = found
        self.heading.text = _sentence(rows) if rows else NO_WORKERS
        self._bars.y_range.factors = found["worker"]
        self._bars.height = _height(len(rows))
        self.source.data = found


def _height(n_workers: int) -> int:
    return 100 + 30 * n_workers  # pixels


def _column(field: str, title: str, numbers: str | None) -> TableColumn:
    more = {} if numbers is None else {"formatter": NumberFormatter(format=numbers, text_align="right")}
    return TableColumn(field=field, title=title, **more)


def _row(worker: Any) -> dict[str, Any]:
    told = worker.metrics[METRIC]
    calls = told["hits"] + told["misses"]
    return {
        **told,
        "worker": str(worker.name),
        "share": told["hits"] / calls if calls else None,
        "spilled": worker.metrics["spilled_bytes"]["disk"],
        "process": (worker.host, told["pid"]),
    }


def _sentence(rows: list[dict[str, Any]]) -> str:
    # Workers in one process tell the same, some later than others.
    by_process: dict[Any, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["hits"] + row["misses"]):
        by_process[row["process"]] = row

    def total(field: str) -> Any:
        return sum(row[field] for row in by_process.values())

    hits, misses = total("hits"), total("misses")
    rate = f" ({hits / (hits + misses):.0%} of the calls)" if hits + misses else ""
    trouble = f", <b>{total('errors'):,} times trouble with the store</b>" if total("errors") else ""
    saved, loaded = format_time(total("seconds_saved")), format_bytes(total("nbytes_saved"))
    calls = f"{hits:,} hits{rate} and {misses:,} misses"
    return f"{calls}: {saved} of computing saved, {loaded} from the store{trouble}."


def cache_page(scheduler: Scheduler, extra: dict[str, Any], doc: Document) -> None:
    """Make the page's document.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose workers to show.
    extra : dict
        What the dashboard's template needs: the tabs.
    doc : bokeh.document.Document
        What to fill.
    """
    panel = CachePanel(scheduler)
    add_periodic_callback(doc, panel, UPDATE_MILLISECONDS)
    doc.title = "Dask: persicache"
    doc.add_root(panel.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME


def add_page(scheduler: Scheduler) -> None:
    """Add the page to the scheduler's dashboard, and its tab to all pages.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose dashboard it is.

    Raises
    ------
    ValueError
        If it has none.
    """
    shown = [each for each in scheduler.http_application.applications if isinstance(each, BokehTornado)]
    if not shown:
        raise ValueError(f"the scheduler at {scheduler.address} has no dashboard to add a tab to")
    tabs = template_variables(scheduler)
    if PAGE in tabs["pages"]:
        return
    tabs["pages"].append(PAGE)
    # As the dashboard makes its own pages: under the same prefix, and stopped with the scheduler.
    page = BokehApplication(
        {f"/{PAGE}": cache_page}, scheduler, prefix=shown[0].prefix, template_variables=tabs
    )
    scheduler.http_application.add_application(page)
    page.initialize(IOLoop.current())
    page.start()
