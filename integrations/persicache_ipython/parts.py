"""What of a variable another one may hold, too, and would see change: `Parts`."""

from __future__ import annotations

import gc
import logging
import sys
import types
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

__all__ = ["Parts"]

#: What doesn't change, and holds nothing that does.
_ATOMS: Final = (str, bytes, int, float, complex, type(None), np.generic, np.dtype, range, type(...))
#: Through these everything is reached, and nothing is of a value's own.
_ELSEWHERE: Final = (type, types.ModuleType, types.CodeType, types.FrameType, logging.Logger)


class Parts:
    """All objects that a value reaches and that may change in place; arrays by whose memory they use.

    Parameters
    ----------
    value : object
        The value.
    outside : dict
        The notebook's variables, which aren't a part of any.

    Examples
    --------
    >>> array, inner = np.zeros(3), [1]
    >>> Parts(array).shares_with(Parts({"a": array[1:]})), Parts(inner).shares_with(Parts([(inner,)]))
    (True, True)
    >>> Parts([1, "a"]).shares_with(Parts([1, "a"]))
    False
    """

    def __init__(self, value: object, outside: dict[str, Any] | None = None) -> None:
        #: Held, as the id of what is gone is soon another's.
        self._own: dict[int, Any] = {}
        #: Within tables, which copy what they have in common before one of them changes it.
        self._in_tables: dict[int, Any] = {}
        pandas: Any = sys.modules.get("pandas")
        copies = pandas is not None and int(pandas.__version__.partition(".")[0]) >= 3  # noqa: PLR2004 - since then
        todo = [(value, False)]
        while todo:
            each, in_table = todo.pop()
            if isinstance(each, (*_ATOMS, *_ELSEWHERE)) or each is outside:
                continue
            seen = self._in_tables if in_table else self._own
            if id(each) in seen:
                continue
            inside = in_table or (copies and str(type(each).__module__).partition(".")[0] == "pandas")
            is_index = inside and isinstance(each, pandas.Index)
            (self._in_tables if is_index else seen)[id(each)] = each
            todo += [(part, inside) for part in _held(each) if not isinstance(part, _ATOMS)]

    def shares_with(self, other: Parts) -> bool:
        """Return whether a change in one may be seen in the other."""
        theirs = _changing(other._own), other._in_tables.keys()
        ours = _changing(self._own), self._in_tables.keys()
        return not (
            ours[0].isdisjoint(theirs[0])
            and ours[0].isdisjoint(theirs[1])
            and theirs[0].isdisjoint(ours[1])
        )


def _changing(parts: dict[int, Any]) -> set[int]:
    return {number for number, part in parts.items() if type(part) not in {tuple, frozenset}}


def _held(value: Any) -> Iterable[Any]:
    """Return what a value holds itself."""
    if isinstance(value, np.ndarray):
        objects = value.ravel().tolist() if value.dtype.hasobject else []
        return [*objects, value.base]
    if isinstance(value, memoryview):
        return [value.obj]
    if isinstance(value, types.FunctionType):  # not its module's variables
        return [value.__closure__, value.__defaults__, value.__kwdefaults__]
    return gc.get_referents(value)
