"""Leases that are records in the place itself: `RecordLeases`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Generator
from typing import Final

from persicache.errors import ConditionsUnsupported, VersionConflict
from persicache.storage.blob import ABSENT, Buffer, Expectation, Storage, Version
from persicache.storage.lease import Lease
from persicache.storage.lease_granted import GrantedLease
from persicache.storage.lease_pauses import pauses
from persicache.storage.lease_renewals import RENEWALS_A_LEASE, renewals
from persicache.storage.names import check_name
from persicache.storage.owner import Owner

__all__ = ["RecordLease", "RecordLeases"]

_EXTENSION: Final = ".lease"
_LEAST_SECONDS: Final = 0.05
_MOST_SECONDS: Final = 1.0


class RecordLease:
    """A lease that its holder renews, and that runs out if nobody does.

    Parameters
    ----------
    storage : Storage
        Where the record is.
    name : str
        The blob that it is.
    mark : str
        What nobody else's record has in it.
    seconds : float
        How long it holds without being renewed.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self, storage: Storage, name: str, mark: str, *, seconds: float, clock: Callable[[], float]
    ) -> None:
        self.renew_seconds = seconds / RENEWALS_A_LEASE
        self._storage = storage
        self._name = name
        self._mark = mark
        self._seconds = seconds
        self._clock = clock
        self._pid = os.getpid()
        self._guard = threading.RLock()
        self._beat = 0
        self._version: Version | None = None
        self._written = clock()
        self._is_released = False

    @property
    def is_lost(self) -> bool:
        return (
            self._version is None
            or self._is_released
            or self._clock() - self._written >= self._seconds
            or self._pid != os.getpid()
        )

    def take(self, expect: Expectation | Version) -> bool:
        """Write the record if `expect` holds; return whether it did."""
        started = self._clock()
        try:
            version = self._storage.write(self._name, [self._record()], expect=expect)
        except VersionConflict:
            return False
        # Others see it later than it was sent, so it runs out for them later than it does here.
        self._version, self._written = version, started
        return True

    def renew(self) -> bool:
        """Write the next record; return whether there will be another to write."""
        with self._guard:
            if self._version is None or self._is_released:
                return False
            self._beat += 1
            # Trouble may pass before it has run out; and after, if nobody else wants it.
            with contextlib.suppress(Exception):
                if not self.take(self._version):
                    self._version = None
        # Race: one who releases it now doesn't wait for a renewal under way, which goes on here.
        if self._is_released:
            self._give_back()
        return self._version is not None

    def release(self) -> None:
        if self._pid != os.getpid():
            return
        self._is_released = True
        renewals.drop(self)
        if self._guard.acquire(blocking=False):
            self._guard.release()
            self._give_back()

    def _give_back(self) -> None:
        with self._guard, contextlib.suppress(Exception):
            version, self._version = self._version, None
            if version is None:
                return
            try:
                self._storage.remove(self._name, expect=version)
            except ConditionsUnsupported:
                # There are servers that write with conditions and remove without. As long as it
                # holds for sure there is nobody else's to remove.
                if self._clock() - self._written < self._seconds / 2:
                    self._storage.remove_many([self._name])

    def _record(self) -> bytes:
        machine, pid = Owner.me()
        # A text, since there are places that keep texts; never the same twice, since there are
        # places where the same bytes are the same version.
        return json.dumps([self._mark, self._beat, machine, pid]).encode()


class RecordLeases:
    """Leases for whatever place can compare and swap: each is a blob, beside the one it is named by.

    A record is taken over when it hasn't changed for so many seconds by the clock of whoever
    waits, so that no two clocks are compared; or at once if its process is on this machine and
    gone. Of several who take it over, the place lets one.

    Parameters
    ----------
    storage : Storage
        The place.
    seconds : float
        How long a lease holds without being renewed.
    clock : callable, optional
        Seconds that only grow.

    Notes
    -----
    Records are renewed by a thread. A computation that doesn't let other threads run for longer
    than the lease holds, as some in C don't, loses it.
    """

    def __init__(
        self, storage: Storage, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._seconds = seconds
        self._clock = clock

    def tries(self, name: str) -> Generator[float, None, Lease]:
        check_name(name)
        storage, clock = self._storage, self._clock
        if not storage.can_compare_and_swap:
            return GrantedLease()
        stem, dot, _ = name.rpartition(".")
        record_name = (stem if dot else name) + _EXTENSION
        most = min(_MOST_SECONDS, self._seconds / RENEWALS_A_LEASE)
        waits = pauses(min(_LEAST_SECONDS, most), most)
        seen: Version | None = None
        since = clock()
        expect: Expectation | Version | None = ABSENT
        while True:
            if expect is not None:
                lease = RecordLease(
                    storage, record_name, os.urandom(16).hex(), seconds=self._seconds, clock=clock
                )
                try:
                    if lease.take(expect):
                        renewals.add(lease)
                        return lease
                except ConditionsUnsupported:  # a directory on a filesystem that has no locks
                    return GrantedLease()
                seen = None  # Race: somebody else's is there now
            yield next(waits)
            expect = None
            found = next(iter(storage.read_changed([(record_name, seen)])), None)
            if found is None:
                expect = ABSENT
            elif (blob := found[1]) is not None:
                seen, since = blob.version, clock()
                if _is_gone(blob.buffer):
                    expect = seen
            elif clock() - since >= self._seconds:
                expect = seen


def _is_gone(record: Buffer) -> bool:
    """Return whether the process that wrote `record` is known to be gone."""
    try:
        _, _, machine, pid = json.loads(bytes(record))
    except (TypeError, ValueError):
        return False
    return isinstance(pid, int) and pid > 0 and Owner(machine, pid).state() == "gone"
