"""Arrays that can't be changed: `readonly`."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["readonly"]


def readonly(value: Any) -> Any:
    """Return a value whose arrays, in lists, tuples and dicts too, can't be written to.

    Examples
    --------
    >>> readonly({"a": [np.zeros(2)]})["a"][0].flags.writeable
    False
    """
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    elif isinstance(value, (list, tuple)):
        for each in value:
            readonly(each)
    elif isinstance(value, dict):
        for each in value.values():
            readonly(each)
    return value
