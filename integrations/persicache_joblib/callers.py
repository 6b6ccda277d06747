"""Who called, where joblib doesn't tell a backend for whom it works: `caller` and `warn_caller`."""

from __future__ import annotations

import inspect
import warnings
from typing import Final, TypeVar

from persicache import PersicacheWarning

__all__ = ["caller", "warn_caller"]

T = TypeVar("T")

#: How far up joblib's own functions reach.
MOST_FRAMES: Final = 4
OURS: Final = frozenset({"joblib", "persicache_joblib"})


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


def warn_caller(message: str) -> None:
    """Warn whoever called a function that joblib decorated."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, PersicacheWarning, stacklevel=level)
