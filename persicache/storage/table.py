"""The contract of a file that keeps many rows: `Table`, and what passes through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from persicache.errors import VersionConflict
from persicache.storage.blob import ABSENT, ANY, Buffer, Expectation, Version
from persicache.storage.contents import MAP_FROM_NBYTES

__all__ = [
    "NESTED",
    "PAGE",
    "Change",
    "Row",
    "RowInfo",
    "Table",
    "check_row",
    "joined",
    "own_copy",
    "prefix_end",
]

#: How many rows a scan looks at in one transaction.
PAGE: Final = 1000
#: Why a change is refused that could be undone with another, or would wait for it for ever.
NESTED: Final = (
    "it comes in the middle of another change by the same thread, as from a signal handler; "
    "make it when that one has ended"
)


class Row(NamedTuple):
    """What is stored under a name.

    Attributes
    ----------
    data : Buffer
        The caller's own bytes; from 64 KiB on a `bytearray`.
    version : str
        What whoever wrote it called it.
    modified : float
        When it was written, in POSIX seconds.
    """

    data: Buffer
    version: Version
    modified: float


class RowInfo(NamedTuple):
    """What is known about a row without its bytes; as in `Row`."""

    name: str
    nbytes: int
    version: Version
    modified: float


class Change(NamedTuple):
    """What is to become of a name.

    Attributes
    ----------
    chunks : sequence of Buffer or None
        The new bytes, one after the other; None to remove it.
    version : str
        What to call them.
    modified : float
        When, in POSIX seconds.
    """

    chunks: Sequence[Buffer] | None
    version: Version
    modified: float


class Table(Protocol):
    """Rows under names, changed in transactions: what a filesystem and a storage are made over.

    A name is any non-empty str. All methods may be called from several threads; none may be
    called in a forked child, which makes its own table. The file is opened at the first use,
    and made at the first write.

    Trouble with the file is a `BackendError`.
    """

    @property
    def place(self) -> str:
        """Where it is, for errors."""

    def get(self, name: str) -> Row | None:
        """Return the row called `name`, None if there is none."""

    def stat(self, name: str) -> RowInfo | None:
        """Return what is known about `name`, None if there is none."""

    def put(self, name: str, change: Change, *, expect: Expectation | Version = ANY) -> None:
        """Store the bytes of `change` as `name` if `expect` holds, else raise VersionConflict."""

    def delete(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        """Remove `name` if `expect` holds; return whether it was there."""

    def apply(self, changes: Mapping[str, Change]) -> None:
        """Make all of `changes` in one transaction."""

    def scan(self, prefix: str = "") -> Iterator[RowInfo]:
        """Yield the rows whose names begin with `prefix`, without a transaction in between."""

    def is_private(self) -> bool:
        """Return whether nobody but this user can write here."""

    def flush(self) -> None:
        """Store what was put off."""

    def close(self) -> None:
        """Store what was put off, and close the file; it opens again when it is used."""


def check_row(name: str, place: str, *, expect: Expectation | Version, actual: Version | None) -> None:
    """Raise VersionConflict unless `expect` holds for the `actual` version, None if there is none."""
    if expect is not ANY and actual != (None if expect is ABSENT else expect):
        raise VersionConflict(name=name, place=place, expected=expect, actual=actual)


def joined(change: Change) -> Buffer:
    """Return the new bytes in `change` as one buffer."""
    if change.chunks is None:
        raise TypeError("a removal has no bytes")
    return change.chunks[0] if len(change.chunks) == 1 else b"".join(change.chunks)


def own_copy(data: Buffer) -> bytes | bytearray:
    """Return a copy of `data`, writable if it is large."""
    return bytes(data) if len(data) < MAP_FROM_NBYTES else bytearray(data)


def prefix_end(prefix: str) -> str | None:
    """Return the least str above all that begin with `prefix`, None if there is none."""
    for index in range(len(prefix) - 1, -1, -1):
        if prefix[index] != "\U0010ffff":
            code = ord(prefix[index]) + 1
            # Surrogates have no UTF-8: the next character that has is beyond them.
            return prefix[:index] + chr(0xE000 if 0xD800 <= code < 0xE000 else code)  # noqa: PLR2004 - their range
    return None
