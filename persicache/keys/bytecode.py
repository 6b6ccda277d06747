"""What a code object does, without where it stands: its instructions, and the names they look up.

Constants are written where they are loaded, not by their index, so that a docstring, which
takes the first place among them, changes nothing. Line numbers and file names stay out.
"""

from __future__ import annotations

import bisect
import dis
import itertools
import types
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from persicache.keys.writers import class_name, write, write_text, writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persicache.keys.writers import Seen

__all__ = ["Lookup", "instructions", "lookups", "names", "write_outline"]

_EXTENDED: Final = dis.EXTENDED_ARG
_CONSTANT: Final = frozenset(dis.hasconst)
_GLOBAL: Final = dis.opmap["LOAD_GLOBAL"]
_NAMED: Final = frozenset(
    dis.opmap[name] for name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS") if name in dis.opmap
)
_ATTRIBUTE: Final = dis.opmap["LOAD_ATTR"]
_METHOD: Final = dis.opmap.get("LOAD_METHOD", -1)
_IMPORT: Final = dis.opmap["IMPORT_NAME"]
_IMPORT_FROM: Final = dis.opmap["IMPORT_FROM"]
_STORE_NAME: Final = dis.opmap["STORE_NAME"]
_NOP: Final = dis.opmap["NOP"]
_JUMPS: Final = frozenset(dis.hasjrel)
_BACK: Final = frozenset(operation for operation in dis.hasjrel if "BACKWARD" in dis.opname[operation])
_SMALL_INT: Final = dis.opmap.get("LOAD_SMALL_INT", -1)
# From Python 3.12 on the lowest bit of LOAD_ATTR's argument tells a method from an attribute.
_ATTRIBUTE_SHIFT: Final = 0 if _METHOD >= 0 else 1
# Whether there is a docstring is among the flags from Python 3.13 on.
_FLAGS: Final = ~0x4000000


class Lookup(NamedTuple):
    """A name that a function looks up outside itself, and the attributes that it goes on to.

    Attributes
    ----------
    names : tuple of str
        ``("np", "linalg", "norm")`` for ``np.linalg.norm``.
    level : int
        Below 0 for a global; else the first name is a module that the function imports, the
        second, if any, is imported from it, and this is the number of dots before it.
    """

    names: tuple[str, ...]
    level: int = -1


def instructions(code: types.CodeType) -> Iterator[tuple[int, int]]:
    """Yield operations with their arguments, without caches and the like."""
    return ((operation, argument) for _, operation, argument in _placed(code))


def _placed(code: types.CodeType) -> Iterator[tuple[int, int, int]]:
    # dis.get_instructions takes ten times as long: it works out lines and positions too.
    extended = 0
    raw = code.co_code
    for position in range(0, len(raw), 2):
        operation, argument = raw[position], raw[position + 1] | extended
        if operation == _EXTENDED:
            extended = argument << 8
            continue
        extended = 0
        if operation:  # 0 is an inline cache.
            yield position // 2, operation, argument


@writes(types.CodeType)
def _write_code(out: bytearray, code: types.CodeType, seen: Seen) -> None:
    flags = code.co_flags & _FLAGS
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, flags)
    write(out, (*counts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars), seen)
    idle = [place for place, operation, _ in _placed(code) if operation == _NOP]
    write(out, _exceptions(code, idle), seen)
    steps = [step for step in _placed(code) if step[1] != _NOP]
    for (place, operation, argument), (_, *after) in itertools.pairwise([*steps, (0, 0, 0)]):
        if operation in _CONSTANT:
            out += b"%x=" % operation
            if not _is_incidental(code, *after):
                write(out, code.co_consts[argument], seen)
        else:
            out += b"%x,%x " % (operation, _without(idle, place, operation, argument))
    out += b";"


def _is_incidental(code: types.CodeType, operation: int, argument: int) -> bool:
    # In a class's body.
    return operation == _STORE_NAME and code.co_names[argument] in {"__doc__", "__firstlineno__"}


def _without(idle: list[int], place: int, operation: int, argument: int) -> int:
    """Shorten a jump by the operations in between that do nothing, which depend on the layout."""
    if not idle or operation not in _JUMPS:
        return argument
    target = place + 1 - argument if operation in _BACK else place + 1 + argument
    return argument - abs(bisect.bisect_left(idle, target) - bisect.bisect_left(idle, place + 1))


def _exceptions(code: types.CodeType, idle: list[int]) -> list[tuple[Any, ...]]:
    if not code.co_exceptiontable:
        return []
    entries: list[Any] = dis._parse_exception_table(code)  # type: ignore[attr-defined]  # noqa: SLF001 - from 3.11 to 3.14
    found = []
    for entry in entries:
        places = (at // 2 for at in (entry.start, entry.end, entry.target))
        moved = [place - bisect.bisect_left(idle, place) for place in places]
        found.append((*moved, entry.depth, bool(entry.lasti)))
    return found


def lookups(code: types.CodeType) -> set[Lookup]:
    """Find what a function looks up outside itself, nested functions included."""
    found = _globals(code) | _imports(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= lookups(constant)
    return found


def names(code: types.CodeType) -> set[str]:
    """Return all names of globals and attributes in a code object, nested functions included."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= names(constant)
    return found


def _globals(code: types.CodeType) -> set[Lookup]:
    found = set()
    chain: tuple[str, ...] = ()
    for operation, argument in instructions(code):
        if chain and operation == _ATTRIBUTE:
            chain = (*chain, code.co_names[argument >> _ATTRIBUTE_SHIFT])
        elif chain and operation == _METHOD:
            chain = (*chain, code.co_names[argument])
        else:
            found.add(Lookup(chain))
            chain = ()
            if operation == _GLOBAL:
                chain = (code.co_names[argument >> 1],)
            elif operation in _NAMED:
                chain = (code.co_names[argument],)
    return found - {Lookup(())}


def _imports(code: types.CodeType) -> set[Lookup]:
    found = set()
    module, level = "", 0
    loaded: list[Any] = [0, None]
    for operation, argument in instructions(code):
        if operation == _IMPORT:
            module, level = code.co_names[argument], loaded[-2]
            if not loaded[-1]:
                found.add(Lookup((module,), level))
        elif operation == _IMPORT_FROM:
            found.add(Lookup((module, code.co_names[argument]), level))
        elif operation in _CONSTANT:
            loaded.append(code.co_consts[argument])
        elif operation == _SMALL_INT:
            loaded.append(argument)
    return found


def write_outline(out: bytearray, function: types.FunctionType, seen: Seen) -> None:
    """Append a function's name and bytecode, without what it refers to."""
    write_text(out, b"u", class_name(function))
    write(out, function.__code__, seen)
