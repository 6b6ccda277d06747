"""Values in files of any names, and a file that says whose they are: `NamedFiles`."""

# ruff: noqa: PTH100, PTH108, PTH110, PTH116, PTH118, PTH120, PTH121 - plain os calls, as in storage

from __future__ import annotations

import contextlib
import errno
import os
import threading
import uuid
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from typing import Any, Final

from persicache.errors import CorruptEntry, Shown
from persicache.mappings.file_format import NO_LINKS, FileFormat
from persicache.mappings.warn import warn_caller
from persicache.storage.files import Stamp, stamp_of
from persicache.storage.folders import make_folders
from persicache.storage.lock_file import LockFile

__all__ = ["NamedFiles"]

KEYS: Final = ".keys"
#: Why a name can't be had: another key has it, or a folder; it lies below a file; it is too long.
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})
#: Nobody changes these in place.
_IMMUTABLE: Final = (str, bytes, int, float, complex, type(None))


class NamedFiles(MutableMapping[Any, Any]):
    """A directory with a file for each value, as chest has it: what a SpillDict can spill to.

    A file has the name that a function gives its key, or another one if that is taken: two keys never
    have one file. The names of new files are told in ``.keys`` by `write_keys`; those that other
    processes tell of there are seen by `look`.

    Parameters
    ----------
    path : str
        The directory.
    key_to_filename : callable
        From a key to a relative path.
    file_format : FileFormat
        How values become files.
    on_miss, on_overflow : callable, optional
        Whom to tell of keys whose values are read from files, or leave memory.

    Attributes
    ----------
    lock : RLock
        Held by whoever changes something.
    file_format : FileFormat
        As given.

    Raises
    ------
    CorruptEntry
        If ``.keys`` is something else.
    NotADirectoryError
        If the path is that of a file.
    UntrustedPickle
        If values are pickled, where somebody else can write.
    """

    def __init__(
        self,
        path: str,
        *,
        key_to_filename: Callable[[Any], str],
        file_format: FileFormat,
        on_miss: Callable[[Any], object] | None = None,
        on_overflow: Callable[[Any], object] | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.file_format = file_format
        self._root = os.path.abspath(path)
        self._key_to_filename = key_to_filename
        self._on_miss, self._on_overflow = on_miss, on_overflow
        self._names: dict[Hashable, str] = {}
        self._owners: dict[str, Hashable] = {}  # whose a file is, or was when others last looked
        self._changed: set[Hashable] = set()  # of which `.keys` doesn't know yet
        self._digests: dict[Hashable, bytes | None] = {}  # of what was read
        self._ahead: dict[Hashable, Any] = {}
        self._seen: Stamp | None = None
        self._turn = 0
        self.look()
        # Before anything is stored that couldn't be loaded again.
        file_format.check(self._path(KEYS), key=KEYS, place=self._root)

    def __repr__(self) -> str:
        return f"NamedFiles({self._root!r})"

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._names))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, key: Hashable) -> str:
        """Return the name of the file that a key has, or would have."""
        name = self._names.get(key) or self._checked(self._key_to_filename(key))
        return name if self._owners.get(name, key) == key else uuid.uuid4().hex

    # Values

    def __getitem__(self, key: Hashable) -> Any:
        value = self._ahead.pop(key) if key in self._ahead else self._read(key)
        if type(value) not in _IMMUTABLE:
            self._digests[key] = self.file_format.digest(value)
        return value

    def __setitem__(self, key: Hashable, value: Any) -> None:
        with self.lock:
            self.look()
            name = self.name(key)
            is_new = key not in self._names
            try:
                self.file_format.write(self._path(name), value, is_new=is_new)
            except OSError as error:
                if not is_new or error.errno not in _TAKEN:
                    raise
                name = uuid.uuid4().hex
                self.file_format.write(self._path(name), value, is_new=True)
            self._note(key, name)

    def __delitem__(self, key: Hashable) -> None:
        with self.lock:
            name = self._names.pop(key)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name))
            self._note(key, None)

    def share(self, key: Hashable, other: NamedFiles) -> bool:
        """Have the very file that another has for a key; return whether that can be."""
        if not self.file_format.is_that_of(other.file_format):
            return False
        source = other._path(other._names[key])
        with self.lock:
            name = self.name(key)
            # Beside an older file: whoever reads that in another process finds the one or the other.
            link = self._path(uuid.uuid4().hex if key in self._names else name)
            try:
                if os.path.exists(self._path(name)) and os.path.samefile(source, self._path(name)):
                    return key in self._names
                make_folders(os.path.dirname(link))
                os.link(source, link)
            except OSError as error:
                if error.errno in _TAKEN | NO_LINKS:
                    return False
                raise
            if key in self._names:
                os.replace(link, self._path(name))  # noqa: PTH105
            self._note(key, name)
            return True

    @contextlib.contextmanager
    def ahead(self, key: Hashable, file: Any = None) -> Iterator[None]:
        """Read a value, maybe from a file that is open already, before it is asked for."""
        self._ahead[key] = self._read(key, file)
        try:
            yield
        finally:
            self._ahead.pop(key, None)

    # What a SpillDict calls: its on_miss, and its on_evict

    def missed(self, key: Hashable) -> None:
        """Pass on that somebody asks for a value that is not in memory."""
        if self._on_miss is not None and key not in self._ahead:
            self._on_miss(key)

    def leaving(self, key: Hashable, value: object) -> bool:
        """Pass on that a value is about to leave memory; return whether it isn't as it was read."""
        if self._on_overflow is not None:
            self._on_overflow(key)
        before = self._digests.pop(key, None)
        return before is not None and before != self.file_format.digest(value)

    def set_anew(self, key: Hashable) -> None:
        """Take what comes next for a new value, whatever was read."""
        self._digests.pop(key, None)

    # Keys

    def look(self) -> int:
        """See what other processes have told in ``.keys`` since; return how often there was anything."""
        with self.lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return self._turn
            told = self._told()
            self._owners |= {name: key for key, name in told.items()}
            mine = {key: self._names[key] for key in self._changed if key in self._names}
            self._names = {key: name for key, name in told.items() if key not in self._changed} | mine
            self._seen = stamp
            self._turn += 1
            return self._turn

    def write_keys(self) -> None:
        """Tell whose the files are, beside what others have told."""
        with self.lock:
            if not self._changed and self._seen is not None:
                self.look()
                return
            with self._alone():
                names = self._told()
                for key in self._changed:
                    self._settle(key, names)
                self.file_format.write(self._path(KEYS), self._tellable(names), is_new=False)
                self._names, self._changed, self._seen = names, set(), self._stamp()
                self._owners = {name: key for key, name in names.items()}

    def _settle(self, key: Hashable, names: dict[Hashable, str]) -> None:
        """See that what was stored or removed under a key is told of among `names`."""
        mine = self._names.get(key)
        told = names.get(key, mine)
        if mine is not None and told is not None and mine != told:
            # Race: others may just write to the file that they know of, so that one is never removed.
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._path(mine), self._path(told))  # noqa: PTH105
        if told is not None and os.path.exists(self._path(told)):
            names[key] = told
        else:  # Race: else another process has stored what was removed here
            names.pop(key, None)

    def _told(self) -> dict[Hashable, str]:
        path = self._path(KEYS)
        try:
            if os.stat(path).st_size == 0:  # just made, as something to lock
                return {}
            pairs = self.file_format.read(path, key=KEYS, place=self._root)
        except FileNotFoundError:
            return {}
        try:
            return {_hashable(key): self._checked(name) for key, name in pairs}
        except (TypeError, ValueError) as error:
            reason = f"it is no list of keys: {error}"
            raise CorruptEntry(key=KEYS, place=self._root, reason=reason) from None

    def _tellable(self, names: dict[Hashable, str]) -> list[tuple[Hashable, str]]:
        """Return the pairs for ``.keys``, but for keys that can't be stored."""
        can_hold = self.file_format.digest
        pairs = list(names.items())
        if can_hold(pairs) is not None:
            return pairs
        tellable = [pair for pair in pairs if can_hold([pair]) is not None]
        told = {key for key, _ in tellable}
        untold = [key for key in names if key not in told]
        warn_caller(
            f"whoever opens {self._root!r} again won't find {len(untold)} keys there, as they can't be "
            f"stored: {Shown(untold)!r}"
        )
        return tellable

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        path = self._path(KEYS)
        lock = LockFile(path)
        while True:
            with lock.exclusive() as fd:
                # Race: who held it before has put another file in its place, which others lock.
                if os.path.exists(path) and os.path.samestat(os.fstat(fd), os.stat(path)):
                    yield
                    return

    def _note(self, key: Hashable, name: str | None) -> None:
        if name is not None:
            self._names[key] = name
            self._owners[name] = key
        self._changed.add(key)
        self._digests.pop(key, None)

    # Files

    def _read(self, key: Hashable, file: Any = None) -> Any:
        while True:
            self.look()
            name = self._names[key]
            try:
                return self._loaded(name, key, file)
            except FileNotFoundError:
                self.look()
                if self._names.get(key) == name:  # Race: else another process has given it another file
                    raise KeyError(key) from None

    def _loaded(self, name: str, key: Hashable, file: Any) -> Any:
        return self.file_format.read(self._path(name), key=key, place=self._root, file=file)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _checked(self, name: Any) -> str:
        name = os.fspath(name)
        if name == KEYS or "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise ValueError(f"{name!r} can't be the name of a file in {self._root!r}")
        return str(name)

    def _stamp(self) -> Stamp | None:
        try:
            return stamp_of(os.stat(self._path(KEYS)))
        except FileNotFoundError:
            return None


def _hashable(key: Any) -> Any:
    # JSON has no tuples.
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
