"""What a walk over a value sets aside, for the graph of code to follow on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

__all__ = ["Alike", "Parts", "Reached"]

# Containers deeper than this are set aside too, so that no stack decides what is written.
_MAX_DEPTH = 20


class Parts(list[Any]):
    """What was set aside in one container, in its order."""


class Alike(list[Parts]):
    """The parts of several members of a set that are written alike: nothing tells their order."""


class Reached(dict[int, Any]):
    """The containers that a walk has seen, with what it set aside: functions, classes, objects.

    Parameters
    ----------
    subject : object, optional
        The object that is walked over, which is not to be set aside.
    without : set of str, optional
        Attributes of it that don't count.

    Attributes
    ----------
    noted : Parts
        What was set aside, in the order in which it was met.
    """

    def __init__(self, subject: object = None, *, without: AbstractSet[str] = frozenset()) -> None:
        super().__init__()
        self.subject = subject
        self.without = without
        self.noted = Parts()
        self._open: list[tuple[int, Parts]] = []

    def set_aside(self, out: bytearray, value: object) -> None:
        """Write a mark in the place of a value, and note the value."""
        out += b"~"
        self.noted.append(value)

    def begin(self, out: bytearray, value: object) -> bool:
        """Enter a container; or write what stands for it, and say so."""
        key = id(value)
        done = self.get(key)
        if done is not None:
            out += done[0]
            self.noted += done[2]
        elif key in self or len(self._open) >= _MAX_DEPTH:
            # It contains itself, or is deep down.
            self.set_aside(out, value)
        else:
            self[key] = None
            self._open.append((key, self.noted))
            self.noted = Parts()
            return False
        return True

    def finish(self, token: bytes | None, value: object) -> None:
        """Leave a container; a token stands for it if it is met again."""
        key, outer = self._open.pop()
        if token is None:
            del self[key]
            outer += self.noted
        else:
            inner = [self.noted] if self.noted else []
            self[key] = (token, value, inner)
            outer += inner
        self.noted = outer

    def state(self) -> tuple[int, Parts, int]:
        """Return where the walk stands, for `restore`."""
        return len(self._open), self.noted, len(self.noted)

    def restore(self, state: tuple[int, Parts, int]) -> None:
        """Leave all containers that were entered since, and forget what was noted."""
        depth, self.noted, count = state
        for key, _ in self._open[depth:]:
            self.pop(key, None)
        del self._open[depth:]
        del self.noted[count:]
