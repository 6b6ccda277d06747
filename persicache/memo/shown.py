"""Arguments, as a person reads them in a line: `shown_arguments`."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Final

from persicache.errors import Shown

__all__ = ["shown_argument", "shown_arguments"]

#: What of an argument is shown.
_MOST_CHARACTERS: Final = 120

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _MOST_CHARACTERS
_repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = _repr.maxdeque = _repr.maxdict = 10


def shown_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Show each argument.

    Examples
    --------
    >>> shown_arguments({"x": 3, "name": "a"})
    {'x': '3', 'name': "'a'"}
    """
    return {name: shown_argument(value) for name, value in arguments.items()}


def shown_argument(value: object) -> str:
    """Show a value in a few characters, whatever it is; of arrays and tables the shape.

    Examples
    --------
    >>> import numpy as np
    >>> shown_argument(np.zeros((1000, 3)))
    'ndarray (1000, 3) float64'
    """
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape:
            dtype = getattr(value, "dtype", None)
            return f"{type(value).__name__} {shape}{'' if dtype is None else f' {dtype}'}"
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001 - its own code ran
        text = repr(Shown(value))
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
