"""Files that somebody's own functions write and read: `FileFormat`."""

# ruff: noqa: PTH120, PTH122, PTH123 - plain os calls, as in storage

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Hashable
from typing import Any, Final

from persicache.codecs import FORMATS, Trust, hasher
from persicache.codecs.pickled import CannotPickle
from persicache.errors import CorruptEntry, PersicacheError, UnloadableValue
from persicache.storage.draft import Draft
from persicache.storage.folders import sync_folder
from persicache.storage.private_file import is_private_file

__all__ = ["NO_LINKS", "FileFormat", "dump_pickle", "load_pickle", "open_file"]

#: Why a file can't have a second name.
NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


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


class FileFormat:
    """How values become files, whole or not at all, and what files become.

    Parameters
    ----------
    dump, load : callable
        Functions such as `pickle.dump` and `pickle.load`. `load_pickle` keeps to the trust rule; what
        another one runs is the caller's choice.
    open : callable
        What opens a file, by its path and ``mode=``.
    mode : {"b", "t"}, default "b"
        Whether files are binary or text.
    allow_pickle : bool, optional
        See `Trust`.
    durable : bool, default True
        Whether what was written survives a power cut.
    """

    def __init__(
        self,
        *,
        dump: Callable[..., object] = dump_pickle,
        load: Callable[..., Any] = load_pickle,
        open: Callable[..., Any] = open_file,  # noqa: A002 - chest's name for it
        mode: str = "b",
        allow_pickle: bool | None = None,
        durable: bool = True,
    ) -> None:
        if mode not in {"b", "t"}:
            raise ValueError(f"mode must be 'b' or 't', not {mode!r}")
        self._dump, self._load, self._open, self._mode = self._functions = (dump, load, open, mode)
        self._trust = Trust(allow_pickle=allow_pickle) if load is load_pickle else None
        self._durable = durable

    def is_that_of(self, other: FileFormat) -> bool:
        """Return whether another one reads what this one writes, and the other way round."""
        return self._functions == other._functions

    def check(self, path: str, *, key: Hashable, place: str) -> None:
        """Raise UntrustedPickle unless what lies, or will lie, in a file may be loaded."""
        if self._trust is not None:
            self._trust.check_load(is_private=is_private_file(path), is_signed=False, key=key, place=place)

    def read(self, path: str, *, key: Hashable, place: str, file: Any = None) -> Any:
        """Return the value in a file, which may be open already.

        Raises
        ------
        FileNotFoundError
            If there is none.
        CorruptEntry, UnloadableValue, UntrustedPickle
            If it isn't what was stored, or can't be rebuilt here, or could be somebody else's.
        """
        self.check(path, key=key, place=place)
        try:
            if file is not None:
                return self._load(file)
            with self._open(path, mode=f"r{self._mode}") as opened:
                return self._load(opened)
        except (OSError, MemoryError, PersicacheError):
            raise
        except Exception as error:
            kind = UnloadableValue if isinstance(error, (AttributeError, ImportError)) else CorruptEntry
            raise kind(key=key, place=place, reason=f"{type(error).__name__}: {error}") from error

    def write(self, path: str, value: object, *, is_new: bool) -> None:
        """Store a value; if its file is to be new, FileExistsError where there is one."""
        folder = os.path.dirname(path)
        with Draft(folder, durable=self._durable, suffix=os.path.splitext(path)[1]) as draft:
            with self._open(draft.path, mode=f"w{self._mode}") as file:
                self._dump(value, file)
            draft.fill([])
            try:
                if is_new:
                    draft.link(path)
            except OSError as error:
                if error.errno not in NO_LINKS or os.path.lexists(path):
                    raise
                is_new = False
            if not is_new:
                draft.replace(path)
        if self._durable:
            sync_folder(folder)

    def digest(self, value: object) -> bytes | None:
        """Return what tells a value from others in its file; None if that can't be told."""
        text, data = io.StringIO(), _Bytes()
        try:
            self._dump(value, text if self._mode == "t" else data)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - it can't be stored; or only in a true file, by a dump of one's own
            return None
        data.write(text.getvalue().encode(errors="surrogatepass"))
        return bytes(hasher(data.tell()).update(data.getbuffer()).digest())
