"""The policies by their names: `new_policy`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from persicache.eviction.gdsf import GDSF
from persicache.eviction.lfu import LFU
from persicache.eviction.lru import LRU
from persicache.eviction.policy import Policy

__all__ = ["POLICIES", "check_policy", "new_policy"]

#: The policies that an option can name.
POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {"gdsf": GDSF, "lfu": LFU, "lru": LRU}


def new_policy(name: str) -> Policy:
    """Return a policy of this name, that knows no keys yet.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> len(new_policy("lru"))
    0
    """
    check_policy(name)
    return POLICIES[name]()


def check_policy(name: object) -> None:
    """Raise ValueError unless there is a policy of this name."""
    if not isinstance(name, str) or name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}: give one of {sorted(POLICIES)}")
