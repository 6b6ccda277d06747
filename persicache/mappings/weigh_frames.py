"""What frames, series and indexes of pandas are made of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from persicache.mappings.weigh_memory import Opaque

__all__ = ["is_frame", "parts_of_frame"]

#: Of more columns of a type as many, spread evenly, are looked at.
MAX_COLUMNS: Final = 50
#: Types of columns that are told apart.
MAX_DTYPES: Final = 4


def is_frame(cls: type) -> bool:
    """Return whether a class is that of a frame, a series or an index."""
    pandas: Any = sys.modules.get("pandas")
    # hasattr: while it is imported
    return hasattr(pandas, "DataFrame") and issubclass(cls, (pandas.DataFrame, pandas.Series, pandas.Index))


def parts_of_frame(frame: Any) -> Iterator[tuple[list[Any], float]]:
    """Yield what a frame is made of, and how many like them each of these stands for.

    That is arrays, indexes, and memory of a known size. Arrays are views of what the frame holds,
    not copies.
    """
    pandas: Any = sys.modules["pandas"]
    if isinstance(frame, pandas.Index):
        yield list(_parts_of_index(frame, pandas)), 1.0
        return
    yield [frame.index, frame.attrs], 1.0
    if isinstance(frame, pandas.Series):
        yield _column(frame, pandas), 1.0
        return
    yield [frame.columns], 1.0
    for places in _alike(frame):
        some = places[:: -(-len(places) // MAX_COLUMNS)]
        yield [part for i in some for part in _column(frame.iloc[:, i], pandas)], len(places) / len(some)


def _alike(frame: Any) -> list[list[int]]:
    """Return the places of columns of the same type."""
    if frame.shape[1] <= MAX_COLUMNS:
        return [list(range(frame.shape[1]))] if frame.shape[1] else []
    alike: dict[Any, list[int]] = {}
    for i, dtype in enumerate(frame.dtypes.to_numpy()):
        # By what the type is called: there may be one for each column, as of categories.
        name = type(dtype) if len(alike) < MAX_DTYPES or type(dtype) in alike else None
        alike.setdefault(dtype.kind if isinstance(dtype, np.dtype) else name, []).append(i)
    return list(alike.values())


def _parts_of_index(index: Any, pandas: Any) -> Iterator[Any]:
    if isinstance(index, pandas.MultiIndex):
        yield from index.levels
        yield from index.codes
    elif not isinstance(index, pandas.RangeIndex):
        yield from _column(index, pandas)
    # What it has made to look things up: a table, which tells its size, and what it was made of.
    # To ask for it otherwise would make it.
    made = getattr(index, "_cache", None)
    if isinstance(made, dict):
        yield made
        yield getattr(made.get("_engine"), "values", None)


def _column(column: Any, pandas: Any) -> list[Any]:
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return [column.to_numpy(copy=False)]
    if isinstance(dtype, pandas.CategoricalDtype):
        return [dtype.categories, column.array.codes]
    if isinstance(dtype, pandas.StringDtype) and dtype.storage == "python":
        return [column.to_numpy(dtype=object, copy=False)]
    if isinstance(dtype, (pandas.StringDtype, pandas.ArrowDtype)):
        return [column.array.__arrow_array__()]  # the one that it holds
    return [Opaque(int(column.array.nbytes))]
