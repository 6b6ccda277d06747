"""The choice of a codec by the name of a format."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from persicache.codecs.codec import Codec
from persicache.codecs.entry import EntryCodec, SigningKey, Verify
from persicache.codecs.plain import FORMATS, PlainCodec, file_format

__all__ = ["codec_for"]

EXTENSION: Final = re.compile(r"\.[a-z0-9]{1,15}", re.ASCII)


def codec_for(
    format: str = "auto",  # noqa: A002 - the public option has this name
    *,
    dump: Callable[..., object] | None = None,
    load: Callable[..., Any] | None = None,
    extension: str = ".dat",
    namespace: str = "",
    compression: str | None = None,
    signing_key: SigningKey | None = None,
    allow_pickle: bool | None = None,
    verify: Verify = "first",
) -> Codec:
    """Return the codec of a format.

    Parameters
    ----------
    format : str, default "auto"
        "auto", or a plain format: "pickle", "json", "text", "bytes", "cbor", "msgpack", "npy".
    dump, load : callable, optional
        A format of one's own, instead of `format`: see `file_format`.
    extension : str, default ".dat"
        With `dump` and `load`: what its files end in.
    namespace, compression, signing_key, allow_pickle, verify
        See `EntryCodec`; all but `allow_pickle` need the envelope, so format "auto".

    Raises
    ------
    ValueError
        If there is no such format, or an option doesn't go with it.

    Examples
    --------
    >>> codec_for("json").extension
    '.json'
    """
    if (dump is None) != (load is None):
        raise ValueError("dump= and load= go together: one writes what the other reads")
    if dump is None and format == "auto":
        return EntryCodec(
            namespace=namespace,
            compression=compression,
            signing_key=signing_key,
            allow_pickle=allow_pickle,
            verify=verify,
        )
    if compression is not None or signing_key is not None or namespace or verify != "first":
        raise ValueError(
            "compression=, signing_key=, namespace= and verify= need format='auto': a plain file has no "
            "room for them"
        )
    if dump is not None and load is not None:
        if format != "auto":
            raise ValueError(f"give format={format!r}, or dump= and load=, not both")
        if not EXTENSION.fullmatch(extension) or extension == EntryCodec.extension:
            raise ValueError(
                f"extension must be a dot and up to 15 of [a-z0-9], other than '.pc', not {extension!r}"
            )
        if not all(map(callable, (dump, load))):
            raise TypeError("dump= and load= are functions such as pickle.dump and pickle.load")
        return PlainCodec(file_format(dump, load, extension=extension), allow_pickle=allow_pickle)
    try:
        plain = FORMATS[format]
    except (KeyError, TypeError):
        raise ValueError(f"unknown format {format!r}: give 'auto' or one of {sorted(FORMATS)}") from None
    return PlainCodec(plain, allow_pickle=allow_pickle)
