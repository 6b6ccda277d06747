"""Who called, where joblib doesn't tell a backend for whom it works: `caller`."""

from __future__ import annotations

import inspect
from typing import Final, TypeVar

__all__ = ["caller"]

T = TypeVar("T")

#: How far up joblib's own functions reach.
MOST_FRAMES: Final = 4


def caller(kind: type[T]) -> T | None:
    """Return the nearest object of this kind one of whose methods is running; None if there is none.

    Examples
    --------
    >>> class Asks:
    ...     def ask(self): return caller(Asks) is self
    >>> Asks().ask(), caller(Asks)
    (True, None)
    """
    frame = inspect.currentframe()
    for _ in range(MOST_FRAMES):
        frame = None if frame is None else frame.f_back
        if frame is None:
            return None
        found = frame.f_locals.get("self")
        if isinstance(found, kind):
            return found
    return None
