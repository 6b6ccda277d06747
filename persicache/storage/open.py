"""The opening of a storage by its URL."""

# ruff: noqa: PTH111 - Path.expanduser fails where a name merely begins with a tilde

from __future__ import annotations

import os
from collections.abc import Mapping

from persicache.storage.blob import Identify, Storage
from persicache.storage.local import LocalStorage
from persicache.storage.secrets import redact_url
from persicache.storage.table_place import place_of_path, place_of_url

__all__ = ["make_bucket", "open_storage"]


def open_storage(
    url: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, object] | None = None,
    durable: bool = True,
    identify: Identify | None = None,
) -> Storage:
    """Return the storage at `url`; nothing is read or written yet.

    Parameters
    ----------
    url : str or path-like
        A path or ``file://`` and a path (``~`` is expanded now), ``memory://``, ``s3://``,
        ``sqlite:///path?table=t`` or a path that ends in ``.db``, ``.sqlite`` or ``.sqlite3``,
        ``lmdb:///path?table=t``, ``jsondoc:///path`` or a path that ends in ``.json``, or any
        other URL that fsspec knows, chained ones included.
    storage_options : mapping, optional
        What the filesystem of the URL is made with, as fsspec has it; secrets stay out of
        reprs and errors. For SQLite, LMDB and JSON ``table`` (not JSON) and ``commit_every``,
        how many writes to make in one transaction: those that wait are lost with the process.
    durable : bool, default True
        Whether a write that returned survives a power cut; for what is on a local disk, where
        it costs an fsync or two.
    identify : callable, optional
        From the head of a blob to the version that it carries.

    Raises
    ------
    TypeError, ValueError
        If `url` is no place, or its protocol is unknown.
    BackendError
        If it names a directory by the path of a file.
    MissingDependency
        If its protocol needs a package that isn't installed.

    Examples
    --------
    >>> open_storage("memory://docs").can_compare_and_swap
    True
    """
    place = _checked(url)
    options = dict(storage_options or {})
    is_path = not isinstance(url, str) or ("://" not in place and "::" not in place)
    table = place_of_path(place, options) if is_path else place_of_url(place, options)
    if table is not None:
        # Whoever keeps to a local directory needn't wait for fsspec to be imported.
        from persicache.storage.table_storage import TableStorage  # noqa: PLC0415 - as above

        return TableStorage(table, durable=durable, storage_options=options, identify=identify)
    if is_path or place.startswith(("file://", "local://")):
        if options:
            raise ValueError(f"a local directory takes no storage_options, got {sorted(options)}")
        path = place if is_path else place.partition("://")[2]
        if not path:
            raise ValueError(f"{place!r} names no directory")
        return LocalStorage(os.path.expanduser(path), durable=durable, identify=identify)
    return _open_url(place, options, identify)


def make_bucket(url: str, *, storage_options: Mapping[str, object] | None = None) -> None:
    """Make the bucket of an ``s3://`` URL, unless it is there."""
    from persicache.storage.s3 import S3Storage  # noqa: PLC0415 - as below

    S3Storage(url, storage_options=storage_options).make_bucket()


def _checked(url: str | os.PathLike[str]) -> str:
    place = os.fspath(url)
    if not isinstance(place, str):
        raise TypeError(f"a place is a str or a path of str, not {place!r}")
    if not place or "\0" in place:
        raise ValueError(f"{redact_url(place)!r} names no place")
    return place


def _open_url(url: str, options: dict[str, object], identify: Identify | None) -> Storage:
    # Whoever keeps to a local directory needn't wait for fsspec to be imported.
    if url.startswith("memory://") and "::" not in url:
        if options:
            raise ValueError(f"memory:// takes no storage_options, got {sorted(options)}")
        from persicache.storage.memory import MemoryStorage  # noqa: PLC0415 - as above

        return MemoryStorage(url, identify=identify)
    if url.startswith(("s3://", "s3a://")) and "::" not in url:
        from persicache.storage.s3 import S3Storage  # noqa: PLC0415 - as above

        return S3Storage(url, storage_options=options)
    from persicache.storage.generic import FsspecStorage  # noqa: PLC0415 - as above

    return FsspecStorage(url, storage_options=options, identify=identify)
