"""Flat tuples of strings that are safe in URLs and file names: persidict's keys."""

from __future__ import annotations

import string
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias

__all__ = [
    "NonEmptyPersiDictKey",
    "NonEmptySafeStrTuple",
    "PersiDictKey",
    "SafeStrTuple",
    "get_safe_chars",
    "replace_unsafe_chars",
]

_SAFE: Final = frozenset(string.ascii_letters + string.digits + "()_-~.=")
_MOST_CHARS: Final = 253


def get_safe_chars() -> set[str]:
    """Return the characters that a key may have."""
    return set(_SAFE)


def replace_unsafe_chars(a_str: str, replace_with: str) -> str:
    """Return a text with every other character replaced.

    Examples
    --------
    >>> replace_unsafe_chars("a/b c", "_")
    'a_b_c'
    """
    return "".join(char if char in _SAFE else replace_with for char in a_str)


class SafeStrTuple(Sequence[str], Hashable):
    """Strings of safe characters, out of strings and sequences nested in any way.

    Raises
    ------
    ValueError
        If a string is empty, longer than 253 characters, ``.`` or ``..``, or has an unsafe character.
    TypeError
        If an argument is neither a string nor a sequence.

    Examples
    --------
    >>> SafeStrTuple("a", ["b", ("c",)]) + "d"
    SafeStrTuple(('a', 'b', 'c', 'd'))
    """

    strings: tuple[str, ...]

    def __init__(self, *args: Any) -> None:
        found: list[str] = []
        for arg in args:
            if isinstance(arg, str):
                found.append(_checked(arg))
            elif isinstance(arg, SafeStrTuple):
                found.extend(arg.strings)
            elif isinstance(arg, Mapping) or not all(
                hasattr(arg, f"__{it}__") for it in ("getitem", "len")
            ):
                raise TypeError(f"a key is made of strings and sequences of them, not {type(arg).__name__}")
            else:
                found.extend(SafeStrTuple(*arg).strings)
        self.strings = tuple(found)

    @property
    def str_chain(self) -> tuple[str, ...]:
        """The strings, by their name of old."""
        return self.strings

    def __getitem__(self, index: Any) -> Any:
        return self.strings[index]

    def __len__(self) -> int:
        return len(self.strings)

    def __iter__(self) -> Iterator[str]:
        return iter(self.strings)

    def __hash__(self) -> int:
        return hash(self.strings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.strings})"

    def __eq__(self, other: object) -> bool:
        try:
            return self.strings == SafeStrTuple(other).strings
        except (TypeError, ValueError):
            return NotImplemented

    def __add__(self, other: Any) -> SafeStrTuple:
        return SafeStrTuple(self, other)

    def __radd__(self, other: Any) -> SafeStrTuple:
        return SafeStrTuple(other, self)

    def __reversed__(self) -> SafeStrTuple:  # type: ignore[override]  # as persidict has it
        return SafeStrTuple(*self.strings[::-1])

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class NonEmptySafeStrTuple(SafeStrTuple):
    """A `SafeStrTuple` of at least one string: what every key is made into."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if not self.strings:
            raise ValueError("a key has at least one string")


def _checked(part: str) -> str:
    if not part or part in {".", ".."} or len(part) > _MOST_CHARS or not _SAFE.issuperset(part):
        raise ValueError(
            f"{part!r} can't be part of a key: parts are 1 to {_MOST_CHARS} letters, digits and ()_-~.=, "
            "and neither '.' nor '..'; replace_unsafe_chars makes such"
        )
    return part


#: What stands for a prefix: it may be empty.
PersiDictKey: TypeAlias = SafeStrTuple | Sequence[str] | str
#: What stands for an item.
NonEmptyPersiDictKey: TypeAlias = NonEmptySafeStrTuple | Sequence[str] | str
