"""What a value weighs in memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import numpy as np

__all__ = ["nbytes"]

#: Containers are looked into this deep; below, their own size counts.
MAX_DEPTH: Final = 20
#: Of longer containers as many items, spread evenly, are weighed and scaled up.
MAX_ITEMS: Final = 1000


def nbytes(value: Any) -> int:
    """Return about how many bytes of memory `value` takes, what it refers to included.

    Arrays count their data, frames and series their columns with the objects in them,
    containers their items (of more than 1,000 a sample), all else `sys.getsizeof`.

    Examples
    --------
    >>> import numpy as np
    >>> 8_000_000 <= nbytes(np.zeros(1_000_000)) < 8_000_200
    True
    >>> nbytes([b"x" * 10_000] * 3) > 30_000
    True
    """
    return _weigh(value, 0)


def _weigh(value: Any, depth: int) -> int:
    if isinstance(value, np.ndarray):
        return _weigh_array(value, depth)
    if isinstance(value, memoryview):
        return value.nbytes + 200
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
        usage = value.memory_usage(deep=True)
        return int(usage.sum() if isinstance(value, pandas.DataFrame) else usage) + 500
    size = sys.getsizeof(value, 100)
    if depth > MAX_DEPTH:
        return size
    if isinstance(value, Mapping):
        return size + _weigh_items(list(value.keys()), depth) + _weigh_items(list(value.values()), depth)
    if isinstance(value, (list, tuple)):
        return size + _weigh_items(value, depth)
    if isinstance(value, AbstractSet):
        return size + _weigh_items(list(value), depth)
    inner = getattr(value, "__dict__", None)
    return size + (_weigh(inner, depth + 1) if isinstance(inner, dict) else 0)


def _weigh_array(value: np.ndarray[Any, Any], depth: int) -> int:
    size = value.nbytes + 112
    if value.dtype.hasobject and value.dtype.fields is None:
        size += _weigh_items(list(value.flat), depth)
    return size


def _weigh_items(items: Any, depth: int) -> int:
    if len(items) <= MAX_ITEMS:
        return sum(_weigh(item, depth + 1) for item in items)
    step = len(items) // MAX_ITEMS
    sample = items[::step]
    return sum(_weigh(item, depth + 1) for item in sample) * len(items) // len(sample)
