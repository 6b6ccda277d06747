"""What a function's results depend on besides its arguments and its own code: `Dependencies`."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from persicache.keys import Fingerprint, digest, fingerprint

__all__ = ["Dependencies"]

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
    >>> Dependencies([len, {"a": 1}]).digest() == Dependencies([len, {"a": 1}]).digest()
    True
    """

    def __init__(self, given: Iterable[Any]) -> None:
        self._given = tuple(given)
        self._codes: dict[int, Fingerprint] = {}
        self._files = {i: _File(Path(each)) for i, each in enumerate(self._given) if _is_path(each)}

    def __bool__(self) -> bool:
        return bool(self._given)

    def digest(self) -> bytes:
        """Return the digest of all, as they are now.

        Raises
        ------
        OSError
            If a file can't be read.
        """
        return digest(tuple(self._digests().items()), path="what depends_on names")

    def parts(self) -> dict[str, bytes]:
        """Name each, with its digest."""
        return {f"[{i}] {_name(self._given[i])}": part for i, part in self._digests().items()}

    def _digests(self) -> dict[int, bytes]:
        return {i: self._digest_of(i, each) for i, each in enumerate(self._given)}

    def _digest_of(self, i: int, each: Any) -> bytes:
        file = self._files.get(i)
        if file is not None:
            return file.digest()
        if not _has_code(each):
            return digest(each, path=f"depends_on[{i}]")
        code = self._codes.get(i)
        if code is None or not code.is_current():
            code = self._codes[i] = fingerprint(each)
        return code.digest


class _File:
    """A file, by its content."""

    def __init__(self, path: Path) -> None:
        # Whatever the working directory is later.
        self._path = path.absolute()
        self._stamp: object = None
        self._digest = b""

    def digest(self) -> bytes:
        """Return the digest of its content; read again only if its status has changed."""
        status = self._path.stat()
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if stamp == self._stamp:
            return self._digest
        found = blake3(max_threads=1).update_mmap(self._path).digest()
        # Race: what was written within a tick of its clock can have the same status.
        is_settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _YOUNG_NS
        self._stamp, self._digest = stamp if is_settled else None, found
        return found


def _is_path(each: object) -> bool:
    return isinstance(each, os.PathLike)


def _has_code(each: object) -> bool:
    return inspect.isroutine(each) or inspect.isclass(each) or hasattr(each, "__wrapped__")


def _name(each: object) -> str:
    """Name what is depended on, the same whatever it changes to."""
    if _is_path(each):
        return str(each)
    name = getattr(each, "__qualname__", None)
    return name if isinstance(name, str) else type(each).__name__
