"""Who has taken a key of a SpillDict: `Holder`."""

from __future__ import annotations

import sys
from types import FrameType
from typing import NamedTuple, Self

__all__ = ["Holder"]


class Holder(NamedTuple):
    """A thread, in one call.

    Attributes
    ----------
    thread : int
        The thread.
    frame : FrameType
        That of the call. Not the thread alone: a hook calls the dictionary in it again, and an
        interrupt ends the call, not the thread.
    """

    thread: int
    frame: FrameType

    @classmethod
    def above(cls, thread: int) -> Self:
        """Return as what a thread, this one, called the method that asks."""
        return cls(thread, sys._getframe(2))  # noqa: SLF001 - there is no other way

    def is_at_it(self, frame: FrameType | None) -> bool:
        """Return whether the call has not ended, of a thread that is in this frame."""
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None
