"""The fsspec filesystem of any URL, and what it is able to do."""

# ruff: noqa: PTH100 - a str is what comes and goes

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import fsspec
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.cached import CachingFileSystem, SimpleCacheFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from persicache.storage.folders import make_folders
from persicache.storage.secrets import redact_url

__all__ = [
    "check_protocols",
    "drop_copy",
    "is_concurrent",
    "is_read_only",
    "keeps_copies",
    "local_path",
    "make_filesystem",
    "modified_in",
    "renames",
]

# An earlier listing would hide what was written since; a shared instance would bring its own.
_UNCACHED: Final = {"use_listings_cache": False, "skip_instance_cache": True}
_TIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "modified", "date_time", "created")


def check_protocols(url: str) -> None:
    """Raise ValueError if fsspec doesn't know a protocol of `url`.

    Raises
    ------
    ImportError
        If one needs a package that isn't installed; fsspec says which.
    """
    for protocol in _protocols(url):
        if protocol not in _known():
            known = ", ".join(sorted(_known()))
            raise ValueError(
                f"{redact_url(url)!r} has the unknown protocol {protocol!r}; known are {known}"
            )
        fsspec.get_filesystem_class(protocol)


def make_filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a filesystem of its own for `url`, and what begins the paths in it: "" or "root/".

    Parameters
    ----------
    url : str
        May be chained with ``::``.
    options : mapping
        Those of the first filesystem; those of others under their protocols.
    """
    protocols = _protocols(url)
    for name in protocols:
        copies = _inner(options, name).get("cache_storage")
        if isinstance(copies, str) and copies != "TMP":
            make_folders(os.path.abspath(copies))  # or it would be open to whom the umask lets in
    try:
        chained = {name: {**_UNCACHED, **_inner(options, name)} for name in protocols}
        filesystem, root = url_to_fs(url, **{**options, **chained})
    except TypeError:  # one takes no options that it doesn't know
        chained = {name: {"skip_instance_cache": True, **_inner(options, name)} for name in protocols}
        filesystem, root = url_to_fs(url, **{**options, **chained})
    if isinstance(filesystem, DirFileSystem) and url.startswith("dir::"):
        return filesystem, ""  # fsspec gives the path to both, and the filesystem adds it itself
    return filesystem, root if not root.strip("/") else root.rstrip("/") + "/"


def is_read_only(filesystem: Any) -> bool:
    """Return whether nothing can be written: archives are rewritten whole, not changed."""
    return isinstance(_innermost(filesystem), AbstractArchiveFileSystem)


def is_concurrent(filesystem: Any) -> bool:
    """Return whether requests can be in flight together."""
    return not isinstance(filesystem, CachingFileSystem) and bool(_innermost(filesystem).async_impl)


def renames(filesystem: Any) -> bool:
    """Return whether moving a file is a rename, not a copy and a removal.

    Object stores, the asynchronous ones, have no renames, and write whole anyway.
    """
    inner = _innermost(filesystem)
    return not inner.async_impl and type(inner).mv is not AbstractFileSystem.mv


def keeps_copies(filesystem: Any) -> bool:
    """Return whether `filesystem` reads from copies of its own, which are not safe under threads."""
    return isinstance(filesystem, CachingFileSystem)


def drop_copy(filesystem: Any, path: str) -> None:
    """Drop the copy that a caching `filesystem` keeps of what is written now."""
    if isinstance(filesystem, SimpleCacheFileSystem):
        copy = filesystem._check_file(path)  # noqa: SLF001 - it has no public way
        if copy is not None:
            fsspec.filesystem("file").rm_file(copy)
    elif isinstance(filesystem, CachingFileSystem):
        filesystem.pop_from_cache(path)


def local_path(filesystem: Any, path: str) -> str | None:
    """Return the path of the file that is written as `path`, None if it is on no local disk."""
    while isinstance(filesystem, (DirFileSystem, CachingFileSystem)):
        if isinstance(filesystem, DirFileSystem):
            path = filesystem._join(path)  # noqa: SLF001 - it has no public way
        filesystem = filesystem.fs
    if not isinstance(filesystem, LocalFileSystem):
        return None
    stripped: str = filesystem._strip_protocol(path)  # noqa: SLF001 - fsspec's own API for filesystems
    return stripped


def modified_in(info: Mapping[str, Any]) -> float:
    """Return the time in what a filesystem tells about a file, 0.0 if it tells none."""
    for key in _TIMES:
        value = info.get(key)
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, tuple):
            year, month, day, hour, minute, second = value  # of a zip archive
            value = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return 0.0


def _innermost(filesystem: Any) -> Any:
    while isinstance(filesystem, (DirFileSystem, CachingFileSystem)):
        filesystem = filesystem.fs
    return filesystem


def _protocols(url: str) -> list[str]:
    return [_protocol(link) for link in url.split("::")]


def _protocol(link: str) -> str:
    name, colon, _ = link.partition("://")
    if colon:
        return name
    return link if link in _known() else "file"


def _known() -> set[str]:
    # A class that was registered, rather than its name, is not among the available ones.
    return {*fsspec.available_protocols(), *fsspec.registry}


def _inner(options: Mapping[str, Any], protocol: str) -> Mapping[str, Any]:
    inner = options.get(protocol)
    return inner if isinstance(inner, Mapping) else {}
