"""The files of a directory or a bucket, to be read only: `Files`."""

# ruff: noqa: PTH116, PTH118 - plain os calls, for a million of files

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from persicache.codecs import Bytes
from persicache.errors import BackendError, CorruptEntry
from persicache.storage import is_private_file, open_storage

__all__ = ["Files", "files_at", "read_file"]


#: Where persicache keeps what is no entry.
OWN_FOLDER: Final = ".persicache"


class Files(NamedTuple):
    """What lies below a place.

    Attributes
    ----------
    place : str
        The directory, or a URL.
    sizes : mapping
        How many bytes there are, by the name of each file: its path below the place.
    read : callable
        From a name to its bytes; CorruptEntry if there is no such file.
    """

    place: str
    sizes: Mapping[str, int]
    read: Callable[[str], Bytes]


def files_at(place: str, storage_options: Mapping[str, Any] | None = None) -> Files:
    """Return the files below a directory, or a URL of fsspec; none is opened yet."""
    if "://" in place:
        storage = open_storage(place, storage_options=storage_options)
        sizes = {info.name: info.nbytes for info in storage.scan("")}
        return Files(storage.url, sizes, lambda name: Bytes(storage.read(name).buffer, is_private=False))
    # Not by a storage: that may sweep what killed processes left.
    found: dict[str, int] = {}
    seen: set[str] = set()
    try:
        for folder, folders, names in os.walk(place, onerror=_raise, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # by another link, maybe one to a folder that it lies in
                folders.clear()
                continue
            seen.add(real)
            if OWN_FOLDER in folders:  # of `persicache.compat`, with locks
                folders.remove(OWN_FOLDER)
            for name in names:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, place).replace(os.sep, "/")] = _size(path)
    except OSError as error:
        raise BackendError(place=place, action="list it", cause=error) from error

    def read(name: str) -> Bytes:
        if name not in found:  # which a path out of the directory isn't, either
            raise CorruptEntry(key=name, place=place, reason="its file is missing")
        return read_file(os.path.join(place, name))

    return Files(place, found, read)


def _raise(error: OSError) -> None:
    raise error  # what os.walk would pass over


def _size(path: str) -> int:
    """Return how long a file is; 0 of what is none, of which only reading it is an error."""
    try:
        return os.stat(path).st_size
    except OSError:  # such as a link to nothing
        return 0


def read_file(path: str) -> Bytes:
    """Return the bytes of a local file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe is to wait for a writer
            raise BackendError(place=path, action="read it", cause="it is no file")
        return Bytes(Path(path).read_bytes(), is_private_file(path))
    except BackendError:
        raise
    except OSError as error:
        raise BackendError(place=path, action="read it", cause=error) from error
