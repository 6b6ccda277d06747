"""The entry that is nearest to a call that has none: `find_nearest`."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import Final, NamedTuple

from persicache.codecs import Metadata
from persicache.errors import BlobNotFound, CorruptEntry
from persicache.keys import KeyName
from persicache.mappings import Entries
from persicache.memo.difference import Difference, between_calls
from persicache.memo.record import Record

__all__ = ["Nearest", "find_nearest"]

#: Of larger stores the newest entries are looked at,
MOST_ENTRIES: Final = 10_000
#: for no longer than this,
MOST_SECONDS: Final = 5.0
#: so many at once: each is a request, where the place is far away.
_AT_ONCE: Final = 16
_BATCH: Final = 256


class Nearest(NamedTuple):
    """What was found.

    Attributes
    ----------
    about : Metadata or None
        What the nearest entry says of itself; None if there is no entry.
    arguments, others : list of Difference
        What differs, as `between_calls` tells.
    unsure : list of str
        Arguments that are too large to tell.
    n_entries : int
        How many entries there are.
    n_seen : int
        How many of them were looked at.
    """

    about: Metadata | None
    arguments: list[Difference]
    others: list[Difference]
    unsure: list[str]
    n_entries: int
    n_seen: int


def find_nearest(
    entries: Entries, prefix: str, call: Record, *, clock: Callable[[], float] = time.monotonic
) -> Nearest:
    """Look for the entry with the fewest other arguments, and of these the one by the most similar code.

    Parameters
    ----------
    entries : Entries
        The store.
    prefix : str
        What the names of the function's results begin with.
    call : Record
        The call.
    clock : callable
        Returns seconds.
    """
    end = clock() + MOST_SECONDS
    count = itertools.count()
    listed = ((info.modified, next(count), where) for where, info in entries.names(prefix))
    newest = [where for _, _, where in heapq.nlargest(MOST_ENTRIES, listed, key=itemgetter(0))]
    best: tuple[tuple[object, ...], Nearest] | None = None
    seen = 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for batch in _batches(newest):
            for about in pool.map(lambda where: _peek(entries, where), batch):
                seen += 1
                if about is None:
                    continue
                found = Nearest(about, *between_calls(Record.read(about.extra), call), 0, 0)
                rank = (len(found.arguments), len(found.others), len(found.unsure), -about.created)
                if best is None or rank < best[0]:
                    best = rank, found
            if clock() > end:
                break
    found = Nearest(None, [], [], [], 0, 0) if best is None else best[1]
    return found._replace(n_entries=next(count), n_seen=seen)


def _batches(wheres: list[KeyName]) -> Iterable[list[KeyName]]:
    return (wheres[i : i + _BATCH] for i in range(0, len(wheres), _BATCH))


def _peek(entries: Entries, where: KeyName) -> Metadata | None:
    """Return what an entry says of itself; None if it is damaged, or gone."""
    try:
        about = entries.peek(where)
        Record.read(about.extra)
    except (BlobNotFound, CorruptEntry, TypeError, ValueError, LookupError, AttributeError):
        return None
    return about
