"""The options of a SpillDict, checked when they are given."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

from persicache.errors import Shown
from persicache.mappings.budget import parse_nbytes

__all__ = ["check_function", "check_private_in", "check_spill_to", "parse_budget", "parse_weight"]


def parse_budget(amount: float | str) -> int:
    """Return `available_memory` in bytes; TypeError or ValueError, that names it, if it is none."""
    try:
        return parse_nbytes(amount)
    except (TypeError, ValueError) as error:
        raise type(error)(f"available_memory: {error}") from None


def check_function(option: str, given: object) -> None:
    """Raise TypeError unless the value of an option can be called."""
    if not callable(given):
        raise TypeError(f"{option} must be a function, not {Shown(given)!r}")


def check_private_in(given: object) -> str:
    """Return the path of the directory that the private one is made in; made itself if need be.

    Raises
    ------
    TypeError, ValueError
        If it is no path, or a URL: what is private is local.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"private_in must be the path of a directory, not {Shown(given)!r}")
    path = os.fspath(given)
    if not isinstance(path, str) or not path or "://" in path:
        raise ValueError(f"private_in must be the path of a local directory, not {Shown(given)!r}")
    directory = Path(path).expanduser().absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return str(directory)


def check_spill_to(given: object, *, private_in: object = None) -> None:
    """Raise TypeError unless it is something to spill to."""
    if private_in is not None:
        raise TypeError("give spill_to or private_in: what is spilled to a given place is not private")
    if not isinstance(given, (str, os.PathLike, MutableMapping)):
        raise TypeError(f"spill_to must be a path, a URL or a MutableMapping, not {Shown(given)!r}")


def parse_weight(weight: float, value: object) -> int:
    """Return what `weigh` said of a value as a number of bytes.

    Raises
    ------
    TypeError, ValueError
        If it isn't one.
    """
    try:
        if weight >= 0 and math.isfinite(weight):
            return math.ceil(weight)
        kind: type[Exception] = ValueError
    except (TypeError, ValueError, ArithmeticError):
        kind = TypeError
    raise kind(
        f"weigh says {Shown(weight)!r} of a value of type {type(value).__name__!r}: "
        "it must be a number of bytes, 0 or more"
    )
