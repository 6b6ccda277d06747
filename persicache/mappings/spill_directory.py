"""A temporary directory of one process's copies: `Directory`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
import weakref
from itertools import count
from pathlib import Path
from typing import Any, Final

from persicache.mappings.persidict import PersiDict
from persicache.mappings.spill_link import link

__all__ = ["Directory", "sweep"]

_PREFIX: Final = "persicache-spill-"
#: A file in it that is locked as long as its owner, or a child of it, lives.
_OWNED: Final = ".owned"
#: Whoever made it has locked it by then.
_YOUNG_SECONDS: Final = 60.0
#: So many of the bits of a name count within a directory.
_NAME_BITS: Final = 40
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class Directory:
    """A temporary directory, removed when it is collected or closed, or its process exits.

    What a killed process leaves is removed by the next one that makes such a directory.
    """

    _has_swept = False
    _serials = count()

    def __init__(self) -> None:
        if not Directory._has_swept:
            Directory._has_swept = True
            sweep()
        self._pid = os.getpid()
        self._serial = next(Directory._serials)
        self._names = count(self._serial << _NAME_BITS)
        self._shared_names: set[int] = set()
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        fd = os.open(f"{self.path}/{_OWNED}", _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.suppress(OSError):  # without locks, nobody sweeps
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # What this process has just written needs no second look at its checksum.
        self.values: PersiDict[Any] = PersiDict(self.path, durable=False, verify="header")
        self.remove = weakref.finalize(self, _remove, self.path, self._pid, fd)
        # A worker of multiprocessing ends without the exit handlers of Python.
        process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
        if process is not None and util is not None and process.parent_process() is not None:
            util.Finalize(self, self.remove, exitpriority=0)

    def new_name(self) -> int:
        """Return a name for a copy, that no other directory of this process has, had or gives."""
        return next(self._names)

    def share(self, name: int, into: Directory) -> bool:
        """Let another directory have a copy, too, by a hard link; return whether that was done."""
        # Race: what was there before may still be about to be removed, or be removed twice.
        if name >> _NAME_BITS == into._serial or name in into._shared_names:
            return False
        if not link(name, self.values, into.values):
            return False
        into._shared_names.add(name)
        return True

    @property
    def is_mine(self) -> bool:
        """Whether this process made it; a forked child inherits the object only."""
        return os.getpid() == self._pid


def sweep() -> int:
    """Remove the directories that killed processes of this user left; return how many."""
    return sum(_is_orphan(path) and _is_removed(path) for path in _candidates())


def _candidates() -> list[Path]:
    try:
        return list(Path(tempfile.gettempdir()).glob(_PREFIX + "*"))
    except OSError:
        return []


def _is_orphan(path: Path) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        if time.time() - status.st_ctime < _YOUNG_SECONDS:
            return False
        fd = os.open(path / _OWNED, _OPEN)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its owner lives
        return False
    finally:
        os.close(fd)
    return True


def _is_removed(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _remove(directory: str, pid: int, fd: int) -> None:
    # A forked child inherits the finalizer, not the directory.
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(fd)
