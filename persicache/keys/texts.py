"""The full text of a key: injective, canonical, ASCII, and of any length.

The items of a tuple are joined by ``/``. A tuple inside a tuple is ``(a,b)`` within its
component; a tuple of one is ``=g`` and its item; the empty one is ``=h``. A dot stands for
itself in the last component only, so that no directory can be taken for a file.
"""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Final

from persicache.errors import UnencodableKey
from persicache.keys.atoms import decode_atom, encode_atom

if TYPE_CHECKING:
    from persicache.keys.atoms import Key

__all__ = ["decode_text", "encode_text", "is_plain", "text_components"]

# Beside identifiers, which need no regular expression.
_PLAIN: Final = re.compile(
    r"(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z))[a-z0-9_][a-z0-9_.-]{0,159}", re.ASCII
)
_MAX_PLAIN: Final = 160

_RESERVED: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
)

_TOKENS: Final = re.compile(r"[(),]|[^(),]+")

# Nobody nests keys so deep; what does is a cycle or an attack on the stack.
_MAX_DEPTH: Final = 50


def is_plain(key: str) -> bool:
    """Whether a str is its own text and short: nearly all keys are, so this is quick.

    Examples
    --------
    >>> is_plain("mean_of_2024"), is_plain("v1.2-rc"), is_plain("Mean"), is_plain("con.txt")
    (True, True, False, False)
    """
    if len(key) > _MAX_PLAIN:
        return False
    if key.isidentifier() and key.islower() and key.isascii():
        return key not in _RESERVED
    return _PLAIN.fullmatch(key) is not None


def encode_text(key: Key) -> str:
    """Write a key as text from which it can be read back.

    Parameters
    ----------
    key : Key
        Any key.

    Raises
    ------
    UnencodableKey
        If a part of it is of another type, or it is nested more than 50 deep.

    Examples
    --------
    >>> encode_text(("runs", 7, ("a", "b"), "Loss.v2"))
    'runs/=i7/(a,b)/!loss.v2'
    """
    return "/".join(text_components(key))


def text_components(key: Key) -> list[str]:
    """Write a key as the components of its text."""
    if type(key) is not tuple and type(key) is not list:
        return [encode_atom(key)]
    components = [_component(item, (key,)) for item in key]
    if not components:
        return ["=h"]
    if len(components) == 1:
        return ["=g" + components[0]]
    components[:-1] = [component.replace(".", "=2e") for component in components[:-1]]
    return components


def decode_text(text: str, *, import_modules: bool = False) -> Key:
    """Read the key that a text was written from.

    Parameters
    ----------
    text : str
        What `encode_text` gave.
    import_modules : bool, default False
        Whether the module of an enum may be imported to find a member. Imports run code.

    Returns
    -------
    Key
        The key, with tuples for lists.

    Raises
    ------
    ValueError
        If `encode_text` writes this text for no key.
    UnencodableKey
        If it names an enum member or time zone that isn't known in this process.

    Examples
    --------
    >>> decode_text("runs/=i7/(a,b)/!loss.v2")
    ('runs', 7, ('a', 'b'), 'Loss.v2')
    """
    if is_plain(text):
        return text
    try:
        key = _decode(text, import_modules=import_modules)
        # Anything else that reads as this key would be a second name for it.
        is_canonical = encode_text(key) == text
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:200]!r} is not how a key is written: {error}") from error
    if not is_canonical:
        raise ValueError(f"{text[:200]!r} is not how a key is written")
    return key


def _component(item: Key, parents: tuple[object, ...]) -> str:
    if type(item) is not tuple and type(item) is not list:
        return encode_atom(item)
    if len(parents) > _MAX_DEPTH or any(item is parent for parent in parents):
        # reprlib looks a few levels deep only: the plain repr would exhaust the stack.
        raise UnencodableKey(key=reprlib.repr(item), reason="it is nested too deep, or contains itself")
    inner = (*parents, item)
    return "(" + ",".join([_component(part, inner) for part in item]) + ")"


def _decode(text: str, *, import_modules: bool) -> Key:
    if text == "=h":
        return ()
    if "/" in text:
        return tuple(_read(part, import_modules=import_modules) for part in text.split("/"))
    if text[:2] == "=g":
        return (_read(text[2:], import_modules=import_modules),)
    return decode_atom(text, import_modules=import_modules)


def _read(component: str, *, import_modules: bool) -> Key:
    if component[:1] != "(":
        return decode_atom(component, import_modules=import_modules)
    root: list[Key] = []
    stack = [root]
    for part in _TOKENS.findall(component):
        if part == "(":
            if len(stack) > _MAX_DEPTH:
                raise ValueError("it is nested too deep")
            stack.append([])
        elif part == ")" and len(stack) > 1:
            done = tuple(stack.pop())
            stack[-1].append(done)
        elif part not in {",", ")"}:
            stack[-1].append(decode_atom(part, import_modules=import_modules))
    if len(stack) != 1 or len(root) != 1:
        raise ValueError("its brackets are unbalanced")
    return root[0]
