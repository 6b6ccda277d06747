"""One key that holds no other, as a run of safe characters.

The alphabet is ``[a-z0-9_.=!-]``: it survives case-insensitive and Unicode-normalising
file systems, URLs and shells. A str writes itself, with ``!`` before what was an
uppercase letter and ``=`` before two hex digits for any other byte of its UTF-8. Where
``=`` is followed by a letter that is no hex digit, that letter names another type.
"""

from __future__ import annotations

import datetime as dt
import enum
import importlib
import re
import sys
import uuid
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Union, cast
from zoneinfo import ZoneInfo

from persicache.errors import UnencodableKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["Key", "decode_atom", "encode_atom"]

#: What a key can be. Lists mean the same as tuples, and come back as tuples.
Key: TypeAlias = Union[  # noqa: UP007 - a recursive alias needs the forward reference inside
    str, bytes, int, float, bool, dt.date, uuid.UUID, enum.Enum, tuple["Key", ...], list[Any], None
]

_LITERAL: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-.")
_UPPERCASE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

_ESCAPES: Final = tuple(
    chr(byte) if byte in _LITERAL else f"!{chr(byte).lower()}" if byte in _UPPERCASE else f"={byte:02x}"
    for byte in range(256)
)

_ESCAPED: Final = re.compile(rb"=([0-9a-f]{2})|!([a-z])|([a-z0-9_.-]+)")

# Windows refuses these names, with any extension and in any directory.
_NEEDS_TAG: Final = re.compile(r"-|(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z)|\Z")

# Python refuses to print or parse an int of more than 4300 decimal digits; hex is free of
# that, and linear. This bound is far below any that sys.set_int_max_str_digits allows.
_DECIMAL_BITS: Final = 256

_MOMENT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)_(\d\d)-(\d\d)-(\d\d)(?:_(\d{6}))?(_f)?(?:_o(-?\d+)(?:_n(.*))?|_z(.*))?",
    re.DOTALL | re.ASCII,
)


def encode_atom(key: object) -> str:
    """Write a key that is neither tuple nor list.

    Parameters
    ----------
    key : Key
        A str, bytes, int, float, bool, None, date, datetime, UUID or enum member, of exactly
        that type: a subclass would not come back as what it was.

    Returns
    -------
    str
        At least one character, and no leading dot.

    Raises
    ------
    UnencodableKey
        If it is anything else, or could not be found again.

    Examples
    --------
    >>> encode_atom("Total km/h"), encode_atom(12), encode_atom(""), encode_atom(b"ab")
    ('!total=20km=2fh', '=i12', '=s', '=yab')
    """
    write = _WRITERS.get(type(key))
    if write is not None:
        return write(key)
    if isinstance(key, enum.Enum):
        return "=m" + _escape(_member_text(key).encode("utf-8", "surrogatepass"))
    raise UnencodableKey(key=key, reason=_advice(key))


def decode_atom(text: str, *, import_modules: bool = False) -> Key:
    """Read what `encode_atom` wrote.

    It may accept more than `encode_atom` writes; a caller who minds encodes the result again.

    Parameters
    ----------
    text : str
        One atom.
    import_modules : bool, default False
        Whether the module of an enum may be imported to find the member. Imports run code,
        and a listing shows names that anybody may have written.

    Raises
    ------
    ValueError, OverflowError
        If `text` is no atom.
    UnencodableKey
        If it names an enum member or time zone that isn't known in this process.

    Examples
    --------
    >>> decode_atom("!total=20km=2fh"), decode_atom("=i12"), decode_atom("=yab")
    ('Total km/h', 12, b'ab')
    """
    if text[:2] == "=m":
        return _find_member(
            _unescape(text[2:]).decode("utf-8", "surrogatepass"), import_modules=import_modules
        )
    read = _READERS.get(text[:2])
    if read is not None:
        return read(_unescape(text[2:]))
    return _unescape(text).decode("utf-8", "surrogatepass")


def _escape(data: bytes) -> str:
    # A leading dot would hide a file, or climb out of the directory.
    escaped = "".join([_ESCAPES[byte] for byte in data])
    return "=2e" + escaped[1:] if escaped[:1] == "." else escaped


def _unescape(text: str) -> bytes:
    data = text.encode("ascii")
    out, end = bytearray(), 0
    for match in _ESCAPED.finditer(data):
        if match.start() != end:
            break
        end = match.end()
        digits, letter, literal = match.groups()
        out += bytes.fromhex(digits.decode()) if digits else literal or letter.upper()
    if end != len(data):
        raise ValueError(f"{text!r} is not an escaped key")
    return bytes(out)


def _write_str(key: str) -> str:
    escaped = _escape(key.encode("utf-8", "surrogatepass"))
    return "=s" + escaped if _NEEDS_TAG.match(escaped) else escaped


def _write_int(key: int) -> str:
    return f"=i{key}" if key.bit_length() <= _DECIMAL_BITS else f"=i{key:#x}"


def _read_int(data: bytes) -> int:
    return int(data, 16 if b"x" in data else 10)


def _write_moment(key: dt.datetime) -> str:
    text = f"{key.year:04}-{key.month:02}-{key.day:02}_{key.hour:02}-{key.minute:02}-{key.second:02}"
    if key.microsecond:
        text += f"_{key.microsecond:06}"
    if key.fold:
        text += "_f"
    return "=w" + _escape((text + _zone_text(key)).encode("utf-8", "surrogatepass"))


def _zone_text(key: dt.datetime) -> str:
    zone = key.tzinfo
    if zone is None:
        return ""
    if type(zone) is dt.timezone:
        # The only public way to the name as given: tzname() makes one up where there is none.
        offset, *name = cast("tuple[Any, ...]", zone.__reduce__()[1])
        return f"_o{offset // dt.timedelta(microseconds=1)}" + "".join(f"_n{part}" for part in name)
    if type(zone) is ZoneInfo and zone.key is not None:
        return f"_z{zone.key}"
    raise UnencodableKey(
        key=key, reason="only datetime.timezone and zoneinfo.ZoneInfo can be found again by name"
    )


def _read_moment(data: bytes) -> dt.datetime:
    match = _MOMENT.fullmatch(data.decode("utf-8", "surrogatepass"))
    if match is None:
        raise ValueError(f"{data!r} is not a moment")
    *fields, microsecond, fold, offset, name, zone = match.groups()
    year, month, day, hour, minute, second = map(int, fields)
    tzinfo: dt.tzinfo | None = None
    if offset is not None:
        delta = dt.timedelta(microseconds=int(offset))
        tzinfo = dt.timezone(delta) if name is None else dt.timezone(delta, name)
    elif zone is not None:
        tzinfo = _find_zone(zone)
    return dt.datetime(
        year, month, day, hour, minute, second, int(microsecond or 0), tzinfo, fold=int(fold is not None)
    )


def _find_zone(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except (LookupError, ValueError, OSError) as error:
        raise UnencodableKey(key=key, reason=f"this machine knows no such time zone ({error})") from error


def _member_text(member: enum.Enum) -> str:
    cls = type(member)
    module = "__main__" if cls.__module__ == "__mp_main__" else cls.__module__
    if _find_class(sys.modules.get(module), cls.__qualname__) is not cls:
        raise UnencodableKey(
            key=member,
            reason=f"module {module} has no {cls.__qualname__}, so it could not be found again",
        )
    if cls.__members__.get(member.name) is member:
        return f"{module}:{cls.__qualname__}:{member.name}"
    # A combination of flags has no name of its own.
    return f"{module}:{cls.__qualname__}:={member.value:#x}"


def _find_member(text: str, *, import_modules: bool) -> enum.Enum:
    module_name, qualname, name = text.split(":", 2)
    module = sys.modules.get(module_name)
    if module is None and import_modules:
        module = _import(module_name)
    if module is None:
        raise UnencodableKey(key=text, reason=f"import {module_name} first, it defines this enum")
    cls = _find_class(module, qualname)
    try:
        if isinstance(cls, enum.EnumMeta):
            return cls(int(name[1:], 16)) if name[:1] == "=" else cls.__members__[name]
    except (LookupError, ValueError) as error:
        raise UnencodableKey(key=text, reason=f"{qualname} has no such member here") from error
    raise UnencodableKey(key=text, reason=f"{module_name} defines no enum {qualname} here")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise UnencodableKey(key=name, reason=f"its enum's module can't be imported ({error})") from error


def _find_class(module: ModuleType | None, qualname: str) -> object:
    # Through dictionaries, not getattr: a module's __getattr__ is code.
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found


def _advice(key: object) -> str:
    kind = type(key)
    if hasattr(key, "dtype") and hasattr(key, "item"):
        return f"it is a {kind.__module__}.{kind.__qualname__}; pass the plain value, key.item()"
    for base in _WRITERS:
        if isinstance(key, base):
            return f"it is a {kind.__qualname__}, and would come back as {base.__name__}; pass that"
    if isinstance(key, tuple | list):
        return f"it is a {kind.__qualname__}, and would come back as tuple; pass tuple(key)"
    if isinstance(key, dict | set | frozenset):
        return "its items have no order; pass a tuple of them, sorted"
    return f"it is a {kind.__module__}.{kind.__qualname__}"


def _constant(value: Key) -> Callable[[bytes], Key]:
    def read(data: bytes) -> Key:
        if data:
            raise ValueError(f"{data!r} follows a constant")
        return value

    return read


_WRITERS: Final[dict[type, Callable[[Any], str]]] = {
    str: _write_str,
    bytes: lambda key: "=y" + _escape(key),
    bool: lambda key: "=t" if key else "=z",
    int: _write_int,
    float: lambda key: "=r" + _escape(repr(key).encode()),
    type(None): lambda _: "=n",
    uuid.UUID: lambda key: "=u" + key.hex,
    dt.datetime: _write_moment,
    dt.date: lambda key: "=j" + key.isoformat(),
}

_READERS: Final[dict[str, Callable[[bytes], Key]]] = {
    "=s": lambda data: data.decode("utf-8", "surrogatepass"),
    "=y": lambda data: data,
    "=t": _constant(True),  # noqa: FBT003 - the value itself
    "=z": _constant(False),  # noqa: FBT003 - the value itself
    "=n": _constant(None),
    "=i": _read_int,
    "=r": float,
    "=u": lambda data: uuid.UUID(data.decode("ascii")),
    "=j": lambda data: dt.date.fromisoformat(data.decode("ascii")),
    "=w": _read_moment,
}
