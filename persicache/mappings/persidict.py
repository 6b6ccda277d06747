"""A dictionary that persists: `PersiDict`."""

from __future__ import annotations

import os
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from persicache.codecs import SigningKey, Verify, codec_for
from persicache.errors import BlobNotFound, VersionConflict
from persicache.keys import Key
from persicache.mappings.entries import Entries, open_entries
from persicache.storage import ABSENT, Buffer

__all__ = ["PersiDict"]

V = TypeVar("V")

#: How many entries one request for many asks for at once.
BATCH: Final = 256
#: How many bytes of encoded values `set_many` holds before it writes them.
BATCH_NBYTES: Final = 32 * 1024 * 1024


class PersiDict(MutableMapping[Any, V]):
    """A dictionary whose values lie in files, in a bucket, or in any other fsspec place.

    Every value is an entry of its own, written whole or not at all. Several dictionaries,
    threads, processes and hosts can share a place. A value that is read is the reader's own:
    to keep a change, assign it again. Iteration is in no particular order.

    Parameters
    ----------
    url : str or path-like
        The place: a directory, ``memory://…``, ``s3://bucket/prefix``, or any other fsspec
        URL. It is made when the first value is set.
    format : str, default "auto"
        "auto" for entries that carry checksum and metadata, and choose the codec by value; or
        a plain format for files that other tools read: "pickle", "json", "text", "bytes",
        "cbor", "msgpack", "npy". A dictionary sees the entries of its own format only.
    dump, load : callable, optional
        A plain format of your own: functions such as `pickle.dump` and `pickle.load`.
    extension : str, default ".dat"
        With `dump` and `load`: what its files end in.
    durable : bool, default True
        Whether a value that was set survives a power cut; if not, it survives the process.
    compression : {None, "lz4", "zstd"}, default None
        For large parts of new values.
    signing_key : str, bytes or a sequence of these, optional
        A secret that signs every entry; entries without a valid signature are refused. Of
        several, the first signs and all are accepted.
    allow_pickle : bool, optional
        Whether values that need pickle are stored and loaded. Unpickling runs code, so by
        default only where nobody else can write, or with a `signing_key`.
    verify : {"first", "always", "header"}, default "first"
        When the checksums of large arrays are verified: when this process first reads them
        and after their file has changed, on every read, or never. All else always is.
    namespace : str, default ""
        Entries of one namespace are not valid in another.
    storage_options : mapping, optional
        For the fsspec filesystem: credentials, endpoint.

    Raises
    ------
    ValueError
        If an option or the URL makes no sense.

    Notes
    -----
    Besides what every dictionary raises, a value that is not what was stored raises
    `CorruptEntry`, a place that can't be reached `BackendError`, a pickle that others could
    have written `UntrustedPickle`. None of these is a KeyError: they are never a miss.

    Examples
    --------
    >>> d = PersiDict("memory://doc-persidict")
    >>> d["greeting"] = "hello"
    >>> d["runs", 7] = {"loss": 0.25}
    >>> PersiDict("memory://doc-persidict")["runs", 7]
    {'loss': 0.25}
    >>> sorted(d, key=str)
    [('runs', 7), 'greeting']
    >>> d.clear()
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        format: str = "auto",  # noqa: A002 - the field's name for it
        dump: Callable[..., object] | None = None,
        load: Callable[..., Any] | None = None,
        extension: str = ".dat",
        durable: bool = True,
        compression: str | None = None,
        signing_key: SigningKey | None = None,
        allow_pickle: bool | None = None,
        verify: Verify = "first",
        namespace: str = "",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._codec_options: dict[str, Any] = {
            "format": format,
            "dump": dump,
            "load": load,
            "extension": extension,
            "namespace": namespace,
            "compression": compression,
            "signing_key": signing_key,
            "allow_pickle": allow_pickle,
            "verify": verify,
        }
        codec = codec_for(**self._codec_options)
        self._entries = open_entries(url, codec, durable=durable, storage_options=storage_options)

    def __getstate__(self) -> dict[str, Any]:
        # The place and the options travel; what is open stays here.
        return {"storage": self._entries.storage, "codec_options": self._codec_options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._codec_options = state["codec_options"]
        self._entries = Entries(state["storage"], codec_for(**self._codec_options))

    def __repr__(self) -> str:
        extension = self._entries.extension
        plain = "" if extension == ".pc" else f", extension={extension!r}"
        return f"{type(self).__name__}({self._entries.storage.url!r}{plain})"

    @property
    def url(self) -> str:
        """The place, without secrets."""
        return self._entries.storage.url

    # One key

    def __getitem__(self, key: Key) -> V:
        where = self._entries.locate(key)
        try:
            value: V = self._entries.load(key, where).value
        except BlobNotFound:
            raise KeyError(key) from None
        return value

    def __setitem__(self, key: Key, value: V) -> None:
        self._entries.save(key, self._entries.locate(key), value)

    def __delitem__(self, key: Key) -> None:
        if not self._entries.storage.remove(self._entries.locate(key).name):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        try:
            self._entries.storage.stat(self._entries.locate(key).name)  # type: ignore[arg-type]
        except BlobNotFound:
            return False
        return True

    def setdefault(self, key: Key, default: V = None) -> V:  # type: ignore[assignment]
        """Return the value of `key`, after storing `default` there if there was none.

        Where the place can compare and swap, one of several who do so at once wins, and all
        return its value.
        """
        where = self._entries.locate(key)
        while True:
            try:
                return self[key]
            except KeyError:
                if not self._entries.storage.can_compare_and_swap:
                    self[key] = default
                    return default
            try:
                self._entries.save(key, where, default, expect=ABSENT)
            except VersionConflict:
                continue
            return default

    def etag(self, key: Key) -> str:
        """Return a token that differs after every write of `key`.

        Raises
        ------
        KeyError
            If there is no such key.

        Examples
        --------
        >>> d = PersiDict("memory://doc-etag")
        >>> d["a"] = 1
        >>> before = d.etag("a")
        >>> d["a"] = 1
        >>> d.etag("a") == before
        False
        >>> d.clear()
        """
        try:
            return self._entries.storage.version(self._entries.locate(key).name)
        except BlobNotFound:
            raise KeyError(key) from None

    def timestamp(self, key: Key) -> float:
        """Return when `key` was last written, in POSIX seconds by the clock of the place.

        Raises
        ------
        KeyError
            If there is no such key.
        """
        try:
            return self._entries.storage.stat(self._entries.locate(key).name).modified
        except BlobNotFound:
            raise KeyError(key) from None

    # All keys

    def __iter__(self) -> Iterator[Key]:
        for where, _ in self._entries.scan():
            yield self._entries.key(where)

    def __len__(self) -> int:
        return sum(1 for _ in self._entries.scan())

    def __bool__(self) -> bool:
        return next(self._entries.scan(), None) is not None

    def items(self) -> ItemsView[Any, V]:
        """Return a view of the items; going through it reads in batches."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the values; going through it reads in batches."""
        return _Values(self)

    def _stream(self) -> Iterator[tuple[Key, V]]:
        found = (where for where, _ in self._entries.scan())
        while batch := list(islice(found, BATCH)):
            for where, blob in self._entries.load_many(batch):
                key = self._entries.key(where)
                yield key, self._entries.decode(key, where, blob).value

    def clear(self) -> None:
        """Remove every entry of this dictionary; other files of the place stay."""
        found = (where.name for where, _ in self._entries.scan())
        while batch := list(islice(found, 1000)):
            self._entries.storage.remove_many(batch)

    # Many keys

    def get_many(self, keys: Iterable[Key]) -> dict[Any, V]:
        """Return the values of those of `keys` that exist, read concurrently where it pays.

        Examples
        --------
        >>> d = PersiDict("memory://doc-many")
        >>> d.set_many({"a": 1, "b": 2})
        >>> d.get_many(["b", "a", "c"])
        {'b': 2, 'a': 1}
        >>> d.discard_many(["a", "b", "c"])
        """
        keys = [tuple(key) if type(key) is list else key for key in keys]
        wheres = {self._entries.locate(key): key for key in keys}
        found = {
            where.name: self._entries.decode(wheres[where], where, blob).value
            for where, blob in self._entries.load_many(wheres)
        }
        return {key: found[where.name] for where, key in wheres.items() if where.name in found}

    def set_many(self, items: Mapping[Any, V] | Iterable[tuple[Any, V]]) -> None:
        """Set several items, written concurrently where it pays; each whole or not at all.

        Parameters
        ----------
        items : mapping or iterable of (key, value)
            What to set. It is gone through once, and only some 32 MiB of it are held at a time.
        """
        pairs = items.items() if isinstance(items, Mapping) else items
        batch: dict[str, list[Buffer]] = {}
        nbytes = 0
        for key, value in pairs:
            where = self._entries.locate(key)
            batch[where.name] = self._entries.encode(key, where, value)
            nbytes += sum(map(len, batch[where.name]))
            if len(batch) >= BATCH or nbytes >= BATCH_NBYTES:
                self._entries.storage.write_many(batch)
                batch, nbytes = {}, 0
        if batch:
            self._entries.storage.write_many(batch)

    def discard_many(self, keys: Iterable[Key]) -> None:
        """Remove those of `keys` that exist, concurrently where it pays."""
        self._entries.storage.remove_many([self._entries.locate(key).name for key in keys])

    def update(self, other: Any = (), /, **more: V) -> None:
        """Set the items of a mapping, of an object with keys(), or of pairs, as `set_many` does."""
        if not isinstance(other, Mapping) and hasattr(other, "keys"):
            other = {key: other[key] for key in other.keys()}  # noqa: SIM118 - not a mapping
        self.set_many(other)
        if more:
            self.set_many(more)

    # The dictionary itself

    def flush(self) -> None:
        """See that everything set so far is where `durable` says: here it always is."""

    def close(self) -> None:
        """Give back what this process holds open; the dictionary opens again when it is used."""
        self._entries.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Items(ItemsView[Any, V]):
    _mapping: PersiDict[V]

    def __iter__(self) -> Iterator[tuple[Any, V]]:
        return self._mapping._stream()  # noqa: SLF001 - a view is a part of its mapping


class _Values(ValuesView[V]):
    _mapping: PersiDict[V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping._stream())  # noqa: SLF001 - as above

    def __contains__(self, value: object) -> bool:
        return any(value is each or value == each for each in self)
