"""Writers of the values that hold no others: numbers, text, moments, paths, patterns."""

from __future__ import annotations

import datetime as dt
import enum
import os
import re
import struct
import uuid
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from types import EllipsisType, NotImplementedType
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from persicache.keys.classes import own_state
from persicache.keys.codes import write_class
from persicache.keys.containers import write_each
from persicache.keys.reached import Reached
from persicache.keys.writers import (
    BIG_NBYTES,
    Trouble,
    begin,
    class_name,
    finish,
    write,
    write_buffer,
    write_text,
    writes,
    writes_family,
)

if TYPE_CHECKING:
    from persicache.keys.writers import Seen

__all__: list[str] = []

_pack_double: Final = struct.Struct("<d").pack


@writes(int)
def _write_int(out: bytearray, value: int, _: Seen) -> None:
    # Hex is linear, and free of Python's limit on decimal digits.
    out += b"i%x;" % value


@writes(str)
def _write_str(out: bytearray, value: str, _: Seen) -> None:
    # As write_text does it, in half the time: keys and names are short.
    try:
        data = value.encode()
    except UnicodeEncodeError:
        data = value.encode("utf-8", "surrogatepass")
    if len(data) < BIG_NBYTES:
        out += b"s%x;%b" % (len(data), data)
    else:
        write_buffer(out, b"s", data)


@writes(bytes)
def _write_bytes(out: bytearray, value: bytes, _: Seen) -> None:
    write_buffer(out, b"y", value)


@writes(bytearray)
def _write_bytearray(out: bytearray, value: bytearray, _: Seen) -> None:
    write_buffer(out, b"Y", value)


@writes(memoryview)
def _write_memoryview(out: bytearray, value: memoryview, _: Seen) -> None:
    write_text(out, b"V", f"{value.format}{value.shape}")
    write_buffer(out, b"y", value.tobytes())


@writes(bool)
def _write_bool(out: bytearray, value: bool, _: Seen) -> None:  # noqa: FBT001 - the subject
    out += b"T" if value else b"F"


@writes(type(None))
def _write_none(out: bytearray, _value: None, _: Seen) -> None:
    out += b"N"


@writes(EllipsisType, NotImplementedType)
def _write_constant(out: bytearray, value: object, _: Seen) -> None:
    write_text(out, b"c", repr(value))


@writes(float)
def _write_float(out: bytearray, value: float, _: Seen) -> None:
    out += b"f"
    out += _double(value)


@writes(complex)
def _write_complex(out: bytearray, value: complex, _: Seen) -> None:
    out += b"j"
    out += _double(value.real)
    out += _double(value.imag)


def _double(value: float) -> bytes:
    # Not-a-number comes with many bit patterns, and means one thing.
    return _pack_double(value) if value == value else b"nan....."  # noqa: PLR0124 - the test for NaN


@writes(range)
def _write_range(out: bytearray, value: range, _: Seen) -> None:
    # Ranges are equal when their items are: range(0, 3, 2) is range(0, 4, 2).
    count = len(value)
    out += b"r%x;%x;%x;" % (count, value.start if count else 0, value.step if count > 1 else 0)


@writes(slice)
def _write_slice(out: bytearray, value: slice, seen: Seen) -> None:
    if not begin(out, value, seen):
        body = bytearray(b":")
        write_each(body, (value.start, value.stop, value.step), seen)
        finish(out, value, seen, body)


@writes(Decimal)
def _write_decimal(out: bytearray, value: Decimal, _: Seen) -> None:
    write_text(out, b"D", str(value))


@writes(Fraction)
def _write_fraction(out: bytearray, value: Fraction, _: Seen) -> None:
    out += b"R%x;%x;" % (value.numerator, value.denominator)


@writes(uuid.UUID)
def _write_uuid(out: bytearray, value: uuid.UUID, _: Seen) -> None:
    out += b"U"
    out += value.bytes


@writes(dt.date)
def _write_date(out: bytearray, value: dt.date, _: Seen) -> None:
    out += b"d%x;" % value.toordinal()


@writes(dt.timedelta)
def _write_timedelta(out: bytearray, value: dt.timedelta, _: Seen) -> None:
    out += b"e%x;%x;%x;" % (value.days, value.seconds, value.microseconds)


@writes(dt.datetime, dt.time)
def _write_moment(out: bytearray, value: dt.datetime | dt.time, seen: Seen) -> None:
    write_text(
        out, b"w" if isinstance(value, dt.datetime) else b"v", value.replace(tzinfo=None).isoformat()
    )
    out += b"1" if value.fold else b"0"
    write(out, value.tzinfo, seen)


@writes(dt.timezone)
def _write_timezone(out: bytearray, value: dt.timezone, seen: Seen) -> None:
    out += b"z"
    write(out, tuple(value.__reduce__()[1]), seen)


@writes(ZoneInfo)
def _write_zone(out: bytearray, value: ZoneInfo, _: Seen) -> None:
    if value.key is None:
        raise Trouble("a time zone that was read from a file has no name")
    write_text(out, b"Z", value.key)


@writes(re.Pattern)
def _write_pattern(out: bytearray, value: re.Pattern[Any], seen: Seen) -> None:
    out += b"x"
    write(out, (value.pattern, value.flags), seen)


@writes_family(PurePath)
def _write_path(out: bytearray, value: PurePath, seen: Seen) -> None:
    cls = type(value)
    # The module that defines paths differs between Python versions.
    is_known = cls.__module__.partition(".")[0] == "pathlib"
    write_text(out, b"p", f"{cls.__name__ if is_known else class_name(cls)} {value}")
    if not is_known:
        write_class(out, cls, seen)
        write(out, own_state(value), seen)


@writes(type(os.environ))
def _write_environment(out: bytearray, value: Any, seen: Seen) -> None:
    # Code that reads the environment doesn't depend on all of it.
    write_text(out, b"E", class_name(type(value)))
    if type(seen) is not Reached:
        write(out, dict(value), seen)


@writes_family(enum.Enum)
def _write_member(out: bytearray, value: enum.Enum, seen: Seen) -> None:
    write_text(out, b"m", class_name(type(value)))
    write_class(out, type(value), seen)
    # The value too: it may be edited, and a function may look at it. Not if it is a bare object(),
    # which has nothing to look at.
    is_bare = type(value.value) is object
    write(out, (value.name,) if is_bare else (value.name, value.value), seen)
