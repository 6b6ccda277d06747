"""The seal at the end of a copy's file: whose copy it is, and that it is intact.

========= ================================================================
data      the bytes of the blob
label     a msgpack array: place, name, version, and whether it was private
4         the length of the label, little-endian
32        blake3 of all before it
8         ``b"pc-near1"``
========= ================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgpack

from persicache.codecs import hasher
from persicache.storage import Buffer, Version

__all__ = ["Label", "seal", "unseal"]

_MAGIC: Final = b"pc-near1"
_LENGTH: Final = struct.Struct("<I")
_FOOT: Final = struct.Struct("<I32s8s")


class Label(NamedTuple):
    """Whose copy it is.

    Attributes
    ----------
    place : str
        The identity of the place.
    name : str
        The name of the blob there.
    version : str
        The version that it had.
    is_private : bool
        Whether nobody but this user could have written it.
    """

    place: str
    name: str
    version: Version
    is_private: bool


def seal(chunks: Sequence[Buffer], label: Label) -> bytes:
    """Return what is to follow `chunks` in the file."""
    packed = msgpack.packb(label)
    length = _LENGTH.pack(len(packed))
    hashed = hasher(sum(map(len, chunks)))
    for chunk in (*chunks, packed, length):
        hashed.update(chunk)
    return bytes(packed + length + hashed.digest() + _MAGIC)


def unseal(buffer: Buffer, *, is_verified: bool) -> tuple[Buffer, Label] | None:
    """Return the data and the label in a file, None if it is damaged.

    Parameters
    ----------
    buffer : Buffer
        All of the file.
    is_verified : bool
        Whether these bytes are known to be intact.

    Examples
    --------
    >>> label = Label("here", "a", "v1", True)
    >>> file = b"data" + seal([b"data"], label)
    >>> unseal(file, is_verified=False) == (b"data", label)
    True
    >>> unseal(b"date" + file[4:], is_verified=False) is None
    True
    """
    view = memoryview(buffer)
    end = len(view) - _FOOT.size
    if end < 0:
        return None
    length, digest, magic = _FOOT.unpack(view[end:])
    if magic != _MAGIC or length > end:
        return None
    if not is_verified:
        hashed = view[: end + _LENGTH.size]
        if hasher(len(hashed)).update(hashed).digest() != digest:
            return None
    label = Label(*msgpack.unpackb(view[end - length : end]))
    # A slice of bytes is cheaper to read than one of a view; large ones are not copied.
    data = buffer if isinstance(buffer, bytes) else view
    return data[: end - length], label
