"""A place with copies of its blobs nearby: `NearStorage`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from persicache.errors import BlobNotFound
from persicache.mappings.near_copies import Copies, Copy
from persicache.storage import (
    ANY,
    Blob,
    BlobInfo,
    Buffer,
    Expectation,
    Known,
    LoadedBlob,
    Storage,
    Version,
    check_name,
)

__all__ = ["NearStorage"]

_BATCH: Final = 64


class NearStorage:
    """A storage that asks another for what has changed, and reads the rest from copies.

    Parameters
    ----------
    inner : Storage
        The place. What is written goes there, and what it says of itself holds for this.
    copies : Copies
        The copies of its blobs.
    trusts : bool
        Whether a copy is taken for the blob without asking, since blobs never change.

    Notes
    -----
    A copy is used if the place says that the blob still has its version: one small request, at
    every read. Where versions are digests of the bytes (S3), a blob that was replaced and put
    back meanwhile has the same one, and the same bytes. That something is absent is not
    remembered.

    Crash: a copy goes before the blob changes, and the new one comes after it has, so that a
    process killed in between leaves no old copy to be trusted. Whoever trusts copies can still
    read those of blobs that were changed or removed: from another machine, while a copy was on
    its way, or where it couldn't be removed.

    Examples
    --------
    >>> from persicache.mappings.near_memory import MemoryCopies
    >>> from persicache.storage import open_storage
    >>> storage = NearStorage(open_storage("memory://near"), MemoryCopies(1 << 20), trusts=False)
    >>> version = storage.write("a", [b"one ", b"two"])
    >>> storage.read("a").buffer
    b'one two'
    """

    def __init__(self, inner: Storage, copies: Copies, *, trusts: bool) -> None:
        self._inner = inner
        self._copies = copies
        # Copies in files outlive what a place may lose: its memory, or writes not on the disk yet.
        self._trusts = trusts and (inner.is_durable or not copies.outlives_process)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self._inner, self._copies, self._trusts)

    def __repr__(self) -> str:
        return f"NearStorage({self._inner!r}, {self._copies!r})"

    @property
    def inner(self) -> Storage:
        """The place itself: what is asked of it comes from no copy."""
        return self._inner

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def can_compare_and_swap(self) -> bool:
        return self._inner.can_compare_and_swap

    @property
    def is_durable(self) -> bool:
        return self._inner.is_durable

    @property
    def is_private(self) -> bool:
        return self._inner.is_private

    def is_private_for(self, name: str) -> bool:
        return self._inner.is_private_for(name)

    def read(self, name: str) -> Blob:
        check_name(name)
        copy = self._copies.load(name)
        if copy is None:
            return self._kept(name, self._inner.read(name))
        if self._trusts:
            return self._blob(name, copy)
        for _, blob in self._inner.read_changed([(name, copy.version)]):
            return self._blob(name, copy) if blob is None else self._kept(name, blob)
        self._copies.drop(name)
        raise BlobNotFound(name=name, place=self.url)

    def write(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version = ANY) -> Version:
        check_name(name)
        self._copies.drop(name)
        version = self._inner.write(name, chunks, expect=expect)
        self._keep(name, chunks, version)
        return version

    def remove(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        check_name(name)
        self._copies.drop(name)
        return self._inner.remove(name, expect=expect)

    def stat(self, name: str) -> BlobInfo:
        return self._inner.stat(name)

    def version(self, name: str) -> Version:
        return self._inner.version(name)

    def read_head(self, name: str, nbytes: int) -> bytes:
        return self._inner.read_head(name, nbytes)

    def scan(self, prefix: str = "") -> Iterator[BlobInfo]:
        return self._inner.scan(prefix)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        return self._read_trusted(names) if self._trusts else self._read_asking(names)

    def read_changed(self, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
        return self._inner.read_changed(known)

    def write_many(self, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
        for name in items:
            check_name(name)
        for name in items:
            self._copies.drop(name)
        versions = self._inner.write_many(items)
        for name, version in versions.items():
            self._keep(name, items[name], version)
        return versions

    def remove_many(self, names: Iterable[str]) -> None:
        self._inner.remove_many(self._dropping(names))

    def flush(self) -> None:
        self._inner.flush()

    def close(self) -> None:
        self._inner.close()
        self._copies.close()

    def _dropping(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            check_name(name)
            self._copies.drop(name)
            yield name

    def _read_trusted(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        remaining = iter(names)
        while batch := list(islice(remaining, _BATCH)):
            missing = []
            for name in batch:
                check_name(name)
                copy = self._copies.load(name)
                if copy is None:
                    missing.append(name)
                else:
                    yield name, self._blob(name, copy)
            for name, blob in self._inner.read_many(missing):
                yield name, self._kept(name, blob)

    def _read_asking(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        asked: dict[str, Version] = {}

        def known() -> Iterator[Known]:
            for name in names:
                check_name(name)
                copy = self._copies.load(name)
                if copy is not None:
                    asked[name] = copy.version
                yield name, None if copy is None else copy.version

        for name, blob in self._inner.read_changed(known()):
            if blob is not None:
                yield name, self._kept(name, blob)
                continue
            # Read again, as very many may wait for their answers. Race: it can have gone, or
            # one can have come in its place that nobody has asked about.
            copy = self._copies.load(name)
            if copy is not None and copy.version == asked.get(name):
                yield name, self._blob(name, copy)
                continue
            for _, again in self._inner.read_many([name]):
                yield name, self._kept(name, again)

    def _keep(self, name: str, chunks: Sequence[Buffer], version: Version) -> None:
        self._copies.keep(name, chunks, version, is_private=self._inner.is_private_for(name))

    def _kept(self, name: str, blob: Blob) -> Blob:
        self._copies.keep(name, [blob.buffer], blob.version, is_private=blob.is_private)
        return blob

    def _blob(self, name: str, copy: Copy) -> Blob:
        return LoadedBlob(
            copy.buffer,
            copy.version,
            lambda: self._inner.stat(name).modified,
            stamp=copy.stamp,
            is_private=copy.is_private,
        )


def _rebuild(inner: Storage, copies: Copies, trusts: bool) -> NearStorage:  # noqa: FBT001 - pickled positionally
    return NearStorage(inner, copies, trusts=trusts)
