"""A temporary directory of one process's copies: `Directory`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from persicache.codecs import Bytes, EntryCodec, Owner
from persicache.mappings.entries import Entries
from persicache.mappings.fork_lock import ForkLock
from persicache.mappings.persidict import PersiDict
from persicache.mappings.spill_link import link
from persicache.mappings.spill_pile import Pile
from persicache.mappings.worker_exit import also_in_workers

__all__ = ["Directory", "Name", "sweep"]

_PREFIX: Final = "persicache-spill-"
#: A file in it that is locked as long as its owner, or a child of it, lives.
_OWNED: Final = ".owned"
#: The file of all small values.
_PILE: Final = ".pile"
#: Smaller entries have no file of their own.
_MOST_PILED_NBYTES: Final = 64 * 1024
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class Name(NamedTuple):
    """What a value is called in a directory.

    Attributes
    ----------
    key : str
        Its own.
    offset : int or None
        Where it lies in the directory's pile, if it is small.
    nbytes : int
        What it takes there.
    """

    key: str
    offset: int | None
    nbytes: int


class Directory:
    """A temporary directory, removed when it is collected or closed, or its process exits.

    What a killed process leaves is removed by the next one that makes such a directory there.

    Parameters
    ----------
    parent : str, optional
        The directory to make it in, by default that for temporary files.
    """

    _swept: ClassVar[set[str | None]] = set()
    _serials = count()

    def __init__(self, parent: str | None = None) -> None:
        if parent not in Directory._swept:
            Directory._swept.add(parent)
            sweep(parent)
        self._pid = os.getpid()
        # Names that need nothing escaped, as their keys are written and read quickest.
        self._prefix = f"v{next(Directory._serials)}_"
        self._numbers = count()
        self._shared: set[str] = set()
        self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
        unlocked = f"{self.path}/{_OWNED}-soon"
        fd = os.open(unlocked, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.suppress(OSError):  # without locks, nobody sweeps
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Race: who sweeps must not find it unlocked.
        Path(unlocked).rename(f"{self.path}/{_OWNED}")
        # What this process writes nobody else reads, and it needs no second look: to hash large
        # buffers takes as long as to write them.
        self.values: PersiDict[Any] = PersiDict(self.path, durable=False, verify="header")
        storage = self.values._entries.storage  # noqa: SLF001 - of this room
        self._entries = Entries(storage, EntryCodec(verify="header", hashes_buffers=False))
        self._is_private = storage.is_private
        self._making = ForkLock()
        self._pile: Pile | None = None
        self.remove = weakref.finalize(self, _remove, self.path, self._pid, fd)
        also_in_workers(self, self.remove)

    def __len__(self) -> int:
        return len(self.values) + (0 if self._pile is None else len(self._pile))

    def write(self, value: object, *, key: object) -> Name:
        """Store a value; return its name, that no other of this process has, had or will have.

        Errors name its key.
        """
        name = f"{self._prefix}{next(self._numbers)}"
        entries = self._entries
        chunks = entries.codec.encode(value, Owner(key, name, entries.place), is_private=self._is_private)
        nbytes = sum(map(len, chunks))
        if nbytes <= _MOST_PILED_NBYTES:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            return Name(name, (self._pile or self._made_pile()).write(data), nbytes)
        entries.storage.write(entries.locate(name).name, chunks)
        return Name(name, None, nbytes)

    def read(self, name: Name, *, key: object) -> Any:
        """Return a value; BlobNotFound if its file is gone, CorruptEntry if it isn't what was stored."""
        text, offset, nbytes = name
        entries = self._entries
        if offset is None:
            return entries.load(key, entries.locate(text)).value
        assert self._pile is not None
        entry = Bytes(self._pile.read(offset, nbytes), is_private=True)
        return entries.codec.decode(entry, Owner(key, text, entries.place)).value

    def discard(self, name: Name) -> None:
        """Remove a value; nothing if it is gone already."""
        if name.offset is None:
            self.values.discard(name.key)
        else:
            assert self._pile is not None
            self._pile.remove(name.offset, name.nbytes)

    def _made_pile(self) -> Pile:
        with self._making:
            if self._pile is None:
                self._pile = Pile(f"{self.path}/{_PILE}")
            return self._pile

    def share(self, name: Name, into: Directory) -> bool:
        """Let another directory have a value, too, by a hard link; return whether that was done."""
        key = name.key
        # Race: what was there before may still be about to be removed, or be removed twice.
        if name.offset is not None or key.startswith(into._prefix) or key in into._shared:
            return False
        if not link(key, self.values, into.values):
            return False
        into._shared.add(key)
        return True

    @property
    def is_mine(self) -> bool:
        """Whether this process made it; a forked child inherits the object only."""
        return os.getpid() == self._pid


def sweep(parent: str | None = None) -> int:
    """Remove the directories that killed processes of this user left; return how many.

    Parameters
    ----------
    parent : str, optional
        Where to look, by default in the place for temporary files.
    """
    candidates = _candidates(parent or tempfile.gettempdir())
    return sum(_is_orphan(path) and _is_removed(path) for path in candidates)


def _candidates(parent: str) -> list[Path]:
    try:
        return list(Path(parent).glob(_PREFIX + "*"))
    except OSError:
        return []


def _is_orphan(path: Path) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
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
