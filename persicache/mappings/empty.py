"""A dictionary that keeps nothing: `EmptyDict`."""

from __future__ import annotations

from typing import Any, TypeVar

from persicache.codecs import codec_for
from persicache.mappings.entries import Entries
from persicache.mappings.persidict import PersiDict
from persicache.storage import NullStorage

__all__ = ["EmptyDict"]

V = TypeVar("V")


class EmptyDict(PersiDict[V]):
    """A `PersiDict` that takes everything and is always empty: to switch persistence off.

    Keys and values are checked as by any other.

    Examples
    --------
    >>> d = EmptyDict()
    >>> d["a"] = 1
    >>> len(d), d.get("a")
    (0, None)
    """

    def __init__(self) -> None:
        self._codec_options: dict[str, Any] = {}
        self._hold(Entries(NullStorage(), codec_for()), {})
