"""One value that another cache stored, and all of them: `Record`, `Records`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from persicache.codecs import Bytes, Codec, Owner

__all__ = ["Record", "Records", "lazily"]


class Record(NamedTuple):
    """A value that can be loaded.

    Attributes
    ----------
    key : object
        What its key becomes.
    nbytes : int
        How much of the whole it is.
    load : callable
        Returns the value; raises `CorruptEntry`, `UntrustedPickle`, `UnloadableValue`.
    """

    key: Any
    nbytes: int
    load: Callable[[], Any]


class Records(NamedTuple):
    """All that a cache holds.

    Attributes
    ----------
    kind : str
        Whose it is, such as "chest".
    nbytes : int
        How much it is in all.
    records : generator of Record
        Each of them; to be gone through once.
    takes_threads : bool, default True
        Whether several of them can be loaded at once, in any thread.
    """

    kind: str
    nbytes: int
    records: Generator[Record, None, None]
    takes_threads: bool = True


def lazily(codec: Codec, read: Callable[[], Bytes], *, key: object, place: str) -> Callable[[], Any]:
    """Return what decodes a value when it is asked for."""
    return lambda: codec.decode(read(), Owner(key, repr(key), place)).value
