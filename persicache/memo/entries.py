"""What is stored of a function: `EntryInfo`, and the listing of them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from persicache.errors import BlobNotFound, CorruptEntry
from persicache.keys import KeyName
from persicache.mappings import Entries
from persicache.mappings.html import moment, shown, summary
from persicache.mappings.warn import warn_caller
from persicache.memo.freshness import Expires
from persicache.memo.listed import listed, until_told
from persicache.memo.record import Record
from persicache.memo.usage import Use
from persicache.memo.usage_log import UsageLog

__all__ = ["EntryInfo", "EntryListing"]

#: What a notebook shows of a listing.
MOST_SHOWN: Final = 20
COLUMNS: Final = ("arguments", "created", "seconds", "size", "hits", "last use", "code")


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """One stored result, without its value.

    Attributes
    ----------
    name : str
        The name of its entry, below the store's root.
    args : mapping of str to str
        The arguments as shown; empty if they aren't recorded.
    created : float
        When it was computed, in POSIX seconds.
    cost_seconds : float
        How long that took, NaN if unknown.
    nbytes : int
        The size of its entry.
    hits : int
        How often it was read, as far as it was written down: what other processes are at isn't yet.
    last_use : float
        When it was read last, or stored, in POSIX seconds.
    is_current : bool
        Whether it is a result of the present code, version and dependencies.
    expires : float or None
        Until when it is fresh, in POSIX seconds; None for ever.
    """

    name: str
    args: Mapping[str, str]
    created: float
    cost_seconds: float
    nbytes: int
    hits: int
    last_use: float
    is_current: bool
    expires: float | None
    _forget: Callable[[KeyName], bool] = field(repr=False, compare=False)
    _where: KeyName = field(repr=False, compare=False)

    def forget(self) -> bool:
        """Remove the result from the store; return whether it was there."""
        return self._forget(self._where)


class EntryListing:
    """All that is stored of a function, in no order; each iteration lists the store anew.

    A notebook shows some of them.

    Parameters
    ----------
    entries : Entries
        The store.
    log : UsageLog
        What is known of the use of its entries.
    prefix : str
        What the names of the function's results begin with.
    label : str
        What the function is called.
    is_current : callable
        Whether what an entry says of itself is of the present code.
    expires : Expires
        How long a result is fresh.
    forget : callable
        Removes a result.
    """

    def __init__(
        self,
        entries: Entries,
        log: UsageLog,
        *,
        prefix: str,
        label: str,
        is_current: Callable[[Mapping[str, Any]], bool],
        expires: Expires,
        forget: Callable[[KeyName], bool],
    ) -> None:
        self._entries = entries
        self._log = log
        self._prefix = prefix
        self._label = label
        self._is_current = is_current
        self._expires = expires
        self._forget = forget

    def __repr__(self) -> str:
        return f"<entries of {self._label} in {self._entries.place!r}: iterate over them>"

    def __iter__(self) -> Iterator[EntryInfo]:
        uses = self._log.load().uses
        for where, info in listed(self._entries, self._prefix):
            try:
                told = self._entries.peek(where)
                args = Record.read(told.extra).args or {}
                until = until_told(self._expires, told.created, told.extra)
            except BlobNotFound:  # removed since it was listed
                continue
            except (CorruptEntry, TypeError, ValueError) as error:
                warn_caller(f"the entries of {self._label} are listed without one: {error}")
                continue
            use = uses.get(self._log.digest(where.text), Use())
            yield EntryInfo(
                name=where.name,
                args=args,
                created=told.created,
                cost_seconds=told.cost_seconds,
                nbytes=info.nbytes,
                hits=use.hits,
                last_use=max(use.last_use, told.created),
                is_current=self._is_current(told.extra),
                expires=until if until < math.inf else None,
                _forget=self._forget,
                _where=where,
            )

    def _repr_html_(self) -> str:
        found = list(islice(self, MOST_SHOWN + 1))
        number = f"more than {MOST_SHOWN}" if len(found) > MOST_SHOWN else len(found)
        rows = [
            (
                ", ".join(f"{name}={text}" for name, text in each.args.items()),
                moment(each.created),
                f"{each.cost_seconds:.3g}",
                shown(each.nbytes),
                each.hits,
                moment(each.last_use),
                "current" if each.is_current else "other",
            )
            for each in found[:MOST_SHOWN]
        ]
        facts = {"entries": number, "place": self._entries.place}
        return summary(f"Results of {self._label}", facts, COLUMNS, rows)
