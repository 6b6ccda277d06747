"""Blobs in this process's memory: `MemoryStorage`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from persicache.errors import BlobNotFound, VersionConflict
from persicache.storage.blob import (
    ABSENT,
    ANY,
    Blob,
    BlobInfo,
    Buffer,
    Expectation,
    Identify,
    Known,
    LoadedBlob,
    Version,
)
from persicache.storage.contents import MAP_FROM_NBYTES
from persicache.storage.loops import read_each, read_each_changed, remove_each, write_each
from persicache.storage.names import (
    check_expectation,
    check_name,
    check_prefix,
    head_version,
    is_name,
)
from persicache.storage.secrets import redact_url

if TYPE_CHECKING:
    from io import BytesIO

__all__ = ["MemoryStorage"]

_NOTE: Final = "persicache_note"

# Race: fsspec's dict is the process's, so the lock is, too. Holding it across a fork gives
# the child a dict that nobody was changing, and a lock that it holds itself.
_lock = threading.RLock()
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class MemoryStorage:
    """Blobs in the dict of fsspec's memory filesystem, gone with the process.

    Parameters
    ----------
    url : str
        ``memory://`` and a path.
    identify : callable, optional
        From the head of a blob to the version that it carries. Blobs that carry none get a
        random one.

    Examples
    --------
    >>> storage = MemoryStorage("memory://docs")
    >>> version = storage.write("a", [b"one ", b"two"], expect=ABSENT)
    >>> storage.read("a").buffer
    b'one two'
    """

    def __init__(self, url: str, *, identify: Identify | None = None) -> None:
        self._root = MemoryFileSystem._strip_protocol(url).rstrip("/")  # noqa: SLF001 - fsspec's own API for filesystems
        self._identify = identify

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (f"memory://{self._root.lstrip('/')}", self._identify)

    def __repr__(self) -> str:
        return f"MemoryStorage({self.url!r})"

    @property
    def url(self) -> str:
        return redact_url(f"memory://{self._root.lstrip('/')}")

    @property
    def can_compare_and_swap(self) -> bool:
        return True

    @property
    def is_durable(self) -> bool:
        return False

    @property
    def is_private(self) -> bool:
        return True

    def read(self, name: str) -> Blob:
        with _lock:
            file = self._file(name)
            # Never through open(): fsspec gives every reader the same file position.
            with file.getbuffer() as view:
                buffer: Buffer = bytes(view) if view.nbytes < MAP_FROM_NBYTES else bytearray(view)
            version, is_ours = self._version_of(file)
            modified = file.modified.timestamp()
        stamp = (self._root, name, version) if is_ours else None
        return LoadedBlob(buffer, version, modified, stamp=stamp, is_private=True)

    def read_head(self, name: str, nbytes: int) -> bytes:
        with _lock, self._file(name).getbuffer() as view:
            return bytes(view[:nbytes])

    def is_private_for(self, name: str) -> bool:
        check_name(name)
        return True

    def write(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version = ANY) -> Version:
        check_name(name)
        check_expectation(expect)
        version = head_version(self._identify, chunks) or os.urandom(16).hex()
        file = MemoryFile(MemoryFileSystem, f"{self._root}/{name}", b"".join(chunks))
        setattr(file, _NOTE, (version, file.modified, file.size))
        with _lock:
            self._compare(name, expect)
            MemoryFileSystem.store[file.path] = file
        return version

    def remove(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        check_name(name)
        check_expectation(expect)
        with _lock:
            self._compare(name, expect)
            return MemoryFileSystem.store.pop(f"{self._root}/{name}", None) is not None

    def stat(self, name: str) -> BlobInfo:
        with _lock:
            file = self._file(name)
            return BlobInfo(name, file.size, file.modified.timestamp())

    def version(self, name: str) -> Version:
        with _lock:
            return self._version_of(self._file(name))[0]

    def scan(self, prefix: str = "") -> Iterator[BlobInfo]:
        check_prefix(prefix)
        with _lock:
            paths = [path for path in MemoryFileSystem.store if path.startswith(f"{self._root}/{prefix}")]
        return self._infos(paths)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        return read_each(self, names)

    def read_changed(self, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
        return read_each_changed(self, known)

    def write_many(self, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
        return write_each(self, items)

    def remove_many(self, names: Iterable[str]) -> None:
        remove_each(self, names)

    def flush(self) -> None:
        """Let nothing wait, so have nothing to write."""

    def close(self) -> None:
        """Hold nothing open, so give nothing back."""

    def _infos(self, paths: list[str]) -> Iterator[BlobInfo]:
        for path in paths:
            name = path[len(self._root) + 1 :]
            if is_name(name) is None:
                continue
            with _lock:
                file = MemoryFileSystem.store.get(path)
                if file is None:
                    continue
                info = BlobInfo(name, file.size, file.modified.timestamp())
            yield info

    def _file(self, name: str) -> Any:
        check_name(name)
        file = MemoryFileSystem.store.get(f"{self._root}/{name}")
        if file is None:
            raise BlobNotFound(name=name, place=self.url)
        return file

    def _version_of(self, file: Any) -> tuple[Version, bool]:
        # Others may write through fsspec, even into the file that we stored.
        token, modified, nbytes = getattr(file, _NOTE, (None, None, None))
        if token is not None and (modified, nbytes) == (file.modified, file.size):
            return cast("Version", token), True
        if self._identify is not None:
            carried = self._identify(cast("BytesIO", file).getvalue())
            if carried is not None:
                return carried, False
        return f"{file.modified.timestamp()}-{file.size}", False

    def _compare(self, name: str, expect: Expectation | Version) -> None:
        if expect is ANY:
            return
        file = MemoryFileSystem.store.get(f"{self._root}/{name}")
        actual = None if file is None else self._version_of(file)[0]
        if actual != (None if expect is ABSENT else expect):
            raise VersionConflict(name=name, place=self.url, expected=expect, actual=actual)


def _rebuild(url: str, identify: Identify | None) -> MemoryStorage:
    return MemoryStorage(url, identify=identify)
