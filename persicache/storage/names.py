"""The names that a blob can have: what keeps every storage inside its root."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from persicache.storage.blob import Buffer, Expectation, Identify, Version

__all__ = ["check_expectation", "check_name", "check_prefix", "head_version", "is_component", "is_name"]

# No component is empty or begins with a dot, so neither "..", "/etc" nor a storage's own
# hidden files can be named. Capitals are for the names of other systems: ours have none, as
# there are places that ignore case.
_COMPONENT = r"[A-Za-z0-9_=!,()~-][A-Za-z0-9_.=!,()~-]*"
_HEAD_NBYTES = 64

is_component = re.compile(_COMPONENT).fullmatch
is_name = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*").fullmatch


@lru_cache(maxsize=4096)  # most names were asked for before, and matching takes a microsecond
def check_name(name: str) -> None:
    """Raise ValueError unless `name` is one that a blob can have."""
    if is_name(name) is None:
        message = (
            f"{name!r} can't name a blob: a name is components of [A-Za-z0-9_.=!,()~-] joined by '/', "
            "none of them empty or with a leading dot; persicache.keys makes such names"
        )
        raise ValueError(message)


def check_prefix(prefix: str) -> None:
    """Raise ValueError unless `prefix` is empty, or a name and a slash."""
    if prefix and (prefix[-1] != "/" or is_name(prefix[:-1]) is None):
        raise ValueError(f"{prefix!r} is no prefix: give '' or a name that ends with '/'")


def check_expectation(expect: object) -> None:
    """Raise TypeError unless `expect` is ANY, ABSENT or a version."""
    if not isinstance(expect, (Expectation, str)):
        raise TypeError(f"expect must be ANY, ABSENT or a version, not {expect!r}")


def head_version(identify: Identify | None, chunks: Sequence[Buffer]) -> Version | None:
    """Return the version that the bytes in `chunks` carry in their head, if they carry one."""
    if identify is None:
        return None
    if chunks and len(chunks[0]) >= _HEAD_NBYTES:
        return identify(chunks[0])
    head = b""
    for chunk in chunks:
        head += bytes(chunk[: _HEAD_NBYTES - len(head)])
        if len(head) >= _HEAD_NBYTES:
            break
    return identify(head)
