"""What a listing tells of the results of a function: `listed`, `until_told`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from persicache.keys import KeyName
from persicache.mappings import Entries
from persicache.memo.freshness import Expires
from persicache.storage import BlobInfo

__all__ = ["listed", "until_told"]

#: What `Calls` puts behind the prefix: a digest, its first two digits being a folder.
_DIGEST = re.compile(r"[0-9a-f]{2}/[0-9a-f]{62}")


def listed(entries: Entries, prefix: str) -> Iterator[tuple[KeyName, BlobInfo]]:
    """Yield where the results of a function are, by any code; nothing is read.

    Parameters
    ----------
    entries : Entries
        The store.
    prefix : str
        What the names of the function's results begin with. Somebody's dictionary may have
        entries there, too: they are passed over.
    """
    start, end = len(prefix), -len(entries.extension)
    for info in entries.storage.scan(prefix):
        name = info.name
        if name.endswith(entries.extension) and _DIGEST.fullmatch(name[start:end]):
            yield KeyName(name, name[:end]), info


def until_told(expires: Expires, created: float, told: Mapping[str, Any]) -> float:
    """Return when a result is no longer fresh, in POSIX seconds, without a look at its value.

    Parameters
    ----------
    expires : Expires
        As it is now.
    created : float
        When the result was computed, in POSIX seconds.
    told : mapping
        What its entry says of itself. If it should, and doesn't, the result counts as fresh.

    Examples
    --------
    >>> until_told(60.0, 1000.0, {}), until_told(len, 1000.0, {"until": 1010.0})
    (1060.0, 1010.0)
    """
    if callable(expires):
        return float(told.get("until", math.inf))
    return math.inf if expires is None else created + expires
