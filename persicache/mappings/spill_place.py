"""Where a SpillDict keeps copies of its values: a private place, or a given one."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
from collections.abc import Hashable, Iterable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from persicache.errors import (
    BackendError,
    BlobNotFound,
    CorruptEntry,
    PersicacheError,
    Shown,
    UnencodableValue,
    UntrustedPickle,
)
from persicache.mappings.conditions import Joker
from persicache.mappings.fork_lock import ForkLock
from persicache.mappings.persidict import PersiDict
from persicache.mappings.spill_directory import Directory
from persicache.mappings.spill_link import link

__all__ = ["Copy", "GivenPlace", "PrivatePlace", "SpillPlace"]


class Copy(NamedTuple):
    """A copy in a place: which directory, if the place has several, and its key there."""

    directory: Directory | None
    name: Any


class SpillPlace(Protocol):
    """Keeps copies of values. Several threads can call it at once, for different keys."""

    @property
    def is_private(self) -> bool:
        """Whether it goes with its owner."""

    def write(self, key: Hashable, value: Any, *, old: Copy | None) -> Copy:
        """Store a value; return its copy.

        Parameters
        ----------
        key : hashable
            Its key.
        value : Any
            The value.
        old : Copy, optional
            The copy of an older value of the same key, which may be overwritten.
        """

    def read(self, key: Hashable, copy: Copy) -> Any:
        """Return the value of a copy."""

    def link(self, copy: Copy, source: SpillPlace) -> Copy | None:
        """Have the very file of a copy in another place, whose key has none here.

        Return the copy here; None where that can't be done.
        """

    def remove(self, copy: Copy) -> None:
        """Remove a copy, without reading it; nothing if it is gone already."""

    def remove_all(self, copies: Iterable[Copy]) -> None:
        """Remove copies, which are all that there are."""

    def nbytes_of(self, copy: Copy) -> int | None:
        """Return what a copy takes, if that is known."""

    def flush(self) -> None:
        """See that everything written is where it should be."""

    def close(self) -> None:
        """Give back what is held open; remove what is private."""


class GivenPlace:
    """A mapping that somebody gave, or a PersiDict over a path that somebody gave.

    Another process finds a copy under its key. When a value is replaced, its copy stays until
    the new one overwrites it, under the very key that it has there: 1, 1.0 and True are one
    key for a dictionary, but three in storage.
    """

    is_private = False

    def __init__(self, place: str | os.PathLike[str] | MutableMapping[Any, Any]) -> None:
        self._is_ours = not isinstance(place, MutableMapping)
        self._mapping = place if isinstance(place, MutableMapping) else PersiDict[Any](place)
        # Of anybody else's mapping nobody knows whether threads can share it.
        is_safe = isinstance(self._mapping, PersiDict)
        self._guard: AbstractContextManager[Any] = (
            contextlib.nullcontext() if is_safe else threading.RLock()
        )

    def __repr__(self) -> str:
        # A mapping's own may show all that is in it.
        return repr(self._mapping) if isinstance(self._mapping, PersiDict) else type(self._mapping).__name__

    def copies(self) -> dict[Hashable, Copy]:
        """Return what is there.

        Raises
        ------
        ValueError
            If two keys are equal in Python, so that a dictionary can't tell them apart.
        """
        copies: dict[Hashable, Copy] = {}
        for key in self._mapping:
            if key in copies:
                raise ValueError(
                    f"{self!r} holds {copies[key].name!r} and {key!r}, which are one key for a "
                    "SpillDict: remove one of them there, or store it under another key"
                )
            copies[key] = Copy(None, key)
        return copies

    def write(self, key: Hashable, value: Any, *, old: Copy | None) -> Copy:
        if isinstance(value, Joker):
            raise UnencodableValue(key=key, reason=f"{value!r} is an instruction to a place, not a value")
        copy = old or Copy(None, key)
        with self._guard:
            self._mapping[copy.name] = value
        return copy

    def read(self, key: Hashable, copy: Copy) -> Any:
        try:
            with self._guard:
                return self._mapping[copy.name]
        except KeyError as error:  # the dictionary has the key; it would seem that it hadn't
            raise BackendError(
                place=repr(self),
                action=f"read the value of {Shown(key)!r}",
                cause="something else has removed it from there",
            ) from error

    def link(self, copy: Copy, source: SpillPlace) -> Copy | None:
        if not isinstance(source, GivenPlace):
            return None  # in a private place, names are not keys
        here, there = source._mapping, self._mapping  # noqa: SLF001 - its own kind
        is_linked = (
            isinstance(here, PersiDict) and isinstance(there, PersiDict) and link(copy.name, here, there)
        )
        return Copy(None, copy.name) if is_linked else None

    def remove(self, copy: Copy) -> None:
        if isinstance(self._mapping, PersiDict):
            self._mapping.discard(copy.name)
            return
        # Not pop: that reads the value, which may be damaged, and was never asked for.
        with self._guard, contextlib.suppress(KeyError):
            del self._mapping[copy.name]

    def remove_all(self, copies: Iterable[Copy]) -> None:
        if isinstance(self._mapping, PersiDict):
            self._mapping.discard_many(copy.name for copy in copies)
            return
        for copy in copies:
            self.remove(copy)

    def nbytes_of(self, copy: Copy) -> int | None:  # noqa: ARG002 - the protocol's
        return None

    def flush(self) -> None:
        if isinstance(self._mapping, PersiDict):
            self._mapping.flush()

    def close(self) -> None:
        if self._is_ours and isinstance(self._mapping, PersiDict):
            self._mapping.close()


class PrivatePlace:
    """A temporary directory, made when the first copy is written.

    A forked child reads the copies that it inherited, and leaves them alone; what it writes
    itself goes into a directory of its own. No name is used twice, so that the copy of another
    value is never taken for that of an older one.

    Parameters
    ----------
    parent : str, optional
        Where to make the directory.
    """

    is_private = True

    def __init__(self, parent: str | None = None) -> None:
        self._parent = parent
        self._directory: Directory | None = None
        self._making = ForkLock()

    def write(self, key: Hashable, value: Any, *, old: Copy | None) -> Copy:  # noqa: ARG002 - the protocol's
        if isinstance(value, Joker):
            raise UnencodableValue(key=key, reason=f"{value!r} is an instruction to a place, not a value")
        directory = self._own_directory()
        try:
            return Copy(directory, directory.write(value, key=key))
        except UntrustedPickle:
            raise
        except OSError as error:
            # Its file has a number for a name, that says nothing to anybody.
            cause = error.__cause__ if isinstance(error, BackendError) and error.__cause__ else error
            raise BackendError(
                place=directory.path,
                action=f"spill the value of {Shown(key)!r}",
                cause=f"{type(cause).__name__}: {cause}{_advice(cause)}",
            ) from cause

    def read(self, key: Hashable, copy: Copy) -> Any:
        assert copy.directory is not None
        try:
            return copy.directory.read(copy.name, key=key)
        except (BlobNotFound, CorruptEntry) as error:
            if isinstance(error, CorruptEntry) and copy.directory.is_mine:
                raise
            cause = (
                "its file was removed by something else"
                if copy.directory.is_mine
                else "the process that this one was forked from has removed it since"
            )
            raise BackendError(
                place=copy.directory.path, action=f"read the value of {Shown(key)!r}", cause=cause
            ) from None

    def link(self, copy: Copy, source: SpillPlace) -> Copy | None:  # noqa: ARG002 - the copy says it all
        if copy.directory is None:
            return None  # what has keys of its own could be taken for another's
        directory = self._own_directory()
        return Copy(directory, copy.name) if copy.directory.share(copy.name, directory) else None

    def remove(self, copy: Copy) -> None:
        if copy.directory is not None and copy.directory.is_mine:
            copy.directory.discard(copy.name)

    def remove_all(self, copies: Iterable[Copy]) -> None:  # noqa: ARG002 - the whole directory goes
        self.close()

    def nbytes_of(self, copy: Copy) -> int | None:
        return int(copy.name.nbytes)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None and directory.is_mine:
            directory.remove()

    def _own_directory(self) -> Directory:
        with self._making:
            if self._directory is None or not self._directory.is_mine:
                self._directory = self._made()
            return self._directory

    def _made(self) -> Directory:
        try:
            return Directory(self._parent)
        except PersicacheError:
            raise
        except OSError as error:
            raise BackendError(
                place=self._parent or tempfile.gettempdir(),
                action="make a directory to spill to",
                cause=f"{type(error).__name__}: {error}{_advice(error)}",
            ) from error


def _advice(trouble: BaseException) -> str:
    if getattr(trouble, "errno", None) not in {errno.ENOSPC, errno.EDQUOT}:
        return ""
    return "; spill to another disk (spill_to=), or let the variable TMPDIR name a directory on one"
