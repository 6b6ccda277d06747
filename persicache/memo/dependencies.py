"""What a function's results depend on besides its arguments and its own code: `Dependencies`."""

from __future__ import annotations

import hashlib
import inspect
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TypeGuard

from blake3 import blake3

from persicache.errors import UnreadableDependency
from persicache.keys import Fingerprint, digest, fingerprint
from persicache.memo.memory import is_immutable

__all__ = ["Dependencies", "is_path"]

#: A file that changed since is read again when its status shows it, which within a tick of the
#: filesystem's clock it may not.
_YOUNG_NS: Final = 2_000_000_000


class Dependencies:
    """Functions, files and values that are named in ``depends_on=``.

    Parameters
    ----------
    given : iterable
        Functions and classes, which count with their code; paths (`pathlib.Path`), which count
        with the content of their files; all else counts as a value, as an argument would.

    Raises
    ------
    UndigestibleValue
        If a value has no digest.

    Examples
    --------
    >>> Dependencies([len, {"a": 1}]).digests() == Dependencies([len, {"a": 1}]).digests()
    True
    """

    def __init__(self, given: Iterable[Any]) -> None:
        self._given = tuple(given)
        self._codes: dict[int, Fingerprint] = {}
        self._files = {i: _File(each) for i, each in enumerate(self._given) if is_path(each)}
        #: The digests of values that can't change.
        self._fixed: dict[int, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._given)

    def digests(self) -> tuple[bytes, ...]:
        """Return the digest of each, as it is now.

        Before every call: a file whose status is the same isn't read again, nor is what is
        immutable digested again; a list, a dict or an array is.

        Raises
        ------
        UnreadableDependency
            If a file can't be read.
        """
        return tuple([self._digest_of(i, each) for i, each in enumerate(self._given)])

    def parts(self) -> dict[str, bytes]:
        """Name each, with its digest."""
        return {
            f"[{i}] {_name(each)}": digest
            for i, (each, digest) in enumerate(zip(self._given, self.digests(), strict=True))
        }

    def _digest_of(self, i: int, each: Any) -> bytes:
        if i in self._fixed:
            return self._fixed[i]
        if i in self._files:
            return self._files[i].digest()
        if not _has_code(each):
            found = digest(each, path=f"depends_on[{i}]")
            if is_immutable(each):
                self._fixed[i] = found
            return found
        code = self._codes.get(i)
        if code is None or not code.is_current():
            code = self._codes[i] = fingerprint(each)
        return code.digest


class _File:
    """A file, by its content."""

    def __init__(self, path: os.PathLike[str]) -> None:
        # Whatever the working directory is later.
        self._path = Path(path).absolute()
        self._known: tuple[object, bytes] = None, b""

    def digest(self) -> bytes:
        """Return the digest of its content; read again only if its status has changed."""
        try:
            status = self._path.stat()
            stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            known, found = self._known  # at once: another thread may replace both
            if stamp == known:
                return found
            if not stat.S_ISREG(status.st_mode):
                raise self._unreadable("it is no file; name the files that count")
            with self._path.open("rb") as file:
                found = hashlib.file_digest(file, blake3).digest()  # type: ignore[arg-type]  # as good as hashlib's
        except OSError as error:
            if isinstance(error, UnreadableDependency):
                raise
            raise self._unreadable(f"{type(error).__name__}: {error.strerror}") from error
        # Race: what was written within a tick of the clock can have the same status. Nobody sets
        # ctime as they like, and every write does.
        is_settled = time.time_ns() - status.st_ctime_ns > _YOUNG_NS
        self._known = stamp if is_settled else None, found
        return found

    def _unreadable(self, reason: str) -> UnreadableDependency:
        return UnreadableDependency(path=str(self._path), reason=reason)


def is_path(each: object) -> TypeGuard[os.PathLike[str]]:
    """Return whether this is a path, which counts with the content of its file."""
    return isinstance(each, os.PathLike)


def _has_code(each: object) -> bool:
    return inspect.isroutine(each) or inspect.isclass(each) or hasattr(each, "__wrapped__")


def _name(each: object) -> str:
    """Name what is depended on, the same whatever it changes to."""
    if is_path(each):
        return str(each)
    name = getattr(each, "__qualname__", None)
    return name if isinstance(name, str) else type(each).__name__
