"""The contract of a codec: a value to chunks of bytes, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from persicache.codecs.buffer import Buffer

__all__ = ["Bytes", "Codec", "Decoded", "Metadata", "Owner", "Source"]


class Owner(NamedTuple):
    """What an entry belongs to.

    Attributes
    ----------
    key : object
        The key, as errors show it.
    text : str
        The key's full text, which the entry is tied to.
    place : str
        The place, as errors show it.
    """

    key: object
    text: str
    place: str


class Metadata(NamedTuple):
    """What an entry says of itself.

    Attributes
    ----------
    created : float
        When it was encoded, in POSIX seconds.
    cost_seconds : float
        How long its value took to compute, NaN if unknown.
    key_text : str
        The full text of its key.
    writer : str
        Version, interpreter, host and process that wrote it.
    extra : mapping
        What the writer added.
    """

    created: float
    cost_seconds: float
    key_text: str
    writer: str
    extra: Mapping[str, Any]


class Decoded(NamedTuple):
    """What comes out of an entry.

    Attributes
    ----------
    value : object
        The value, the reader's own.
    cost_seconds : float
        How long it took to compute, NaN if unknown.
    """

    value: Any
    cost_seconds: float


class Source(Protocol):
    """The bytes of an entry, and what the place knows about them."""

    @property
    def buffer(self) -> Buffer:
        """The whole entry, the reader's own."""

    @property
    def is_private(self) -> bool:
        """Whether nobody but this user could have written it."""

    @property
    def stamp(self) -> object:
        """Something hashable, the same for the same unchanged bytes; None if the place can't tell."""


class Bytes(NamedTuple):
    """Bytes that came from nowhere in particular, as a `Source`."""

    buffer: Buffer
    is_private: bool
    stamp: object = None


class Codec(Protocol):
    """Turns values into the bytes of entries, and back."""

    @property
    def extension(self) -> str:
        """What the names of its entries end in, with the dot."""

    @property
    def keeps_keys(self) -> bool:
        """Whether an entry holds its key, so that `metadata` can tell it."""

    @staticmethod
    def identify(head: Buffer) -> str | None:
        """Return the write id in the first 64 bytes of an entry, None if it has none."""

    def encode(
        self,
        value: object,
        owner: Owner,
        *,
        is_private: bool,
        cost_seconds: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Sequence[Buffer]:
        """Return the chunks of an entry; large buffers of the value are not copied.

        Parameters
        ----------
        value : object
            What to store.
        owner : Owner
            Where it will lie.
        is_private : bool
            Whether nobody but this user can write there.
        cost_seconds : float, optional
            How long the value took to compute.
        extra : mapping, optional
            More metadata: builtins only.

        Raises
        ------
        UnencodableValue
            If the format can't hold the value.
        UntrustedPickle
            If it would need a pickle that nobody would load again.
        """

    def decode(self, source: Source, owner: Owner) -> Decoded:
        """Return the value of an entry; its large buffers lie in the source where that is writable.

        Parameters
        ----------
        source : Source
            The whole entry.
        owner : Owner
            Whose entry it should be.

        Raises
        ------
        CorruptEntry
            If the bytes are not what was stored for this owner.
        UntrustedPickle
            If it is a pickle that somebody else could have written.
        UnloadableValue
            If it is intact, but needs a module or a class that isn't here.
        """

    def metadata(self, data: Buffer, owner: Owner) -> Metadata:
        """Return what the entry says of itself; raises as `decode` does."""

    def peek(self, data: Buffer, owner: Owner) -> Metadata:
        """Return what an entry claims of itself, without verifying it; its first bytes may be enough.

        Parameters
        ----------
        data : bytes-like
            The entry, or its beginning.
        owner : Owner
            For errors: the name in place of the key.

        Raises
        ------
        CorruptEntry
            If these bytes don't hold it.
        """

    def key_text(self, data: Buffer, owner: Owner) -> str:
        """Return the key text that an entry claims to have, without verifying it.

        Parameters
        ----------
        data : bytes-like
            The whole entry.
        owner : Owner
            For errors: the name in place of the key.

        Raises
        ------
        CorruptEntry
            If it claims none.
        """
