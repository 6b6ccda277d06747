"""The contract of what keeps copies of blobs near: `Copies`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from persicache.storage import Buffer, Version

__all__ = ["Copies", "Copy"]


class Copy(NamedTuple):
    """A copy of a blob.

    Attributes
    ----------
    buffer : Buffer
        Its bytes, the reader's own.
    version : str
        The version that the blob had.
    stamp : object
        As for `Blob`.
    is_private : bool
        Whether nobody but this user could have written the blob, where it came from.
    """

    buffer: Buffer
    version: Version
    stamp: object
    is_private: bool


class Copies(Protocol):
    """Copies of the blobs of one place.

    None of the methods raises for trouble of its own: a copy that can't be kept or read is
    none, and the blob is still where it was. All may be called from several threads. Copies
    survive pickling and forking, if only as the way to where they lie.
    """

    @property
    def outlives_process(self) -> bool:
        """Whether another process finds the copies that this one has kept."""

    def load(self, name: str) -> Copy | None:
        """Return the copy of the blob `name`, if there is an intact one."""

    def keep(self, name: str, chunks: Sequence[Buffer], version: Version, *, is_private: bool) -> None:
        """Keep a copy, in place of an older one.

        Parameters
        ----------
        name : str
            The name of the blob.
        chunks : sequence of Buffer
            Its bytes.
        version : str
            Its version.
        is_private : bool
            Whether nobody but this user could have written it.
        """

    def drop(self, name: str) -> None:
        """Have no copy of the blob `name`."""

    def close(self) -> None:
        """Give back what this process holds open."""
