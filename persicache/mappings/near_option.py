"""What ``near=`` says: a directory, an amount of memory, or a directory of some size."""

# ruff: noqa: PTH111 - Path.expanduser fails where a name merely begins with a tilde

from __future__ import annotations

import numbers
import os
from typing import Any, Final, NamedTuple, TypeAlias

from persicache.mappings.budget import is_amount, parse_nbytes
from persicache.mappings.near_copies import Copies
from persicache.mappings.near_directory import DirectoryCopies
from persicache.mappings.near_memory import MemoryCopies

__all__ = ["Near", "NearOption"]

#: What a person writes.
NearOption: TypeAlias = str | os.PathLike[str] | int | tuple[str | os.PathLike[str] | int, ...]

_WANTED: Final = "a directory, a size such as '256 MiB', or a pair of the two"


class Near(NamedTuple):
    """Where copies are kept near, and how many bytes of them.

    Attributes
    ----------
    directory : str or None
        An absolute path; None for memory.
    limit_nbytes : int or None
        The most they may take; None for no limit.
    """

    directory: str | None
    limit_nbytes: int | None

    @classmethod
    def parse(cls, given: NearOption) -> Near:
        """Return what `given` says.

        Raises
        ------
        TypeError, ValueError
            If it says nothing that can be done.

        Examples
        --------
        >>> Near.parse(("/copies", "1 MiB"))
        Near(directory='/copies', limit_nbytes=1048576)
        """
        parts = given if isinstance(given, (tuple, list)) else (given,)
        sizes: list[Any] = []
        directories: list[Any] = []
        for part in parts:
            (sizes if _is_size(part) else directories).append(part)
        if not parts or len(sizes) > 1 or len(directories) > 1:
            raise ValueError(
                f"near= takes {_WANTED}; got {len(directories)} of the one, {len(sizes)} of the other"
            )
        return cls(
            _directory(directories[0]) if directories else None,
            _nbytes(sizes[0]) if sizes else None,
        )

    def copies(self, place: str) -> Copies:
        """Return what keeps copies of the blobs of the place with this identity."""
        if self.directory is not None:
            return DirectoryCopies(self.directory, place, limit_nbytes=self.limit_nbytes)
        assert self.limit_nbytes is not None
        return MemoryCopies(self.limit_nbytes)


def _is_size(part: object) -> bool:
    return isinstance(part, numbers.Integral) or (isinstance(part, str) and is_amount(part))


def _nbytes(size: Any) -> int:
    try:
        return parse_nbytes(size)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"near={size!r} is no size: give '256 MiB' or a number of bytes; a directory of that name as a "
            "Path, or with ./ before it"
        ) from None


def _directory(path: Any) -> str:
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"near= takes {_WANTED}, not {path!r}")
    text = os.fspath(path)
    if "://" in text or "::" in text:  # not shown, as there may be secrets in it
        raise ValueError("near= takes a directory on this machine, not a URL")
    if not text.strip() or "\0" in text:
        raise ValueError(f"near={text!r} names no directory")
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100 - as above
