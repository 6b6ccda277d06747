"""The LMDB environments of stones."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Final

from persicache.codecs import Bytes, Codec
from persicache.compat.stones import serializers
from persicache.conversion.codecs import plain, reader
from persicache.conversion.record import Record, Records, lazily
from persicache.errors import MissingDependency
from persicache.storage import is_private_file
from persicache.storage.lmdb_environment import data_file
from persicache.storage.snapshots import lmdb_snapshot

__all__ = ["records"]

#: Any of these can have written a value that isn't a pickle.
SAFE: Final = ("json", "msgpack", "cbor")
PICKLE_BEGINS: Final = b"\x80"
PICKLE_ENDS: Final = b"."


def records(path: str, *, allow_pickle: bool | None) -> Records:
    """Return what an environment holds.

    Keys stay bytes; those of tables become tuples, the table and the key. Which serializer
    wrote a table is told by its values.

    Raises
    ------
    ValueError
        If several could have written a table, or none.
    """
    guesses: dict[bytes | None, _Guess] = {}
    nbytes = 0
    for table, _, value in lmdb_snapshot(path):
        guesses.setdefault(table, _Guess()).look(value)
        nbytes += len(value)
    codecs = {
        table: guess.codec(path, table, allow_pickle=allow_pickle) for table, guess in guesses.items()
    }
    is_private = is_private_file(data_file(path))

    def each() -> Generator[Record, None, None]:
        for table, raw, value in lmdb_snapshot(path):
            key = raw if table is None else (table, raw)
            read = partial(Bytes, value, is_private)
            yield Record(key, len(value), lazily(codecs[table], read, key=key, place=path))

    return Records("stones", nbytes, each())


class _Guess:
    """Which serializers can have written all of the values that were looked at."""

    def __init__(self) -> None:
        self._left = ["pickle", *SAFE]

    def look(self, value: bytes) -> None:
        self._left = [name for name in self._left if _fits(name, value)]

    def codec(self, path: str, table: bytes | None, *, allow_pickle: bool | None) -> Codec:
        if len(self._left) != 1:
            could = " or ".join(self._left) or "none that stones has"
            where = path if table is None else f"table {table!r} of {path}"
            raise ValueError(
                f"the serializer of {where} can't be told by its values, it could be {could}: give the "
                f"store instead, persicache.convert(stone({path!r}, LmdbStore, serialize=...), ...)"
            )
        if self._left == ["pickle"]:
            return plain("pickle", allow_pickle=allow_pickle)
        return reader(serializers[self._left[0]]["decode"])


def _fits(name: str, value: bytes) -> bool:
    if name == "pickle":  # which isn't loaded to find out
        return value.startswith(PICKLE_BEGINS) and value.endswith(PICKLE_ENDS)
    try:
        serializers[name]["decode"](value)
    except MissingDependency:
        return False
    except Exception:  # noqa: BLE001 - whatever a decoder raises for what isn't its own
        return False
    return True
