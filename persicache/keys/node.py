"""One thing that code reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persicache.keys.writers import seal

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Node"]


class Node:
    """A thing that was reached: its own bytes, and what it refers to.

    Parameters
    ----------
    label : str
        What a description calls it; nothing if empty. It doesn't count.
    keep : object
        What the graph knows by its id, which must not be reused while it grows.
    """

    __slots__ = ("keep", "label", "own", "references")

    def __init__(self, label: str, keep: object) -> None:
        self.label = label
        self.keep = keep
        self.own = bytearray()
        self.references: list[tuple[str, Hashable]] = []

    def digest(self) -> bytes:
        """Digest the own bytes."""
        return seal(self.own)
