"""Any dictionary that is open already."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

from persicache.conversion.record import Record, Records

__all__ = ["records"]


def records(source: Any) -> Records:
    """Return the items of a mapping, or of what has keys and values as one does."""

    def each() -> Generator[Record, None, None]:
        for key in source:
            yield Record(_plain(key), 1, partial(source.__getitem__, key))

    return Records(type(source).__name__, len(source), each(), takes_threads=False)


def _plain(key: Any) -> Any:
    """Return the strings of persidict's keys, as `persidict.records` does; other keys as they are."""
    strings = getattr(key, "strings", None)
    if not isinstance(strings, tuple):
        return key
    return strings[0] if len(strings) == 1 else strings
