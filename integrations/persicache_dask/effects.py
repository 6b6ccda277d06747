"""Which tasks are there for what they do, not for what they return."""

from __future__ import annotations

import functools
from typing import Any, Final

__all__ = ["has_effects"]

#: The writers of dask and xarray by module and name: what depends on one of these always runs.
_WRITERS: Final = {
    "dask.array.core": {"load_store_chunk", "load_chunk"},
    "dask.bag.avro": {"_write_avro_part"},
    "dask.bag.core": {"_to_textfiles_chunk"},
    "dask.dataframe.io.csv": {"_write_csv"},
    "dask.dataframe.io.hdf": {"_pd_to_hdf"},
    "dask.dataframe.io.json": {"write_json_partition"},
    "dask.dataframe.io.orc.arrow": {"write_partition"},
    "dask.dataframe.io.parquet.core": {"ToParquetFunctionWrapper"},
    "dask.dataframe.io.sql": {"_to_sql_chunk"},
    "numpy": {"save"},
    "xarray.backends.writers": {"_finalize_store"},
    "xarray.backends.api": {"_finalize_store"},
}


def has_effects(function: Any) -> bool:
    """Whether calling a function is known to change something outside.

    Examples
    --------
    >>> from dask.array.core import load_store_chunk
    >>> has_effects(load_store_chunk), has_effects(len)
    (True, False)
    """
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return getattr(named, "__name__", "") in _WRITERS.get(getattr(named, "__module__", ""), ())
