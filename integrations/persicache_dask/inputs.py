"""Files that tasks read: which they are, and whether they are as they were."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Inputs", "Unnoticed"]

#: What filesystems call the things that change when a file does, whatever its size.
_MARKS: Final = (
    *("ETag", "etag", "checksum", "md5", "md5Hash", "content_md5", "crc32c", "CRC", "generation"),
    *("mtime", "created", "ino", "LastModified", "last_modified", "updated", "modified", "date_time"),
    *("version", "version_id", "VersionId", "content_hash"),
)
#: Longer strings are no names of files.
_MOST_CHARACTERS: Final = 4096


class Unnoticed(Exception):
    """An input could change without being noticed."""


class Inputs:
    """What is known of the files behind the tasks of one graph, each asked for once.

    Attributes
    ----------
    files : dict of str to object
        What was found, by its name: what tells whether it has changed.
    """

    def __init__(self) -> None:
        self.files: dict[str, object] = {}
        self._others: set[str] = set()
        # Files of two archives, or below two folders, may have the same name. With what keeps an id
        # its own.
        self._found: dict[tuple[int, str, str], tuple[Any, tuple[object, ...]]] = {}

    def file(self, fs: Any, path: str) -> tuple[object, ...]:
        """Return what tells a file, and whether it has changed.

        Parameters
        ----------
        fs : fsspec.AbstractFileSystem
            Where it is.
        path : str
            What it is called there.

        Raises
        ------
        Unnoticed
            If its filesystem tells no more than a size.
        """
        name = fs.unstrip_protocol(path)

        def look() -> tuple[object, ...]:
            # What was listed before could be older than the file.
            fs.invalidate_cache(fs._parent(path))  # noqa: SLF001 - its own way to name it
            return _stamp(fs.info(path), name)

        return self._once(fs, "file", name, look)

    def file_if_any(self, fs: Any, text: str) -> tuple[object, ...] | None:
        """Return what tells the file that a string names on a filesystem; None if it names none."""
        if len(text) > _MOST_CHARACTERS or not text:
            return None
        try:
            return self.file(fs, text)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
            return None

    def folder(self, fs: Any, path: str) -> tuple[object, ...]:
        """Return what tells all files below a folder."""

        def look() -> tuple[object, ...]:
            fs.invalidate_cache()
            found = fs.find(path, detail=True)
            return tuple(
                (each, _stamp(info, each)) for each, info in sorted(found.items()) if info["type"] == "file"
            )

        return self._once(fs, "folder", fs.unstrip_protocol(path), look)

    def arrow_file(self, fs: Any, path: str) -> tuple[object, ...]:
        """Return what tells a file of one of pyarrow's filesystems."""
        while fs.type_name == "subtree":
            path, fs = f"{fs.base_path.rstrip('/')}/{path.lstrip('/')}", fs.base_fs
        theirs = getattr(getattr(fs, "handler", None), "fs", None)
        if theirs is not None:  # fsspec's
            return self.file(theirs, path)
        # It tells no more of a file here than when it was written, which can be set back.
        if fs.type_name == "local" and (here := self.named(path)) is not None:
            return here
        name = f"{fs.type_name}://{path}"

        def look() -> tuple[object, ...]:
            info = fs.get_file_info(path)
            if info.mtime_ns is None:
                raise Unnoticed(f"nothing tells when {name} was changed")
            return (info.size, info.mtime_ns)

        return self._once(fs, "file", name, look)

    def _once(
        self, fs: Any, kind: str, name: str, look: Callable[[], tuple[object, ...]]
    ) -> tuple[object, ...]:
        """Return what tells something on a filesystem, that is looked at the first time."""
        known = self._found.get((id(fs), kind, name))
        if known is None:
            known = self._found[id(fs), kind, name] = fs, look()
            self.files[name] = known[1]
        return (kind, name, known[1])

    def named(self, text: str) -> tuple[object, ...] | None:
        """Return what tells the file that a string names; None if it names none.

        A function that is given a file's name reads it more often than not.
        """
        if text in self._others or len(text) > _MOST_CHARACTERS:
            return None
        try:
            status = os.stat(text)  # noqa: PTH116 - any string, and most are no paths
        except (OSError, ValueError):
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            self._others.add(text)
            return None
        name = os.path.abspath(text)  # noqa: PTH100 - as above
        self.files[name] = found = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return ("file", name, found)

    def zarr(self, array: Any) -> tuple[object, ...]:
        """Return what tells the chunks of a zarr array, and whether they have changed."""
        store, path = array.store, array.path
        etags = getattr(store, "etags", lambda _: None)(path)  # persicache_zarr's stores have them
        if etags is not None:
            name = f"{store}/{path}"
            self.files[name] = tuple(sorted(etags.items()))
            return ("folder", name, self.files[name])
        if (root := getattr(store, "root", None)) is not None:
            import fsspec  # noqa: PLC0415 - dask brings it

            return self.folder(fsspec.filesystem("file"), f"{root}/{path}".rstrip("/"))
        if hasattr(store, "fs"):
            return self.folder(_synchronous(store.fs), f"{store.path}/{path}".rstrip("/"))
        if type(store).__name__ == "MemoryStore":
            return ("content", array[...])
        raise Unnoticed(f"nothing tells when {store} was changed")


def _stamp(info: dict[str, Any], name: str) -> tuple[object, ...]:
    marks = tuple((mark, str(info[mark])) for mark in _MARKS if info.get(mark) is not None)
    if not marks:
        raise Unnoticed(f"nothing tells when {name} was changed")
    return (info.get("size"), *marks)


def _synchronous(fs: Any) -> Any:
    """Return a filesystem that can be asked from here."""
    inner = getattr(fs, "sync_fs", None)
    if inner is not None:
        return inner
    if getattr(fs, "asynchronous", False):
        return type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": False})
    return fs
