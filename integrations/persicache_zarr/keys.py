"""The names of zarr as keys of a mapping, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["key_of", "name_of", "names_among", "prefix_of"]


def key_of(name: str) -> str | tuple[str, ...]:
    """Return the key of a PersiDict for a name of zarr: its parts, so that listings can go by groups.

    Examples
    --------
    >>> key_of("run/c/0"), key_of("zarr.json")
    (('run', 'c', '0'), 'zarr.json')
    """
    parts = name.split("/")
    return tuple(parts) if len(parts) > 1 else name


def prefix_of(folder: str) -> tuple[str, ...]:
    """Return the prefix of the keys below a folder; () for the root.

    Examples
    --------
    >>> prefix_of("run/c/"), prefix_of("")
    (('run', 'c'), ())
    """
    folder = folder.strip("/")
    return tuple(folder.split("/")) if folder else ()


def name_of(key: Any) -> str | None:
    """Return the name of zarr that a key stands for; None if it is none of zarr's.

    Examples
    --------
    >>> name_of(("run", "c", "0")), name_of(("zarr.json",)), name_of(7)
    ('run/c/0', None, None)
    """
    parts = key if type(key) is tuple else (key,)
    if not all(type(part) is str for part in parts):
        return None
    name = "/".join(parts)
    return name if key_of(name) == key else None


def names_among(keys: Iterable[Any], prefix: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of those of `keys`, which go on where `prefix` ends, that are zarr's."""
    for key in keys:
        whole = (*prefix, *(key if type(key) is tuple else (key,))) if prefix else key
        name = name_of(whole)
        if name is not None:
            yield name
