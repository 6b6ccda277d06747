"""What a SpillDict knows of one key: `Item`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from persicache.mappings.spill_place import Copy

__all__ = ["NOWHERE", "Item"]

#: In the stead of a value that is not in memory.
NOWHERE: Final = object()


@dataclass(slots=True, eq=False)
class Item:
    """A key's value, in memory, in a copy, or in both; never in neither.

    Parameters
    ----------
    key : hashable
        The key.
    value : Any
        Its value, or NOWHERE.
    weight : int, default 0
        What the value weighs, or weighed when it was in memory last.
    copy : Copy, optional
        What there is in the place.
    is_clean : bool, default False
        Whether the copy is of this value, not of one that it has replaced.
    is_pinned : bool, default False
        Whether the value stays in memory, since it can't be stored.
    is_told : bool, default False
        Whether that was said.
    is_leaving : bool, default False
        Whether the value is on its way out of memory.
    cost_seconds : float, default 0
        What it takes to have the value back.
    passing : Any, default NOWHERE
        The value, while who has read it sees whether there is room for it in memory.
    """

    key: Hashable
    value: Any = NOWHERE
    weight: int = 0
    copy: Copy | None = None
    is_clean: bool = False
    is_pinned: bool = False
    is_told: bool = False
    is_leaving: bool = False
    cost_seconds: float = 0.0
    passing: Any = NOWHERE

    @property
    def is_in_memory(self) -> bool:
        """Whether the value is in memory."""
        return self.value is not NOWHERE
