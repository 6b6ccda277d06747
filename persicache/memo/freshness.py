"""How long a result is fresh."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeAlias

__all__ = ["Expires", "fresh_seconds", "parse_expires", "shown_seconds"]

#: Seconds, a function from a result to what `fresh_seconds` takes, or None: for ever.
Expires: TypeAlias = float | Callable[[Any], Any] | None

_SECONDS: Final = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
}
_DURATION: Final = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
_ADVICE: Final = "give seconds, a text such as '90 s', '15 min', '1 h' or '7 days', or a timedelta"


def parse_expires(expires: object) -> Expires:
    """Return `expires` in seconds, or the function that it is.

    Raises
    ------
    TypeError, ValueError
        If it is nothing of these.

    Examples
    --------
    >>> parse_expires("1.5 h"), parse_expires(timedelta(days=1)), parse_expires(None)
    (5400.0, 86400.0, None)
    """
    return expires if callable(expires) else fresh_seconds(expires)


def fresh_seconds(duration: object) -> float | None:
    """Return a duration in seconds, None for ever.

    Parameters
    ----------
    duration : float, str, timedelta or None
        ``"15 min"``; units are ms, s, min, h, d (days) and w (weeks).

    Raises
    ------
    TypeError, ValueError
        If it is nothing of these, or negative.

    Examples
    --------
    >>> fresh_seconds("15 min"), fresh_seconds(0.5)
    (900.0, 0.5)
    >>> fresh_seconds("soon")
    Traceback (most recent call last):
    ValueError: 'soon' is no duration: give seconds, a text such as '90 s', ...
    """
    if duration is None:
        return None
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        match = _DURATION.fullmatch(duration)
        if match is None or match[2].lower() not in _SECONDS:
            raise ValueError(f"{duration!r} is no duration: {_ADVICE}")
        seconds = float(match[1]) * _SECONDS[match[2].lower()]
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise TypeError(f"{duration!r} is no duration: {_ADVICE}")
    if not seconds >= 0:
        raise ValueError(f"{duration!r} is no duration: {_ADVICE}")
    return None if math.isinf(seconds) else seconds


def shown_seconds(seconds: float) -> str:
    """Return a duration as people say it.

    Examples
    --------
    >>> shown_seconds(0.0123), shown_seconds(59.6), shown_seconds(5400), shown_seconds(200_000)
    ('12.3 ms', '59.6 s', '90 min', '2.31 days')
    """
    for unit, size, most in (
        ("us", 1e-6, 1e-3),
        ("ms", 1e-3, 1.0),
        ("s", 1.0, 120.0),
        ("min", 60.0, 7200.0),
    ):
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 3600:.3g} h" if seconds < 172_800 else f"{seconds / 86_400:.3g} days"  # noqa: PLR2004
