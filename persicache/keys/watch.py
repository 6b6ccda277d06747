"""What a fingerprint looked at, to notice when it is replaced."""

from __future__ import annotations

import datetime as dt
import re
import types
import uuid
from collections import deque
from decimal import Decimal
from fractions import Fraction
from operator import is_
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import TYPE_CHECKING, Any, Final

from persicache.keys.origins import is_user_module

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

__all__ = ["MISSING", "Watch", "contents"]

#: What was looked up and isn't there.
MISSING: Final = object()

_ATOMS: Final = frozenset(
    {
        *(str, bytes, int, float, complex, bool, range, type(None), type(...)),
        *(Decimal, Fraction, uuid.UUID, re.Pattern, dt.date, dt.datetime, dt.time, dt.timedelta),
        *(PosixPath, PurePosixPath, PureWindowsPath, WindowsPath),
    }
)

# These are looked at on their own.
_NODES: Final = (types.FunctionType, types.ModuleType, type)

# As many items of a container, and of what lies in it, are compared before every call.
_SMALL: Final = 256


class Watch:
    """Remembers what was found where.

    Parameters
    ----------
    only_atoms : bool, default False
        Whether containers of objects are left alone.

    Attributes
    ----------
    is_complete : bool
        Whether any change would be noticed: nothing large was met, and no library's object.

    Examples
    --------
    >>> watch, namespace = Watch(), {"rate": 2}
    >>> found = watch.look_up(namespace, "rate")
    >>> watch.settle()
    >>> watch.is_current()
    True
    >>> namespace["rate"] = 3
    >>> watch.is_current()
    False
    """

    __slots__ = (
        *("_all_functions", "_all_items", "_all_lookups", "_all_sizes"),
        *("_cells", "_functions", "_items", "_keyword_only", "_lookups", "_only_atoms", "_sizes"),
        *("_is_plain", "is_complete"),
    )

    def __init__(self, *, only_atoms: bool = False) -> None:
        self.is_complete = True
        self._only_atoms = only_atoms
        # By owner and name: many functions look up the same.
        self._lookups: dict[Hashable, tuple[Callable[..., object], str, object]] = {}
        self._functions: list[tuple[types.FunctionType, object, object, Mapping[str, object], int]] = []
        self._keyword_only: list[tuple[types.FunctionType, object]] = []
        self._cells: list[tuple[types.CellType, object]] = []
        self._sizes: list[Mapping[str, object]] = []
        self._items: dict[int, tuple[Any, int, tuple[object, ...], tuple[object, ...] | None]] = {}

    def look_up(self, namespace: Mapping[str, object], name: str, *, owner: object = None) -> object:
        """Look up a name, and remember what was found, or that nothing was."""
        found = namespace.get(name, MISSING)
        key = id(namespace if owner is None else owner), name
        self._lookups[key] = (namespace.get, name, found)
        return found

    def forget(self, key: Hashable) -> None:
        """Look no more at what has this owner's id and this name."""
        self._lookups.pop(key, None)

    def size(self, namespace: Mapping[str, object]) -> None:
        """Remember how many names there are."""
        self._sizes.append(namespace)

    def function(self, function: types.FunctionType) -> None:
        """Remember a function's code and defaults, which can be replaced within it, and its attributes."""
        code, attributes = function.__code__, function.__dict__
        self._functions.append((function, code, function.__defaults__, attributes, len(attributes)))
        if code.co_kwonlyargcount:
            # For other code they mean nothing, and each look at a function costs as much as a global.
            self._keyword_only.append((function, function.__kwdefaults__))

    def cell(self, cell: types.CellType) -> object:
        """Return what a closure's cell holds, and remember it."""
        found = contents(cell)
        self._cells.append((cell, found))
        return found

    def value(self, value: object) -> None:
        """Remember what is in a container, and in those in it, as far as they are small."""
        budget, pending = _SMALL, [value]
        found: dict[int, Any] = {}
        while pending:
            item: Any = pending.pop()
            cls = type(item)
            if cls in _ATOMS or issubclass(cls, _NODES) or id(item) in self._items or id(item) in found:
                continue
            is_mutable = issubclass(cls, dict | list | set | bytearray | deque)
            if not is_mutable and cls is not tuple and cls is not frozenset:
                # An object of the user's has a node of its own, and is watched there.
                self.is_complete = self.is_complete and is_user_module(str(cls.__module__))
                if self._only_atoms:
                    return
                continue
            budget -= 1 + len(item)
            if budget < 0:
                self.is_complete = False
                break
            parts = _remember(item)
            if is_mutable:
                found[id(item)] = parts
            pending.extend(parts[2])
            pending.extend(parts[3] or ())
        self._items.update(found)

    def settle(self) -> None:
        """End the walk. What it has added itself, such as a class's list of its slots, was there."""
        # Tuples: this is gone through before every call.
        self._all_lookups = tuple(self._lookups.values())
        self._all_functions = tuple(self._functions)
        self._all_sizes = tuple((namespace, len(namespace)) for namespace in self._sizes)
        self._all_items = tuple(self._items.values())
        self._is_plain = not (self._keyword_only or self._cells or self._sizes or self._items)

    def is_current(self) -> bool:
        """Whether all that was remembered is still so. Quick: for every call."""
        for get, name, found in self._all_lookups:
            if get(name, MISSING) is not found:
                return False
        for function, code, defaults, attributes, size in self._all_functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or len(attributes) != size
            ):
                return False
        return self._is_plain or self._is_rest_current()

    def _is_rest_current(self) -> bool:
        for function, kwdefaults in self._keyword_only:
            if function.__kwdefaults__ is not kwdefaults:
                return False
        for cell, found in self._cells:
            if contents(cell) is not found:
                return False
        for namespace, size in self._all_sizes:
            if len(namespace) != size:
                return False
        try:
            for value, count, items, values in self._all_items:
                if len(value) != count or not all(map(is_, value, items)):
                    return False
                if values is not None and not all(map(is_, value.values(), values)):
                    return False
        except Exception:  # noqa: BLE001 - another thread changes it just now, or it is the user's own
            return False
        return True


def _remember(value: Any) -> tuple[Any, int, tuple[object, ...], tuple[object, ...] | None]:
    items = tuple(value)
    return value, len(items), items, tuple(value.values()) if issubclass(type(value), dict) else None


def contents(cell: types.CellType) -> object:
    """Return what a closure's cell holds, or MISSING."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING
