"""An amount of memory, as a person writes it."""

from __future__ import annotations

import contextlib
import math
import numbers
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["available_nbytes", "is_amount", "parse_nbytes"]

_UNITS: Final = {
    "": 1,
    "b": 1,
    **{prefix + "b": 1000**i for i, prefix in enumerate("kmgtp", start=1)},
    **{prefix + "ib": 1024**i for i, prefix in enumerate("kmgtp", start=1)},
}
_AMOUNT: Final = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
#: The share of what is there that "auto" takes: the rest is for the computations themselves.
AUTO_SHARE: Final = 0.3
#: Less than this, with a fraction, is no number of bytes.
LEAST_NBYTES: Final = 1024
# By the controllers that a line of /proc/self/cgroup names: where groups are, and their limit.
_CGROUPS: Final = {
    "": ("sys/fs/cgroup", "memory.max"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
}


def parse_nbytes(amount: float | str) -> int:
    """Return an amount of memory in bytes.

    Parameters
    ----------
    amount : int, float or str
        Bytes (an int, or a float above 1), a share of the machine's or the cgroup's memory (a
        float up to 1), ``"2 GiB"``, ``"500MB"``, or ``"auto"``: a share of 0.3.

    Raises
    ------
    TypeError
        If it is neither a number nor a text.
    ValueError
        If it is not positive, or nothing of these.

    Examples
    --------
    >>> parse_nbytes("128 MiB"), parse_nbytes("1.5 kB"), parse_nbytes(4096)
    (134217728, 1500, 4096)
    """
    advice = "give bytes, a text such as '2 GiB', a share such as 0.25, or 'auto'"
    if isinstance(amount, bool) or not isinstance(amount, (str, numbers.Real)):
        raise TypeError(f"{amount!r} is no amount of memory: {advice}")
    if isinstance(amount, str):
        if amount.strip().lower() == "auto":
            return parse_nbytes(AUTO_SHARE)
        match = _AMOUNT.fullmatch(amount)
        if match is None or match[2].lower() not in _UNITS:
            raise ValueError(f"{amount!r} is no amount of memory: {advice}")
        amount_nbytes = float(match[1]) * _UNITS[match[2].lower()]
        nbytes = int(amount_nbytes) if math.isfinite(amount_nbytes) else 0
    elif not isinstance(amount, numbers.Integral) and 0 < amount <= 1:
        nbytes = int(amount * available_nbytes())
    elif 1 < amount < LEAST_NBYTES and amount != int(amount):
        raise ValueError(f"{amount!r} is more than a share, which is 1 at most, and no bytes: {advice}")
    else:
        nbytes = int(amount) if math.isfinite(amount) else 0
    if nbytes <= 0:
        raise ValueError(f"{amount!r} is no amount of memory to work with: {advice}")
    return nbytes


def is_amount(text: str) -> bool:
    """Return whether `text` looks like a number, with or without a unit."""
    return _AMOUNT.fullmatch(text) is not None


def available_nbytes(root: Path = Path("/")) -> int:
    """Return the memory that this process may use: the machine's, or its cgroup's if that is less.

    Parameters
    ----------
    root : Path, default "/"
        Where ``proc`` and ``sys`` are.
    """
    import psutil  # noqa: PLC0415 - it brings a lot with it, and few ask

    return min([int(psutil.virtual_memory().total), *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of the groups that this process is in, and of those around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        for controller in controllers.split(","):
            if controller in _CGROUPS:
                place, name = _CGROUPS[controller]
                # A container may be shown the path outside of it, but sees its own group on top.
                group = Path(*(part for part in Path(path).parts[1:] if part != ".."))
                for around in (group, *group.parents):
                    with contextlib.suppress(OSError, ValueError):  # none; or "max", which is none
                        yield int((root / place / around / name).read_text())
