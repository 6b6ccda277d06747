"""Warnings that point at who called the dictionary."""

from __future__ import annotations

import inspect
import warnings
from typing import Final

from persicache.errors import PersicacheWarning

__all__ = ["warn_caller"]

# The standard library's mixins call our methods for the caller.
_OURS: Final = ("persicache.", "collections.abc", "_collections_abc")


def warn_caller(message: str) -> None:
    """Warn of something that went wrong, at the line that called into this package."""
    level = 1
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        frame = frame.f_back
        level += 1
    warnings.warn(message, PersicacheWarning, stacklevel=level)
