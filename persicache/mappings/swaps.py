"""Conditional operations on one key, without a race: `Swaps`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from persicache.errors import BlobNotFound, ConcurrencyConflictError, ConditionsUnsupported, VersionConflict
from persicache.keys import Key, KeyName
from persicache.mappings.conditions import (
    DELETE_CURRENT,
    ETAG_IS_THE_SAME,
    IF_ETAG_CHANGED,
    ITEM_NOT_AVAILABLE,
    KEEP_CURRENT,
    NEVER_RETRIEVE,
    VALUE_NOT_RETRIEVED,
    Condition,
    ConditionalOperationResult,
    ETag,
    OperationResult,
    Retrieval,
    holds,
)
from persicache.mappings.entries import Entries
from persicache.storage import ABSENT, Expectation, Version

__all__ = ["Swaps"]

#: Makes a change if the place is as expected; returns the etag and the value afterwards.
Change: TypeAlias = Callable[[Expectation | Version], tuple[ETag, Any]]

#: How often a single operation starts again because others were faster.
MOST_TRIES: Final = 1000
#: The longest first pause after a conflict; pauses double.
PAUSE_SECONDS: Final = 0.002
MOST_PAUSE_SECONDS: Final = 0.5


class Swaps:
    """Compare-and-swap on the keys of a dictionary.

    Every change is made by a conditional write of the storage, so that nothing can come
    between the comparison and the change. Where the place has none, `ConditionsUnsupported`
    is raised before anything happens.

    Parameters
    ----------
    entries : Entries
        The entries of the dictionary.
    locate : callable
        From a key to where its entry lies.
    check : callable
        Called with a value that was read or is to be stored; raises if it must not be.
    sleep, draw, clock : callable
        To pause with, to draw from [0, 1) how long, and to see how long the place takes.
    """

    def __init__(
        self,
        entries: Entries,
        *,
        locate: Callable[[Key], KeyName],
        check: Callable[[Any], Any],
        sleep: Callable[[float], object] = time.sleep,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._entries = entries
        self._locate = locate
        self._check = check
        self._sleep = sleep
        self._draw = draw
        self._clock = clock

    def get(self, key: Key) -> tuple[Any, ETag]:
        """Return value and etag of one moment; ITEM_NOT_AVAILABLE twice if there is none."""
        where = self._locate(key)
        try:
            blob = self._entries.storage.read(where.name)
        except BlobNotFound:
            return ITEM_NOT_AVAILABLE, ITEM_NOT_AVAILABLE
        etag = blob.version
        return self._check(self._entries.decode(key, where, blob).value), etag

    def etag(self, key: Key) -> ETag:
        """Return the etag of a key."""
        try:
            return self._entries.storage.version(self._locate(key).name)
        except BlobNotFound:
            return ITEM_NOT_AVAILABLE

    def get_if(
        self, key: Key, condition: Condition, expected: ETag, retrieve: Retrieval
    ) -> ConditionalOperationResult[Any]:
        """See `PersiDict.get_item_if`."""
        value, actual = self._seen(key, expected, retrieve)
        return ConditionalOperationResult(holds(condition, expected, actual), actual, actual, value)

    def set_if(
        self, key: Key, value: Any, condition: Condition, expected: ETag, retrieve: Retrieval
    ) -> ConditionalOperationResult[Any]:
        """See `PersiDict.set_item_if`."""
        _check_retrieval(retrieve)
        self._must_swap(key)
        if value is KEEP_CURRENT:
            return self.get_if(key, condition, expected, retrieve)
        if value is DELETE_CURRENT:
            return self.discard_if(key, condition, expected, retrieve)
        return self._change(key, condition, expected, retrieve, self._writing(key, value))

    def setdefault_if(
        self, key: Key, default: Any, condition: Condition, expected: ETag, retrieve: Retrieval
    ) -> ConditionalOperationResult[Any]:
        """See `PersiDict.setdefault_if`."""
        _check_retrieval(retrieve)
        self._must_swap(key)
        if holds(condition, expected, ITEM_NOT_AVAILABLE):
            created = self.set_if(key, default, ETAG_IS_THE_SAME, ITEM_NOT_AVAILABLE, NEVER_RETRIEVE)
            if created.condition_was_satisfied:
                return created
        return self.get_if(key, condition, expected, retrieve)

    def discard_if(
        self, key: Key, condition: Condition, expected: ETag, retrieve: Retrieval = NEVER_RETRIEVE
    ) -> ConditionalOperationResult[Any]:
        """See `PersiDict.discard_if`."""
        self._must_swap(key)
        return self._change(key, condition, expected, retrieve, self._removing(key))

    def transform(
        self, key: Key, transformer: Callable[[Any], Any], n_retries: int | None
    ) -> OperationResult[Any]:
        """See `PersiDict.transform_item`."""
        self._must_swap(key)
        attempts = 0
        while True:
            begun = self._clock()
            value, etag = self.get(key)
            read_seconds = self._clock() - begun
            new = transformer(value)
            if new is KEEP_CURRENT:
                return OperationResult(etag, value)
            change = self._removing(key) if new is DELETE_CURRENT else self._writing(key, new)
            try:
                return OperationResult(*change(_expectation(etag)))
            except VersionConflict:
                attempts += 1
                if n_retries is not None and attempts > n_retries:
                    raise ConcurrencyConflictError(
                        key=key, place=self._entries.place, attempts=attempts
                    ) from None
            self._pause(attempts, read_seconds)

    def _must_swap(self, key: Key) -> None:
        # Here and not when it is written: whether there is something to write depends on what is
        # stored, and a transformer may take hours.
        if not self._entries.storage.can_compare_and_swap:
            self.etag(key)  # a bucket that isn't there can't either: this says why
            raise ConditionsUnsupported(place=self._entries.place)

    def _change(
        self,
        key: Key,
        condition: Condition,
        expected: ETag,
        retrieve: Retrieval,
        change: Change,
    ) -> ConditionalOperationResult[Any]:
        """Make a change by compare-and-swap, with the etag that makes the condition hold."""
        for attempt in range(1, MOST_TRIES):
            # That the etag is the expected one needs no look: the change itself will tell.
            actual = expected if condition is ETAG_IS_THE_SAME else self.etag(key)
            if not holds(condition, expected, actual):
                return self.get_if(key, condition, expected, retrieve)
            try:
                resulting, value = change(_expectation(actual))
            except VersionConflict:
                if condition is ETAG_IS_THE_SAME:
                    seen = self.get_if(key, condition, expected, retrieve)
                    if not seen.condition_was_satisfied:
                        return seen
                # Race: somebody came between the look and the change.
                self._pause(attempt)
                continue
            return ConditionalOperationResult(
                condition_was_satisfied=True,
                actual_etag=actual,
                resulting_etag=resulting,
                new_value=value,
            )
        raise ConcurrencyConflictError(key=key, place=self._entries.place, attempts=MOST_TRIES)

    def _seen(self, key: Key, expected: ETag, retrieve: Retrieval) -> tuple[Any, ETag]:
        _check_retrieval(retrieve)
        if retrieve is NEVER_RETRIEVE or retrieve is IF_ETAG_CHANGED:
            actual = self.etag(key)
            if actual is ITEM_NOT_AVAILABLE:
                return ITEM_NOT_AVAILABLE, actual
            if retrieve is NEVER_RETRIEVE or actual == expected:
                return VALUE_NOT_RETRIEVED, actual
        return self.get(key)

    def _writing(self, key: Key, value: Any) -> Change:
        """Return what sets a key; the value is encoded now."""
        where = self._locate(key)
        chunks = self._entries.encode(key, where, self._check(value))

        def write(expect: Expectation | Version) -> tuple[ETag, Any]:
            return self._entries.storage.write(where.name, chunks, expect=expect), value

        return write

    def _removing(self, key: Key) -> Change:
        """Return what removes a key."""
        where = self._locate(key)

        def remove(expect: Expectation | Version) -> tuple[ETag, Any]:
            if expect is not ABSENT:
                self._entries.storage.remove(where.name, expect=expect)
            elif self.etag(key) is not ITEM_NOT_AVAILABLE:
                raise VersionConflict(
                    name=where.name, place=self._entries.place, expected=ABSENT, actual="a version"
                )
            return ITEM_NOT_AVAILABLE, ITEM_NOT_AVAILABLE

        return remove

    def _pause(self, attempt: int, seconds: float = 0.0) -> None:
        """Give way to others, longer after each attempt; `seconds` is how long the place takes."""
        # In a slow place everybody's change takes long: back too soon is to meet the same ones.
        first = max(PAUSE_SECONDS, seconds)
        self._sleep(self._draw() * min(MOST_PAUSE_SECONDS, first * 2.0 ** min(attempt, 20)))


def _check_retrieval(retrieve: Retrieval) -> None:
    if not isinstance(retrieve, Retrieval):
        raise TypeError(
            f"retrieve_value must be ALWAYS_RETRIEVE, IF_ETAG_CHANGED or NEVER_RETRIEVE, not {retrieve!r}"
        )


def _expectation(etag: ETag) -> Expectation | Version:
    return ABSENT if etag is ITEM_NOT_AVAILABLE else etag
