"""What a fingerprint looked at, to notice when it is replaced."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any, Final

from persicache.keys.outline import MISSING, contents, is_small, outline

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Mapping

__all__ = ["Watch"]

_ATOMS: Final = frozenset({str, bytes, int, float, complex, bool, type(None)})


class Watch:
    """Remembers what was found where.

    Examples
    --------
    >>> watch, namespace = Watch(), {"rate": 2}
    >>> watch.look_up(namespace, "rate"), watch.is_current()
    (2, True)
    >>> namespace["rate"] = 3
    >>> watch.is_current()
    False
    """

    __slots__ = ("_cells", "_functions", "_lookups", "_values")

    def __init__(self) -> None:
        # By dictionary and name: many functions look up the same.
        self._lookups: dict[tuple[int, str], tuple[Callable[..., object], str, object]] = {}
        self._functions: list[tuple[types.FunctionType, object, object, object]] = []
        self._cells: list[tuple[types.CellType, object]] = []
        self._values: list[tuple[Any, tuple[object, ...], bytes]] = []

    def look_up(self, namespace: Mapping[str, object], name: str) -> object:
        """Look up a name, and remember what was found, or that nothing was."""
        found = namespace.get(name, MISSING)
        self._lookups[id(namespace), name] = (namespace.get, name, found)
        return found

    def function(self, function: types.FunctionType) -> None:
        """Remember a function's code and defaults, which can be replaced within it."""
        state = (function.__code__, function.__defaults__, function.__kwdefaults__)
        self._functions.append((function, *state))

    def cell(self, cell: types.CellType) -> object:
        """Return what a closure's cell holds, and remember it."""
        found = contents(cell)
        self._cells.append((cell, found))
        return found

    def value(self, value: object) -> None:
        """Remember what is in a list, dict or set, if it is small."""
        if is_small(value):
            self._values.append((value, _items(value), outline(value)))

    def is_current(self) -> bool:
        """Whether all that was remembered is still so. Quick: for every call."""
        for get, name, found in self._lookups.values():
            if get(name, MISSING) is not found:
                return False
        for function, code, defaults, kwdefaults in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not kwdefaults
            ):
                return False
        for cell, found in self._cells:
            if contents(cell) is not found:
                return False
        return not self._values or self._are_values_current()

    def _are_values_current(self) -> bool:
        for value, items, outlined in self._values:
            try:
                now = _items(value)
            except RuntimeError:
                # Another thread changes it just now.
                return False
            # The same immutable objects, and else, at length, objects that mean the same.
            is_same = (
                len(now) == len(items) and all(map(is_, now, items)) and _ATOMS.issuperset(map(type, now))
            )
            if not is_same and outline(value) != outlined:
                return False
        return True


def _items(value: Any) -> tuple[object, ...]:
    return (*value.keys(), *value.values()) if isinstance(value, dict) else tuple(value)
