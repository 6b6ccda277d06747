"""The versions and times of a JSON document's entries, beside it: the journal."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from blake3 import blake3

from persicache.storage.blob import Version
from persicache.storage.lock_file import LockFile

__all__ = ["Journal", "Note", "digest"]

_DIGEST_NBYTES: Final = 16
_PART_NBYTES: Final = 1 << 20
_MOST_STALE: Final = 1000


class Note(NamedTuple):
    """What the journal says of an entry.

    Attributes
    ----------
    digest : str
        Of the JSON text that it had: of any other, the note says nothing.
    version : str
        What its writer called it.
    modified : float
        When it was written, in POSIX seconds.
    """

    digest: str
    version: Version
    modified: float


class Journal:
    """Notes in the document's lock file, which is never removed.

    They keep a document from looking unchanged after it was changed back, and times from
    being those of the last rewrite. Nothing is lost with them: an entry without a note, as
    when the document was edited or copied, goes by the digest of its text.

    Parameters
    ----------
    path : str
        The file.
    """

    __slots__ = ("_count", "_lock")

    def __init__(self, path: str) -> None:
        self._lock = LockFile(path)
        self._count = 0

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[int]:
        """Keep everybody else from changing the document."""
        with self._lock.exclusive() as fd:
            yield fd

    @contextlib.contextmanager
    def shared(self) -> Iterator[int | None]:
        """Keep the document from being changed; without effect where that can't be asked for."""
        with contextlib.ExitStack() as stack:
            fd = None
            with contextlib.suppress(PermissionError):
                fd = stack.enter_context(self._lock.shared())
            yield fd

    def read(self, fd: int | None) -> dict[str, Note]:
        """Return the last note on each name; whoever calls holds the lock."""
        notes = {}
        self._count = 0
        for line in _contents(fd).split(b"\n"):
            # Crash: a killed writer leaves half a line, which says nothing.
            with contextlib.suppress(ValueError, TypeError):
                name, *rest = json.loads(line)
                notes[name] = Note(*rest)
                self._count += 1
        return notes

    def add(self, fd: int, notes: Iterable[tuple[str, Note]]) -> None:
        """Note what is about to be written; whoever calls holds the lock alone."""
        # Each begins a line of its own, whatever a killed writer left.
        lines = [_line(name, note) for name, note in notes]
        self._count += len(lines)
        os.lseek(fd, 0, os.SEEK_END)
        _write(fd, b"".join(lines))

    def tidy(self, fd: int, notes: dict[str, Note]) -> None:
        """Forget all but `notes` if there is much else; whoever calls holds the lock alone."""
        if self._count <= 2 * len(notes) + _MOST_STALE:
            return
        # The document is written by then, and nothing is lost with the notes: it must not seem to fail.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            self._count = 0
            self.add(fd, notes.items())


def digest(text: str) -> str:
    """Return a short digest of a JSON text."""
    return blake3(text.encode()).hexdigest(length=_DIGEST_NBYTES)


def _line(name: str, note: Note) -> bytes:
    return b"\n" + json.dumps([name, *note]).encode()


def _contents(fd: int | None) -> bytes:
    if fd is None:
        return b""
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while part := os.read(fd, _PART_NBYTES):
        parts.append(part)
    return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
