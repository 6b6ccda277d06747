"""Blobs as the files of a local directory: `LocalStorage`."""

# ruff: noqa: PTH100, PTH116, PTH120 - plain os calls: a Path costs as much as the call itself
# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NoReturn

from persicache.errors import BackendError, BlobNotFound, ConditionsUnsupported
from persicache.storage.blob import ANY, Blob, BlobInfo, Buffer, Expectation, Identify, Known, Version
from persicache.storage.contents import MAP_FROM_NBYTES, contents
from persicache.storage.draft import DRAFT_PREFIX, OLD_DRAFT_SECONDS, is_abandoned
from persicache.storage.failure import failure
from persicache.storage.file_blob import Facts, FileBlob
from persicache.storage.files import READ_FLAGS, Files, irregular, unlink_at
from persicache.storage.folders import Folders, is_private, make_folders, sync_folder
from persicache.storage.loops import read_each, read_each_changed
from persicache.storage.names import check_name, check_prefix
from persicache.storage.walk import walk

__all__ = ["LocalStorage"]

_new: Final = tuple.__new__  # a third of the time of FileBlob(...), on the path of every read
S_IFMT: Final = 0o170000  # the part of a mode that says what kind of file it is


class LocalStorage:
    """Blobs as files below a directory, which is made when the first is written.

    Parameters
    ----------
    root : str
        The directory; a relative one is resolved now.
    durable : bool, default True
        Whether a write that returned survives a power cut. If not, a power cut can cost the
        entries written in the last half minute, the values that they replaced included.
    identify : callable, optional
        From the head of a blob to the version that it carries. Blobs that carry none have
        one made of inode, times and size.

    Raises
    ------
    BackendError
        If there is something else than a directory.

    Notes
    -----
    Reading takes no lock: a file is replaced whole, never changed. A lock is held only while
    a file gets its final name, shared by those who write whatever is there, so that nobody
    can slip in between the comparison and the swap of one who compares. The locks belong to
    the root: compare and swap through one root, not through two that overlap.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     storage = LocalStorage(directory)
    ...     version = storage.write("a/b", [b"one ", b"two"])
    ...     storage.read("a/b").buffer
    b'one two'
    """

    def __init__(self, root: str, *, durable: bool = True, identify: Identify | None = None) -> None:
        self._root = os.path.abspath(root)
        _check_directory(self._root)
        self._durable = durable
        self._identify = identify
        self._folders = Folders(self._root)
        self._files = Files(self._folders, durable=durable, identify=identify)
        self._facts = Facts(self._is_private_file, identify)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self._root, self._durable, self._identify)

    def __repr__(self) -> str:
        return f"LocalStorage({self._root!r}, durable={self._durable})"

    @property
    def url(self) -> str:
        return self._root

    @property
    def can_compare_and_swap(self) -> bool:
        return True

    @property
    def is_durable(self) -> bool:
        return self._durable

    @property
    def is_private(self) -> bool:
        return self._folders.is_private("", if_missing=True)

    def is_private_for(self, name: str) -> bool:
        check_name(name)
        return self._folders.is_private(name.rpartition("/")[0], if_missing=True)

    def read(self, name: str) -> Blob:
        check_name(name)
        try:
            fd = (
                self._folders.open(name, READ_FLAGS)
                if "/" in name
                else os.open(f"{self._root}/{name}", READ_FLAGS)
            )
        except OSError as error:
            self._refuse(error, name)
        try:
            status = os.fstat(fd)
            if status.st_mode & S_IFMT != stat.S_IFREG:
                raise irregular()
            nbytes = status.st_size
            if nbytes < MAP_FROM_NBYTES:
                private = None  # few ask
                # In one go, but for filesystems that read in parts.
                data = os.read(fd, nbytes)
                if len(data) < nbytes:
                    data += bytes(contents(fd, nbytes - len(data)))
                buffer: Buffer = data
            else:
                private = self._is_private_file(status, name)
                buffer = contents(fd, nbytes, can_map=private)
        except OSError as error:
            self._refuse(error, name)
        finally:
            os.close(fd)
        return _new(FileBlob, (buffer, status, name, self._facts, private))

    def read_head(self, name: str, nbytes: int) -> bytes:
        check_name(name)
        try:
            fd = self._folders.open(name, READ_FLAGS)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise irregular()
                return bytes(contents(fd, min(nbytes, status.st_size)))
            finally:
                os.close(fd)
        except OSError as error:
            self._refuse(error, name)

    def write(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version = ANY) -> Version:
        check_name(name)
        try:  # not by way of `_trouble`: a microsecond less
            version = self._files.publish(name, chunks, expect=expect)
            if self._durable:
                self._sync([name])
        except ConditionsUnsupported:
            raise
        except OSError as error:
            trouble = failure(error, place=self._root, action=f"write {name!r}")
            raise trouble from trouble.__cause__
        return version

    def remove(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        check_name(name)
        with self._trouble(f"remove {name!r}"):
            if not self._files.unlink(name, expect=expect):
                return False
            self._sync([name])
        return True

    def stat(self, name: str) -> BlobInfo:
        check_name(name)
        try:
            folder, _, last = name.rpartition("/")
            with self._folders.entered(folder) as spot:
                status = os.stat(spot.path(last), dir_fd=spot.fd, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise irregular()
        except OSError as error:
            self._refuse(error, name)
        return BlobInfo(name, status.st_size, status.st_mtime)

    def version(self, name: str) -> Version:
        check_name(name)
        with self._trouble(f"read {name!r}"):
            actual = self._files.current(name)
        if actual is None:
            raise BlobNotFound(name=name, place=self._root)
        return actual

    def scan(self, prefix: str = "") -> Iterator[BlobInfo]:
        check_prefix(prefix)
        return self._scan(prefix)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        return read_each(self, names)

    def read_changed(self, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
        return read_each_changed(self, known)

    def write_many(self, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
        versions = {}
        errors: list[BackendError] = []
        for name, chunks in items.items():
            check_name(name)
            with _collect(errors), self._trouble(f"write {name!r}"):
                versions[name] = self._files.publish(name, chunks, expect=ANY)
        with _collect(errors), self._trouble("write several blobs"):
            self._sync(versions)
        if errors:
            raise errors[0]
        return versions

    def remove_many(self, names: Iterable[str]) -> None:
        removed = []
        errors: list[BackendError] = []
        for name in names:
            check_name(name)
            with _collect(errors), self._trouble(f"remove {name!r}"):
                if self._files.unlink(name, expect=ANY):
                    removed.append(name)
        with _collect(errors), self._trouble("remove several blobs"):
            self._sync(removed)
        if errors:
            raise errors[0]

    def flush(self) -> None:
        """Let nothing wait, so have nothing to write."""

    def close(self) -> None:
        self._folders.forget()

    def share(self, name: str, into: LocalStorage) -> bool:
        """Give another place a blob under its name, too, without a copy; return whether that was done.

        It is not done if there is a blob of that name, or where the blob would be less safe. Neither
        place notices when the other replaces or removes it.

        Parameters
        ----------
        name : str
            Of a blob here.
        into : LocalStorage
            The other place; it must be on the same filesystem.
        """
        check_name(name)
        if into.is_durable > self.is_durable or self._identify is None:
            return False  # without a version of its own, it would seem to be a new one
        folder, _, last = name.rpartition("/")
        try:
            with (
                self._folders.entered(folder) as here,
                into._folders.entered(folder, make=True, durable=into.is_durable) as there,
            ):
                if there.fd is None:
                    make_folders(there.directory, durable=into.is_durable)
                status = os.stat(here.path(last), dir_fd=here.fd, follow_symlinks=False)
                # Others who can write to the file would change it for both.
                if not self._is_private_file(status, name) or not into.is_private_for(name):
                    return False
                # Race: it fails if the name is taken, so it needs no lock.
                os.link(
                    here.path(last),
                    there.path(last),
                    src_dir_fd=here.fd,
                    dst_dir_fd=there.fd,
                    follow_symlinks=False,
                )
        except OSError:
            return False
        with into._trouble(f"write {name!r}"):
            into._sync([name])
        return True

    def sweep(self, *, older_than_seconds: float = OLD_DRAFT_SECONDS) -> int:
        """Remove the drafts that killed writers left behind; return how many.

        Parameters
        ----------
        older_than_seconds : float, default one day
            Younger ones may still be written, unless their writer is known to be gone. Scanning
            sweeps, too, those older than a day.
        """
        with self._trouble("sweep"):
            return sum(
                self._drop_if_old(name, status, older_than_seconds)
                for name, status in walk(self._folders)
                if _is_draft(name)
            )

    def _scan(self, prefix: str) -> Iterator[BlobInfo]:
        with self._trouble("list the blobs"):
            for name, status in walk(self._folders, prefix):
                if _is_draft(name):
                    self._drop_if_old(name, status, OLD_DRAFT_SECONDS)
                else:
                    yield BlobInfo(name, status.st_size, status.st_mtime)

    def _drop_if_old(self, name: str, status: os.stat_result, older_than_seconds: float) -> bool:
        age_seconds = time.time() - status.st_mtime
        if age_seconds < older_than_seconds and not is_abandoned(name, age_seconds=age_seconds):
            return False
        with contextlib.suppress(OSError):
            folder, _, last = name.rpartition("/")
            with self._folders.entered(folder) as spot:
                unlink_at(spot, last)
            return True
        return False

    def _sync(self, names: Iterable[str]) -> None:
        if self._durable:
            for folder in {os.path.dirname(f"{self._root}/{name}") for name in names}:
                with contextlib.suppress(FileNotFoundError):  # removed with what was in it
                    sync_folder(folder)

    def _is_private_file(self, status: os.stat_result, name: str) -> bool:
        return is_private(status) and self._folders.is_private(name.rpartition("/")[0])

    def _refuse(self, error: OSError, name: str) -> NoReturn:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise BlobNotFound(name=name, place=self._root) from None
        trouble = failure(error, place=self._root, action=f"read {name!r}")
        raise trouble from trouble.__cause__

    @contextlib.contextmanager
    def _trouble(self, action: str) -> Iterator[None]:
        try:
            yield
        except ConditionsUnsupported:
            raise
        except OSError as error:
            trouble = failure(error, place=self._root, action=action)
            raise trouble from trouble.__cause__


@contextlib.contextmanager
def _collect(errors: list[BackendError]) -> Iterator[None]:
    try:
        yield
    except BackendError as error:
        errors.append(error)


def _is_draft(name: str) -> bool:
    return name.rpartition("/")[2].startswith(DRAFT_PREFIX)


def _check_directory(path: str) -> None:
    """Refuse a file; it would seem to be an empty directory until the first is written."""
    try:
        is_none = not stat.S_ISDIR(os.stat(path).st_mode)
    except NotADirectoryError:
        is_none = True
    except OSError:  # it is to be made yet; or who comes to read will hear of it
        is_none = False
    if is_none:
        raise BackendError(
            place=path,
            action="keep entries",
            cause="it is a file, or lies below one: name a directory, or a file that ends in .db, .sqlite, "
            ".sqlite3 or .json",
        )


def _rebuild(root: str, durable: bool, identify: Identify | None) -> LocalStorage:  # noqa: FBT001 - pickled positionally
    return LocalStorage(root, durable=durable, identify=identify)
