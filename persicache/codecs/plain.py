"""Plain formats: files that hold exactly what a well-known library writes.

They are for files that other tools read. They carry no checksum, no signature and no key:
what damage the library notices is a `CorruptEntry`, over-long keys are refused, and types
are the library's (JSON gives back lists for tuples).
"""

# ruff: noqa: D102 - the protocol has the docstrings

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import msgpack
import numpy as np
from numpy.lib import format as npy

from persicache.codecs import arrays, pickled
from persicache.codecs.buffer import Buffer
from persicache.codecs.codec import Decoded, Metadata, Owner, Source
from persicache.codecs.trust import NeedsCode, Trust
from persicache.errors import (
    CorruptEntry,
    MissingDependency,
    PersicacheError,
    UnencodableValue,
    UnloadableValue,
    UntrustedPickle,
)

__all__ = ["FORMATS", "PlainCodec", "PlainFormat", "cbor_library", "file_format", "load_cbor"]


@dataclass(frozen=True)
class PlainFormat:
    """How one library writes a value and reads it.

    Parameters
    ----------
    extension : str
        What its files end in, with the dot.
    dump : callable
        From a value to chunks of bytes; raises anything if it can't.
    load : callable
        From the bytes of a file to its value; raises anything if it can't.
    runs_code : bool, default False
        Whether loading runs code that the file chooses, so that the trust rule holds for it.
    load_plain : callable, optional
        For a format whose loading does: as `load`, but without; NeedsCode if that can't be. What it
        loads is stored, and loaded, where the trust rule forbids the rest.
    """

    extension: str
    dump: Callable[[Any], Sequence[Buffer]]
    load: Callable[[Buffer], Any]
    runs_code: bool = False
    load_plain: Callable[[Buffer], Any] | None = None


class PlainCodec:
    """Encodes a value in a plain format; see `Codec`.

    Parameters
    ----------
    plain : PlainFormat
        The format.
    allow_pickle : bool, optional
        See `Trust`.

    Examples
    --------
    >>> codec, owner = PlainCodec(FORMATS["json"]), Owner("k", "k", "here")
    >>> codec.encode({"a": [1, 2]}, owner, is_private=True)
    [b'{"a": [1, 2]}']
    """

    keeps_keys: Final = False

    def __init__(self, plain: PlainFormat, *, allow_pickle: bool | None = None) -> None:
        self.extension = plain.extension
        self._plain = plain
        self._trust = Trust(allow_pickle=allow_pickle)

    @staticmethod
    def identify(head: Buffer) -> str | None:  # noqa: ARG004 - the protocol's
        return None

    def encode(
        self,
        value: object,
        owner: Owner,
        *,
        is_private: bool,
        cost_seconds: float | None = None,  # noqa: ARG002 - a plain file has no room for it
        extra: Mapping[str, Any] | None = None,  # noqa: ARG002 - a plain file has no room for it
    ) -> Sequence[Buffer]:
        is_trusted = not self._plain.runs_code or self._trust.can_store(is_private=is_private)
        if not is_trusted and self._plain.load_plain is None:
            raise UntrustedPickle(key=owner.key, place=owner.place, reason="its format is pickle")
        try:
            chunks = self._plain.dump(value)
            if not is_trusted and self._plain.load_plain is not None:
                self._plain.load_plain(b"".join(chunks))
        except MissingDependency:
            raise
        except NeedsCode as error:
            if is_trusted:
                raise UnencodableValue(key=owner.key, reason=str(error)) from None
            raise UntrustedPickle(key=owner.key, place=owner.place, reason=str(error)) from None
        except Exception as error:
            raise UnencodableValue(key=owner.key, reason=f"{type(error).__name__}: {error}") from error
        return chunks

    def decode(self, source: Source, owner: Owner) -> Decoded:
        load = self._plain.load
        if self._plain.runs_code:
            try:
                self._trust.check_load(
                    is_private=source.is_private, is_signed=False, key=owner.key, place=owner.place
                )
            except UntrustedPickle:
                if self._plain.load_plain is None:
                    raise
                load = self._plain.load_plain
        try:
            return Decoded(load(source.buffer), math.nan)
        except MissingDependency:
            raise
        except NeedsCode as error:
            if self._plain.runs_code:
                raise UntrustedPickle(key=owner.key, place=owner.place, reason=str(error)) from None
            raise UnloadableValue(key=owner.key, place=owner.place, reason=str(error)) from None
        except (AttributeError, ImportError) as error:
            raise UnloadableValue(
                key=owner.key, place=owner.place, reason=f"{type(error).__name__}: {error}"
            ) from error
        except Exception as error:
            raise CorruptEntry(
                key=owner.key, place=owner.place, reason=f"{type(error).__name__}: {error}"
            ) from error

    def metadata(self, data: Buffer, owner: Owner) -> Metadata:  # noqa: ARG002 - the protocol's
        raise _nothing_told(owner)

    def peek(self, data: Buffer, owner: Owner) -> Metadata:  # noqa: ARG002 - the protocol's
        raise _nothing_told(owner)

    def key_text(self, data: Buffer, owner: Owner) -> str:  # noqa: ARG002 - the protocol's
        raise _nothing_told(owner)


def _nothing_told(owner: Owner) -> PersicacheError:
    return CorruptEntry(key=owner.key, place=owner.place, reason="a plain file says nothing of itself")


def file_format(
    dump: Callable[[Any, io.BufferedIOBase], object],
    load: Callable[[io.BufferedIOBase], Any],
    *,
    extension: str = ".dat",
) -> PlainFormat:
    """Make a format of two functions such as `pickle.dump` and `pickle.load`.

    Parameters
    ----------
    dump : callable
        Called with a value and a binary file to write it to.
    load : callable
        Called with a binary file; returns the value. What it runs is the caller's choice: the
        trust rule doesn't look into it.
    extension : str, default ".dat"
        What its files end in, with the dot.

    Examples
    --------
    >>> plain = file_format(lambda value, file: file.write(value[::-1]), lambda file: file.read()[::-1])
    >>> plain.dump(b"abc")
    [b'cba']
    """

    def dump_chunks(value: Any) -> list[Buffer]:
        file = io.BytesIO()
        dump(value, file)
        return [file.getvalue()]

    return PlainFormat(extension, dump_chunks, lambda data: load(io.BytesIO(data)))


def _dump_text(value: Any) -> list[Buffer]:
    if type(value) is not str:
        raise TypeError(f"format 'text' holds str, not {type(value).__name__}")
    return [value.encode()]


def _dump_bytes(value: Any) -> list[Buffer]:
    if type(value) is not bytes:
        raise TypeError(f"format 'bytes' holds bytes, not {type(value).__name__}")
    return [value]


def cbor_library() -> Any:
    """Return cbor2, which must be installed."""
    try:
        return import_module("cbor2")
    except ImportError as error:
        raise MissingDependency(package="cbor2", extra="cbor") from error


def load_cbor(data: Buffer, **options: Any) -> Any:
    """Return the one value in `data`; the options are those of `cbor2.load`."""
    file = io.BytesIO(data)
    value = cbor_library().load(file, **options)
    if file.read(1):
        raise ValueError("something follows the value")
    return value


def _dump_npy(value: Any) -> list[Buffer]:
    if type(value) is not np.ndarray:
        raise TypeError(f"format 'npy' holds numpy arrays, not {type(value).__name__}")
    if value.dtype.hasobject:
        raise TypeError("format 'npy' holds no objects; use format 'auto' or 'pickle'")
    header = io.BytesIO()
    about = npy.header_data_from_array_1_0(value)
    try:
        npy.write_array_header_1_0(header, about)
    except ValueError:
        # A header of more than 64 KiB, or field names beyond latin-1: rare enough for a copy.
        npy.write_array(header, value, version=(3, 0), allow_pickle=False)
        return [header.getvalue()]
    return [header.getvalue(), arrays.raw_bytes(value.T if about["fortran_order"] else value)]


def _load_npy(data: Buffer) -> Any:
    view = memoryview(data)
    file = io.BytesIO(view[:NPY_HEADER_NBYTES])
    if npy.read_magic(file) != (1, 0):
        return _load_rare_npy(view)
    shape, is_fortran, dtype = npy.read_array_header_1_0(file, max_header_size=NPY_HEADER_NBYTES)
    body = view[file.tell() :]
    if dtype.hasobject or dtype.itemsize * math.prod(shape) != len(body):
        raise ValueError("the file is not as long as its header says, or holds objects")
    own = bytearray(body) if body.readonly else body
    return np.ndarray(shape, dtype, buffer=own, order="F" if is_fortran else "C")


def _load_rare_npy(data: memoryview) -> Any:
    file = io.BytesIO(data)
    value = npy.read_array(file, allow_pickle=False, max_header_size=len(data))
    if file.read(1):
        raise ValueError("something follows the array")
    return value


#: The longest header of npy version 1.0, with its lead.
NPY_HEADER_NBYTES: Final = 10 + 65536

#: The plain formats by name.
FORMATS: Final[Mapping[str, PlainFormat]] = {
    "pickle": PlainFormat(
        ".pkl",
        lambda value: [pickled.dump(value, in_band=True)[0]],
        lambda data: pickled.load(data, []),
        runs_code=True,
    ),
    "json": PlainFormat(
        ".json",
        lambda value: [json.dumps(value, ensure_ascii=False).encode()],
        lambda data: json.loads(bytes(data)),
    ),
    "text": PlainFormat(".txt", _dump_text, lambda data: bytes(data).decode()),
    "bytes": PlainFormat(".bin", _dump_bytes, bytes),
    "cbor": PlainFormat(".cbor", lambda value: [cbor_library().dumps(value)], load_cbor),
    "msgpack": PlainFormat(
        ".msgpack",
        lambda value: [msgpack.packb(value)],
        lambda data: msgpack.unpackb(data, strict_map_key=False),
    ),
    "npy": PlainFormat(".npy", _dump_npy, _load_npy),
}
