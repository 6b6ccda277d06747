"""persicache for dask: results that outlive the session, and more data than memory.

`ResultCache` and `cached` reuse the results of dask collections; `OpportunisticCache` keeps what a
local scheduler computes in memory; `spill_data` and `SpillWorker` make workers spill by persicache;
`CacheWorkerPlugin` and `DashboardPlugin` show it.
"""

import importlib
from typing import Any, Final

from persicache import MissingDependency

#: Where each name is defined: a name's module, and dask with it, is imported at its first use.
_MODULES: Final = {
    "CacheWorkerPlugin": "plugins",
    "DashboardPlugin": "dashboard",
    "OpportunisticCache": "opportunistic",
    "ResultCache": "result_cache",
    "SpillWorker": "worker",
    "cached": "result_cache",
    "spill_data": "spilling",
}

__all__ = sorted(_MODULES)  # noqa: PLE0605 - a sorted list all the same


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for package in ("dask", "distributed"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise MissingDependency(package=package, extra="dask") from error
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
