"""Where the results of a function are, in memory and in the store: `Results`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from persicache.codecs import Bytes, Decoded, Metadata, Owner
from persicache.errors import BackendError, BlobNotFound, UnencodableValue, UnloadableValue, VersionConflict
from persicache.keys import KeyName
from persicache.mappings import Entries
from persicache.memo.freshness import Expires, fresh_seconds
from persicache.memo.listed import listed
from persicache.memo.memory import Held, Memory, is_immutable
from persicache.storage import ABSENT, ANY, Blob, Buffer, Expectation, Version
from persicache.storage.local import LocalStorage

__all__ = ["Expired", "Loaded", "Raised", "Read", "Results", "Saved"]

#: Larger ones are mapped from their file as quickly as they are copied in memory.
_MOST_COPIED_NBYTES: Final = 64 * 1024
_FOR_EVER: Final = math.inf

_new: Final = tuple.__new__  # a third of the time of Owner(...), on the path of every hit


class Raised(NamedTuple):
    """What is stored of a call that raised."""

    error: Exception


class Loaded(NamedTuple):
    """What comes out of the store: the value, what it cost, the size of its entry."""

    value: Any
    cost_seconds: float
    nbytes: int


class Saved(NamedTuple):
    """What went into the store: the size of the entry, and when it is no longer fresh."""

    nbytes: int
    until: float


class Expired(BlobNotFound):
    """There is a result, but it isn't fresh any more."""

    version: Version
    until: float

    _sentence = "what is stored as {name!r} in {place} has expired"


class Read(NamedTuple):
    """What was read of an entry, and what `Results.changes` was before."""

    blob: Blob
    changes: int


def _same(stored: Any) -> Any:
    return stored


class Results:
    """The results of one function.

    Parameters
    ----------
    entries : Entries
        The store.
    expires : Expires
        How long a result is fresh.
    memory_nbytes : int
        For how many bytes of results there is room in memory; 0 for none.
    result_of : callable
        Returns, of what is stored, what `expires` is to judge.
    clock : callable
        Returns POSIX seconds.
    """

    def __init__(
        self,
        entries: Entries,
        *,
        expires: Expires,
        memory_nbytes: int,
        result_of: Callable[[Any], object] = _same,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.entries = entries
        self.memory = Memory(memory_nbytes) if memory_nbytes else None
        self._expires = expires
        self._result_of = result_of
        self._clock = clock
        is_mapped = isinstance(entries.storage, LocalStorage)
        self._most_held_nbytes = _MOST_COPIED_NBYTES if is_mapped else memory_nbytes
        self._read = entries.storage.read
        self._decode = entries.codec.decode
        self._place = entries.place

    def recall(self, key: object) -> Held | None:
        """Return what memory holds under a key, if it is fresh."""
        if self.memory is None:
            return None
        held = self.memory.get(key)
        if held is None or (held.until is not _FOR_EVER and not self._is_fresh(held.until)):
            return None
        return held

    def value_of(self, held: Held) -> Any:
        """Return the value of what is held, the caller's own."""
        if held.entry is None:
            return held.value
        owner = _new(Owner, (held.where.text, held.where.text, self._place))
        return self._decode(held.entry, owner).value

    @property
    def changes(self) -> int:
        """How often a result was replaced or forgotten here."""
        return 0 if self.memory is None else self.memory.changes

    def load(self, where: KeyName, key: object = None, read: Read | None = None) -> Loaded:
        """Return a result from the store, or from what was read from there before.

        Memory holds it under `key`, if one is given.

        Raises
        ------
        BlobNotFound
            If there is none; `Expired` if it isn't fresh.
        CorruptEntry, UntrustedPickle, UnloadableValue, BackendError
            As for an entry.
        """
        if read is None:
            changes = self.changes
            blob = self._read(where.name)
        else:
            blob, changes = read
        owner = _new(Owner, (where.text, where.text, self._place))
        found = self._decode(blob, owner)
        until = _FOR_EVER
        if self._expires is not None:
            about = self.entries.codec.metadata(blob.buffer, owner)
            try:
                until = self.until(about, found.value)
            except UnencodableValue as error:
                raise UnloadableValue(key=where.text, place=self._place, reason=error.reason) from error
            if not self._is_fresh(until):
                raise Expired(name=where.name, place=self._place, version=blob.version, until=until)
        if key is not None and self.memory is not None:
            self._hold(key, where, found, blob, until, changes)
        return _new(Loaded, (*found, len(blob.buffer)))

    def save(
        self,
        where: KeyName,
        value: object,
        *,
        seconds: float,
        about: Mapping[str, Any],
        expect: Expectation | Version,
        key: object = None,
    ) -> Saved | None:
        """Store a result; hold it in memory under `key`, if one is given.

        Somebody else's result that came first, instead of what `expect` says, stays: all who
        read it see one.
        """
        extra = dict(about)
        until = _FOR_EVER
        if self._expires is not None:
            until = self._clock() + self._seconds(value, where.text)
            if callable(self._expires):
                extra["until"] = until
        entries = self.entries
        chunks = entries.encode(where.text, where, value, cost_seconds=seconds, extra=extra)
        if not entries.storage.can_compare_and_swap:
            expect = ANY
        since = self.changes
        try:
            entries.storage.write(where.name, chunks, expect=expect)
        except (VersionConflict, BackendError) as error:
            self.forget_held(where)  # there may be another now, or this one all the same
            if isinstance(error, VersionConflict):
                return None
            raise
        nbytes = sum(map(len, chunks))
        if self.memory is not None:
            held = None if key is None else self._held_of(where, value, chunks, seconds, until)
            self.memory.replace(where, key, held, since=since, is_first=expect is ABSENT)
        return Saved(nbytes, until)

    def forget_held(self, where: KeyName) -> None:
        """Let memory hold nothing of a result."""
        if self.memory is not None:
            self.memory.forget(where)

    def forget(self, where: KeyName) -> bool:
        """Remove a result; return whether the store had it."""
        try:
            return self.entries.storage.remove(where.name)
        finally:
            self.forget_held(where)

    def clear(self, prefix: str) -> int:
        """Remove all results under a prefix; return how many the store had."""
        names = [where.name for where, _ in listed(self.entries, prefix)]
        try:
            self.entries.storage.remove_many(names)
        finally:
            if self.memory is not None:
                self.memory.clear()
        return len(names)

    def until(self, about: Metadata, value: object) -> float:
        """Return when a result is no longer fresh, in POSIX seconds.

        As ``expires=`` is now: it may have been another when the result was stored.

        Parameters
        ----------
        about : Metadata
            What its entry says.
        value : object
            What is stored.
        """
        if callable(self._expires) and "until" in about.extra:
            return float(about.extra["until"])
        return about.created + self._seconds(value, about.key_text)

    def _is_fresh(self, until: float) -> bool:
        now = self._clock()
        if callable(self._expires) or self._expires is None:
            return now < until
        # A clock that was set back must not keep what it dated ahead for much longer than it should.
        return now < until <= now + 2 * self._expires

    def _seconds(self, value: object, text: str) -> float:
        """Return how long a result is fresh."""
        if not callable(self._expires):
            return _FOR_EVER if self._expires is None else self._expires
        try:
            seconds = fresh_seconds(self._expires(self._result_of(value)))
        except Exception as error:
            reason = f"expires= tells no duration for it: {error}"
            raise UnencodableValue(key=text, reason=reason) from error
        return _FOR_EVER if seconds is None else seconds

    def _hold(
        self, key: object, where: KeyName, found: Decoded, blob: Blob, until: float, since: int
    ) -> None:
        assert self.memory is not None
        data, value, entry = blob.buffer, None, None
        if is_immutable(found.value):
            value = found.value
        elif self._is_small(len(data)):
            # The value can lie in what was read, and is the caller's.
            entry = Bytes(bytes(data), is_private=blob.is_private)
        else:
            return
        self.memory.put(key, Held(where, value, entry, found.cost_seconds, until, len(data)), since=since)

    def _held_of(
        self, where: KeyName, value: object, chunks: Sequence[Buffer], seconds: float, until: float
    ) -> Held | None:
        nbytes = sum(map(len, chunks))
        if is_immutable(value):
            return Held(where, value, None, seconds, until, nbytes)
        if self._is_small(nbytes):
            return Held(where, None, Bytes(b"".join(chunks), is_private=True), seconds, until, nbytes)
        return None

    def _is_small(self, nbytes: int) -> bool:
        assert self.memory is not None
        return nbytes <= min(self._most_held_nbytes, self.memory.most_item_nbytes)
