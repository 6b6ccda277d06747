"""Leases that the kernel keeps for a place on a local disk: `KernelLeases`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Final

from blake3 import blake3

from persicache.errors import ConditionsUnsupported
from persicache.storage.failure import failure
from persicache.storage.lease import Lease, Leases
from persicache.storage.lease_file import N_SLOTS, Grip, LeaseFile
from persicache.storage.lease_pauses import pauses
from persicache.storage.lease_vigil import Vigil
from persicache.storage.names import check_name

__all__ = ["KernelLease", "KernelLeases"]

_LEAST_SECONDS: Final = 0.001
_MOST_SECONDS: Final = 0.05


class KernelLease:
    """A lease of this process; it ends when nobody has it any more, or the process ends.

    Parameters
    ----------
    file : LeaseFile
        Where it is kept.
    grip : Grip
        What this process has there.
    """

    __slots__ = ("_file", "_grip")

    def __init__(self, file: LeaseFile, grip: Grip) -> None:
        self._file = file
        self._grip = grip

    @property
    def is_lost(self) -> bool:
        return self._file.is_passed_over(self._grip)

    def release(self) -> None:
        self._file.unlock(self._grip)

    def __del__(self) -> None:
        # Whoever waited for it in a task may be gone when it comes, and others would wait for ever.
        if not self._grip.has_ended:
            with contextlib.suppress(Exception):  # the interpreter may be ending
                self.release()


class KernelLeases:
    """Leases that are locks: no record to be renewed or left behind, no thread, no fsync.

    A holder that ends in any way has none any more at that moment. One that is stopped still
    has its lock, which nobody can take away: it is passed over, to a second lock of that name,
    a third, and so on.

    Parameters
    ----------
    opened : callable
        Returns a descriptor of the file that is locked, which it makes if there is none.
    place : str
        What the leases are about, for errors.
    otherwise : callable
        Returns the leases to use if the filesystem has no such locks.
    salt : str, optional
        What tells apart those who share a file.
    seconds : float
        How long a holder may stand still.
    clock : callable, optional
        Seconds that only grow.
    """

    def __init__(
        self,
        opened: Callable[[], int],
        *,
        place: str,
        otherwise: Callable[[], Leases],
        salt: str = "",
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = opened
        self._place = place
        self._otherwise = otherwise
        self._instead: Leases | None = None
        self._salt = f" {salt}"
        self._seconds = seconds
        self._clock = clock
        self._file = LeaseFile(opened)

    def tries(self, name: str) -> Generator[float, None, Lease]:
        check_name(name)
        lane = 0
        vigil = None
        waits = None
        while self._instead is None:
            file = self._file
            if not file.is_ours:
                # Race: two threads of a child may make one each; those exclude one another, too.
                self._file = file = LeaseFile(self._open)
            try:
                found = file.lock(self._slot(name, lane))
            except ConditionsUnsupported:
                self._instead = self._otherwise()
                break
            except OSError as error:
                trouble = failure(error, place=self._place, action=f"take the lease of {name!r}")
                raise trouble from trouble.__cause__
            if isinstance(found, Grip):
                if lane:
                    file.pass_over(self._slot(name, lane - 1), found)
                return KernelLease(file, found)
            if waits is None:
                waits = pauses(_LEAST_SECONDS, _MOST_SECONDS)
            if vigil is None:
                vigil = Vigil(seconds=self._seconds, clock=self._clock)
            if found is not None and vigil.is_over(found):
                lane += 1
                vigil = None
                continue
            yield next(waits)
        return (yield from self._instead.tries(name))

    def _slot(self, name: str, lane: int) -> int:
        # So many slots that no two calls ever share one.
        return int.from_bytes(blake3(f"{name} {lane}{self._salt}".encode()).digest(length=8)) % N_SLOTS
