"""The bytes of a value that code refers to, and what in it is to be followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persicache.keys.reached import Reached
from persicache.keys.writers import seal, write_leniently

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from persicache.keys.reached import Parts

__all__ = ["outline"]


def outline(
    value: object, *, subject: object = None, without: AbstractSet[str] = frozenset()
) -> tuple[bytes, Parts]:
    """Digest a value; functions, classes and the user's objects in it are noted instead.

    Parameters
    ----------
    value : object
        Anything. What can't be digested counts by its type.
    subject : object, optional
        An object of the user's that is to be looked into, and not noted.
    without : set of str, optional
        Attributes of the subject that don't count.
    """
    out, seen = bytearray(), Reached(subject, without=without)
    write_leniently(out, value, seen)
    return seal(out), seen.noted
