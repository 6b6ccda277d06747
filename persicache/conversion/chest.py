"""The directories of chest."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, Final

from persicache.codecs import Owner
from persicache.conversion.codecs import plain
from persicache.conversion.files import Files
from persicache.conversion.record import Record, Records, lazily
from persicache.errors import CorruptEntry

__all__ = ["KEYS_FILE", "records"]

#: Where chest keeps which key is in which file.
KEYS_FILE: Final = ".keys"


def records(files: Files, *, allow_pickle: bool | None) -> Records:
    """Return what a chest holds; its keys stay as they are.

    It was written by `pickle`, or by `json`, as its list of keys is. Values that were in memory
    only when it was closed aren't there.
    """
    head = files.read(KEYS_FILE)
    codec = plain("json" if bytes(head.buffer)[:1] == b"[" else "pickle", allow_pickle=allow_pickle)
    names = codec.decode(head, Owner(KEYS_FILE, KEYS_FILE, files.place)).value
    try:
        pairs = [(key, str(name)) for key, name in names]
    except (TypeError, ValueError) as error:
        reason = "it is no list of keys and files"
        raise CorruptEntry(key=KEYS_FILE, place=files.place, reason=reason) from error

    def each() -> Generator[Record, None, None]:
        for key, name in pairs:
            load = lazily(codec, partial(files.read, name), key=key, place=files.place)
            yield Record(_hashable(key), files.sizes.get(name, 0), load)

    return Records("chest", sum(files.sizes.get(name, 0) for _, name in pairs), each())


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key  # JSON has no tuples
