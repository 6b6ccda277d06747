"""What keeps a store within its limits: `Bounds`."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from persicache.errors import BackendError, BlobNotFound, CorruptEntry
from persicache.eviction import Record
from persicache.keys import KeyName
from persicache.mappings import Entries
from persicache.mappings.fork_lock import ForkLock
from persicache.mappings.warn import warn_caller
from persicache.memo.background import Background, Stop
from persicache.memo.freshness import Expires
from persicache.memo.limits import Limits
from persicache.memo.listed import listed, until_told
from persicache.memo.usage import UNKNOWN_COST, Usage, Use
from persicache.memo.usage_log import UsageLog
from persicache.storage import BlobInfo, Leases

__all__ = ["Bounds"]

#: What was stored or used since leaves after all else.
RECENT_SECONDS: Final = 5.0
#: The store is listed each time that about this share of a limit was stored.
LISTED_SHARE: Final = 1 / 16
#: So many entries are asked in one go what they cost; of more, the average is assumed.
MOST_ASKED: Final = 4096
BATCH: Final = 256


class _Candidate(NamedTuple):
    """An entry, in the order in which entries leave."""

    is_fresh: bool
    is_recent: bool
    worth: float
    last_use: float
    where: KeyName
    nbytes: int


class Bounds:
    """Evicts the results of a function that can be spared best, when there are too many.

    How much there is isn't counted at each store, which would cost a listing. It is what the
    last listing found and what this process stored since. When others store as well, nobody's
    sum is right; so each lists now and then, at random, however little it stores: together as
    often as one who stores it all.

    Parameters
    ----------
    entries : Entries
        The store.
    log : UsageLog
        What is known of the use of its entries.
    limits : Limits
        The limits.
    prefix : str
        What the names of the function's results begin with.
    label : str
        What the function is called.
    expires : Expires
        How long a result is fresh.
    leases : callable
        Returns the leases of the place: one process evicts at a time.
    clock : callable
        Returns POSIX seconds.
    draw : callable
        From a rate to a random number of an exponential distribution.
    """

    def __init__(
        self,
        entries: Entries,
        log: UsageLog,
        limits: Limits,
        *,
        prefix: str,
        label: str,
        leases: Callable[[], Leases],
        expires: Expires = None,
        clock: Callable[[], float] = time.time,
        draw: Callable[[float], float] = random.expovariate,
    ) -> None:
        self._entries = entries
        self._log = log
        self._limits = limits
        self._prefix = prefix
        self._label = label
        self._leases = leases
        self._expires = expires
        self._clock = clock
        self._draw = draw
        self._lock = ForkLock()
        self._background = Background(self._work)
        self._known = 0, 0
        self._stored = 0, 0
        self._next_share = draw(1 / LISTED_SHARE)
        self._trouble: BackendError | None = None
        self._warned: set[str] = set()

    def stored(self, where: KeyName, *, nbytes: int, cost_seconds: float, until: float = math.inf) -> None:
        """Tell of a result that was stored. What has to leave for it does so in the background.

        Parameters
        ----------
        where : KeyName
            Where it is.
        nbytes : int
            The size of its entry.
        cost_seconds : float
            How long it took to compute.
        until : float
            When its entry says that it is no longer fresh, in POSIX seconds.
        """
        cost = UNKNOWN_COST if math.isnan(cost_seconds) else cost_seconds
        self._log.note({where.text: Use(0, self._clock(), cost, until)})
        with self._lock:
            self._stored = self._stored[0] + nbytes, self._stored[1] + 1
        if self._is_due():
            self._background.start()
        trouble, self._trouble = self._trouble, None
        if trouble is not None and type(trouble).__name__ not in self._warned:
            self._warned.add(type(trouble).__name__)
            warn_caller(f"the results of {self._label} can't be kept within their limits: {trouble}")

    def enforce(self) -> int:
        """Evict now what is too much, whoever stored it; return how many entries left.

        Raises
        ------
        BackendError
            If the place can't be read or written.
        """
        self._background.join()
        return self._enforce(Stop())

    def _is_due(self) -> bool:
        stored, known = self._stored, self._known
        share = self._limits.share
        return share(*stored) > self._next_share or share(stored[0] + known[0], stored[1] + known[1]) > 1

    def _work(self, stop: Stop) -> None:
        if not self._is_due():  # what was stored during the last listing asked for another
            return
        try:
            self._enforce(stop)
        except BackendError as error:
            self._trouble = error  # the next who stores hears of it
            self._settle((0, 0), self._stored)

    def _enforce(self, stop: Stop) -> int:
        with self._alone(stop):
            before, start = self._stored, self._clock()
            found = []
            for candidate in listed(self._entries, self._prefix):
                found.append(candidate)
                if stop.is_set():
                    return 0
            nbytes, n_entries = sum(info.nbytes for _, info in found), len(found)
            evicted: Sequence[_Candidate] = ()
            if self._limits.share(nbytes, n_entries) > 1:
                self._log.flush()
                usage, names = self._log.blobs.load()
                ordered = self._ordered(found, usage)
                evicted = self._chosen(ordered, nbytes)
                for first in range(0, len(evicted), BATCH):
                    if stop.is_set():
                        return first
                    batch = evicted[first : first + BATCH]
                    self._entries.storage.remove_many([each.where.name for each in batch])
                self._learn(usage, names, ordered, len(evicted), start)
            freed = sum(each.nbytes for each in evicted)
            self._settle((nbytes - freed, n_entries - len(evicted)), before)
        return len(evicted)

    def _settle(self, known: tuple[int, int], seen: tuple[int, int]) -> None:
        """Count from now on from what is known, which holds what had been stored then."""
        with self._lock:
            self._known = known
            self._stored = self._stored[0] - seen[0], self._stored[1] - seen[1]
            self._next_share = self._draw(1 / LISTED_SHARE)

    @contextmanager
    def _alone(self, stop: Stop) -> Iterator[None]:
        """Keep other processes from evicting meanwhile: two would evict too much."""
        tries = self._leases().tries(f"{self._prefix}=bounds")
        lease = None
        try:
            while not stop.wait(next(tries)):
                pass
        except StopIteration as taken:
            lease = taken.value
        finally:
            tries.close()
        try:
            yield
        finally:
            if lease is not None:
                lease.release()

    def _ordered(self, found: list[tuple[KeyName, BlobInfo]], usage: Usage) -> list[_Candidate]:
        """Order entries by how well they can be spared."""
        policy = self._limits.policy
        if policy == "gdsf":
            self._ask(found, usage)
        costs = [use.cost_seconds for use in usage.uses.values() if use.cost_seconds >= 0]
        usual_cost = sum(costs) / len(costs) if costs else 0.0
        now = self._clock()
        ordered = []
        for where, info in found:
            use = usage.uses.get(self._log.digest(where.text), Use())
            last_use = max(use.last_use, info.modified)
            cost = use.cost_seconds if use.cost_seconds >= 0 else usual_cost
            record = Record(info.nbytes, cost, 1 + use.hits, usage.age_at(last_use))
            until = until_told(self._expires, info.modified, {"until": use.until})
            ordered.append(
                _Candidate(
                    is_fresh=until > now,
                    is_recent=last_use > now - RECENT_SECONDS,
                    worth=record.worth(policy),
                    last_use=last_use,
                    where=where,
                    nbytes=info.nbytes,
                )
            )
        ordered.sort()
        return ordered

    def _ask(self, found: list[tuple[KeyName, BlobInfo]], usage: Usage) -> None:
        """Ask entries what they cost that nobody noted: of those stored without limits."""
        uses, digest = usage.uses, self._log.digest
        unknown = [
            (info.modified, where)
            for where, info in found
            if math.isnan(uses.get(digest(where.text), Use()).cost_seconds)
        ]
        for modified, where in sorted(unknown)[:MOST_ASKED]:
            try:
                told = self._entries.peek(where)
                until = until_told(self._expires, modified, told.extra)
            except (BlobNotFound, CorruptEntry, TypeError, ValueError):
                continue
            cost = UNKNOWN_COST if math.isnan(told.cost_seconds) else told.cost_seconds
            usage.note(digest(where.text), Use(0, modified, cost, until))

    def _chosen(self, ordered: list[_Candidate], nbytes: int) -> list[_Candidate]:
        """Return the first of these, as many as have to leave."""
        for index, candidate in enumerate(ordered):
            if self._limits.is_low(nbytes, len(ordered) - index, candidate.nbytes):
                return ordered[:index]
            nbytes -= candidate.nbytes
        return ordered

    def _learn(
        self, usage: Usage, names: list[str], ordered: list[_Candidate], n_evicted: int, start: float
    ) -> None:
        """Write down what is known of the entries that are left, and what was evicted."""
        evicted, left = ordered[:n_evicted], ordered[n_evicted:]
        worth = max((each.worth for each in evicted if each.is_fresh), default=0.0)
        if self._limits.policy == "gdsf":
            usage.grow_older(self._clock(), worth)
        digest = self._log.digest
        digests = {digest(each.where.text) for each in left}
        gone = {digest(each.where.text) for each in evicted}
        # What was stored after the listing isn't among these, but here.
        digests.update(key for key, use in usage.uses.items() if use.last_use >= start and key not in gone)
        usage.keep(digests, since=min((each.last_use for each in left), default=start))
        self._log.blobs.replace(names, usage)
