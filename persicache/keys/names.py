"""The storage name of a key: its text, made short enough for any place, and an extension.

A component of more than 160 characters keeps its head and ends in ``=x`` and 40 hex digits
of the blake3 digest of the whole; of a name of more than 512, the rest becomes one such
component. A place that meets a digested name finds the key's text in the entry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from blake3 import blake3

from persicache.errors import UnencodableKey
from persicache.keys.texts import decode_text, is_plain, text_components

if TYPE_CHECKING:
    from persicache.keys.atoms import Key

__all__ = ["KeyName", "decode_name", "encode_key", "encode_prefix", "name_of"]

# File systems allow 255 bytes a component, extension and a temporary file's affixes included.
_MAX_COMPONENT: Final = 160
_HEAD: Final = 100
# S3 allows 1024 bytes, the prefix of the store included.
_MAX_NAME: Final = 512
_MAX_KEPT: Final = 400

_CUT_ESCAPE: Final = re.compile(r"(?:=[0-9a-f]?|!)\Z")
_DIGESTED: Final = re.compile(
    r"(?:[a-z0-9_=!,()-]{1,160}/)*(?:[a-z0-9_=!,()-][a-z0-9_.=!,()-]{0,159})", re.ASCII
)
_DIGEST: Final = re.compile(r"=x(?![0-9a-f]{40}(?:/|\Z))")


class KeyName(NamedTuple):
    """Where a key is stored.

    Attributes
    ----------
    name : str
        The name in the storage, below its root: at most 600 characters, ending in the extension.
    text : str
        The key's full text, which the entry carries. Empty when it was read from a name that
        holds only its digest.
    """

    name: str
    text: str


_new: Final = tuple.__new__


def encode_key(key: Key, *, extension: str) -> KeyName:
    """Give the storage name and the full text of a key.

    Different keys have different names, also where case and Unicode normalisation are
    ignored; ``1``, ``1.0``, ``True`` and ``"1"`` are different keys.

    Parameters
    ----------
    key : Key
        str, bytes, int, float, bool, None, date, datetime, UUID, enum members, and tuples or
        lists of these nested in any way.
    extension : str
        What the name ends in: a dot and up to 15 of ``[a-z0-9]``.

    Returns
    -------
    KeyName
        The name and the text.

    Raises
    ------
    UnencodableKey
        If the key, or a part of it, is of another type.

    Examples
    --------
    >>> encode_key("mean_of_2024", extension=".pc")
    KeyName(name='mean_of_2024.pc', text='mean_of_2024')
    >>> encode_key(("runs", 7, "Loss"), extension=".pc").name
    'runs/=i7/!loss.pc'
    >>> encode_key("../etc/passwd", extension=".pc").name
    '=2e.=2fetc=2fpasswd.pc'
    """
    if type(key) is str and is_plain(key):
        # Half the time of KeyName(...), on the path of every access.
        return _new(KeyName, (key + extension, key))
    components = text_components(key)
    return KeyName(_bounded(components) + extension, "/".join(components))


def name_of(text: str, *, extension: str) -> str:
    """Give the storage name that belongs to a key's full text.

    An entry under a digested name is what it says it is if its text leads back to the name.

    Examples
    --------
    >>> name = encode_key("x" * 1000, extension=".pc").name
    >>> decode_name(name, extension=".pc").text
    ''
    >>> name_of("x" * 1000, extension=".pc") == name
    True
    """
    return _bounded(text.split("/")) + extension


def decode_name(name: str, *, extension: str) -> KeyName | None:
    """Tell whether a storage name is a key's, and the key's text if the name holds it.

    Parameters
    ----------
    name : str
        A name found in a storage.
    extension : str
        The extension of the names that count.

    Returns
    -------
    KeyName or None
        None for a name that no key has: another extension, a hidden file, something that
        another program left. The text is empty if the name holds a digest of it; then the
        entry has it, and `name_of` tells whether the two belong together.

    Examples
    --------
    >>> decode_name("runs/=i7/!loss.pc", extension=".pc")
    KeyName(name='runs/=i7/!loss.pc', text='runs/=i7/!loss')
    >>> decode_name("README.pc.txt", extension=".pc"), decode_name("Loss.pc", extension=".pc")
    (None, None)
    """
    if not name.endswith(extension):
        return None
    text = name[: len(name) - len(extension)]
    if is_plain(text):
        return KeyName(name, text)
    if "=x" in text:
        # No escape and no tag is "=x": only digests are.
        is_ours = _DIGESTED.fullmatch(text) is not None and _DIGEST.search(text) is None
        return KeyName(name, "") if is_ours else None
    try:
        decode_text(text)
    except UnencodableKey:
        # A key of a program that knows more enums or time zones than this one: it is there,
        # and whoever wants the key itself will hear why it can't be had.
        pass
    except ValueError:
        return None
    return KeyName(name, text) if name_of(text, extension=extension) == name else None


def encode_prefix(key: tuple[Key, ...]) -> str:
    """Give the prefix of the names of all longer tuples that begin with `key`.

    A prefix so long that names below it are digested comes out shorter: then keys that don't
    begin with `key` have names under it too, and a caller looks at the keys.

    Examples
    --------
    >>> encode_prefix(("runs", 7))
    'runs/=i7/'
    >>> encode_prefix(())
    ''
    """
    # As the beginning of a longer tuple, so that its last component is written as a directory.
    *components, _ = text_components((*key, None, None))
    kept = _kept([_short(component) for component in components[:-1]])
    return "".join(component + "/" for component in kept)


def _bounded(components: list[str]) -> str:
    short = [_short(component) for component in components]
    name = "/".join(short)
    if len(name) <= _MAX_NAME:
        return name
    kept = _kept(short)
    return "/".join([*kept, "=x" + _hex("/".join(components[len(kept) :]))])


def _short(component: str) -> str:
    if len(component) <= _MAX_COMPONENT:
        return component
    return _CUT_ESCAPE.sub("", component[:_HEAD]) + "=x" + _hex(component)


def _kept(short: list[str]) -> list[str]:
    total = 0
    for count, component in enumerate(short):
        total += len(component) + 1
        if total > _MAX_KEPT:
            return short[:count]
    return short


def _hex(text: str) -> str:
    return blake3(text.encode("ascii")).hexdigest(length=20)
