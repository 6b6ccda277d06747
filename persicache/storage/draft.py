"""A draft: a hidden temporary file that becomes a blob whole, or is thrown away."""

# ruff: noqa: PTH105, PTH108 - plain os calls: a Path costs as much as the call itself

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Sequence
from itertools import islice
from types import TracebackType
from typing import Final, Self

from persicache.storage.blob import Buffer, LateHead
from persicache.storage.exchange import exchange
from persicache.storage.folders import make_folders, set_mode
from persicache.storage.machine import machine

__all__ = [
    "DRAFT_PREFIX",
    "HAS_NAMELESS",
    "OLD_DRAFT_SECONDS",
    "Draft",
    "draft_name",
    "is_abandoned",
]

#: What the names of drafts begin with.
DRAFT_PREFIX: Final = ".tmp-"
#: Older than a day, no draft is one that is still being written.
OLD_DRAFT_SECONDS: Final = 86_400.0

_CREATE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_NAMELESS: Final = getattr(os, "O_TMPFILE", 0) | os.O_WRONLY | os.O_CLOEXEC
#: Whether this system makes files without a name, and links them afterwards.
HAS_NAMELESS: Final = hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd")  # noqa: PTH112
_MODE: Final = 0o600
_MODE_BITS: Final = 0o777
_IOV_MAX: Final = 1024
_JOIN_BELOW_NBYTES: Final = 64 * 1024
_TRIES: Final = 5
_ABANDONED_SECONDS: Final = 60.0


class Draft:
    """A new file in `directory`, gone when the context ends unless it was published.

    Parameters
    ----------
    directory : str
        Where the blob will be, so that publishing is a rename; made if it is missing.
    durable : bool
        Whether what is published survives a power cut.
    fd : int, optional
        The directory's descriptor: then paths are relative to it, and it isn't made.
    nameless : bool, default False
        Whether it has no name until it is linked; then it can't replace anything. That takes a
        third less time than a name to be changed, and whoever is killed leaves nothing behind.
        Not every filesystem can; look at `HAS_NAMELESS` before.
    suffix : str, default ""
        What its name ends in, for whoever fills it by its path and goes by the extension.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     with Draft(directory, durable=False) as draft:
    ...         draft.fill([b"one ", b"two"])
    ...         draft.replace(f"{directory}/blob")
    ...     os.listdir(directory)
    ['blob']
    """

    __slots__ = ("_durable", "_fd", "_folder_fd", "_path")

    def __init__(
        self,
        directory: str,
        *,
        durable: bool,
        fd: int | None = None,
        nameless: bool = False,
        suffix: str = "",
    ) -> None:
        self._durable = durable
        self._folder_fd = fd
        self._path: str | None = None
        if nameless:
            path, flags = directory or ".", _NAMELESS
        else:
            path = (draft_name() if fd is not None else f"{directory}/{draft_name()}") + suffix
            flags = _CREATE
        if fd is None:
            self._fd = _open_making(path, flags, directory, durable=durable)
        else:
            self._fd = os.open(path, flags, _MODE, dir_fd=fd)
        if not nameless:
            self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._path is not None:
                with contextlib.suppress(OSError):
                    self._unlink(self._path)
        finally:
            os.close(self._fd)

    @property
    def path(self) -> str:
        """Where it is, for a library that writes files of its own; `fill` with nothing ends that."""
        assert self._path is not None
        return self._path

    def fill(self, chunks: Sequence[Buffer]) -> None:
        """Write `chunks`, one after the other, as far towards the disk as `durable` asks."""
        fd = self._fd
        # Whatever the umask left of the mode; to look takes a tenth of the time of a change.
        if os.fstat(fd).st_mode & _MODE_BITS != _MODE:
            set_mode(fd, _MODE)
        if type(chunks) is not list and isinstance(chunks, LateHead):
            chunks.start()
            try:
                os.lseek(fd, chunks.head_nbytes, os.SEEK_SET)
                _write_all(fd, chunks.tail)
            finally:
                head = chunks[:1]  # in any case, so that no thread goes on with it
            os.lseek(fd, 0, os.SEEK_SET)
            _write_all(fd, head)
        elif (nbytes := sum(map(len, chunks))) >= _JOIN_BELOW_NBYTES:
            _write_all(fd, chunks)
        elif (written := os.write(fd, data := b"".join(chunks))) < nbytes:
            _write_all(fd, [memoryview(data)[written:]])
        # The kernel's own stamps advance every few milliseconds and inodes are reused, so two
        # files of one name could look alike; and the order of writes would be lost in listings.
        now = time.time_ns()
        os.utime(fd, ns=(now, now))
        if self._durable:
            # Crash: the bytes go before the name, which must never lead to a half-written file.
            os.fsync(fd)
        elif self._path is not None:
            # Crash: a network filesystem, which knows no nameless files, says that its disk is
            # full when a file is closed, and it must say so before the name is given away.
            os.close(os.dup(fd))

    def replace(self, final: str) -> None:
        """Publish as `final`, in place of what is there."""
        assert self._path is not None
        # When a file replaces another, ext4 writes it out at once (auto_da_alloc): 1 ms. Of one that
        # takes the other's place it doesn't, and what is soon replaced again never meets the disk.
        if (
            not self._durable
            and stat.S_ISREG(_mode(final, self._folder_fd))  # not a folder that somebody planted there
            and exchange(self._path, final, dir_fd=self._folder_fd)
        ):
            return  # the draft's name is now that of the old file, which goes when the context ends
        if self._folder_fd is None:
            os.replace(self._path, final)
        else:
            os.replace(self._path, final, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
        self._path = None

    def link(self, final: str) -> None:
        """Publish as `final`; FileExistsError if there is something."""
        folder = self._folder_fd
        if self._path is None:
            # The link of /proc is followed only by a call that takes descriptors, if it needs none.
            path = f"/proc/self/fd/{self._fd}"
            os.link(path, final, src_dir_fd=self._fd, dst_dir_fd=folder, follow_symlinks=True)
            return
        try:
            os.link(self._path, final, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError:
            # A network filesystem repeats a request whose answer was lost, and then reports
            # a link that it made itself as one that exists: the number of links tells.
            if os.fstat(self._fd).st_nlink != 2:  # noqa: PLR2004 - ours, and the draft's
                raise
        self._unlink(self._path)
        self._path = None

    def status(self) -> os.stat_result:
        """Return what the filesystem says about the file, published or not."""
        return os.fstat(self._fd)

    def _unlink(self, path: str) -> None:
        if self._folder_fd is None:
            os.unlink(path)
        else:
            os.unlink(path, dir_fd=self._folder_fd)


def draft_name() -> str:
    """Return a name for a draft, which tells who writes it."""
    here = machine()
    writer = f"{here}-{os.getpid()}" if here else str(os.getpid())
    return f"{DRAFT_PREFIX}{writer}-{os.urandom(8).hex()}"


def is_abandoned(name: str, *, age_seconds: float) -> bool:
    """Return whether the draft `name`, unchanged for so long, was left by a process that is gone.

    Only what a process on this machine left is known to be; while another has its number, not.
    """
    parts = name.rpartition("/")[2].removeprefix(DRAFT_PREFIX).split("-")
    here = machine()
    if age_seconds < _ABANDONED_SECONDS or not here or len(parts) != 3 or parts[0] != here:  # noqa: PLR2004 - machine, process, number
        return False
    with contextlib.suppress(ValueError, OverflowError, PermissionError):
        try:
            os.kill(int(parts[1]), 0)
        except ProcessLookupError:
            return True
    return False


def _open_making(path: str, flags: int, directory: str, *, durable: bool) -> int:
    for _ in range(_TRIES):
        try:
            return os.open(path, flags, _MODE)
        except FileNotFoundError:
            # Race: somebody may remove the empty directory again before the next open.
            make_folders(directory, durable=durable)
    return os.open(path, flags, _MODE)


def _mode(path: str, dir_fd: int | None) -> int:
    try:
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _write_all(fd: int, chunks: Sequence[Buffer]) -> None:
    pending = iter([chunk for chunk in chunks if len(chunk)])
    while group := list(islice(pending, _IOV_MAX)):
        while group:
            # A write can be short without an error: a file size limit, a disk nearly full.
            written = os.writev(fd, group)
            group = _after(group, written)


def _after(group: list[Buffer], written: int) -> list[Buffer]:
    for index, chunk in enumerate(group):
        if written < len(chunk):
            return [memoryview(chunk)[written:], *group[index + 1 :]]
        written -= len(chunk)
    return []
