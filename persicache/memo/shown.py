"""Arguments, as a person reads them in a line: `shown_arguments`."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Final

from persicache.errors import Shown

__all__ = ["is_shown_whole", "shown_argument", "shown_arguments", "type_shown"]

#: What of an argument is shown.
_MOST_CHARACTERS: Final = 120

#: Whose repr is short, and tells all.
_PLAIN: Final = frozenset({type(None), bool, float, complex})
_PLAIN_INT: Final = 1 << 64
_PLAIN_LENGTH: Final = 12  # of a text: its repr may need ten characters for one
#: Whose repr tells the type.
_TELLING: Final = frozenset({*_PLAIN, int, str, bytes, list, tuple, dict, set, frozenset})

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
    if is_shown_whole(value):
        return repr(value)
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape:
            dtype = getattr(value, "dtype", None)
            return f"{type(value).__name__} {shape}{'' if dtype is None else f' {dtype}'}"
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001 - its own code ran
        text = repr(Shown(value))
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def is_shown_whole(value: object) -> bool:
    """Return whether `shown_argument` tells two such values apart whenever they differ. Quick.

    Examples
    --------
    >>> is_shown_whole(3), is_shown_whole("a"), is_shown_whole([3])
    (True, True, False)
    """
    cls = type(value)
    return (
        cls in _PLAIN
        or (cls is int and -_PLAIN_INT < value < _PLAIN_INT)  # type: ignore[operator]
        or ((cls is str or cls is bytes) and len(value) <= _PLAIN_LENGTH)  # type: ignore[arg-type]
    )


def type_shown(value: object) -> str | None:
    """Return the name of a value's type; None if `shown_argument` tells it.

    Examples
    --------
    >>> from pathlib import PurePosixPath
    >>> type_shown(3), type_shown(PurePosixPath("a"))
    (None, 'pathlib.PurePosixPath')
    """
    cls = type(value)
    return None if cls in _TELLING else f"{cls.__module__}.{cls.__qualname__}"
