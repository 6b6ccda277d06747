"""The files of a chest: `ChestFiles`, one for each value, and ``.keys``, which says whose they are."""

# ruff: noqa: PTH100, PTH110, PTH116, PTH118, PTH120, PTH122, PTH123 - plain os calls, as in storage

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import threading
import uuid
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from typing import Any, Final

from persicache.codecs import FORMATS, Trust, hasher
from persicache.codecs.pickled import CannotPickle
from persicache.errors import CorruptEntry, PersicacheError, Shown, UnloadableValue
from persicache.mappings.warn import warn_caller
from persicache.storage.draft import Draft
from persicache.storage.files import Stamp, stamp_of
from persicache.storage.folders import sync_folder
from persicache.storage.lock_file import LockFile
from persicache.storage.private_file import is_private_file

__all__ = ["ChestFiles", "dump_pickle", "load_pickle", "open_file"]

KEYS: Final = ".keys"
#: Why a name can't be had: another key has it, or a folder; it lies below a file; it is too long.
_TAKEN: Final = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
#: Nobody changes these in place.
_IMMUTABLE: Final = (str, bytes, int, float, complex, type(None))


class _TakesText:
    """Text that is written to a binary file, as by `json.dump`, is UTF-8."""

    def write(self, data: Any) -> int:
        return super().write(data.encode() if isinstance(data, str) else data)  # type: ignore[misc,no-any-return]


class _Bytes(_TakesText, io.BytesIO):
    pass


class _File(_TakesText, io.BufferedWriter):
    pass


def open_file(path: str, mode: str = "rb") -> Any:
    """Open a file as `open` does; one that is opened to write bytes takes text, too."""
    return _File(io.FileIO(path, "w")) if mode == "wb" else builtins.open(path, mode)


def dump_pickle(value: object, file: Any) -> None:
    """Pickle a value to a file; TypeError if it can't be."""
    try:
        chunks = FORMATS["pickle"].dump(value)
    except CannotPickle as error:
        raise TypeError(str(error)) from error
    for chunk in chunks:
        file.write(chunk)


def load_pickle(file: Any) -> Any:
    """Return what a file of `dump_pickle`, or of any pickler, holds."""
    return FORMATS["pickle"].load(file.read())


class ChestFiles(MutableMapping[Any, Any]):
    """The values of a chest's directory, under their keys.

    Files are written whole or not at all. The names of new ones are told in ``.keys`` by `write_keys`;
    those that other processes tell of there are seen by `look`.

    Parameters
    ----------
    path : str
        The directory.
    dump, load, key_to_filename, on_miss, on_overflow, open, mode, allow_pickle
        See `Chest`.
    durable : bool, default True
        Whether what was written survives a power cut.
    """

    def __init__(
        self,
        path: str,
        *,
        key_to_filename: Callable[[Any], str],
        dump: Callable[..., object] = dump_pickle,
        load: Callable[..., Any] = load_pickle,
        on_miss: Callable[[Any], object] | None = None,
        on_overflow: Callable[[Any], object] | None = None,
        open: Callable[..., Any] = open_file,  # noqa: A002 - chest's name for it
        mode: str = "b",
        allow_pickle: bool | None = None,
        durable: bool = True,
    ) -> None:
        self.lock = threading.RLock()
        self.format = (dump, load, open, mode)
        self._root = os.path.abspath(path)
        self._dump, self._load, self._open, self._mode = self.format
        self._key_to_filename = key_to_filename
        self._on_miss, self._on_overflow = on_miss, on_overflow
        self._trust = Trust(allow_pickle=allow_pickle) if load is load_pickle else None
        self._durable = durable
        self._names: dict[Hashable, str] = {}
        self._changed: set[Hashable] = set()  # of which `.keys` doesn't know yet
        self._digests: dict[Hashable, bytes] = {}  # of what was read, to tell what was changed in place
        self._read: dict[Hashable, Any] = {}  # ahead of being asked for
        self._seen: Stamp | None = None
        self.look()

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._names))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, key: Hashable) -> str:
        """Return the name of the file that a key has, or would have."""
        return self._names.get(key) or self._checked(self._key_to_filename(key))

    # Values

    def __getitem__(self, key: Hashable) -> Any:
        value = self._read.pop(key) if key in self._read else self.read(key)
        digest = self._digest(value)
        if digest is not None:
            self._digests[key] = digest
        return value

    def read(self, key: Hashable, file: Any = None) -> Any:
        """Return the value of a key, maybe from a file that is open already."""
        try:
            return self._loaded(self._path(self._names[key]), key, file)
        except FileNotFoundError:
            self.look()  # Race: another process has given it another file, or removed it
        try:
            return self._loaded(self._path(self._names[key]), key)
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: Hashable, value: Any) -> None:
        with self.lock:
            name = self.name(key)
            self._names[key] = self._write(name, value, is_new=key not in self._names)
            self._changed.add(key)
            self._digests.pop(key, None)

    def __delitem__(self, key: Hashable) -> None:
        with self.lock:
            name = self._names.pop(key)
            self._changed.add(key)
            self._digests.pop(key, None)
            self._remove(name)

    def share(self, key: Hashable, other: ChestFiles) -> bool:
        """Have the very file that another chest has for a key; return whether that can be."""
        with self.lock:
            if self.format != other.format:
                return False
            name, source = self.name(key), other._path(other._names[key])
            try:
                if key in self._names:
                    self._remove(name)
                os.makedirs(os.path.dirname(self._path(name)), mode=0o700, exist_ok=True)  # noqa: PTH103
                os.link(source, self._path(name))
            except OSError as error:
                if error.errno in _TAKEN | {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
                    return False
                raise
            self._names[key] = name
            self._changed.add(key)
            return True

    # What a SpillDict tells

    def missed(self, key: Hashable) -> None:
        """Tell of a value that is about to be read because somebody asked for it."""
        if self._on_miss is not None and key not in self._read:
            self._on_miss(key)

    def leaving(self, key: Hashable, value: Any) -> bool:
        """Return whether a value that leaves memory is another than was read."""
        if self._on_overflow is not None:
            self._on_overflow(key)
        before = self._digests.pop(key, None)
        return before is not None and before != self._digest(value)

    def set_anew(self, key: Hashable) -> None:
        """Take what comes next for a new value, whatever was read."""
        self._digests.pop(key, None)

    @contextlib.contextmanager
    def ahead(self, key: Hashable, file: Any = None) -> Iterator[None]:
        """Have a value at hand that nobody missed."""
        self._read[key] = self.read(key, file)
        try:
            yield
        finally:
            self._read.pop(key, None)

    # Keys

    def look(self) -> bool:
        """See what other processes told in ``.keys`` since; return whether that was anything."""
        with self.lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            told = self._told()
            mine = {key: self._names[key] for key in self._changed if key in self._names}
            self._names = {key: name for key, name in told.items() if key not in self._changed} | mine
            self._seen = stamp
            return True

    def write_keys(self) -> None:
        """Tell whose the files are, beside what others have told."""
        with self.lock:
            if not self._changed and self._seen is not None:
                self.look()
                return
            with self._alone():
                told = self._told()
                names, outdated = dict(told), []
                for key in self._changed:
                    if key in self._names:
                        names[key] = self._names[key]
                        outdated += [told[key]] if told.get(key, names[key]) != names[key] else []
                    elif key in names and not os.path.exists(self._path(names[key])):
                        del names[key]  # Race: else another process has stored it since
                self._write(KEYS, self._tellable(names), is_new=False)
                self._names, self._changed, self._seen = names, set(), self._stamp()
            for name in set(outdated) - set(names.values()):
                self._remove(name)

    def _told(self) -> dict[Hashable, str]:
        path = self._path(KEYS)
        try:
            if os.path.getsize(path) == 0:  # noqa: PTH202 - just made, as something to lock
                return {}
            pairs = self._loaded(path, KEYS)
        except FileNotFoundError:
            return {}
        try:
            return {_hashable(key): self._checked(name) for key, name in pairs}
        except (TypeError, ValueError) as error:
            raise CorruptEntry(
                key=KEYS, place=self._root, reason=f"it is no list of keys: {error}"
            ) from None

    def _tellable(self, names: dict[Hashable, str]) -> list[tuple[Hashable, str]]:
        """Return the pairs for ``.keys``, but for keys that can't be stored."""
        pairs = list(names.items())
        if self._can_dump(pairs):
            return pairs
        tellable = [pair for pair in pairs if self._can_dump([pair])]
        untold = [key for key, _ in set(pairs) - set(tellable)]
        warn_caller(
            f"{len(untold)} keys of the chest at {self._root!r} can't be stored, and won't be there when it "
            f"is opened again: {Shown(untold)!r}"
        )
        return tellable

    def _can_dump(self, value: object) -> bool:
        try:
            self._dumped(value)
        except (TypeError, ValueError, AttributeError, PersicacheError):
            return False
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = LockFile(self._path(KEYS))
        while True:
            with lock.exclusive() as fd:
                # Race: who held it before has put another file in its place, which others lock.
                if os.path.exists(self._path(KEYS)) and os.path.samefile(fd, self._path(KEYS)):
                    yield
                    return

    # Files

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _checked(self, name: Any) -> str:
        name = os.fspath(name)
        parts = name.split("/")
        if name == KEYS or "\0" in name or not {"", ".", ".."}.isdisjoint(parts):
            raise ValueError(f"{name!r} can't be the name of a file in the chest at {self._root!r}")
        return str(name)

    def _stamp(self) -> Stamp | None:
        try:
            return stamp_of(os.stat(self._path(KEYS)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _loaded(self, path: str, key: Hashable, file: Any = None) -> Any:
        if self._trust is not None and os.path.exists(path):
            self._trust.check_load(
                is_private=is_private_file(path), is_signed=False, key=key, place=self._root
            )
        try:
            with (
                contextlib.nullcontext(file) if file else self._open(path, mode=f"r{self._mode}") as opened
            ):
                return self._load(opened)
        except (OSError, MemoryError, PersicacheError):
            raise
        except Exception as error:
            kind = UnloadableValue if isinstance(error, (AttributeError, ImportError)) else CorruptEntry
            reason = f"{type(error).__name__}: {error}"
            raise kind(key=key, place=self._root, reason=reason) from error

    def _write(self, name: str, value: object, *, is_new: bool) -> str:
        try:
            self._publish(self._path(name), value, is_new=is_new)
        except OSError as error:
            if not is_new or error.errno not in _TAKEN:
                raise
            name = uuid.uuid4().hex
            self._publish(self._path(name), value, is_new=True)
        return name

    def _publish(self, path: str, value: object, *, is_new: bool) -> None:
        folder = os.path.dirname(path)
        with Draft(folder, durable=self._durable, suffix=os.path.splitext(path)[1]) as draft:
            with self._open(draft.path, mode=f"w{self._mode}") as file:
                self._dump(value, file)
            draft.fill([])
            if is_new:
                draft.link(path)
            else:
                draft.replace(path)
        if self._durable:
            sync_folder(folder)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(name))  # noqa: PTH108

    def _dumped(self, value: object) -> Any:
        file = io.StringIO() if self._mode == "t" else _Bytes()
        self._dump(value, file)
        return file.getvalue()

    def _digest(self, value: object) -> bytes | None:
        if type(value) in _IMMUTABLE:
            return None
        try:
            data = self._dumped(value)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception:  # noqa: BLE001 - a dump of one's own that needs a true file
            return None
        data = data.encode(errors="surrogatepass") if isinstance(data, str) else data
        return bytes(hasher(len(data)).update(data).digest())


def _hashable(key: Any) -> Any:
    # JSON has no tuples.
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
