"""The room that copies have, and who leaves when there is none: `Room`."""

from __future__ import annotations

from collections.abc import Iterator

from persicache.eviction import LRU, Policy

__all__ = ["Room"]


class Room:
    """Adds up sizes of named things, and says which are to go so that a limit is kept.

    Its owner calls it under a lock.

    Parameters
    ----------
    limit_nbytes : int
        The most that all together may take.
    policy : Policy, optional
        Who goes first; by default who was used least recently.

    Examples
    --------
    >>> room = Room(100)
    >>> room.take("a", 40), room.take("b", 50), room.take("c", 60)
    ([], [], ['a', 'b'])
    """

    def __init__(self, limit_nbytes: int, *, policy: Policy | None = None) -> None:
        self.limit_nbytes = limit_nbytes
        self._policy: Policy = LRU() if policy is None else policy
        self._nbytes: dict[str, int] = {}
        self._used_nbytes = 0

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._nbytes))

    def nbytes(self, name: str) -> int | None:
        """Return how much `name` takes, None if it isn't there."""
        return self._nbytes.get(name)

    def fits(self, nbytes: int) -> bool:
        """Return whether there is room for so much, if all else goes."""
        return nbytes <= self.limit_nbytes

    def take(self, name: str, nbytes: int) -> list[str]:
        """Count `name`, which fits; return who has to go for it."""
        self.leave(name)
        victims = []
        while self._used_nbytes + nbytes > self.limit_nbytes:
            victim = str(self._policy.victim())
            self.leave(victim)
            victims.append(victim)
        self._policy.add(name, nbytes=nbytes)
        self._nbytes[name] = nbytes
        self._used_nbytes += nbytes
        return victims

    def touch(self, name: str) -> None:
        """Note that `name`, if it is there, was used."""
        if name in self._nbytes:
            self._policy.touch(name)

    def leave(self, name: str) -> None:
        """Count `name` no longer, if it is there."""
        nbytes = self._nbytes.pop(name, None)
        if nbytes is not None:
            self._policy.remove(name)
            self._used_nbytes -= nbytes
