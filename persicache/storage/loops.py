"""What every storage can do by what others do better: many blobs one after the other, and heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from persicache.errors import BackendError, BlobNotFound
from persicache.storage.blob import Blob, Buffer, Known, Storage, Version

__all__ = ["read_each", "read_each_changed", "remove_each", "write_each"]


def read_each(storage: Storage, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
    """Yield ``(name, blob)`` for those of `names` that exist."""
    for name in names:
        try:
            blob = storage.read(name)
        except BlobNotFound:
            continue
        yield name, blob


def read_each_changed(storage: Storage, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
    """Yield ``(name, blob)`` for those that exist, None for a blob that has the version known."""
    for name, version in known:
        try:
            is_same = version is not None and storage.version(name) == version
            blob = None if is_same else storage.read(name)
        except BlobNotFound:
            continue
        yield name, blob


def write_each(storage: Storage, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
    """Store every item that can be stored, then raise the first error there was."""
    versions = {}
    errors = []
    for name, chunks in items.items():
        try:
            versions[name] = storage.write(name, chunks)
        except BackendError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return versions


def remove_each(storage: Storage, names: Iterable[str]) -> None:
    """Remove every name that can be removed, then raise the first error there was."""
    errors = []
    for name in names:
        try:
            storage.remove(name)
        except BackendError as error:
            errors.append(error)
    if errors:
        raise errors[0]
