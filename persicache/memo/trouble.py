"""What goes wrong with a store, raised or told once, and the pause after it: `Trouble`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from persicache.errors import (
    BackendError,
    BlobNotFound,
    CorruptEntry,
    UnloadableValue,
    UntrustedPickle,
)
from persicache.mappings.warn import warn_caller
from persicache.memo.results import Expired
from persicache.memo.settings import Settings
from persicache.memo.stats import Counters
from persicache.storage import ABSENT, ANY, Expectation, Version

__all__ = ["TROUBLES", "Trouble"]

#: What can go wrong with looking up a result, a miss included.
TROUBLES: Final = (BlobNotFound, CorruptEntry, UnloadableValue, BackendError, UntrustedPickle)
#: After trouble that took longer, the store is left alone for PAUSE_RATIO times as long.
SLOW_SECONDS: Final = 1.0
PAUSE_RATIO: Final = 10.0


class Trouble:
    """What a memoized function does when its store fails it.

    Parameters
    ----------
    settings : Settings
        Whether to raise or to warn.
    counters : Counters
        Count it.
    label : str
        What the results are filed under.
    clock : callable
        Returns seconds.

    Attributes
    ----------
    paused_until : float
        Before the clock says that, the store is left alone.
    """

    def __init__(
        self, settings: Settings, counters: Counters, *, label: str, clock: Callable[[], float]
    ) -> None:
        self._on_error = settings.on_error
        self._counters = counters
        self._label = label
        self._clock = clock
        self._warned: set[str] = set()
        self.paused_until = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether the store is left alone now."""
        return self._clock() < self.paused_until

    def missed(self, error: Exception, start: float) -> Expectation | Version:
        """Tell of trouble with looking up a result since `start`; return what to expect in its place."""
        if isinstance(error, Expired):
            return error.version
        if isinstance(error, (CorruptEntry, UnloadableValue)):
            # Not what on_error= is about: the entry is replaced, and the trouble is over.
            self._counters.error()
            warn_caller(f"{self._label} computes again, because {error}")
            return ANY
        if not isinstance(error, BlobNotFound):
            self.tell(error, f"{self._label} could not look up a result: {error}", start)
        return ABSENT

    def tell(self, error: Exception, message: str, start: float) -> None:
        """Raise what went wrong since `start`, or warn once a kind: trouble with a place tends to stay."""
        self._counters.error()
        if self._on_error == "raise":
            raise error
        now = self._clock()
        if now - start > SLOW_SECONDS:
            # A place that nobody answers for takes many seconds to say so, in every call.
            self.paused_until = now + PAUSE_RATIO * (now - start)
        self.warn_once(type(error).__name__, message)

    def warn_once(self, kind: str, message: str) -> None:
        """Warn, unless that was done for this kind before."""
        if kind not in self._warned:
            self._warned.add(kind)
            warn_caller(message)
