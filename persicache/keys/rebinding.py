"""What code rebinds outside itself: its state, of which an edit says nothing."""

from __future__ import annotations

import dis
import functools
import re
import types
from typing import TYPE_CHECKING, Final, NamedTuple

from persicache.keys.bytecode import instructions

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Rebound", "rebound"]

_CACHE: Final = re.compile(r"cache|memo", re.IGNORECASE)
_SELF: Final = ""


class Rebound(NamedTuple):
    """What a code object rebinds, nested functions included.

    Attributes
    ----------
    names : frozenset of str
        Globals, and what is called a cache or memo and has items set.
    attributes : frozenset of tuple
        A global's name and the attribute of it that is set. The name is empty for the
        first parameter: self, or cls.
    cells : frozenset of str
        Variables of an enclosing function.
    """

    names: frozenset[str]
    attributes: frozenset[tuple[str, str]]
    cells: frozenset[str]


@functools.lru_cache(maxsize=4096)
def rebound(code: types.CodeType) -> Rebound:
    """Find what code rebinds.

    Examples
    --------
    >>> def count():
    ...     global calls
    ...     calls += 1
    >>> sorted(rebound(count.__code__).names)
    ['calls']
    >>> class Thing:
    ...     def count(self): self.calls += 1
    >>> sorted(rebound(Thing.count.__code__).attributes)
    [('', 'calls')]
    """
    names: set[str] = set()
    attributes: set[tuple[str, str]] = set()
    cells: set[str] = set()
    for part in _tree(code):
        _scan(part, names, attributes, cells)
    return Rebound(frozenset(names), frozenset(attributes), frozenset(cells))


def _tree(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _tree(constant)


def _scan(code: types.CodeType, names: set[str], attributes: set[tuple[str, str]], cells: set[str]) -> None:
    # Owner and operation of the last three instructions, and whose attributes are added to.
    recent: list[tuple[str, str | None]] = [("", None)] * 3
    added_to: dict[str, str] = {}
    for operation, argument in instructions(code):
        name = dis.opname[operation]
        if name == "LOAD_ATTR" and recent[-1][0] in {"COPY", "DUP_TOP"} and recent[-2][1] is not None:
            added_to[_attribute(code, argument)] = recent[-2][1]
        elif name in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
            names.add(code.co_names[argument])
        elif name == "STORE_DEREF":
            cells.add(code._varname_from_oparg(argument))  # type: ignore[attr-defined]  # noqa: SLF001
        elif name == "STORE_ATTR":
            attribute = code.co_names[argument]
            owner = added_to.get(attribute) if recent[-1][0] in {"SWAP", "ROT_TWO"} else recent[-1][1]
            if owner is not None:
                attributes.add((owner, attribute))
        elif name == "STORE_SUBSCR" and recent[-1][0].startswith("LOAD_"):
            owner = recent[-2][1]
            if owner and _CACHE.search(owner):
                names.add(owner)
        recent = [*recent[1:], (name, _loaded(code, name, argument))]


def _attribute(code: types.CodeType, argument: int) -> str:
    return code.co_names[argument if "LOAD_METHOD" in dis.opmap else argument >> 1]


def _loaded(code: types.CodeType, name: str, argument: int) -> str | None:
    if name == "LOAD_GLOBAL":
        return code.co_names[argument >> 1]
    if name.startswith("LOAD_FAST") and code.co_argcount:
        # Two in one from Python 3.13 on: the second is on top.
        place = argument & 15 if name.count("LOAD_FAST") > 1 else argument
        return _SELF if place == 0 else None
    return None
