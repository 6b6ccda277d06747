"""The fsspec filesystems over tables: `SqliteFileSystem`, `LmdbFileSystem`, `JsonFileSystem`.

Whoever has persicache installed has them by their protocols, ``sqlite``, ``lmdb`` and
``jsondoc``: ``fsspec.filesystem("lmdb", path="env")``, or ``fsspec.open("sqlite://a/b::x.db")``.
"""

# ruff: noqa: ARG002, FBT001, FBT002 - the signatures are fsspec's

from __future__ import annotations

import errno
import os
import time
from datetime import UTC, datetime
from typing import Any, ClassVar

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from persicache.errors import VersionConflict
from persicache.storage.blob import ABSENT, ANY, Buffer, Expectation, Version
from persicache.storage.process import PerProcess
from persicache.storage.table import Change, RowInfo, Table
from persicache.storage.table_place import check_options, make_table, place_at

__all__ = ["JsonFileSystem", "LmdbFileSystem", "SqliteFileSystem", "TableFileSystem"]

Info = dict[str, Any]


class TableFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """A filesystem whose files are the rows of a table.

    A folder is there when something is in it, or when it was made; one that was made is a row
    of its own, whose name ends in a slash.

    Parameters
    ----------
    path : str or path-like
        The file, or the LMDB environment's folder; made at the first write.
    table : str, optional
        Which of its tables; a JSON document has but one.
    durable : bool, default True
        Whether what was written survives a power cut.
    commit_every : int, default 1
        How many writes to make in one transaction; `flush` makes those that wait.
    fo : str, optional
        The path, where fsspec takes it from a URL such as ``sqlite://a/b::/data/x.db``.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        table: str | None = None,
        durable: bool = True,
        commit_every: int = 1,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: Any = None,
        map_nbytes: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        where = path if path is not None else fo
        if where is None or target_protocol not in {None, "file", "local"}:
            raise ValueError(
                f"the {self.kind} filesystem needs path=, a file of this machine; "
                f"or a URL such as {self.kind}://name::/data/file"
            )
        self._place = place_at(self.kind, os.fspath(where), table)
        self._durable = durable
        self._options = {"commit_every": commit_every}
        if map_nbytes is not None:
            self._options["map_nbytes"] = map_nbytes
        check_options(self._place, self._options)
        self._made = PerProcess(self._make)

    def __reduce__(self) -> tuple[Any, ...]:
        # The path has been resolved; elsewhere a relative one would lead elsewhere.
        options = {"table": self._place.table, "durable": self._durable, **self._options}
        return _rebuild, (type(self), self._place.path, options)

    @property
    def table(self) -> Table:
        """The table of this process."""
        return self._made.get()

    @property
    def fsid(self) -> str:
        """What tells this filesystem from others."""
        return self._place.url

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        stripped = super()._strip_protocol(path)
        return "/".join(part for part in stripped.split("/") if part)

    # One file

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        """Return the bytes of a file, or some of them."""
        name = self._strip_protocol(path)
        row = self.table.get(name) if name else None
        if row is None:
            raise self._absent(name)
        data = row.data if start is None and end is None else row.data[start:end]
        return data if type(data) is bytes else bytes(data)

    def pipe_file(self, path: str, value: Buffer, mode: str = "overwrite", **options: Any) -> None:
        """Store the bytes of a file; with ``mode="create"`` only if there is none."""
        self.put_chunks(path, [value], expect=ABSENT if mode == "create" else ANY)

    def put_chunks(self, path: str, chunks: list[Buffer], *, expect: Expectation | Version = ANY) -> None:
        """Store `chunks`, one after the other, if `expect` holds, else raise FileExistsError."""
        name = self._strip_protocol(path)
        self._check_name(name)
        change = Change(chunks, os.urandom(16).hex(), time.time())
        try:
            self.table.put(name, change, expect=expect)
        except VersionConflict as error:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error

    def rm_file(self, path: str) -> None:
        """Remove a file, or an empty folder."""
        name = self._strip_protocol(path)
        if not name or not self.table.delete(name):
            if self.isdir(name):
                self.rmdir(name)
                return
            raise _error(errno.ENOENT, path)

    _rm = rm_file

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file, or make a folder like another."""
        name = self._strip_protocol(path1)
        row = self.table.get(name) if name else None
        if row is not None:
            self.put_chunks(path2, [row.data])
        elif self.isdir(name):
            self.makedirs(path2, exist_ok=True)
        else:
            raise _error(errno.ENOENT, path1)

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        """Make an empty file; with ``truncate=False`` give one that exists the time of now."""
        while True:
            name = self._strip_protocol(path)
            row = None if truncate or not name else self.table.get(name)
            expect: Expectation | Version = ANY if truncate else ABSENT if row is None else row.version
            try:
                self.put_chunks(name, [b"" if row is None else row.data], expect=expect)
            except FileExistsError:  # Race: somebody else wrote it meanwhile
                continue
            return

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: Any = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **options: Any,
    ) -> TableFile:
        name = self._strip_protocol(path)
        if mode == "rb":
            info = self.info(name)
            if info["type"] == "directory":
                raise _error(errno.EISDIR, path)
            return TableFile(self, name, mode, block_size, cache_type="all", size=info["size"])
        self._check_name(name)
        if "x" in mode and self.table.stat(name) is not None:
            raise _error(errno.EEXIST, path)
        return TableFile(self, name, mode, block_size, autocommit=autocommit)

    # Folders

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Make a folder."""
        name = self._strip_protocol(path)
        if self.exists(name):
            raise _error(errno.EEXIST, path)
        parent = self._parent(name)
        if not create_parents and not self.isdir(parent):
            raise _error(errno.ENOENT, parent)
        self._make_folder(name)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those above it."""
        name = self._strip_protocol(path)
        if not name or self.isdir(name):
            if not exist_ok:
                raise _error(errno.EEXIST, path)
            return
        if self.isfile(name):
            raise _error(errno.EEXIST, path)
        self._make_folder(name)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        name = self._strip_protocol(path)
        if not name:
            return
        for info in self.table.scan(f"{name}/"):
            if info.name != f"{name}/":
                raise _error(errno.ENOTEMPTY, path)
        if not self.table.delete(f"{name}/"):
            raise _error(errno.ENOENT, path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with ``recursive`` folders and what is in them."""
        one = self._strip_protocol(path) if isinstance(path, (str, os.PathLike)) else None
        if recursive and maxdepth is None and one is not None and not _is_pattern(one):
            if not self.exists(one):
                raise _error(errno.ENOENT, one)
            prefix = f"{one}/" if one else ""
            names = [info.name for info in self.table.scan(prefix)]
            self.table.apply(dict.fromkeys([one, *names] if one else names, Change(None, "", 0.0)))
            return
        for name in reversed(self.expand_path(path, recursive=recursive, maxdepth=maxdepth)):
            # A folder that was never made goes with the last that was in it.
            if self.table.stat(name) is not None or not recursive:
                self.rm_file(name)
            elif self.table.stat(f"{name}/") is not None:
                self.rmdir(name)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        """Return what is in a folder, or the file of this name."""
        name = self._strip_protocol(path)
        found = self._file(name)
        infos = [found] if found is not None else self._inside(name)
        return infos if detail else sorted(info["name"] for info in infos)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **options: Any,
    ) -> Any:
        """Return the files below a folder, however deep, in one pass over the table."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        name = self._strip_protocol(path)
        found = self._file(name)
        if found is not None:
            return {name: found} if detail else [name]
        infos: dict[str, Info] = {}
        prefix = f"{name}/" if name else ""
        for row in self.table.scan(prefix):
            parts = row.name[len(prefix) :].split("/")
            if withdirs:
                for depth in range(1, min(len(parts), (maxdepth or len(parts)) + 1)):
                    folder = prefix + "/".join(parts[:depth])
                    infos[folder] = _folder(folder)
                if name:
                    infos[name] = _folder(name)
            if parts[-1] and (maxdepth is None or len(parts) <= maxdepth):
                infos[row.name] = _file(row)
        names = sorted(infos)
        return {each: infos[each] for each in names} if detail else names

    def info(self, path: str, **options: Any) -> Info:
        """Return name, size, type, version and time of a file, or name and type of a folder."""
        name = self._strip_protocol(path)
        found = self._file(name)
        if found is not None:
            return found
        if name and next(self.table.scan(f"{name}/"), None) is None:
            raise _error(errno.ENOENT, path)
        return _folder(name)

    def exists(self, path: str, **options: Any) -> bool:
        """Return whether there is a file or a folder."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def modified(self, path: str) -> datetime:
        """Return when a file was last written."""
        return datetime.fromtimestamp(self._existing(path)["mtime"], tz=UTC)

    def ukey(self, path: str) -> str:
        """Return what differs after every write of a file."""
        return str(self._existing(path)["version"])

    # All of it

    def flush(self) -> None:
        """Make the writes that wait for others to be made with."""
        self.table.flush()

    def close(self) -> None:
        """Close the file; it opens again when it is used."""
        self.table.close()

    def _make(self) -> Table:
        return make_table(self._place, durable=self._durable, options=self._options)

    def _make_folder(self, name: str) -> None:
        above = name
        while above := self._parent(above):
            if self.isfile(above):
                raise _error(errno.ENOTDIR, above)
        change = Change([b""], os.urandom(16).hex(), time.time())
        self.table.put(f"{name}/", change)

    def _file(self, name: str) -> Info | None:
        row = self.table.stat(name) if name else None
        return None if row is None else _file(row)

    def _existing(self, path: str) -> Info:
        name = self._strip_protocol(path)
        found = self._file(name)
        if found is None:
            raise self._absent(name)
        return found

    def _inside(self, name: str) -> list[Info]:
        prefix = f"{name}/" if name else ""
        infos: dict[str, Info] = {}
        is_there = not name
        for row in self.table.scan(prefix):
            is_there = True
            child, slash, _ = row.name[len(prefix) :].partition("/")
            if slash:
                infos[prefix + child] = _folder(prefix + child)
            elif child:
                infos[row.name] = _file(row)
        if not is_there:
            raise _error(errno.ENOENT, name)
        return list(infos.values())

    def _absent(self, name: str) -> OSError:
        return _error(errno.EISDIR if self.isdir(name) else errno.ENOENT, name)

    def _check_name(self, name: str) -> None:
        if not name:
            raise _error(errno.EISDIR, name)
        if self.table.stat(f"{name}/") is not None:
            raise _error(errno.EISDIR, name)


class TableFile(AbstractBufferedFile):  # type: ignore[misc]
    """An open file of a `TableFileSystem`.

    What is written becomes a file, whole, when it is closed; after an error inside ``with``
    it doesn't.
    """

    def __init__(self, fs: TableFileSystem, path: str, mode: str, block_size: Any, **options: Any) -> None:
        self._chunks: list[Buffer] = []
        super().__init__(fs, path, mode, block_size or "default", **options)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None and self.writable():
            self.discard()
        self.close()

    def commit(self) -> None:
        """Give what was written its name."""
        if self.mode != "ab":
            expect = ABSENT if self.mode == "xb" else ANY
            self.fs.put_chunks(self.path, self._chunks, expect=expect)
            return
        while True:
            row = self.fs.table.get(self.path)
            before: list[Buffer] = [] if row is None else [row.data]
            try:
                self.fs.put_chunks(
                    self.path, before + self._chunks, expect=ABSENT if row is None else row.version
                )
            except FileExistsError:  # Race: somebody else wrote it meanwhile
                continue
            return

    def discard(self) -> None:
        """Forget what was written."""
        self.closed = True
        self._chunks = []

    def _upload_chunk(self, final: bool = False) -> bool:
        self._chunks.append(self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()
        return True


class SqliteFileSystem(TableFileSystem):
    """Files in a table of a SQLite file; parameters as of `TableFileSystem`.

    Examples
    --------
    >>> import fsspec, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     filesystem = fsspec.filesystem("sqlite", path=f"{directory}/x.db")
    ...     filesystem.pipe_file("a/b", b"one")
    ...     print(filesystem.ls("a", detail=False), filesystem.cat_file("a/b"))
    ...     filesystem.close()
    ['a/b'] b'one'
    """

    protocol = "sqlite"
    kind = "sqlite"


class LmdbFileSystem(TableFileSystem):
    """Files in a table of an LMDB environment; parameters as of `TableFileSystem`."""

    protocol = "lmdb"
    kind = "lmdb"


class JsonFileSystem(TableFileSystem):
    """Files in a JSON document; parameters as of `TableFileSystem`."""

    protocol = "jsondoc"
    kind = "jsondoc"


def _file(row: RowInfo) -> Info:
    return {
        "name": row.name,
        "size": row.nbytes,
        "type": "file",
        "mtime": row.modified,
        "version": row.version,
    }


def _folder(name: str) -> Info:
    return {"name": name, "size": 0, "type": "directory"}


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")


def _rebuild(kind: type[TableFileSystem], path: str, options: Info) -> TableFileSystem:
    return kind(path=path, **options)
