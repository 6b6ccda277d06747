"""The code of functions and classes that are arguments, or whose instances are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from persicache.keys.code import Fingerprint, fingerprint
from persicache.keys.origins import is_user_module
from persicache.keys.reached import Reached

if TYPE_CHECKING:
    from persicache.keys.writers import Seen

__all__ = ["code_of", "write_class"]

# Fingerprints of what was written last, by id, with what keeps the id its own.
_recent: Final[dict[int, tuple[object, Fingerprint]]] = {}
_MAX_RECENT: Final = 256


def code_of(value: Any, *, is_value: bool = False) -> bytes:
    """Digest a function or class by its code.

    Parameters
    ----------
    value : function or class
        Anything that has a fingerprint.
    is_value : bool, default False
        Whether it is an argument itself, so that all that it holds counts as it is now; else
        as much of it is looked at as of a function before its call.
    """
    _, code = _recent.get(id(value), (None, None))
    if code is not None and (code.is_complete or not is_value) and code.is_current():
        return code.digest
    code = fingerprint(value)
    # A closure over large things isn't kept, nor are they.
    if code.is_complete or not is_value:
        if len(_recent) >= _MAX_RECENT:
            _recent.clear()
        _recent[id(value)] = (value, code)
    return code.digest


def write_class(out: bytearray, cls: type, seen: Seen) -> None:
    """Append what an object's class does: of the user's classes the code."""
    if type(seen) is Reached:
        # Of a library's, its version.
        seen.noted.append(cls)
    elif is_user_module(str(cls.__module__)):
        out += code_of(cls)
