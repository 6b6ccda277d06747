"""Places that nobody means to empty."""

from __future__ import annotations

import os
import re
from typing import Final

__all__ = ["is_precious"]

_BARE_BUCKET: Final = re.compile(r"(?:s3a?|gs|gcs|abfss?|az|adl|oss|oci)://[^/]*/?")


def is_precious(place: str) -> bool:
    """Return whether a place is a whole disk, a home or a whole bucket, by its URL or path.

    Examples
    --------
    >>> is_precious("/"), is_precious("s3://bucket"), is_precious("s3://bucket/cache")
    (True, True, False)
    """
    if "://" in place:
        return _BARE_BUCKET.fullmatch(place) is not None
    path = os.path.realpath(place)
    return path in {os.path.realpath("/"), os.path.realpath(os.path.expanduser("~"))}  # noqa: PTH111 - as above
