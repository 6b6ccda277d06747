"""The names of stones 0.1: `stone`, `LmdbStore` and `MemoryStore`.

Code written for stones runs with its import line changed, and LMDB environments that stones wrote
are read and written as they are. Besides, missing keys raise KeyError; `put`, `setdefault`,
`deep_add` and `deep_remove` lose no update among threads and processes; an environment grows, and
can be open several times in a process; tuples, sets and frozensets survive at any depth.

Examples
--------
>>> from persicache.compat.stones import MemoryStore, stone
>>> store = stone("a name", MemoryStore, serialize="msgpack", value_type=set)
>>> store[b"tu"] = ("Yes", "No", 3)
>>> store.deep_add(b"seen", 7)
>>> store.items()
[(b'tu', ('Yes', 'No', 3)), (b'seen', {7})]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from itertools import chain
from typing import Any, Final

from persicache.codecs import FORMATS, Bytes, Owner, PlainCodec, PlainFormat, flagged
from persicache.storage.lmdb_rows import LmdbRows
from persicache.storage.memory_rows import MemoryRows

__all__ = ["BaseStore", "EncoderException", "LmdbStore", "MemoryStore", "serializers", "stone"]

MOST_KEY_NBYTES: Final = 511
#: LMDB's options that would change what a store is; all others the engine chooses.
FOREIGN_OPTIONS: Final = {"readonly", "subdir", "lock", "create", "mode"}

PICKLE: Final = FORMATS["pickle"]
#: How to encode and decode, by the names of stones; more can be added.
serializers: Final[dict[str, dict[str, Callable[[Any], Any]]]] = {
    "noop": {"encode": lambda value: value, "decode": lambda value: value},
    "pickle": {"encode": lambda value: bytes(PICKLE.dump(value)[0]), "decode": PICKLE.load},
    "json": {"encode": flagged.encode_json, "decode": flagged.decode_json},
    "cbor": {"encode": flagged.encode_cbor, "decode": flagged.decode_cbor},
    "msgpack": {"encode": flagged.encode_msgpack, "decode": flagged.decode_msgpack},
}


class EncoderException(Exception):
    """A store was given no way to encode and decode."""


class BaseStore(MutableMapping[Any, Any]):
    """What all stores of stones are, over rows of bytes.

    With ``allow_pickle`` pickles are loaded and stored where others can write, too.
    """

    def __init__(
        self,
        rows: LmdbRows | MemoryRows,
        *,
        serialize: str | None,
        dump_load: Sequence[Callable[[Any], Any]],
        value_type: type,
        allow_pickle: bool | None = None,
    ) -> None:
        if serialize and serialize in serializers:
            encode, decode = serializers[serialize]["encode"], serializers[serialize]["decode"]
        elif dump_load:
            encode, decode = dump_load
        else:
            raise EncoderException("The store needs an encoder and a decoder")
        self._rows = rows
        self._place = repr(rows)
        self._type = value_type
        self._runs_code = decode is PICKLE.load
        plain = PlainFormat("", lambda value: [encode(value)], decode, runs_code=self._runs_code)
        self._codec = PlainCodec(plain, allow_pickle=allow_pickle)

    def _key(self, key: object) -> bytes:
        if not isinstance(key, (str, bytes)):
            raise TypeError(f"the keys of a store are bytes or str, not {key!r}")
        return key.encode() if isinstance(key, str) else key

    def _encode(self, key: bytes, value: object) -> Any:
        private = self._runs_code and self._rows.is_private()
        return self._codec.encode(value, Owner(key, repr(key), self._place), is_private=private)[0]

    def _decode(self, key: bytes, raw: Any) -> Any:
        private = self._runs_code and self._rows.is_private()
        return self._codec.decode(Bytes(raw, private), Owner(key, repr(key), self._place)).value

    def __getitem__(self, key: str | bytes) -> Any:
        name = self._key(key)
        raw = self._rows.get(name)
        if raw is None:
            raise KeyError(key)
        return self._decode(name, raw)

    def __setitem__(self, key: str | bytes, value: Any) -> None:
        name = self._key(key)
        self._rows.update([(name, self._encode(name, value))])

    def put(self, key: str | bytes, value: Any, overwrite: bool = False) -> None:  # noqa: FBT001, FBT002 - stones' signature
        """Set `key`; a value that is there stays, unless it is to be overwritten."""
        name = self._key(key)
        new = self._encode(name, value)
        self._rows.change(name, lambda old: new if overwrite or old is None else old)

    def __delitem__(self, key: str | bytes) -> None:
        if not BaseStore.delete(self, key):
            raise KeyError(key)

    def delete(self, key: str | bytes) -> bool:
        """Remove `key`; return whether it was there."""
        found: list[Any] = []

        def remove(old: Any) -> None:
            found[:] = [old]

        self._rows.change(self._key(key), remove)
        return found != [None]

    def setdefault(self, key: str | bytes, default: Any = None) -> Any:
        """Return the value of `key`, after setting it to `default` if there was none."""
        self.put(key, default, overwrite=False)
        return self.get(key, default)  # Race: it can be removed meanwhile

    def deep_add(self, key: str | bytes, value: Any) -> None:
        """Add a value to the list or set of `key`; no update is lost."""
        self._deep(key, ("add", "append"), value)

    def deep_remove(self, key: str | bytes, value: Any) -> None:
        """Remove a value from the list or set of `key`; no update is lost."""
        self._deep(key, ("discard", "remove"), value)

    def _deep(self, key: str | bytes, verbs: Sequence[str], value: Any) -> None:
        name = self._key(key)

        def change(old: Any) -> Any:
            data = self._type([] if old is None else self._decode(name, old))
            for verb in verbs:
                if hasattr(data, verb):
                    getattr(data, verb)(value)
                    return self._encode(name, data)
            raise TypeError(f"a {type(data).__name__} has no {verbs[0]}: give value_type=list or set")

        self._rows.change(name, change)

    def __contains__(self, key: object) -> bool:
        return self._rows.get(self._key(key)) is not None

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rows.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self._rows.keys())  # noqa: SIM118 - it isn't iterable

    # Lists, as stones' page prints them.

    def keys(self) -> list[bytes]:  # type: ignore[override]
        """Return a list of the keys."""
        return list(self._rows.keys())

    def values(self) -> list[Any]:  # type: ignore[override]
        """Return a list of the values."""
        return [value for _, value in self.items()]

    def items(self) -> list[tuple[bytes, Any]]:  # type: ignore[override]
        """Return a list of the items."""
        return [(key, self._decode(key, raw)) for key, raw in self._rows.items()]

    def __repr__(self) -> str:
        return type(self).__name__ + repr(dict(self.items()))

    def update(self, iterable: Any = (), /, **kwargs: Any) -> None:
        """Set several items, all or none of them."""
        pairs = iterable.items() if hasattr(iterable, "items") else iterable
        named = ((self._key(key), value) for key, value in chain(pairs, kwargs.items()))
        self._rows.update([(name, self._encode(name, value)) for name, value in named])

    def clear(self) -> None:
        """Remove every item."""
        self._rows.clear()

    def close(self) -> None:
        """Give back what is open; it is opened again when it is used."""
        self._rows.close()

    def destroy(self, yes_im_sure: bool = False) -> None:  # noqa: FBT001, FBT002 - stones' signature
        """Remove the store as a whole, with all of its tables, if you are sure."""
        if yes_im_sure:
            self._rows.destroy()


class LmdbStore(BaseStore):
    """A store in an LMDB environment, which grows: of the options in ``database`` only ``sync`` counts.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     LmdbStore(folder, iterable={"qwe": b"asd"}).items()
    [(b'qwe', b'asd')]
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        table: bytes | None = None,
        serialize: str | None = "json",
        dump_load: Sequence[Callable[[Any], Any]] = (),
        value_type: type = bytes,
        iterable: Any = (),
        database: Mapping[str, Any] = {},
        kwargs: Mapping[str, Any] = {},
        *,
        allow_pickle: bool | None = None,
    ) -> None:
        if foreign := sorted(database.keys() & FOREIGN_OPTIONS):
            raise ValueError(f"database= takes sizes and sync, not {foreign}")
        self.table = table
        rows = LmdbRows(name, table=table, durable=bool(database.get("sync", True)))
        super().__init__(
            rows, serialize=serialize, dump_load=dump_load, value_type=value_type, allow_pickle=allow_pickle
        )
        rows.make()
        if iterable or kwargs:
            self.update(iterable, **kwargs)

    def _key(self, key: object) -> bytes:
        name = super()._key(key)
        if not 0 < len(name) <= MOST_KEY_NBYTES:
            raise ValueError(
                f"a key of LMDB has 1 to {MOST_KEY_NBYTES} bytes, not {len(name)}: {key!r:.100}"
            )
        return name


class MemoryStore(BaseStore):
    """A store in this process's memory; the parameters are those of `LmdbStore`."""

    def __init__(
        self,
        *_name: object,
        serialize: str | None = "noop",
        dump_load: Sequence[Callable[[Any], Any]] = (),
        value_type: type = bytes,
        iterable: Any = (),
        kwargs: Mapping[str, Any] = {},
    ) -> None:
        super().__init__(MemoryRows(), serialize=serialize, dump_load=dump_load, value_type=value_type)
        self.update(iterable, **kwargs)

    def put(self, key: str | bytes, value: Any, overwrite: bool = True) -> None:  # noqa: FBT001, FBT002 - stones' signature
        """Set `key`; a value that is there stays, if it is not to be overwritten."""
        super().put(key, value, overwrite)

    def delete(self, key: str | bytes) -> bool:
        """Remove `key`; KeyError if it isn't there."""
        del self[key]
        return True

    # In a list, so that None is a value, too.

    def _encode(self, key: bytes, value: object) -> list[Any]:
        return [super()._encode(key, value)]

    def _decode(self, key: bytes, raw: list[Any]) -> Any:
        return super()._decode(key, raw[0])


def stone(
    name: Any,
    store: Callable[..., Any] = MemoryStore,
    serialize: str | None = "pickle",
    dump_load: Sequence[Callable[[Any], Any]] = (),
    value_type: type = bytes,
    options: Mapping[str, Any] = {},
) -> Any:
    """Return a store; the parameters are those of `LmdbStore`, and `options` more of them.

    Raises
    ------
    EncoderException
        If there is no such serializer.
    """
    if serialize and serialize not in serializers:
        raise EncoderException(f'Invalid serializer name "{serialize}": give one of {sorted(serializers)}')
    return store(name, serialize=serialize, dump_load=dump_load, value_type=value_type, **options)
