"""Compression of one buffer: lz4, zstd, or none.

A decompression yields exactly the length that was announced, and announces at most
`MAX_RATIO` times what is stored, so a small entry can't fill the memory. lz4 never
shrinks further than that; where zstd does, the frame is followed by zeros.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from persicache.errors import CorruptEntry, MissingDependency, UnknownCodec

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["LZ4", "MAX_RATIO", "NONE", "ZSTD", "compress", "decompress", "named"]

NONE: Final = 0
LZ4: Final = 1
ZSTD: Final = 2
MAX_RATIO: Final = 256
#: Smaller buffers are stored as they are.
MIN_NBYTES: Final = 512

_NAMES: Final[dict[object, int]] = {None: NONE, "none": NONE, "lz4": LZ4, "zstd": ZSTD}


def named(name: object) -> int:
    """Return the number of a compression, and see that it can be used here.

    Raises
    ------
    ValueError
        If there is no such compression.
    MissingDependency
        If its package is not installed.
    """
    if not isinstance(name, (str, type(None))) or name not in _NAMES:
        raise ValueError(f"unknown compression {name!r}: give 'lz4', 'zstd' or None")
    number = _NAMES[name]
    if number:
        _library(number)
    return number


def _library(number: int) -> ModuleType:
    name = {LZ4: "lz4.frame", ZSTD: "zstandard"}[number]
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependency(package=name.partition(".")[0], extra="compression") from error


def compress(buffer: Any, number: int) -> tuple[Any, int]:
    """Return `buffer` and the compression that it is stored with: none if it doesn't shrink."""
    if number == NONE or len(buffer) < MIN_NBYTES:
        return buffer, NONE
    library = _library(number)
    packed = (
        library.compress(buffer, store_size=False)
        if number == LZ4
        else library.ZstdCompressor(level=3).compress(buffer)
    )
    floor = -(-len(buffer) // MAX_RATIO)
    if len(packed) < floor:
        packed += bytes(floor - len(packed))
    return (packed, number) if len(packed) < len(buffer) else (buffer, NONE)


def decompress(stored: memoryview, number: int, nbytes: int) -> Any:
    """Return the `nbytes` bytes that `stored` stands for, writable unless they weren't compressed.

    Raises
    ------
    CorruptEntry
        If it doesn't yield exactly as many.
    """
    if number == NONE:
        if nbytes != len(stored):
            raise CorruptEntry(key=None, place="", reason="a buffer is not as long as its table says")
        return stored
    if number not in (LZ4, ZSTD):
        raise UnknownCodec(key=None, place="", reason=f"compression {number} is unknown here")
    if nbytes > MAX_RATIO * len(stored):
        raise CorruptEntry(key=None, place="", reason=f"a buffer claims to grow to {nbytes} bytes")
    library = _library(number)
    unpack = _unpack_lz4 if number == LZ4 else _unpack_zstd
    try:
        return unpack(library, stored, nbytes)
    except (RuntimeError, EOFError, ValueError, getattr(library, "ZstdError", RuntimeError)) as error:
        raise CorruptEntry(key=None, place="", reason=f"a compressed buffer is damaged: {error}") from error


def _unpack_lz4(library: ModuleType, stored: memoryview, nbytes: int) -> bytearray:
    unpacker = library.LZ4FrameDecompressor(return_bytearray=True)
    out: bytearray = unpacker.decompress(stored, max_length=nbytes)
    # The end mark of a frame may need one more, empty read.
    extra = b"" if unpacker.eof else unpacker.decompress(b"", max_length=1)
    if len(out) != nbytes or extra or not unpacker.eof:
        raise ValueError("it is not as long as its table says")
    return out


def _unpack_zstd(library: ModuleType, stored: memoryview, nbytes: int) -> bytearray:
    # zstd itself refuses a frame that yields more than it announces.
    if library.frame_content_size(stored) != nbytes:
        raise ValueError("it is not as long as its table says")
    out = bytearray(nbytes)
    with library.ZstdDecompressor().stream_reader(stored) as reader:
        view, filled = memoryview(out), 0
        while filled < nbytes and (n := reader.readinto(view[filled:])):
            filled += n
    if filled != nbytes:
        raise ValueError("it is not as long as its table says")
    return out
