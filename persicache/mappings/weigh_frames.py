"""What frames, series and indexes of pandas are made of."""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np

__all__ = ["parts_of_frame"]

#: Of wider frames as many columns, spread evenly, are looked at.
MAX_COLUMNS: Final = 400


class _Opaque:
    """Memory that has a size, and no parts."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __sizeof__(self) -> int:
        return self._size


def parts_of_frame(value: Any) -> list[Any] | None:
    """Return what `value` is made of: arrays, indexes, and memory of a known size.

    None if it is nothing of pandas. Arrays are views of what the frame holds, not copies.
    """
    pandas = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "DataFrame"):  # hasattr: while it is imported
        return None
    if isinstance(value, pandas.DataFrame):
        return [value.index, value.columns, *_columns(value, pandas)]
    if isinstance(value, pandas.Series):
        return [value.index, *_column(value, pandas)]
    if isinstance(value, pandas.RangeIndex):
        return []
    if isinstance(value, pandas.MultiIndex):
        return [*value.levels, *value.codes]
    if isinstance(value, pandas.Index):
        return _column(value, pandas)
    return None


def _columns(frame: Any, pandas: Any) -> list[Any]:
    n = frame.shape[1]
    seen = range(0, n, max(1, -(-n // MAX_COLUMNS)))
    columns = [frame.iloc[:, i] for i in seen]
    parts = [part for column in columns for part in _column(column, pandas)]
    if len(seen) < n:
        parts.append(_Opaque(sum(column.nbytes for column in columns) * (n - len(seen)) // len(seen)))
    return parts


def _column(column: Any, pandas: Any) -> list[Any]:
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return [column.to_numpy(copy=False)]
    if isinstance(dtype, pandas.StringDtype) and dtype.storage == "python":
        return [column.to_numpy(dtype=object, copy=False)]
    if isinstance(dtype, pandas.CategoricalDtype):
        return [dtype.categories, _Opaque(int(column.array.codes.nbytes))]
    return [_Opaque(int(column.array.nbytes))]
