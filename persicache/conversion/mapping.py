"""Any dictionary that is open already."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from persicache.conversion.record import Record, Records
from persicache.errors import PersicacheError, UnloadableValue

__all__ = ["is_one", "records"]


def is_one(source: Any) -> bool:
    """Return whether it gives values by their keys, as no list does; diskcache's has no `keys`."""
    has_keys = hasattr(source, "keys") or hasattr(source, "iterkeys")
    return has_keys and all(hasattr(source, name) for name in ("__getitem__", "__iter__", "__len__"))


def records(source: Any) -> Records:
    """Return the items of a mapping, or of what has keys and values as one does."""

    def each() -> Generator[Record, None, None]:
        for key in source:
            yield Record(_plain(key), 1, _getter(source, key))

    return Records(type(source).__name__, len(source), each(), takes_threads=False)


def _getter(source: Any, key: Any) -> Callable[[], Any]:
    def load() -> Any:
        try:
            return source[key]
        except PersicacheError:
            raise
        except Exception as error:
            place, reason = f"a {type(source).__name__}", f"{type(error).__name__}: {error}"
            raise UnloadableValue(key=key, place=place, reason=reason) from error

    return load


def _plain(key: Any) -> Any:
    """Return the strings of persidict's keys, as `persidict.records` does; other keys as they are."""
    strings = getattr(key, "strings", None)
    if not isinstance(strings, tuple):
        return key
    return strings[0] if len(strings) == 1 else strings
