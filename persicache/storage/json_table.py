"""Rows as the entries of one JSON document: `JsonTable`."""

# ruff: noqa: D102 - the Protocol owns the docstrings
# ruff: noqa: PTH101, PTH108, PTH110, PTH116 - plain os calls, as in folders

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from persicache.errors import BackendError, VersionConflict
from persicache.storage.blob import ANY, Expectation, Version
from persicache.storage.contents import contents
from persicache.storage.draft import OLD_DRAFT_SECONDS, Draft
from persicache.storage.failure import failure
from persicache.storage.files import READ_FLAGS, Stamp, irregular, stamp_of
from persicache.storage.folders import sync_folder
from persicache.storage.json_journal import Journal, Note, digest
from persicache.storage.json_text import bytes_in, dump, text_of
from persicache.storage.private_file import is_private_file
from persicache.storage.table import NESTED, Change, Row, RowInfo, check_row, joined, own_copy

__all__ = ["JsonTable"]

_MODE: Final = 0o600
_TICK_SECONDS: Final = 0.05
# The machine and the process that wrote it, and a number; a machine that can't be told has no name.
_is_draft = re.compile(r"\.tmp-(?:[0-9a-f]{12}-)?\d+-[0-9a-f]{16}").fullmatch


class _Entry(NamedTuple):
    """The JSON text of a value, whether the bytes are the text itself, and what is noted of it."""

    text: str
    is_plain: bool
    note: Note

    def data(self) -> bytes:
        if self.is_plain:
            return self.text.encode()
        data = bytes_in(json.loads(self.text))
        assert data is not None
        return data


class JsonTable:
    """Rows in a document that other tools can read, and people can write.

    All of it is held in memory, and rewritten at every change: changes come cheaper in
    batches. It is read again when somebody else has changed it.

    Parameters
    ----------
    path : str
        The document, absolute.
    durable : bool, default True
        Whether what was written survives a power cut.
    is_blank_empty : bool, default False
        Whether a document without a byte, or of white space only, is one without entries; it may
        be what a crash has left of one.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     table = JsonTable(f"{directory}/x.json")
    ...     table.put("a", Change([b'{"loss": 0.25}'], "version 1", 0.0))
    ...     print(pathlib.Path(directory, "x.json").read_text(), end="")
    {
      "a": {"loss": 0.25}
    }
    """

    def __init__(self, path: str, *, durable: bool = True, is_blank_empty: bool = False) -> None:
        # What replaces the document must not replace a link to it.
        self._path = os.path.realpath(path)
        self._folder, _, base = self._path.rpartition("/")
        self._durable = durable
        self._is_blank_empty = is_blank_empty
        self._journal = Journal(f"{self._folder}/.{base}.lock")
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._seen: Stamp | None = None
        self._lock_fd: int | None = None  # while this process is changing the document
        self._has_swept = False

    def __repr__(self) -> str:
        return f"JsonTable({self._path!r})"

    @property
    def place(self) -> str:
        return self._path

    def get(self, name: str) -> Row | None:
        with self._lock, self._trouble(f"read {name!r}"):
            entry = self._refreshed().get(name)
        if entry is None:
            return None
        return Row(own_copy(entry.data()), entry.note.version, entry.note.modified)

    def stat(self, name: str) -> RowInfo | None:
        with self._lock, self._trouble(f"read {name!r}"):
            entry = self._refreshed().get(name)
        return None if entry is None else _info(name, entry)

    def put(self, name: str, change: Change, *, expect: Expectation | Version = ANY) -> None:
        with self._trouble(f"write {name!r}"):
            self._change({name: change}, expect)

    def delete(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        with self._trouble(f"remove {name!r}"):
            return bool(self._change({name: Change(None, "", 0.0)}, expect))

    def apply(self, changes: Mapping[str, Change]) -> None:
        with self._trouble("write several blobs"):
            self._change(changes, ANY)

    def scan(self, prefix: str = "") -> Iterator[RowInfo]:
        with self._lock, self._trouble("list the blobs"):
            entries = list(self._refreshed().items())
        for name, entry in entries:
            if name.startswith(prefix):
                yield _info(name, entry)

    def is_private(self) -> bool:
        return is_private_file(self._path)

    def flush(self) -> None:
        """Nothing is put off."""

    def close(self) -> None:
        with self._lock:
            self._entries, self._seen = {}, None

    def _change(self, changes: Mapping[str, Change], expect: Expectation | Version) -> int:
        """Make `changes` if `expect` holds for each; return how many rows there were to remove."""
        entries = {
            name: None if change.chunks is None else _entry(change) for name, change in changes.items()
        }
        with self._lock:
            if not any(entries.values()) and not os.path.exists(self._path):
                for name in entries:
                    check_row(name, self.place, expect=expect, actual=None)
                return 0
            if self._lock_fd is not None:
                raise BackendError(place=self.place, action="change the document", cause=NESTED)
            with self._journal.exclusive() as fd:
                self._lock_fd = fd
                try:
                    self._refreshed()
                    return self._rewrite(fd, entries, expect)
                finally:
                    self._lock_fd = None

    def _rewrite(self, fd: int, changes: Mapping[str, _Entry | None], expect: Expectation | Version) -> int:
        entries = dict(self._entries)
        removed = 0
        for name, entry in changes.items():
            old = entries.get(name)
            check_row(name, self.place, expect=expect, actual=None if old is None else old.note.version)
            if entry is not None:
                entries[name] = entry
            elif old is not None:
                del entries[name]
                removed += 1
        if removed or any(changes.values()):
            # Crash: the notes go first; a note on a text that isn't there says nothing.
            self._journal.add(fd, ((name, new.note) for name, new in changes.items() if new is not None))
            self._publish(entries)
            self._journal.tidy(fd, {name: entry.note for name, entry in entries.items()})
        return removed

    def _publish(self, entries: dict[str, _Entry]) -> None:
        lines = ",\n".join(f"  {dump(name)}: {entry.text}" for name, entry in entries.items())
        # Crash: there is but one file for all entries, old ones, too. Without its bytes, under its
        # name, a power cut would take them all: so these go first, whatever is durable.
        with Draft(self._folder, durable=True) as draft:
            draft.fill([f"{{\n{lines}\n}}\n".encode() if lines else b"{}\n"])
            mode = self._old_mode()
            draft.replace(self._path)
            if mode != _MODE:  # those who may read it still may
                os.chmod(self._path, mode)
            self._entries, self._seen = entries, stamp_of(draft.status())
        if self._durable:
            sync_folder(self._folder)
        self._sweep()

    def _old_mode(self) -> int:
        try:
            return stat.S_IMODE(os.stat(self._path).st_mode)
        except FileNotFoundError:
            return _MODE

    def _refreshed(self) -> dict[str, _Entry]:
        """Return the entries as they are now."""
        try:
            seen = stamp_of(os.stat(self._path))
        except (FileNotFoundError, NotADirectoryError):
            self._entries, self._seen = {}, None
            return self._entries
        if seen != self._seen:
            with contextlib.ExitStack() as stack:
                # Whoever holds the lock alone would wait for itself.
                fd = self._lock_fd
                self._load(stack.enter_context(self._journal.shared()) if fd is None else fd)
        return self._entries

    def _load(self, lock_fd: int | None) -> None:
        fd = os.open(self._path, READ_FLAGS)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise irregular()
            data = bytes(contents(fd, status.st_size))
        finally:
            os.close(fd)
        notes = self._journal.read(lock_fd)
        self._entries = {
            name: _known(value, notes.get(name), status.st_mtime)
            for name, value in self._parsed(data).items()
        }
        # Race: an editor that writes in place can do so twice within a tick of the clock.
        is_settled = time.time() - status.st_mtime > _TICK_SECONDS
        self._seen = stamp_of(status) if is_settled else None

    def _parsed(self, data: bytes) -> dict[str, Any]:
        if self._is_blank_empty and not data.strip():
            return {}
        try:
            document = json.loads(data, object_pairs_hook=_object, parse_float=_float)
        except (ValueError, RecursionError) as error:
            cause = f"the file is not a JSON document ({error}); it is left as it is"
            raise BackendError(place=self.place, action="read the document", cause=cause) from error
        if not isinstance(document, dict):
            cause = f"the document is a {type(document).__name__}, not an object; it is left as it is"
            raise BackendError(place=self.place, action="read the document", cause=cause)
        return document

    def _sweep(self) -> None:
        """Remove, once, the drafts that killed writers left behind more than a day ago."""
        if self._has_swept:
            return
        self._has_swept = True
        with contextlib.suppress(OSError), os.scandir(self._folder) as found:
            for file in found:
                if _is_draft(file.name) and time.time() - file.stat().st_mtime > OLD_DRAFT_SECONDS:
                    os.unlink(file.path)

    @contextlib.contextmanager
    def _trouble(self, action: str) -> Iterator[None]:
        try:
            yield
        except (BackendError, VersionConflict):
            raise
        except OSError as error:
            trouble = failure(error, place=self.place, action=action)
            raise trouble from trouble.__cause__


def _entry(change: Change) -> _Entry:
    data = bytes(joined(change))
    text = text_of(data)
    return _Entry(text, text.encode() == data, Note(digest(text), change.version, change.modified))


def _known(value: object, note: Note | None, modified: float) -> _Entry:
    text = dump(value)
    mark = digest(text)
    if note is None or note.digest != mark:
        note = Note(mark, mark, modified)
    return _Entry(text, bytes_in(value) is None, note)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # The next rewrite would lose all but the last.
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} stands there twice")
    return found


def _float(text: str) -> float:
    # The next rewrite would write Infinity, which no other tool reads.
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text} is too large")
    return value


def _info(name: str, entry: _Entry) -> RowInfo:
    return RowInfo(name, len(entry.data()), entry.note.version, entry.note.modified)
