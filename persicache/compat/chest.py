"""A dictionary that spills to disk, as the package chest has it: `Chest`.

Code for chest 0.2.3 runs with ``from persicache.compat.chest import Chest``, on the same directories.
Besides, values are weighed with all that is in them, files are written whole or not at all, processes
share a directory without losing keys, and keys never a file, and what is changed in place is stored.
"""

# ruff: noqa: A002, SLF001 - chest's names for its options; and another chest is a chest, too

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self

from persicache.mappings import SpillDict
from persicache.mappings import nbytes as weighed
from persicache.mappings.file_format import FileFormat, dump_pickle, load_pickle, open_file
from persicache.mappings.named_files import NamedFiles
from persicache.mappings.precious import is_precious
from persicache.mappings.spill_live import Live
from persicache.mappings.worker_exit import also_in_workers
from persicache.storage.folders import make_folders

__all__ = ["Chest", "key_to_filename", "nbytes"]

_PLAIN, _MOST_OPEN = re.compile(r"[a-zA-Z_]\w*"), 512


def nbytes(value: Any) -> int:
    """Return how many bytes a value takes in memory; an array without its head."""
    return value.nbytes if isinstance(getattr(value, "nbytes", None), int) else weighed(value)


def key_to_filename(key: Hashable) -> str:
    """Return a file's name, or path, for any key; different keys can have the same.

    Examples
    --------
    >>> key_to_filename("x"), key_to_filename(("a", "b"))
    ('x', '_a/b')
    """
    if isinstance(key, str) and _PLAIN.fullmatch(key):
        return key
    if isinstance(key, tuple) and key:
        *folders, name = map(key_to_filename, key)
        return "/".join([*(f"_{folder}" for folder in folders), name])
    return hashlib.md5(str(key).encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()


class Chest(MutableMapping[Any, Any]):
    """A dictionary that keeps in files what memory has no room for, and what is to stay.

    Parameters
    ----------
    data : mapping or iterable of (key, value), optional
        What to start with.
    path : str or path-like, optional
        The directory. By default a temporary one, which goes with the chest.
    available_memory : float or str, default 1e9
        Bytes that values may take in memory; or a text such as "2 GiB".
    dump, load : callable, optional
        Functions such as `json.dump` and `json.load`. By default values are pickled, and loaded only
        from where nobody else can write.
    key_to_filename : callable, optional
        From a key to its file's name. A name that another key has is not used again.
    on_miss, on_overflow : callable, optional
        Called with a key whose value somebody asks for that isn't in memory; that is about to leave it.
    open, open_many : callable, optional
        What opens a file, by its path and ``mode=``, and many at once for `prefetch`.
    mode : {"b", "t"}, default "b"
        Whether files are binary or text. Text that is dumped to a binary file is UTF-8.
    allow_pickle, durable : bool, optional
        As of `persicache.PersiDict`, but by default a chest isn't durable.

    Notes
    -----
    A value that can't be dumped stays in memory, with a warning. Keys that other processes flushed are
    seen at once; new values of what is in memory here after a `flush`. To change a value in place is to
    set it, while it is in memory. Of several who set a key the one that flushes last wins.

    Examples
    --------
    >>> c = Chest()
    >>> c["x"] = [1, 2, 3]
    >>> c.flush()
    >>> sorted(os.listdir(c.path))
    ['.keys', 'x']
    >>> c["x"].append(4)
    >>> c.flush()
    >>> Chest(path=c.path)["x"]
    [1, 2, 3, 4]
    """

    def __init__(
        self,
        data: Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
        path: str | os.PathLike[str] | None = None,
        available_memory: float | str | None = None,
        dump: Callable[..., object] = dump_pickle,
        load: Callable[..., Any] = load_pickle,
        key_to_filename: Callable[[Any], str] = key_to_filename,
        on_miss: Callable[[Any], object] | None = None,
        on_overflow: Callable[[Any], object] | None = None,
        open: Callable[..., Any] = open_file,
        open_many: Callable[..., Any] | None = None,
        mode: str = "b",
        *,
        allow_pickle: bool | None = None,
        durable: bool = False,
    ) -> None:
        self.dump, self.load, self.open, self.open_many, self.mode = dump, load, open, open_many, mode
        file_format = FileFormat(
            dump=dump, load=load, open=open, mode=mode, allow_pickle=allow_pickle, durable=durable
        )
        self._explicitly_given_path = is_given = path is not None
        self.path = tempfile.mkdtemp(".chest") if path is None else os.fspath(path)
        make_folders(os.path.abspath(self.path))  # noqa: PTH100
        self._files = files = NamedFiles(  # none of it leads back here: a chest goes with its owner
            self.path,
            key_to_filename=key_to_filename,
            file_format=file_format,
            on_miss=on_miss,
            on_overflow=on_overflow,
        )
        self.lock, self._turn = files.lock, files.look()
        self._values: SpillDict[Any] = SpillDict(
            available_memory=_budget(available_memory),
            spill_to=files,
            weigh=nbytes,
            on_miss=files.missed,
            on_evict=files.leaving,
        )
        end = weakref.finalize(self, _end, self._values, files, self.path, os.getpid(), is_given=is_given)
        also_in_workers(self, end)
        self.__del__ = end  # for who calls it: Python doesn't
        self.update(data or {})

    def __repr__(self) -> str:
        return f"<chest at {self.path}>"

    @property
    def available_memory(self) -> int:
        """Bytes that values may take in memory; those that a smaller number has no room for leave."""
        return self._values.available_memory

    @available_memory.setter
    def available_memory(self, amount: float | str) -> None:
        self._values.available_memory = _budget(amount)

    @property
    def memory_usage(self) -> int:
        """Bytes that values take in memory."""
        return self._values.memory_usage

    @property
    def inmem(self) -> Mapping[Any, Any]:
        """The values that are in memory."""
        return Live(self._values)

    def key_to_filename(self, key: Hashable) -> str:
        """Return the path of the file that a key has, or would have."""
        return os.path.join(self.path, self._files.name(key))  # noqa: PTH118

    def __getitem__(self, key: Hashable) -> Any:
        try:
            return self._values[key]
        except KeyError:
            return self._seen()[key]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._files.set_anew(key)
        self._values[key] = value

    def __delitem__(self, key: Hashable) -> None:
        del self._seen()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._seen()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._seen())

    def __len__(self) -> int:
        return len(self._seen())

    def clear(self) -> None:
        """Remove every item."""
        self._seen().clear()

    def update(self, other: Any, overwrite: bool = True) -> None:  # type: ignore[override]  # noqa: FBT001, FBT002
        """Set the items of a mapping, or pairs; those of another chest by hard links, where that can be.

        Another chest is flushed, and so is this one. Without `overwrite` keys that are there stay.
        """
        if isinstance(other, Chest):
            self.flush()
            other.flush()
        items = other if isinstance(other, Mapping) else dict(other)
        for key in [*items]:
            if not overwrite and key in self:
                continue
            if isinstance(items, Chest) and key in items._files:
                if key in self.inmem:  # what couldn't be stored
                    del self[key]
                if self._files.share(key, items._files):
                    continue
            self[key] = items[key]
        self._values.refresh()

    def move_to_disk(self, key: Hashable) -> None:
        """Move a value out of memory; KeyError if there is none, TypeError if it can't be stored."""
        if not self._values.spill(key):
            raise TypeError(f"the value of {key!r} can't be stored, and stays in memory")

    def get_from_disk(self, key: Hashable) -> None:
        """Read a value into memory, if it isn't there."""
        self.prefetch([key])

    def prefetch(self, keys: Any) -> None:
        """Read the values of a list of keys, or of one, into memory."""
        wanted = [key for key in (keys if isinstance(keys, list) else [keys]) if key not in self.inmem]
        for start in range(0, len(wanted), _MOST_OPEN):
            some = wanted[start : start + _MOST_OPEN]
            opening: Any = contextlib.nullcontext([None] * len(some))
            if self.open_many is not None:
                opening = self.open_many([self.key_to_filename(key) for key in some], mode=f"r{self.mode}")
            with opening as files:
                for key, file in zip(some, files, strict=True):
                    with self._files.ahead(key, file):
                        self._values[key]

    def shrink(self) -> None:
        """Move values out of memory until the others fit into what is available."""
        self._values.available_memory = self._values.available_memory

    def write_keys(self) -> None:
        """Write which file is whose, so that the directory can be opened again."""
        self._files.write_keys()
        self._values.refresh()

    def flush(self) -> None:
        """Move every value to disk, and tell where it is; what can't be stored stays in memory."""
        _store(self._values)
        self.write_keys()

    def drop(self) -> None:
        """Remove every item, and the directory."""
        if is_precious(self.path):
            raise ValueError(f"{self.path!r} is a whole disk or home: empty it by clear()")
        self._values.clear()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._explicitly_given_path:
            self.flush()
        else:
            self.drop()

    def _seen(self) -> SpillDict[Any]:
        if (turn := self._files.look()) != self._turn:
            self._turn = turn
            self._values.refresh()
        return self._values


def _budget(amount: float | str | None) -> int | str:
    # One byte is as good as none: a SpillDict has some.
    nbytes = 1e9 if amount is None else amount
    return nbytes if isinstance(nbytes, str) else int(max(1, min(nbytes, sys.maxsize)))


def _store(values: SpillDict[Any]) -> None:
    for key in Live(values):
        with contextlib.suppress(KeyError):  # Race: removed meanwhile
            values.spill(key)


def _end(values: SpillDict[Any], files: NamedFiles, path: str, pid: int, *, is_given: bool) -> None:
    if os.getpid() != pid:  # a forked child inherits the chest, not the directory
        return
    if not is_given:
        shutil.rmtree(path, ignore_errors=True)
    if os.path.isdir(path):  # noqa: PTH112
        _store(values)
        files.write_keys()
    else:  # gone, or moved: what has nowhere to go must not bring it back
        values.clear()
