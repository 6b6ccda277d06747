"""The calls of a map, looked up so many at a time: `Batches`."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator
from datetime import date, time, timedelta, tzinfo
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from persicache.errors import BackendError
from persicache.memo.memory import is_immutable
from persicache.memo.ref import Ref

if TYPE_CHECKING:
    from persicache.keys import KeyName
    from persicache.memo.base import Memoized
    from persicache.memo.results import Read

__all__ = ["Batches", "Item"]

#: The first batch, each further one being twice as large,
FIRST: Final = 8
#: up to so many calls,
MOST: Final = 1024
#: and fewer, if the results met so far say that they would take more memory than this.
MOST_NBYTES: Final = 32 * 1024 * 1024

_UNCHANGING: Final = (PurePath, Number, Enum, UUID, date, time, timedelta, tzinfo, Ref)


class Item:
    """One call of a map.

    Attributes
    ----------
    ref : Ref or None
        To its result; None if there can be none.
    read : Read or None
        What the store has of it.
    is_missing : bool
        Whether it has nothing, as far as is known.
    """

    __slots__ = ("_args", "_epoch", "_error", "_memoized", "is_missing", "read", "ref")

    def __init__(self, memoized: Memoized[..., Any], args: tuple[Any, ...]) -> None:
        self._memoized: Any = memoized
        self._args = args
        self._error: Exception | None = None
        self.ref: Ref[Any] | None = None
        self.read: Read | None = None
        self.is_missing = False
        try:
            self._epoch = memoized.epoch()
            self.ref = memoized.ref(*args)
        except Exception as error:  # noqa: BLE001 - raised at the item's place
            self._error = error

    def answer(self) -> Any:
        """Return the result, of a coroutine function to be awaited; raise what the call raises."""
        if self._error is not None:
            raise self._error
        read, self.read = self.read, None
        if self._memoized.epoch() is not self._epoch:
            # The code has changed since: what was looked up is not what the call means now.
            return self._memoized(*self._args)
        return self._memoized.answer(self.ref, read, is_missing=self.is_missing)


class Batches:
    """The calls of a map, so many at a time.

    Parameters
    ----------
    memoized : Memoized
        The function.
    iterables : iterable of iterable
        The arguments, as for `map`.
    copies : bool
        Whether arguments must last until after the next are taken, in calls that are made
        elsewhere: then those that could be changed meanwhile are copied. Else a batch ends with
        such a call.
    """

    def __init__(
        self, memoized: Memoized[..., Any], iterables: Iterable[Iterable[Any]], *, copies: bool
    ) -> None:
        iterables = tuple(iterables)
        self._memoized = memoized
        # An iterator may change what it gave, and give it again; what lists hold stays.
        self._reused = [
            i
            for i, each in enumerate(iterables)
            if isinstance(each, Iterator) and type(each) is not itertools.repeat
        ]
        self._calls = zip(*iterables, strict=False)
        self._copies = copies
        self._error: Exception | None = None
        self._mean_nbytes = 0.0
        #: Of how many calls the next batch is, if there are.
        self.size = FIRST

    def take(self) -> list[Item]:
        """Return the next calls, none at the end; then raise what the iterables did."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        items: list[Item] = []
        try:
            for args in self._calls:
                changeable = [i for i in self._reused if not _lasts(args[i])]
                if changeable and self._copies:
                    items.append(Item(self._memoized, _copied(args, changeable)))
                else:
                    items.append(Item(self._memoized, args))
                if len(items) >= self.size or (changeable and not self._copies):
                    break
        except Exception as error:
            if not items:
                raise
            self._error = error
        return items

    def look_up(self, items: list[Item]) -> None:
        """Read from the store what it has of these calls, all at once where that pays."""
        wanted: dict[KeyName, Item] = {}
        for item in items:
            if item.ref is not None and not self._memoized.is_held(item.ref):
                wanted.setdefault(item.ref.where, item)
        if not wanted:
            return
        nbytes, count = 0, len(wanted)
        try:
            for where, read in self._memoized.read_many(list(wanted)):
                wanted.pop(where).read = read
                nbytes += len(read.blob.buffer)
        except BackendError:
            return  # each is looked up by itself then, or computed, and raises it in its place if it must
        for item in wanted.values():
            item.is_missing = True
        self._resize(nbytes / count)

    def _resize(self, mean_nbytes: float) -> None:
        self._mean_nbytes = max(mean_nbytes, self._mean_nbytes / 2)
        fitting = MOST_NBYTES / self._mean_nbytes if self._mean_nbytes else MOST
        self.size = max(1, int(min(2 * self.size, MOST, fitting)))


def _lasts(argument: object) -> bool:
    return is_immutable(argument) or isinstance(argument, _UNCHANGING)


def _copied(args: tuple[Any, ...], indices: Iterable[int]) -> tuple[Any, ...]:
    copied = list(args)
    for i in indices:
        copied[i] = copy.deepcopy(args[i])
    return tuple(copied)
