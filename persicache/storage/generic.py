"""Blobs in any filesystem that fsspec knows: `FsspecStorage`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from blake3 import blake3

from persicache.errors import BackendError, BlobNotFound, ConditionsUnsupported, ReadOnlyPlace
from persicache.storage.blob import (
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
from persicache.storage.draft import DRAFT_PREFIX, OLD_DRAFT_SECONDS, draft_name
from persicache.storage.failure import failure
from persicache.storage.filesystem import (
    check_protocols,
    drop_copy,
    is_concurrent,
    is_read_only,
    keeps_copies,
    local_path,
    make_filesystem,
    modified_in,
    renames,
)
from persicache.storage.inflight import in_flight
from persicache.storage.loops import read_each_changed, remove_each, write_each
from persicache.storage.names import check_expectation, check_name, check_prefix, head_version, is_component
from persicache.storage.private_file import create_private
from persicache.storage.process import PerProcess
from persicache.storage.secrets import redact_url, secrets_in, secrets_in_url

__all__ = ["FsspecStorage"]

_HEAD_NBYTES = 64
_VERSION_NBYTES = 16


class FsspecStorage:
    """Blobs as files of an fsspec filesystem, without compare-and-swap.

    Parameters
    ----------
    url : str
        Any URL that fsspec knows, chained ones included.
    storage_options : mapping, optional
        What the filesystem is made with.
    identify : callable, optional
        From the head of a blob to the version that it carries. The version of others is a
        digest of their bytes.

    Notes
    -----
    A write is whole or not at all where the filesystem renames, or is an object store; on
    what is neither, one that breaks off can leave a part.
    """

    def __init__(
        self,
        url: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        identify: Identify | None = None,
    ) -> None:
        check_protocols(url)
        self._url = url
        self._options = dict(storage_options or {})
        self._identify = identify
        self._secrets = secrets_in(self._options) | secrets_in_url(url)
        self._made = PerProcess(self._make)
        self._copying = PerProcess(threading.Lock)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self._url, self._options, self._identify)

    def __repr__(self) -> str:
        return f"FsspecStorage({self.url!r})"

    @property
    def url(self) -> str:
        return redact_url(self._url)

    @property
    def can_compare_and_swap(self) -> bool:
        return False

    @property
    def is_durable(self) -> bool:
        return False

    @property
    def is_private(self) -> bool:
        return False

    def read(self, name: str) -> Blob:
        check_name(name)
        with self._at("read", name) as (filesystem, path):
            data = filesystem.cat_file(path)
        return self._blob(name, data)

    def read_head(self, name: str, nbytes: int) -> bytes:
        check_name(name)
        with self._at("read", name) as (filesystem, path):
            return _head(filesystem, path, nbytes)

    def is_private_for(self, name: str) -> bool:
        check_name(name)
        return False

    def write(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version = ANY) -> Version:
        self._check_change(name, expect)
        data = b"".join(chunks)
        with self._at("write", name) as (filesystem, path):
            self._check_writable(filesystem, f"write {name!r}")
            _put(filesystem, path, data)
            drop_copy(filesystem, path)
        return head_version(self._identify, chunks) or _digest(data)

    def remove(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        self._check_change(name, expect)
        try:
            with self._at("remove", name) as (filesystem, path):
                self._check_writable(filesystem, f"remove {name!r}")
                # Object stores remove what isn't there without a word.
                if filesystem.info(path)["type"] != "file":
                    return False
                filesystem.rm_file(path)
                drop_copy(filesystem, path)
        except BlobNotFound:
            return False
        return True

    def stat(self, name: str) -> BlobInfo:
        check_name(name)
        with self._at("read", name) as (filesystem, path):
            info = filesystem.info(path)
            if info["type"] != "file":
                raise FileNotFoundError(path)
            return BlobInfo(name, int(info["size"] or 0), modified_in(info))

    def version(self, name: str) -> Version:
        check_name(name)
        if self._identify is not None:
            with self._at("read", name) as (filesystem, path):
                carried = self._identify(_head(filesystem, path, _HEAD_NBYTES))
                if carried is not None:
                    return carried
        return self.read(name).version

    def scan(self, prefix: str = "") -> Iterator[BlobInfo]:
        check_prefix(prefix)
        return self._scan(prefix)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        for name, blob in self.read_changed((name, None) for name in names):
            assert blob is not None  # no version was known
            yield name, blob

    def read_changed(self, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
        with self._trouble("read", "several blobs"):
            filesystem, root = self._made.get()
        if not is_concurrent(filesystem):
            yield from read_each_changed(self, known)
            return
        cat = filesystem._cat_file  # noqa: SLF001 - fsspec's asynchronous API

        async def read(each: Known) -> tuple[str, Blob | None] | None:
            name, version = each
            check_name(name)
            try:
                with self._trouble("read", name):
                    if version is not None and self._identify is not None:
                        with contextlib.suppress(Exception):  # of which the whole will tell
                            head = await cat(root + name, start=0, end=_HEAD_NBYTES)
                            if self._identify(head) == version:
                                return name, None
                    data = await cat(root + name)
            except BlobNotFound:
                return None
            blob = self._blob(name, data)
            return name, None if blob.version == version else blob

        for found in in_flight(filesystem.loop, read, known):
            if found is not None:
                yield found

    def write_many(self, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
        return write_each(self, items)

    def remove_many(self, names: Iterable[str]) -> None:
        remove_each(self, names)

    def flush(self) -> None:
        """Let nothing wait, so have nothing to write."""

    def close(self) -> None:
        self._made.pop()

    def _make(self) -> tuple[Any, str]:
        return make_filesystem(self._url, self._options)

    @contextlib.contextmanager
    def _at(self, action: str, name: str) -> Iterator[tuple[Any, str]]:
        """Give the filesystem and the path of a name, to do something there."""
        with self._trouble(action, name):
            filesystem, root = self._made.get()
            # Race: of two threads, one could keep a copy of what the other has just replaced.
            with self._copying.get() if keeps_copies(filesystem) else contextlib.nullcontext():
                yield filesystem, root + name

    def _blob(self, name: str, data: bytes) -> Blob:
        buffer = data if len(data) < MAP_FROM_NBYTES else bytearray(data)
        version = head_version(self._identify, [data]) or _digest(data)
        return LoadedBlob(buffer, version, lambda: self.stat(name).modified)

    def _check_change(self, name: str, expect: Expectation | Version) -> None:
        check_name(name)
        check_expectation(expect)
        if expect is not ANY:
            raise ConditionsUnsupported(place=self.url)

    def _check_writable(self, filesystem: Any, action: str) -> None:
        if is_read_only(filesystem):
            raise ReadOnlyPlace(place=self.url, action=action, cause="an archive can only be read")

    def _scan(self, prefix: str) -> Iterator[BlobInfo]:
        with self._trouble("list", prefix):
            filesystem, root = self._made.get()
            filesystem.invalidate_cache()
        pending = [prefix]
        while pending:
            folder = pending.pop()
            try:
                with self._trouble("list", folder):
                    # No path is empty but the root of all, which some write as a slash.
                    path = (root + folder).rstrip("/") or root
                    infos = filesystem.ls(path, detail=True)
            except BlobNotFound:
                continue
            for info in infos:
                component = info["name"].rstrip("/").rpartition("/")[2]
                if is_component(component) is None:
                    if component.startswith(DRAFT_PREFIX):
                        _drop_if_old(filesystem, info)
                    continue
                if info["type"] == "directory":
                    pending.append(f"{folder}{component}/")
                elif info["type"] == "file":
                    yield BlobInfo(folder + component, int(info["size"] or 0), modified_in(info))

    def _is_archive(self) -> bool:
        try:
            return is_read_only(self._made.get()[0])
        except Exception:  # noqa: BLE001 - it can't be opened, which the caller is about to say
            return False

    @contextlib.contextmanager
    def _trouble(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except (BackendError, BlobNotFound):
            raise
        except (FileNotFoundError, NotADirectoryError):
            raise BlobNotFound(name=name, place=self.url) from None
        except NotImplementedError as error:
            cause = f"this filesystem can't: {type(error).__name__}"
            raise ReadOnlyPlace(place=self.url, action=f"{action} {name!r}", cause=cause) from error
        except Exception as error:  # noqa: BLE001 - the filesystems' errors share no base
            if isinstance(error, KeyError) and self._is_archive():
                # From the index of the archive; elsewhere it is a fault of the filesystem.
                raise BlobNotFound(name=name, place=self.url) from None
            what = f"{action} {name!r}"
            trouble = failure(error, place=self.url, action=what, secrets=self._secrets)
            raise trouble from trouble.__cause__


def _put(filesystem: Any, path: str, data: bytes) -> None:
    if not renames(filesystem):
        _pipe(filesystem, path, data)
        return
    folder = path.rpartition("/")[0]
    draft = draft_name()
    draft = f"{folder}/{draft}" if folder else draft
    try:
        _pipe(filesystem, draft, data)
        filesystem.mv(draft, path)
    except FileExistsError:  # this one renames to new names only
        _pipe(filesystem, path, data)
        filesystem.rm_file(draft)
    except BaseException:
        with contextlib.suppress(Exception):
            filesystem.rm_file(draft)
        raise


def _drop_if_old(filesystem: Any, info: dict[str, Any]) -> None:
    """Remove a draft that nobody can be writing any more."""
    modified = modified_in(info)
    if info["type"] == "file" and modified and time.time() - modified > OLD_DRAFT_SECONDS:
        with contextlib.suppress(Exception):
            filesystem.rm_file(info["name"])


def _head(filesystem: Any, path: str, nbytes: int) -> bytes:
    try:
        return bytes(filesystem.cat_file(path, start=0, end=nbytes))
    except FileNotFoundError:
        raise
    except Exception:  # noqa: BLE001 - where there are no bytes, some servers refuse the first ones
        return bytes(filesystem.cat_file(path)[:nbytes])


def _pipe(filesystem: Any, path: str, data: bytes) -> None:
    local = local_path(filesystem, path)
    if local is not None:
        create_private(local)
    try:
        filesystem.pipe_file(path, data)
    except FileNotFoundError:
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(path, data)


def _digest(data: bytes) -> Version:
    return blake3(data).hexdigest(length=_VERSION_NBYTES)


def _rebuild(url: str, options: Mapping[str, Any], identify: Identify | None) -> FsspecStorage:
    return FsspecStorage(url, storage_options=options, identify=identify)
