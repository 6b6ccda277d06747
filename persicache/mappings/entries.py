"""The entries of one place: a storage and a codec, wired together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from persicache.codecs import Codec, Decoded, Metadata, Owner
from persicache.errors import BlobNotFound, CorruptEntry, UnencodableKey
from persicache.keys import OWN_NAMES, Key, KeyName, Naming, decode_text, name_of
from persicache.mappings.near import NearStorage
from persicache.mappings.near_option import Near, NearOption
from persicache.storage import (
    ANY,
    Blob,
    BlobInfo,
    Buffer,
    Expectation,
    Storage,
    Version,
    open_storage,
    place_identity,
)

__all__ = ["Entries", "open_entries"]

#: Where the metadata of nearly every entry ends.
HEAD_NBYTES: Final = 16 * 1024

_new = tuple.__new__  # a third of the time of Owner(...), on the path of every hit


class Entries:
    """Encoded values under keys in a storage; what dictionaries and memoizers are made of.

    Parameters
    ----------
    storage : Storage
        Where the entries lie.
    codec : Codec
        How a value becomes an entry.
    naming : Naming, optional
        How keys become the names of blobs.
    """

    def __init__(self, storage: Storage, codec: Codec, naming: Naming = OWN_NAMES) -> None:
        self.storage = storage
        self.codec = codec
        self.naming = naming
        self.extension = codec.extension
        self.place = storage.url
        self._read = storage.read
        self._decode = codec.decode
        self._name = naming.encode

    def __reduce__(self) -> tuple[object, ...]:
        return Entries, (self.storage, self.codec, self.naming)

    def locate(self, key: Key) -> KeyName:
        """Return name and text of `key`; UnencodableKey, before any I/O, if it can have none."""
        where = self._name(key, extension=self.extension)
        if not self.codec.keeps_keys and not self._tells_key(where):
            raise UnencodableKey(
                key=key, reason=f"it is too long for a file name, and a {self.extension} file can't hold it"
            )
        return where

    def _tells_key(self, where: KeyName) -> bool:
        return where.name == where.text + self.extension or bool(
            (known := self.naming.decode(where.name, extension=self.extension)) and known.text
        )

    def load(self, key: object, where: KeyName) -> Decoded:
        """Return the value of an entry; BlobNotFound if there is none."""
        # Not by way of `decode`: a call less on the path of every hit.
        owner = _new(Owner, (key, where.text, self.place))
        return self._decode(self._read(where.name), owner)

    def decode(self, key: object, where: KeyName, blob: Blob) -> Decoded:
        """Return the value in `blob`."""
        owner = _new(Owner, (key, where.text, self.place))
        return self.codec.decode(blob, owner)

    def save(
        self,
        key: object,
        where: KeyName,
        value: object,
        *,
        cost_seconds: float | None = None,
        extra: Mapping[str, Any] | None = None,
        expect: Expectation | Version = ANY,
    ) -> Version:
        """Store a value as the entry of a key; return its version."""
        chunks = self.encode(key, where, value, cost_seconds=cost_seconds, extra=extra)
        return self.storage.write(where.name, chunks, expect=expect)

    def encode(
        self,
        key: object,
        where: KeyName,
        value: object,
        *,
        cost_seconds: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Sequence[Buffer]:
        """Return the chunks of an entry."""
        owner = _new(Owner, (key, where.text, self.place))
        return self.codec.encode(
            value,
            owner,
            is_private=self.storage.is_private_for(where.name),
            cost_seconds=cost_seconds,
            extra=extra,
        )

    def metadata(self, key: object, where: KeyName) -> Metadata:
        """Return what the entry of a key says of itself."""
        owner = Owner(key, where.text, self.place)
        return self.codec.metadata(self.storage.read(where.name).buffer, owner)

    def told(self, key: object, where: KeyName, blob: Blob) -> Metadata:
        """Return what the entry in `blob` says of itself, after `decode` has verified it."""
        return self.codec.peek(blob.buffer, Owner(key, where.text, self.place))

    def peek(self, where: KeyName) -> Metadata:
        """Return what an entry claims of itself, unverified; reads no more than the head of most.

        Raises
        ------
        BlobNotFound
            If there is none.
        CorruptEntry
            If it claims nothing.
        """
        owner = Owner(where.name, where.text, self.place)
        head = self.storage.read_head(where.name, HEAD_NBYTES)
        try:
            return self.codec.peek(head, owner)
        except CorruptEntry:
            if len(head) < HEAD_NBYTES:
                raise
        return self.codec.peek(self.storage.read(where.name).buffer, owner)

    def names(self, prefix: str = "") -> Iterator[tuple[KeyName, BlobInfo]]:
        """Yield what lies under `prefix` and is an entry by its name; other files are passed over.

        The text is empty where only the entry knows it.
        """
        for info in self.storage.scan(prefix):
            where = self.naming.decode(info.name, extension=self.extension)
            if where is not None:
                yield where, info

    def keys(self, prefix: str, errors: list[Exception]) -> Iterator[tuple[Key, KeyName, BlobInfo]]:
        """Yield the key, too, of what `names` yields.

        Parameters
        ----------
        prefix : str
            Empty, or from the naming.
        errors : list
            Gets the CorruptEntry or UnencodableKey of each whose key can't be told: it hides no
            other.
        """
        for named, info in self.names(prefix):
            try:
                where = named if named.text else self._told_by_entry(info.name)
                if where is not None:
                    yield self.key(where), where, info
            except (CorruptEntry, UnencodableKey) as error:
                errors.append(error)

    def _told_by_entry(self, name: str) -> KeyName | None:
        owner = Owner(name, "", self.place)
        try:
            # The key stands in the first bytes; of very many buffers a table goes before it.
            head = self.storage.read_head(name, HEAD_NBYTES)
            try:
                text = self.codec.key_text(head, owner)
            except CorruptEntry:
                text = self.codec.key_text(self.storage.read(name).buffer, owner)
        except BlobNotFound:  # removed since it was listed
            return None
        try:
            is_its = name_of(text, extension=self.extension) == name
            decode_text(text)
        except UnencodableKey:  # of an enum or a time zone that isn't known here
            pass
        except ValueError:
            is_its = False
        if not is_its:
            raise CorruptEntry(key=name, place=self.place, reason="it belongs to another key")
        return KeyName(name, text)

    def key(self, where: KeyName) -> Key:
        """Return the key that has this name."""
        # An enum's module is imported only where nobody else could have chosen its name.
        key: Key = self.naming.key(where.text, import_modules=self.storage.is_private_for(where.name))
        return key

    def load_many(self, wheres: Iterable[KeyName]) -> Iterator[tuple[KeyName, Blob]]:
        """Yield those entries that exist, read concurrently where it pays."""
        by_name = {where.name: where for where in wheres}
        for name, blob in self.storage.read_many(by_name):
            yield by_name[name], blob


def open_entries(
    url: str | os.PathLike[str],
    codec: Codec,
    *,
    durable: bool,
    storage_options: Mapping[str, Any] | None,
    near: NearOption | None = None,
    append_only: bool = False,
    naming: Naming = OWN_NAMES,
) -> Entries:
    """Open a place for the entries that `codec` makes, maybe with copies of them near."""
    tier = None if near is None else Near.parse(near)
    storage = open_storage(url, storage_options=storage_options, durable=durable, identify=codec.identify)
    if tier is not None:
        copies = tier.copies(place_identity(storage.url, storage_options))
        storage = NearStorage(storage, copies, trusts=append_only)
    return Entries(storage, codec, naming)
