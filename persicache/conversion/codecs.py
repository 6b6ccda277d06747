"""How other caches encode their values: `plain`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

from persicache.codecs import FORMATS, Codec, PlainCodec, PlainFormat
from persicache.codecs.joblib_format import joblib_format
from persicache.codecs.jsonpickle_format import jsonpickle_format

__all__ = ["plain", "reader"]


def reader(load: Callable[[Any], Any]) -> Codec:
    """Return a codec that decodes by this function, which runs no code."""
    return PlainCodec(PlainFormat("", lambda value: [value], load))


def plain(name: str, *, allow_pickle: bool | None) -> Codec:
    """Return the codec of this name: "joblib", "jsonpickle", "zlib-json", or one of `FORMATS`."""
    if name == "joblib":
        return PlainCodec(joblib_format(""), allow_pickle=allow_pickle)
    if name == "jsonpickle":
        return PlainCodec(jsonpickle_format(""), allow_pickle=allow_pickle)
    if name == "zlib-json":
        return reader(lambda data: json.loads(zlib.decompress(data)))
    return PlainCodec(FORMATS[name], allow_pickle=allow_pickle)
