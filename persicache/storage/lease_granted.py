"""Leases where nobody can be kept out: `GrantedLeases`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

from collections.abc import Generator

from persicache.storage.names import check_name

__all__ = ["GrantedLease", "GrantedLeases"]


class GrantedLease:
    """A lease that others may have, too."""

    is_lost = False

    def release(self) -> None:
        """Leave it to whoever has it."""


class GrantedLeases:
    """Grants every lease at once, since the place can't tell who was first.

    Examples
    --------
    >>> try:
    ...     next(GrantedLeases().tries("a"))
    ... except StopIteration as granted:
    ...     granted.value.is_lost
    False
    """

    def tries(self, name: str) -> Generator[float, None, GrantedLease]:
        check_name(name)
        yield from ()
        return GrantedLease()
