"""The thread that renews the leases which this process holds: `renewals`."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from typing import Final, Protocol
from weakref import WeakKeyDictionary

__all__ = ["RENEWALS_A_LEASE", "Renewable", "Renewals", "renewals"]

#: How often a lease is renewed in the time after which it runs out.
RENEWALS_A_LEASE: Final = 4
_AT_ONCE: Final = 16


class Renewable(Protocol):
    """What is to be renewed every so many seconds."""

    renew_seconds: float

    def renew(self) -> bool:
        """Renew it, once; return whether it is to be renewed again. Never raises."""


class Renewals:
    """Renews what there is to be renewed, from a thread that ends when there is nothing.

    What nobody has any more isn't renewed.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget everything, as a forked child does."""
        self._changed = threading.Condition()
        self._due: WeakKeyDictionary[Renewable, float] = WeakKeyDictionary()
        self._wakes = 0.0
        self._is_running = False

    def add(self, each: Renewable) -> None:
        """Renew it from now on."""
        due = time.monotonic() + each.renew_seconds
        with self._changed:
            self._due[each] = due
            if not self._is_running:
                self._wakes = due
                try:
                    threading.Thread(target=self._run, name="persicache-leases", daemon=True).start()
                except RuntimeError:  # no more threads, or the interpreter is ending: so it runs out
                    return
                self._is_running = True
            elif due < self._wakes:
                self._changed.notify()

    def drop(self, each: Renewable) -> None:
        """Don't renew it any more."""
        with self._changed:
            self._due.pop(each, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                due = [each for each, when in self._due.items() if when <= now]
                if not due:
                    if not self._due:
                        self._is_running = False
                        return
                    self._wakes = min(self._due.values())
                    self._changed.wait(None if self._wakes == math.inf else self._wakes - now)
                    continue
                for each in due:
                    self._due[each] = math.inf  # under way
            for start in range(min(_AT_ONCE, len(due))):
                # Each by itself: a place that doesn't answer must not cost the leases in others, nor
                # keep the interpreter from ending.
                with contextlib.suppress(RuntimeError):  # no more threads: so they run out
                    threading.Thread(target=self._renew, args=(due[start::_AT_ONCE],), daemon=True).start()
            # Whoever is held on to here would be renewed as long.
            del due, each

    def _renew(self, leases: list[Renewable]) -> None:
        while leases:
            each = leases.pop()
            goes_on = each.renew()
            with self._changed:
                if not goes_on:
                    self._due.pop(each, None)
                elif each in self._due:
                    self._due[each] = time.monotonic() + each.renew_seconds
                self._changed.notify()


renewals: Final = Renewals()
os.register_at_fork(after_in_child=renewals.begin)
