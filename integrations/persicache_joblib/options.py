"""What joblib's options say in persicache's terms."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["check_mmap_mode", "compression_of", "dictionary_options", "place_of", "set_defaults"]

#: The options of `PersiDict` that make sense for results.
TAKEN: Final = frozenset(
    {"allow_pickle", "durable", "namespace", "near", "signing_key", "storage_options", "verify"}
)
#: A whole place in one file, in which there are no folders.
_ONE_FILE: Final = re.compile(r"^(sqlite|lmdb|jsondoc)://|\.(db|sqlite|sqlite3|json)$")
_BROKEN_URL: Final = re.compile(r"^[a-z][a-z0-9+.-]+:/[^/]")

_defaults: Final[dict[str, Any]] = {}


def set_defaults(given: Mapping[str, Any]) -> None:
    """Let these options hold in this process where a Memory has no others."""
    _check(given)
    _defaults.clear()
    _defaults.update(given)


def dictionary_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a dictionary for what ``backend_options=`` says.

    Raises
    ------
    TypeError
        If it says something that there isn't.

    Examples
    --------
    >>> dictionary_options({"near": "copies", "compress": 3})
    {'durable': False, 'compression': 'zstd', 'near': 'copies'}
    """
    own = {name: value for name, value in given.items() if name not in {"compress", "mmap_mode"}}
    _check(own)
    # A result that a power cut took is computed again.
    return {"durable": False, "compression": compression_of(given.get("compress")), **_defaults, **own}


def _check(given: Mapping[str, Any]) -> None:
    unknown = sorted(given.keys() - TAKEN)
    if unknown:
        raise TypeError(
            f"the backend has no options {', '.join(unknown)}; it has {', '.join(sorted(TAKEN))}"
        )


def compression_of(compress: Any) -> str | None:
    """Return the compression for what joblib calls `compress`: lz4 if that is named, else zstd.

    Examples
    --------
    >>> [compression_of(each) for each in (False, 0, None, True, 9, ("zlib", 3), "lz4", ("lz4", 1))]
    [None, None, None, 'zstd', 'zstd', 'zstd', 'lz4', 'lz4']
    """
    if not compress:
        return None
    method = compress[0] if isinstance(compress, (tuple, list)) else compress
    return "lz4" if method == "lz4" else "zstd"


def check_mmap_mode(mode: Any) -> None:
    """Raise ValueError unless results can be mapped in this mode.

    Examples
    --------
    >>> check_mmap_mode("r+")
    Traceback (most recent call last):
    ValueError: mmap_mode='r+' would let callers change what is stored: give 'c', a private copy, or 'r'
    """
    if mode in {None, "c", "r"}:
        return
    if mode in {"r+", "w+"}:
        raise ValueError(
            f"mmap_mode={mode!r} would let callers change what is stored: give 'c', a private copy, or 'r'"
        )
    raise ValueError(f"mmap_mode must be 'c', 'r' or None, not {mode!r}")


def place_of(location: str) -> str:
    """Return the place for what joblib makes of the location that a person gave.

    It appends "/joblib" to texts, which in a database would be another file.

    Examples
    --------
    >>> place_of("s3://team/cache/joblib"), place_of("results.db/joblib")
    ('s3://team/cache/joblib', 'results.db')
    >>> place_of("s3:/team/cache")
    Traceback (most recent call last):
    ValueError: 's3:/team/cache' was a URL before it became a Path: give it as a text
    """
    if _BROKEN_URL.match(location):
        raise ValueError(f"{location!r} was a URL before it became a Path: give it as a text")
    shorter = location.removesuffix("joblib")
    if shorter[:-1] and shorter[-1] in {"/", os.sep} and _ONE_FILE.search(shorter[:-1]):
        return shorter[:-1]
    return location
