"""A waiter's eye on a holder that may never go on: `Vigil`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from persicache.storage.owner import Owner

__all__ = ["Vigil"]

_LOOKS: Final = 10  # in the time after which a holder that stands still is passed over
_UNSEEN: Final = 60


class Vigil:
    """Tells when a holder has stood still for long.

    A holder that runs is waited for, whatever it does. One that can't be seen, in another
    container or on another host, is waited for 60 times as long as one that is seen to be
    stopped: the kernel says that it is there, and a computation can take long.

    Parameters
    ----------
    seconds : float
        How long a holder may stand still.
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._holder: Owner | None = None
        self._ran = self._looked = clock()

    def is_over(self, holder: Owner) -> bool:
        """Return whether `holder`, which was refused for just now, is to be passed over."""
        now = self._clock()
        if holder != self._holder:
            self._holder = holder
            self._ran = self._looked = now
            return False
        if now - self._looked < self._seconds / _LOOKS and now - self._ran < self._seconds:
            return False
        self._looked = now
        state = holder.state()
        if state == "runs":
            self._ran = now
        return now - self._ran >= self._seconds * (_UNSEEN if state == "unknown" else 1)
