"""Secrets in URLs, options and messages, and how to leave them out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

__all__ = ["redact_text", "redact_url", "secrets_in"]

_SECRET_NAME: Final = re.compile(
    r"key|secret|token|passw|passphrase|pwd|sas|sig|credential|connection_string|auth", re.IGNORECASE
)
_USERINFO: Final = re.compile(r"(://)[^/@\s'\"]*@")
_QUERY: Final = re.compile(rf"([?&][^=&\s]*(?:{_SECRET_NAME.pattern})[^=&\s]*=)[^&\s'\"]*", re.IGNORECASE)
_SHORTEST: Final = 3  # what is shorter is no secret, and replacing it would garble every message


def redact_url(url: str) -> str:
    """Return `url` without user names, passwords and signatures.

    Examples
    --------
    >>> redact_url("simplecache::sftp://me:pass@host/folder?sig=abc")
    'simplecache::sftp://***@host/folder?sig=***'
    """
    return _QUERY.sub(r"\1***", _USERINFO.sub(r"\1***@", url))


def redact_text(text: str, *, secrets: Collection[str] = ()) -> str:
    """Return `text` without `secrets`, and its URLs without theirs."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return redact_url(text)


def secrets_in(options: Mapping[str, object]) -> frozenset[str]:
    """Return the values in `options`, however deep, that are called like a secret."""
    return frozenset(value for value in _secrets(options, is_secret=False) if len(value) >= _SHORTEST)


def _secrets(value: object, *, is_secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _secrets(inner, is_secret=is_secret or bool(_SECRET_NAME.search(str(name))))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _secrets(inner, is_secret=is_secret)
    elif isinstance(value, str) and is_secret:
        yield value
