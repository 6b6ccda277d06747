"""What the metadata of an Arrow IPC message says: whether its body is compressed.

pyarrow decompresses without a limit and without saying so; so the flatbuffer is looked into
before it is read.

References
----------
Message.fbs of the Arrow format,
https://github.com/apache/arrow/blob/main/format/Message.fbs; and the flatbuffers internals,
https://flatbuffers.dev/internals/
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 - a class
from typing import Final

__all__ = ["is_compressed"]

_U16: Final = Struct("<H")
_I32: Final = Struct("<i")
_U32: Final = Struct("<I")

#: Fields by their position in the schema.
_MESSAGE_HEADER_TYPE: Final = 1
_MESSAGE_HEADER: Final = 2
_DICTIONARY_DATA: Final = 1
_BATCH_COMPRESSION: Final = 3
#: Members of the union MessageHeader.
_DICTIONARY_BATCH: Final = 2
_RECORD_BATCH: Final = 3


def is_compressed(metadata: memoryview) -> bool:
    """Return whether a message announces a compressed body.

    Raises
    ------
    ValueError
        If it is no message.
    """
    try:
        return _is_compressed(bytes(metadata))
    except (IndexError, StructError) as error:
        raise ValueError("it is no Arrow message") from error


def _is_compressed(data: bytes) -> bool:
    message = _U32.unpack_from(data, 0)[0]
    kind_at = _field(data, message, _MESSAGE_HEADER_TYPE)
    header_at = _field(data, message, _MESSAGE_HEADER)
    if kind_at is None or header_at is None:
        return False
    table = header_at + _U32.unpack_from(data, header_at)[0]
    if data[kind_at] == _DICTIONARY_BATCH:
        data_at = _field(data, table, _DICTIONARY_DATA)
        if data_at is None:
            return False
        table = data_at + _U32.unpack_from(data, data_at)[0]
    elif data[kind_at] != _RECORD_BATCH:
        return False
    return _field(data, table, _BATCH_COMPRESSION) is not None


def _field(data: bytes, table: int, number: int) -> int | None:
    """Return where the n-th field of a table lies, None if it isn't there."""
    vtable = table - _I32.unpack_from(data, table)[0]
    entry = 4 + 2 * number
    if entry >= _U16.unpack_from(data, vtable)[0]:
        return None
    offset = _U16.unpack_from(data, vtable + entry)[0]
    return table + offset if offset else None
