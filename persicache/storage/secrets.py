"""Secrets in URLs, options and messages, and how to leave them out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final
from urllib.parse import unquote

__all__ = ["is_secret", "redact_text", "redact_url", "secrets_in", "secrets_in_url"]

_SECRET_NAME: Final = re.compile(
    r"key|secret|token|passw|passphrase|pwd|sas|sig|credential|connection_string|auth", re.IGNORECASE
)
# A password can have any character in it, a slash, too: what is before the last @ of a link may
# be one. In a text the link ends with a blank or a quote at the latest. File names have none.
_LINK: Final = r"(?<!\bfile)(?<!\blocal)(?<!\bsqlite)(?<!\blmdb)(?<!\bjsondoc)://"
_NEXT: Final = r"::[a-z0-9+.-]+(?:://|::)"
_USERINFO: Final = re.compile(rf"({_LINK})((?:(?!{_NEXT}).)*)@", re.DOTALL | re.IGNORECASE)
_USERINFO_IN_TEXT: Final = re.compile(rf"({_LINK})((?:(?!{_NEXT})[^\s'\"])*)@", re.IGNORECASE)
_NAME: Final = rf"[?&#;][^=&#;\s]*(?:{_SECRET_NAME.pattern})[^=&#;\s]*="
_QUERY: Final = re.compile(rf"({_NAME})([^&#;]*)", re.IGNORECASE)
_QUERY_IN_TEXT: Final = re.compile(rf"({_NAME})([^&#;\s'\"]*)", re.IGNORECASE)
# Here a branch or a commit stands behind the @, where others have the host.
_REVISION: Final = re.compile(r"((?:github|git)://[^/\s'\"]*@)[^/\s'\"]+", re.IGNORECASE)
_SHORTEST: Final = 3  # what is shorter is no secret, and replacing it would garble every message


def is_secret(name: object) -> bool:
    """Return whether an option of this name holds a secret."""
    return _SECRET_NAME.search(str(name)) is not None


def redact_url(url: str) -> str:
    """Return `url` without user names, passwords and signatures.

    Examples
    --------
    >>> redact_url("simplecache::sftp://me:p/a@ss@host/folder?sig=abc")
    'simplecache::sftp://***@host/folder?sig=***'
    """
    url = _USERINFO.sub(r"\1***@", url)
    return _QUERY.sub(r"\1***", _REVISION.sub(r"\1***", url))


def redact_text(text: str, *, secrets: Collection[str] = ()) -> str:
    """Return `text` without `secrets`, and its URLs without theirs."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _USERINFO_IN_TEXT.sub(r"\1***@", text)
    return _QUERY_IN_TEXT.sub(r"\1***", _REVISION.sub(r"\1***", text))


def secrets_in_url(url: str) -> frozenset[str]:
    """Return the parts of `url` that `redact_url` leaves out, as a message may show them."""
    found = {match[2] for match in _QUERY.finditer(url)}
    for match in _USERINFO.finditer(url):
        found |= {match[2], match[2].partition(":")[2]}
    found |= {unquote(secret) for secret in found}
    return frozenset(secret for secret in found if len(secret) >= _SHORTEST)


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
