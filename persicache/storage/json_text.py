"""Bytes as values of a JSON document, and back."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

__all__ = ["bytes_in", "dump", "text_of"]

_MARK: Final = "$base64"


def text_of(data: bytes) -> str:
    r"""Return the JSON text that stands for `data` in a document.

    What is JSON itself, written as `json.dumps` writes it, stands there as it is; anything
    else, and what could be mistaken for it, as base64.

    Examples
    --------
    >>> text_of(b'{"loss": 0.25}'), text_of(b"\x00\x01")
    ('{"loss": 0.25}', '{"$base64": "AAE="}')
    """
    try:
        text = str(data, "utf-8")
        value = json.loads(text)
        # NaN, which json would write and nobody else could read, is refused.
        if json.dumps(value, ensure_ascii=False, allow_nan=False) == text and not _is_marked(value):
            return text
    except (ValueError, RecursionError):
        pass
    return json.dumps({_MARK: base64.b64encode(data).decode("ascii")})


def bytes_in(value: object) -> bytes | None:
    """Return the bytes that `value`, of a document, stands for as base64; None if it doesn't."""
    if isinstance(value, dict) and _is_marked(value):
        try:
            return base64.b64decode(value[_MARK], validate=True)
        except (binascii.Error, ValueError):  # written by hand
            return None
    return None


def dump(value: Any) -> str:
    """Return `value` as JSON on one line, which always has an encoding."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which JSON can escape and UTF-8 can't hold
        return json.dumps(value)
    return text


def _is_marked(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_MARK), str)
