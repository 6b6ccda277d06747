"""A look at what a SpillDict has in memory: `Live`."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from persicache.mappings.spill_item import NOWHERE
from persicache.mappings.spilldict import SpillDict

__all__ = ["Live"]


class Live(Mapping[Any, Any]):
    """The values that a SpillDict has in memory now, the first to be set first.

    To look at them is no use of them: it changes nothing of who leaves first.

    Parameters
    ----------
    values : SpillDict
        Whose.

    Examples
    --------
    >>> with SpillDict({"a": 1, "b": 2}) as values:
    ...     live = Live(values)
    ...     values.spill("a")
    ...     live
    True
    {'b': 2}
    """

    def __init__(self, values: SpillDict[Any]) -> None:
        self._values = values

    def __repr__(self) -> str:
        return repr(dict(self))

    def __getitem__(self, key: Hashable) -> Any:
        value = self._values._items[key].value  # noqa: SLF001 - of this room
        if value is NOWHERE:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[Any]:
        keys = self._values.in_memory
        return iter([key for key in self._values if key in keys])

    def __len__(self) -> int:
        return len(self._values.in_memory)
