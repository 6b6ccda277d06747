"""Conditional operations on one key, without a race: `Swaps`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

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
    sleep, draw : callable
        To pause with, and to draw from [0, 1) how long.
    """

    def __init__(
        self,
        entries: Entries,
        *,
        locate: Callable[[Key], KeyName],
        check: Callable[[Any], Any],
        sleep: Callable[[float], object] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._entries = entries
        self._locate = locate
        self._check = check
        self._sleep = sleep
        self._draw = draw

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
        self._must_swap()
        if value is KEEP_CURRENT:
            return self.get_if(key, condition, expected, retrieve)
        if value is DELETE_CURRENT:
            return self.discard_if(key, condition, expected, retrieve)
        where = self._locate(key)
        chunks = self._entries.encode(key, where, self._check(value))

        def write(expect: Expectation | Version) -> tuple[ETag, Any]:
            return self._entries.storage.write(where.name, chunks, expect=expect), value

        return self._change(key, condition, expected, retrieve, write)

    def setdefault_if(
        self, key: Key, default: Any, condition: Condition, expected: ETag, retrieve: Retrieval
    ) -> ConditionalOperationResult[Any]:
        """See `PersiDict.setdefault_if`."""
        self._must_swap()
        if holds(condition, expected, ITEM_NOT_AVAILABLE):
            created = self.set_if(key, default, ETAG_IS_THE_SAME, ITEM_NOT_AVAILABLE, NEVER_RETRIEVE)
            if created.condition_was_satisfied:
                return created
        return self.get_if(key, condition, expected, retrieve)

    def discard_if(
        self, key: Key, condition: Condition, expected: ETag, retrieve: Retrieval = NEVER_RETRIEVE
    ) -> ConditionalOperationResult[Any]:
        """See `PersiDict.discard_if`."""
        self._must_swap()
        where = self._locate(key)

        def remove(expect: Expectation | Version) -> tuple[ETag, Any]:
            if expect is not ABSENT:
                self._entries.storage.remove(where.name, expect=expect)
            elif self.etag(key) is not ITEM_NOT_AVAILABLE:
                raise VersionConflict(
                    name=where.name, place=self._entries.place, expected=ABSENT, actual="a version"
                )
            return ITEM_NOT_AVAILABLE, ITEM_NOT_AVAILABLE

        return self._change(key, condition, expected, retrieve, remove)

    def transform(
        self, key: Key, transformer: Callable[[Any], Any], n_retries: int | None
    ) -> OperationResult[Any]:
        """See `PersiDict.transform_item`."""
        self._must_swap()
        attempts = 0
        while True:
            value, etag = self.get(key)
            new = transformer(value)
            if new is KEEP_CURRENT:
                return OperationResult(etag, value)
            done = self.set_if(key, new, ETAG_IS_THE_SAME, etag, NEVER_RETRIEVE)
            if done.condition_was_satisfied:
                return OperationResult(done.resulting_etag, done.new_value)
            attempts += 1
            if n_retries is not None and attempts > n_retries:
                raise ConcurrencyConflictError(key=key, place=self._entries.place, attempts=attempts)
            self._pause(attempts)

    def _must_swap(self) -> None:
        # Here and not when it is written: whether there is something to write depends on what is
        # stored, and a transformer may take hours.
        if not self._entries.storage.can_compare_and_swap:
            raise ConditionsUnsupported(place=self._entries.place)

    def _change(
        self,
        key: Key,
        condition: Condition,
        expected: ETag,
        retrieve: Retrieval,
        change: Callable[[Expectation | Version], tuple[ETag, Any]],
    ) -> ConditionalOperationResult[Any]:
        """Make a change by compare-and-swap, with the etag that makes the condition hold."""
        for attempt in range(1, MOST_TRIES):
            # That the etag is the expected one needs no look: the change itself will tell.
            actual = expected if condition is ETAG_IS_THE_SAME else self.etag(key)
            if not holds(condition, expected, actual):
                return self.get_if(key, condition, expected, retrieve)
            try:
                resulting, value = change(ABSENT if actual is ITEM_NOT_AVAILABLE else actual)
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
        if not isinstance(retrieve, Retrieval):
            raise TypeError(
                "retrieve_value must be ALWAYS_RETRIEVE, IF_ETAG_CHANGED or NEVER_RETRIEVE, "
                f"not {retrieve!r}"
            )
        if retrieve is NEVER_RETRIEVE or retrieve is IF_ETAG_CHANGED:
            actual = self.etag(key)
            if actual is ITEM_NOT_AVAILABLE:
                return ITEM_NOT_AVAILABLE, actual
            if retrieve is NEVER_RETRIEVE or actual == expected:
                return VALUE_NOT_RETRIEVED, actual
        return self.get(key)

    def _pause(self, attempt: int) -> None:
        self._sleep(self._draw() * min(MOST_PAUSE_SECONDS, PAUSE_SECONDS * 2.0 ** min(attempt, 20)))
