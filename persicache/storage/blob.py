"""The contract of a place that keeps named blobs: `Storage`, and what passes through it.

A blob is a run of bytes under a name. A name is one or more components of the
characters ``[A-Za-z0-9_.=!,()~-]``, joined by ``/``; no component is empty or begins with a
dot, which is left to the storages' own files (locks, temporaries, probes).
`persicache.keys` makes such names out of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "ABSENT",
    "ANY",
    "Blob",
    "BlobInfo",
    "Buffer",
    "Expectation",
    "Identify",
    "Known",
    "LateHead",
    "LoadedBlob",
    "Storage",
    "Version",
]

#: Bytes in memory: `bytes`, `bytearray`, or a one-dimensional contiguous `memoryview` of bytes.
Buffer: TypeAlias = bytes | bytearray | memoryview

#: An opaque token that differs after every write of a name.
Version: TypeAlias = str

#: A name, and the version of it that a reader has; None if there is none.
Known: TypeAlias = tuple[str, Version | None]

#: From the first bytes of a blob (at least 64, unless it is shorter) to the version that they
#: carry, or None if they carry none. A mapping passes its codec's, so that a storage need not
#: know the entry format.
Identify: TypeAlias = Callable[[Buffer], Version | None]


class Expectation(Enum):
    """What a conditional call can expect beside a version."""

    ANY = "any"
    ABSENT = "absent"

    def __repr__(self) -> str:
        return self.name


#: Whatever is there, or nothing: an unconditional call.
ANY: Final = Expectation.ANY
#: Nothing may be there.
ABSENT: Final = Expectation.ABSENT


class BlobInfo(NamedTuple):
    """What a place knows about a blob without its bytes.

    Attributes
    ----------
    name : str
        The name below the storage's root.
    nbytes : int
        Its size in bytes.
    modified : float
        When it was last written, in POSIX seconds.
    """

    name: str
    nbytes: int
    modified: float


class Blob(Protocol):
    """The bytes of a blob, as they were at one moment.

    What few readers ask for is found out when it is asked for.
    """

    @property
    def buffer(self) -> Buffer:
        """The bytes, the reader's own: changing them changes nothing stored.

        From 64 KiB on they are writable; smaller ones may be immutable `bytes`, which are
        faster to read.
        """

    @property
    def version(self) -> Version:
        """The version that these very bytes have."""

    @property
    def modified(self) -> float:
        """When it was last written, in POSIX seconds."""

    @property
    def stamp(self) -> object:
        """Something hashable, or None where the place can't tell.

        Two blobs of a process with equal stamps are the same unchanged bytes at the same
        place, so that what was verified once need not be again.
        """

    @property
    def is_private(self) -> bool:
        """Whether nobody but this user could have written these bytes."""


@runtime_checkable
class LateHead(Protocol):
    """Chunks, of which a storage that can write the first one last can have it last."""

    @property
    def head_nbytes(self) -> int:
        """How long the first chunk is."""

    @property
    def tail(self) -> Sequence[Buffer]:
        """The others."""

    def start(self) -> None:
        """Begin to make the first one, in another thread."""


class LoadedBlob:
    """A blob that came with what there is to know about it.

    Parameters
    ----------
    buffer, version, stamp, is_private
        As for `Blob`.
    modified : float or callable
        When it was last written, in POSIX seconds; or what asks the place, where that is
        another request.
    """

    __slots__ = ("_modified", "buffer", "is_private", "stamp", "version")

    def __init__(
        self,
        buffer: Buffer,
        version: Version,
        modified: float | Callable[[], float],
        *,
        stamp: object = None,
        is_private: bool = False,
    ) -> None:
        self.buffer = buffer
        self.version = version
        self._modified = modified
        self.stamp = stamp
        self.is_private = is_private

    def __repr__(self) -> str:
        return f"<LoadedBlob of {len(self.buffer)} bytes, version {self.version}>"

    @property
    def modified(self) -> float:
        """When it was last written, in POSIX seconds."""
        if callable(self._modified):
            self._modified = self._modified()
        return self._modified


@runtime_checkable
class Storage(Protocol):
    """Named blobs in one place: whole-or-nothing writes, and compare-and-swap where it is exact.

    All methods may be called from several threads. A storage survives pickling and
    forking: it holds its URL and options, and opens what it needs lazily, once a process.

    Trouble with the place (access, network, full disk) is a `BackendError` whose
    ``__cause__`` is the original; never a KeyError.
    """

    @property
    def url(self) -> str:
        """Where the blobs are, without secrets: what errors and reprs show."""

    @property
    def can_compare_and_swap(self) -> bool:
        """Whether `write` and `remove` take an `expect` other than ANY, exactly.

        Raises
        ------
        BackendError
            If the place (S3) has to be asked by a trial, and refuses it.
        """

    @property
    def is_durable(self) -> bool:
        """Whether a write that returned survives a power cut."""

    @property
    def is_private(self) -> bool:
        """Whether nobody but this user can write here."""

    def read(self, name: str) -> Blob:
        """Return the blob called `name`.

        Raises
        ------
        BlobNotFound
            If there is none.
        BackendError
            If the place can't be read.
        """

    def write(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version = ANY) -> Version:
        """Store `chunks`, one after the other, as `name`: whole, or not at all.

        Parameters
        ----------
        name : str
            The name.
        chunks : sequence of Buffer
            What to store. Large ones are not joined in memory where the place allows it.
        expect : ANY, ABSENT or str, default ANY
            Write only if the name is absent, or has this version.

        Returns
        -------
        str
            The new version.

        Raises
        ------
        VersionConflict
            If `expect` doesn't hold; nothing changed.
        ConditionsUnsupported
            If `expect` is not ANY and the place can't compare and swap; before any I/O.
        BackendError
            If the place can't be written; what was there is there still.
        """

    def remove(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        """Remove `name`; return whether it was there. Raises as `write` does.

        Of several who remove the same blob at once without a condition, more than one may be
        told that it was there, where the place (S3) doesn't tell itself. With ``expect=ABSENT``
        nothing is ever removed: it is False, or a VersionConflict.
        """

    def stat(self, name: str) -> BlobInfo:
        """Return size and time of `name`; raises BlobNotFound if it is absent."""

    def version(self, name: str) -> Version:
        """Return the version of `name` without reading it all; BlobNotFound if it is absent."""

    def read_head(self, name: str, nbytes: int) -> bytes:
        """Return the first `nbytes` bytes of a blob, fewer if it is shorter.

        One small request, where a place takes such: no more is read.

        Parameters
        ----------
        name : str
            The name.
        nbytes : int
            How many; at least one.

        Raises
        ------
        BlobNotFound
            If there is none.
        BackendError
            If the place can't be read.
        """

    def is_private_for(self, name: str) -> bool:
        """Return whether what is written as `name` now is private when it is read.

        More than `is_private`: in a directory that only its owner can write to there can be
        a folder that others can.
        """

    def scan(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield every blob whose name begins with `prefix`, in no particular order.

        `prefix` is empty or ends with ``/``. A listing streams, and sees what was written
        before it began, whatever listing caches there are. Hidden files are left out, and so
        are files of others whose names are none that a blob can have.
        """

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        """Yield ``(name, blob)`` for those of `names` that exist, concurrently where it pays."""

    def read_changed(self, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
        """Yield what `read_many` does, but None for a blob that still has the version known.

        A single request a name, where a place (S3) takes conditional ones.

        Parameters
        ----------
        known : iterable of (str, str or None)
            What is wanted.
        """

    def write_many(self, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
        """Store several blobs, each whole or not at all; return their versions.

        Raises
        ------
        BackendError
            If some could not be written; the others are.
        """

    def remove_many(self, names: Iterable[str]) -> None:
        """Remove those of `names` that exist; which did, not every place (S3) is told.

        Raises
        ------
        BackendError
            If some could not be removed; the others are.
        """

    def flush(self) -> None:
        """Write what waits for others to be written with; most places let nothing wait.

        Raises
        ------
        BackendError
            If it can't be written.
        """

    def close(self) -> None:
        """Give back what this process holds open; the storage opens again when used."""
