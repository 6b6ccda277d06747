"""The digest of a constant that code refers to: by value, or by type if it has none."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Final

from persicache.keys.writers import Reached, Trouble, class_name, seal, write

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MISSING", "contents", "is_small", "outline"]

#: What was looked up and isn't there.
MISSING: Final = object()

# As many items are digested again before every call.
_SMALL: Final = 256


def outline(value: object, note: Callable[[object], None] = lambda _: None) -> bytes:
    """Digest a constant; functions and classes in it are noted and count by name and bytecode."""
    out = bytearray()
    try:
        write(out, value, Reached(note))
    except (Trouble, RuntimeError):
        # RuntimeError: nested too deep, or another thread changes it just now.
        return f"?{class_name(type(value))}".encode()
    return seal(out)


def is_small(value: object) -> bool:
    """Whether a list, dict or set is so small that it can be looked at before every call.

    Examples
    --------
    >>> is_small({"a": [1, 2]}), is_small([object()]), is_small(list(range(1000))), is_small((1, 2))
    (True, False, False, False)
    """
    return isinstance(value, list | dict | set | bytearray) and _count(value, _SMALL) <= _SMALL


def _count(value: object, most: int) -> int:
    if value is None or isinstance(value, str | bytes | bytearray | int | float | complex):
        return 1
    if not isinstance(value, list | tuple | dict | set | frozenset) or len(value) > most:
        return most + 1
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
    count = 1
    for item in items:
        if count > most:
            break
        # Whatever contains itself runs out of budget too.
        count += _count(item, most - count)
    return count


def contents(cell: types.CellType) -> object:
    """Return what a closure's cell holds, or MISSING."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING
