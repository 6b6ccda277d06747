"""What tells one place from all others, without secrets: `place_identity`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from blake3 import blake3

from persicache.storage.secrets import is_secret
from persicache.storage.table_place import PROTOCOLS

__all__ = ["place_identity"]

_NBYTES: Final = 16
#: What says, beside the options, to which server a bucket belongs.
_SURROUNDINGS: Final = (
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
)


def place_identity(
    url: str, options: Mapping[str, object] | None = None, *, environ: Mapping[str, str] = os.environ
) -> str:
    """Return a digest that two places have in common only if they are one.

    With options that can't be compared, such as a session, it is another one every time.

    Parameters
    ----------
    url : str
        That of the storage, which has no secrets.
    options : mapping, optional
        What its filesystem is made with. Keys and tokens don't count: they change, and the
        place is the same.
    environ : mapping
        The environment variables, some of which count for S3.

    Examples
    --------
    >>> mine = place_identity("s3://b", {"endpoint_url": "https://here", "key": "k1"})
    >>> mine == place_identity("s3://b", {"endpoint_url": "https://here", "key": "k2"})
    True
    >>> mine == place_identity("s3://b", {"endpoint_url": "https://there"})
    False
    """
    told: dict[str, Any] = dict(options or {})
    around = {}
    protocol, has_protocol, path = url.partition("://")
    if not has_protocol or protocol in PROTOCOLS:
        # What a link leads to is the place: tomorrow it can lead to another.
        url = f"{protocol}://{os.path.realpath(path)}" if has_protocol else os.path.realpath(url)
    if has_protocol:
        # Whoever keeps to a local directory needn't wait for fsspec to be imported.
        from fsspec.config import conf  # noqa: PLC0415 - as above

        told = {**conf.get(protocol, {}), **told}
    if protocol == "s3":
        around = {name: environ.get(name, "") for name in _SURROUNDINGS}
    text = json.dumps([url, _public(told), around], sort_keys=True)
    return blake3(text.encode()).hexdigest(length=_NBYTES)


def _public(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _public(inner) for name, inner in value.items() if not is_secret(name)}
    if isinstance(value, (list, tuple)):
        return [_public(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (bytes, os.PathLike)):
        return repr(value)
    # Nobody can tell which server a session of the client leads to, and whether another's is the same.
    return os.urandom(_NBYTES).hex()
