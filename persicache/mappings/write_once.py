"""A dictionary whose first values stay: `WriteOnceDict`."""

from __future__ import annotations

import random
from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any, NoReturn, TypeVar

from persicache.errors import MutationPolicyError
from persicache.keys import Key, digest
from persicache.mappings.conditions import (
    DELETE_CURRENT,
    ETAG_IS_THE_SAME,
    ITEM_NOT_AVAILABLE,
    KEEP_CURRENT,
    NEVER_RETRIEVE,
)
from persicache.mappings.persidict import PersiDict

__all__ = ["WriteOnceDict"]

V = TypeVar("V")


class WriteOnceDict(MutableMapping[Any, V]):
    """Keeps the first value of each key; later ones are ignored, and checked now and then.

    For results that are the same whoever computes them: of several who store one, the first
    does, and a check finds those who don't agree.

    Parameters
    ----------
    inner : PersiDict
        Where the values lie.
    p_consistency_checks : float, default 0
        The probability, from 0 to 1, that a later value is compared with the first.
    draw : callable
        Draws from [0, 1).

    Raises
    ------
    ValueError
        If the probability is none; on setting, if a check fails.
    MutationPolicyError
        On removing anything.

    Examples
    --------
    >>> d = WriteOnceDict(PersiDict("memory://doc-once"), p_consistency_checks=1)
    >>> d["a"] = [1]
    >>> d["a"] = [1]
    >>> d["a"] = [2]
    Traceback (most recent call last):
    ValueError: key 'a' has another value already, and is written once
    >>> d["a"], d.consistency_checks_failed
    ([1], 1)
    >>> d.inner.clear()
    """

    def __init__(
        self,
        inner: PersiDict[V],
        *,
        p_consistency_checks: float = 0.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.inner = inner
        self.p_consistency_checks = p_consistency_checks
        self._draw = draw
        self.consistency_checks_attempted = 0
        self.consistency_checks_passed = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r}, p_consistency_checks={self.p_consistency_checks})"

    @property
    def p_consistency_checks(self) -> float:
        """The probability that a later value is compared with the first."""
        return self._p

    @p_consistency_checks.setter
    def p_consistency_checks(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"p_consistency_checks must be from 0 to 1, not {value!r}")
        self._p = value

    @property
    def consistency_checks_failed(self) -> int:
        """How many checks found another value."""
        return self.consistency_checks_attempted - self.consistency_checks_passed

    def __getitem__(self, key: Key) -> V:
        return self.inner[key]

    def __setitem__(self, key: Key, value: V) -> None:
        if value is KEEP_CURRENT:
            return
        if value is DELETE_CURRENT:
            del self[key]
        if not self._offer(key, value) and self._draw() < self.p_consistency_checks:
            self._compare(key, value)

    def _offer(self, key: Key, value: V) -> bool:
        """Set a key if it is absent; return whether it was."""
        made = self.inner.setdefault_if(
            key,
            default_value=value,
            condition=ETAG_IS_THE_SAME,
            expected_etag=ITEM_NOT_AVAILABLE,
            retrieve_value=NEVER_RETRIEVE,
        )
        return made.value_was_mutated

    def _compare(self, key: Key, value: V) -> None:
        self.consistency_checks_attempted += 1
        if digest(self.inner[key]) != digest(value):
            raise ValueError(f"key {key!r} has another value already, and is written once")
        self.consistency_checks_passed += 1

    def setdefault(self, key: Key, default: V = None) -> V:  # type: ignore[assignment]
        """Return the value of `key`: the default if there was none, and nobody else was faster."""
        while True:
            try:
                return self.inner[key]
            except KeyError:
                if self._offer(key, default):
                    return default

    def items(self) -> ItemsView[Any, V]:
        """Return a view of the items; going through it reads in batches."""
        return self.inner.items()

    def values(self) -> ValuesView[V]:
        """Return a view of the values; going through it reads in batches."""
        return self.inner.values()

    def __delitem__(self, key: Key) -> NoReturn:
        raise MutationPolicyError(place=repr(self), policy="write-once")

    def clear(self) -> NoReturn:
        """Refuse: MutationPolicyError."""
        raise MutationPolicyError(place=repr(self), policy="write-once")

    def __contains__(self, key: object) -> bool:
        return key in self.inner

    def __iter__(self) -> Iterator[Any]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)
