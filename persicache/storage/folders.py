"""Folders that only their owner can enter, and the way into those that others can change: `Folders`."""

# ruff: noqa: PTH101, PTH102, PTH116, PTH120 - plain os calls: a Path costs as much as the call itself

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

__all__ = ["Folders", "Spot", "is_private", "make_folders", "set_mode", "sync_folder"]

_PRIVATE_MODE = 0o700
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NO_MODES: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
_ENTER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TRIES: Final = 5
_KNOWN_SECONDS: Final = 0.1  # in which only a loop asks twice
_MOST_KNOWN: Final = 4096
_new: Final = tuple.__new__  # a third of the time of Spot(...), on the path of every set


def make_folders(path: str, *, durable: bool = False) -> None:
    """Make the folder `path` with what is missing above it, each with mode 0700.

    Folders that exist are left as they are.

    Parameters
    ----------
    path : str
        An absolute path.
    durable : bool, default False
        Whether the new folders survive a power cut.
    """
    parent = os.path.dirname(path)
    for n_tries_left in reversed(range(_TRIES)):
        try:
            os.mkdir(path, _PRIVATE_MODE)
            break
        except FileExistsError:
            return
        except FileNotFoundError:
            # Race: somebody may remove the empty parent again; but in /proc nothing goes into it.
            if not n_tries_left:
                raise
            make_folders(parent, durable=durable)
    set_mode(path, _PRIVATE_MODE)
    if durable:
        sync_folder(parent)


def set_mode(made: int | str, mode: int) -> None:
    """Give a file or folder that was just made its mode, whatever the umask left of that.

    Parameters
    ----------
    made : int or str
        Its descriptor or its path.
    mode : int
        The mode. Filesystems that have none (FAT, some shares) refuse it, and do without.
    """
    try:
        if isinstance(made, int):
            os.fchmod(made, mode)
        else:
            os.chmod(made, mode)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise


def sync_folder(path: str) -> None:
    """Make the names in the folder `path` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_private(status: os.stat_result) -> bool:
    """Return whether only this user can write what has `status`."""
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


class Spot(NamedTuple):
    """A folder in which to open, rename and remove files.

    Attributes
    ----------
    directory : str
        Its path; to be used if there is no descriptor.
    fd : int or None
        Its descriptor, for the ``dir_fd`` of a call.
    """

    directory: str
    fd: int | None

    def path(self, name: str) -> str:
        """Return the path of the file `name`: relative to the descriptor if there is one."""
        return f"{self.directory}/{name}" if self.fd is None else name


class Folders:
    """The folders below a root, entered through no link that somebody else could have planted.

    Parameters
    ----------
    root : str
        An absolute path. It may be reached by links; who chose it chose them.
    clock : callable, optional
        Seconds that only grow.

    Notes
    -----
    Where nobody else can write, a link is its owner's, and is followed. That nobody can is
    believed for a tenth of a second, then asked again.
    """

    __slots__ = ("_clock", "_ours_until", "_private_until", "root")

    def __init__(self, root: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.root = root
        self._clock = clock
        self._ours_until: dict[str, float] = {}
        self._private_until: dict[str, float] = {}

    def is_private(self, folder: str, *, if_missing: bool = False) -> bool:
        """Return whether nobody else can change what is in `folder`, or put another in its place.

        Parameters
        ----------
        folder : str
            Relative to the root; "" is the root.
        if_missing : bool, default False
            What to return if it is to be made yet, with mode 0700, in private ones.
        """
        now = self._clock()
        if now < self._private_until.get(folder, now):
            return True
        try:
            path = self.root
            status = os.stat(path)
            for component in folder.split("/") if folder else ():
                if not is_private(status):
                    return False
                path = f"{path}/{component}"
                # A root may be reached by a link of its owner's; below it there are none of ours.
                status = os.lstat(path)
        except FileNotFoundError:
            return if_missing
        except OSError:
            return False
        if not (stat.S_ISDIR(status.st_mode) and is_private(status)):
            return False
        self._believe(self._private_until, folder, now)
        return True

    def open(self, name: str, flags: int) -> int:
        """Return a descriptor of the file `name`."""
        folder, _, last = name.rpartition("/")
        if not folder or self._is_ours(folder):
            return os.open(f"{self.root}/{name}", flags)
        fd = self._descend(folder)
        try:
            return os.open(last, flags, dir_fd=fd)
        finally:
            os.close(fd)

    def at(self, folder: str) -> Spot | None:
        """Return the spot `folder` if its path is safe to use, and it needn't be entered."""
        if not folder:
            return _new(Spot, (self.root, None))
        return _new(Spot, (f"{self.root}/{folder}", None)) if self._is_ours(folder) else None

    @contextlib.contextmanager
    def entered(self, folder: str, *, make: bool = False, durable: bool = False) -> Iterator[Spot]:
        """Give the spot `folder`.

        Parameters
        ----------
        folder : str
            Relative to the root; "" is the root.
        make : bool, default False
            Whether to make the folder. A spot without a descriptor may still be missing:
            whoever finds it so makes it.
        durable : bool, default False
            Whether new folders survive a power cut.

        Raises
        ------
        OSError
            FileNotFoundError or NotADirectoryError if there is none; ELOOP if a link that
            somebody else could have planted is on the way.
        """
        spot = self.at(folder)
        if spot is not None:
            yield spot
            return
        fd = self._descend(folder, make=make, durable=durable)
        try:
            yield Spot("", fd)
        finally:
            os.close(fd)

    def forget(self) -> None:
        """Ask again, from now on."""
        self._ours_until.clear()
        self._private_until.clear()

    def _is_ours(self, folder: str) -> bool:
        """Return whether nobody else can have chosen where the path of `folder` leads."""
        now = self._clock()
        if now < self._ours_until.get(folder, now):
            return True
        path = self.root
        try:
            for component in folder.split("/"):
                if not is_private(os.stat(path)):
                    return False
                path = f"{path}/{component}"
        except FileNotFoundError:
            return path != self.root  # nobody else can make what is missing in one that is private
        except OSError:
            return False
        self._believe(self._ours_until, folder, now)
        return True

    @staticmethod
    def _believe(until: dict[str, float], folder: str, now: float) -> None:
        if len(until) >= _MOST_KNOWN:
            until.clear()
        until[folder] = now + _KNOWN_SECONDS

    def _descend(self, folder: str, *, make: bool = False, durable: bool = False) -> int:
        if make:
            make_folders(self.root, durable=durable)
        fd = os.open(self.root, _ENTER)
        ours = True
        try:
            for component in folder.split("/"):
                # Race: what the descriptor shows can't be exchanged any more, as a path could.
                ours = ours and is_private(os.fstat(fd))
                flags = _ENTER if ours else _ENTER | os.O_NOFOLLOW
                try:
                    below = _enter(component, flags, fd)
                except FileNotFoundError:
                    if not make:
                        raise
                    below = _make(component, fd, durable=durable)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd


def _enter(component: str, flags: int, fd: int) -> int:
    try:
        return os.open(component, flags, dir_fd=fd)
    except NotADirectoryError:
        status = os.stat(component, dir_fd=fd, follow_symlinks=False)
        if flags & os.O_NOFOLLOW and stat.S_ISLNK(status.st_mode):
            reason = f"{component!r} is a link, in a directory that others can write to"
            raise OSError(errno.ELOOP, reason) from None
        raise


def _make(component: str, fd: int, *, durable: bool) -> int:
    flags = _ENTER | os.O_NOFOLLOW
    try:
        os.mkdir(component, _PRIVATE_MODE, dir_fd=fd)
    except FileExistsError:  # Race: another made it meanwhile
        return _enter(component, flags, fd)
    try:
        below = _enter(component, flags, fd)
    except PermissionError:  # the umask left no access, even for its owner
        os.chmod(component, _PRIVATE_MODE, dir_fd=fd)
        below = _enter(component, flags, fd)
    try:
        set_mode(below, _PRIVATE_MODE)
        if durable:
            os.fsync(fd)
    except BaseException:
        os.close(below)
        raise
    return below
