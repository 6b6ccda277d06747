"""One file for the entries of two dictionaries: `link`."""

from __future__ import annotations

from typing import Any

from persicache.keys import Key
from persicache.mappings.persidict import PersiDict
from persicache.storage.local import LocalStorage

__all__ = ["link"]


def link(key: Key, source: PersiDict[Any], into: PersiDict[Any]) -> bool:
    """Let a dictionary have the entry of a key that another has, by a hard link.

    Returns whether that was done. It can be where both are local directories of one filesystem,
    with the same settings, the second has no such key, and nobody else can write to either.
    """
    # Both are of this room. An entry holds its key, and not where it lies.
    here, there = source._entries.storage, into._entries.storage  # noqa: SLF001
    return (
        isinstance(here, LocalStorage)
        and isinstance(there, LocalStorage)
        and _settings(source) == _settings(into)
        and here.share(source._locate(key).name, there)  # noqa: SLF001
    )


def _settings(values: PersiDict[Any]) -> dict[str, Any]:
    given = values.get_params()
    return {"prefix": values._prefix} | {  # noqa: SLF001 - as above
        name: given[name] for name in given.keys() - {"url", "durable", "verify", "append_only"}
    }
