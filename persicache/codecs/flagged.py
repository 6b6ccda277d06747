"""Tuples, sets and frozensets in formats that have lists only, as stones writes them.

What is no list begins with a flag, in JSON and msgpack; CBOR has tags for it. JSON has no bytes
either: a text comes back as bytes, whatever it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgpack

from persicache.codecs.plain import cbor_library, load_cbor

__all__ = [
    "decode_cbor",
    "decode_json",
    "decode_msgpack",
    "encode_cbor",
    "encode_json",
    "encode_msgpack",
]

#: What a tuple, a set and a frozenset begin with, as lists.
FLAGS: Final[Mapping[type[Any], bytes]] = {tuple: b"__(,)__", set: b"__{,}__", frozenset: b"__f{}__"}
KINDS: Final[Mapping[bytes, type[Any]]] = {flag: kind for kind, flag in FLAGS.items()}
#: The tag of a tuple in CBOR.
TUPLE_TAG: Final = 38


def encode_json(value: Any) -> bytes:
    """Return `value` as JSON.

    Examples
    --------
    >>> decode_json(encode_json((1, {2: [b"x"]})))
    (1, {b'2': [b'x']})
    """
    return json.dumps(_flagged(value, as_text=True)).encode()


def decode_json(data: bytes) -> Any:
    """Return what was encoded; its texts as bytes."""
    return _restored(json.loads(data))


def _flagged(value: Any, *, as_text: bool) -> Any:
    """Return `value` of lists and dicts only; its bytes as text, where there are no bytes."""

    def inner(part: Any) -> Any:
        return _flagged(part, as_text=as_text)

    if as_text and isinstance(value, bytes):
        return value.decode()
    for kind, flag in FLAGS.items():
        if isinstance(value, kind):
            return [inner(flag), *map(inner, value)]
    if isinstance(value, list):
        if value and value[0] in ([*FLAGS.values(), *(flag.decode() for flag in FLAGS.values())]):
            raise ValueError(f"a list that begins with {value[0]!r} would come back as something else")
        return list(map(inner, value))
    if isinstance(value, dict):
        return {inner(key): inner(part) for key, part in value.items()}
    return value


def _unflagged(parts: list[Any]) -> Any:
    flag = parts[0] if parts else None
    kind = KINDS.get(flag) if isinstance(flag, bytes) else None
    return parts if kind is None else kind(parts[1:])


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return _unflagged([_restored(part) for part in value])
    if isinstance(value, dict):
        return {_restored(key): _restored(part) for key, part in value.items()}
    return value


def encode_msgpack(value: Any) -> bytes:
    """Return `value` in msgpack."""
    return bytes(msgpack.packb(_flagged(value, as_text=False)))


def decode_msgpack(data: bytes) -> Any:
    """Return what was encoded."""
    return msgpack.unpackb(data, list_hook=_unflagged, strict_map_key=False)


def encode_cbor(value: Any) -> bytes:
    """Return `value` in CBOR; cbor2 must be installed."""
    cbor2 = cbor_library()

    def tagged(part: Any) -> Any:
        if isinstance(part, tuple):
            return cbor2.CBORTag(TUPLE_TAG, tuple(map(tagged, part)))
        if isinstance(part, list):
            return list(map(tagged, part))
        if isinstance(part, (set, frozenset)):
            return frozenset(map(tagged, part))
        if isinstance(part, dict):
            return {tagged(key): tagged(each) for key, each in part.items()}
        return part

    return bytes(cbor2.dumps(tagged(value)))


def decode_cbor(data: bytes) -> Any:
    """Return what was encoded; cbor2 must be installed."""
    cbor2 = cbor_library()

    def restored(*given: Any) -> Any:
        # Its versions don't agree on what comes with the tag, before or after it.
        tag = next(each for each in given if isinstance(each, cbor2.CBORTag))
        return tuple(tag.value) if tag.tag == TUPLE_TAG else tag

    return load_cbor(data, tag_hook=restored)
