"""The envelope: the bytes of one entry, version 1.

All integers are little-endian. ``n`` is the number of buffers, ``align`` rounds up to 64.

======================  =====  ==========================================================
offset                  bytes  field
======================  =====  ==========================================================
0                       8      magic ``89 50 73 69 43 0d 0a 1a``
8                       1      format version: 1
9                       1      flags: 1 signed, 2 the last buffer is the body
10                      1      codec: 1 tree, 2 pickle
11                      1      zero
12                      4      n
16                      16     write id: random, new in every write
32                      8      length of the metadata
40                      8      length of the body
48                      8      length of the whole entry
56                      8      what the value cost to compute: float64 seconds, NaN if unknown
64                      32     digest: blake3 of ``AD``, bytes 0-63, and bytes 128 to the
                               end of the body, ``AD`` being the length of the namespace
                               (4 bytes), the namespace and the key text, both in UTF-8
                               (byte 0 can't be a part of UTF-8, so it ends the key)
96                      32     if signed: keyed blake3 of the digest; else zero
128                     64 n   the buffer table, a record of 64 bytes a buffer:

                               - 8: stored length
                               - 8: length after decompression
                               - 1: compression: 0 none, 1 lz4 frame, 2 zstd frame
                               - 15: zero
                               - 32: blake3 of the stored bytes; zero where nobody checks it
128 + 64 n                     metadata: a msgpack map with ``created`` (POSIX seconds),
                               ``key`` (text), ``writer``, and more
then                           body: what the codec makes of it
align(end before it)           each buffer, with zeros before it
======================  =====  ==========================================================

The digest covers the table, and the table the digests of the buffers, so whatever changes
in an entry, or moves it under another key, is noticed; and a reader can check the head of a
large entry without touching its buffers. Nothing in the envelope says where a buffer lies:
the layout follows from the lengths, so there is less that can lie.

A signature signs the digest: blake3 is collision-resistant, so signing the digest is
signing the entry.
"""

from __future__ import annotations

import hmac
import math
import os
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from blake3 import blake3

from persicache.codecs import compression as compressions
from persicache.codecs.buffer import Buffer
from persicache.codecs.hashing import hasher
from persicache.codecs.late_head import LATE_FROM_NBYTES, LateHead
from persicache.errors import BadSignature, CorruptEntry, NewerFormat

__all__ = [
    "Envelope",
    "associated_data",
    "hashed",
    "identify",
    "open_envelope",
    "open_plain",
    "peek_cost",
    "peek_metadata",
    "seal",
    "seal_plain",
]


MAGIC: Final = b"\x89PsiC\r\n\x1a"
VERSION: Final = 1
SIGNED: Final = 1
BODY_IN_BUFFER: Final = 2
ALL_FLAGS: Final = 3
HEADER: Final = Struct("<8sBBBBI16sQQQd")
#: The end of a header, and how one of an entry with neither flags nor buffers starts, by codec.
SIZES: Final = Struct("<QQQd")
PLAIN_STARTS: Final = [MAGIC + bytes([VERSION, 0, codec, 0]) + bytes(4) for codec in range(256)]
RECORD: Final = Struct("<QQB15s32s")
LENGTH: Final = Struct("<I")
HEAD_NBYTES: Final = 128
NO_MAC: Final = bytes(32)
NO_RESERVE: Final = bytes(15)
NO_HASH: Final = bytes(32)
SMALL_NBYTES: Final = 16 * 1024
#: Smaller bodies are not worth a compression.
COMPRESSIBLE_NBYTES: Final = 4096


class Envelope(NamedTuple):
    """The verified head of an entry: all but its buffers."""

    codec: int
    is_signed: bool
    cost_seconds: float
    digest: bytes
    n_buffers: int
    body_in_buffer: bool
    body: Buffer
    end: int


_new = tuple.__new__  # a third of the time of Envelope(...), on the path of every hit


def associated_data(namespace: str, key_text: str = "") -> bytes:
    """Return the bytes that tie an entry to its key.

    Examples
    --------
    >>> associated_data("ns") + b"key" == associated_data("ns", "key")
    True
    """
    space = namespace.encode()
    return LENGTH.pack(len(space)) + space + key_text.encode()


def identify(head: Buffer) -> str | None:
    """Return the write id in the first bytes of an entry, None if they begin none."""
    if len(head) < HEADER.size or bytes(head[:8]) != MAGIC:
        return None
    return bytes(head[16:32]).hex()


def peek_metadata(data: Buffer) -> bytes:
    """Return the metadata of an entry, as unverified as the entry; ValueError if it is none."""
    if identify(data) is None:
        raise ValueError("it doesn't begin like an entry of persicache")
    fields = HEADER.unpack_from(data)
    start = HEAD_NBYTES + fields[5] * RECORD.size
    return bytes(data[start : start + fields[7]])


def peek_cost(data: Buffer) -> float:
    """Return what an entry's value cost to compute, in seconds, as unverified as the entry."""
    return float(HEADER.unpack_from(data)[10])


def hashed(buffer: Buffer) -> bytes:
    """Return the blake3 digest of `buffer`, on several threads when it is large."""
    return hasher(len(buffer)).update(buffer).digest()


def aligned(offset: int) -> int:
    """Round `offset` up to a multiple of 64: a cache line, and wide enough for any vector unit."""
    return (offset + 63) & ~63


def seal(
    *,
    codec: int,
    metadata: bytes,
    body: Buffer,
    buffers: Sequence[Buffer],
    ad: bytes,
    compression: int = compressions.NONE,
    signing_key: bytes | None = None,
    cost_seconds: float = math.nan,
    hashes_buffers: bool = True,
    new_write_id: Callable[[int], bytes] = os.urandom,
) -> Sequence[Buffer]:
    """Return the chunks of an entry; buffers that aren't compressed are not copied.

    Parameters
    ----------
    codec : int
        What makes sense of `body` and `buffers`.
    metadata, body : bytes-like
        As the table above says.
    buffers : sequence of bytes-like
        Large parts of the value, written as they lie in memory.
    ad : bytes
        From `associated_data`.
    compression : int, default none
        Applied to each buffer that shrinks by it.
    signing_key : bytes, optional
        32 bytes.
    cost_seconds : float, default NaN
        What the value took to compute.
    hashes_buffers : bool, default True
        Whether buffers get checksums; an entry without can be opened only as `trusted`.
    new_write_id : callable
        From a number of bytes to as many that nobody else will draw.
    """
    if not buffers and len(body) < COMPRESSIBLE_NBYTES:
        return [seal_plain(codec, metadata, body, ad, cost_seconds, new_write_id(16), signing_key)]
    write_id = new_write_id(16)
    flags = SIGNED if signing_key else 0
    if compression and len(body) >= COMPRESSIBLE_NBYTES:
        flags |= BODY_IN_BUFFER
        buffers, body = [*buffers, body], b""
    packed = [(*compressions.compress(buffer, compression), len(buffer)) for buffer in buffers]
    head_nbytes = HEAD_NBYTES + len(packed) * RECORD.size + len(metadata)
    total = head_nbytes + len(body)
    tail: list[Buffer] = [body] if body else []
    for buffer, _, _ in packed:
        start = aligned(total)
        if start > total:
            tail.append(bytes(start - total))
        if len(buffer):
            tail.append(buffer)
        total = start + len(buffer)

    def head() -> bytes:
        table = b"".join(
            RECORD.pack(
                len(buffer), raw_nbytes, used, NO_RESERVE, hashed(buffer) if hashes_buffers else NO_HASH
            )
            for buffer, used, raw_nbytes in packed
        )
        sizes = (len(metadata), len(body), total)
        header = HEADER.pack(MAGIC, VERSION, flags, codec, 0, len(packed), write_id, *sizes, cost_seconds)
        digest = _digest(ad, header, table, metadata, body)
        return header + digest + _mac(digest, signing_key) + table + metadata

    if total >= LATE_FROM_NBYTES and hashes_buffers:
        return LateHead(head_nbytes, tail, head)
    return [head(), *tail]


def seal_plain(
    codec: int,
    metadata: bytes,
    body: Buffer,
    ad: bytes,
    cost_seconds: float,
    write_id: bytes,
    signing_key: bytes | None = None,
) -> bytes:
    """Return an entry without buffers, as most are: see `seal`."""
    after = metadata + body
    header = HEADER.pack(
        MAGIC,
        VERSION,
        SIGNED if signing_key else 0,
        codec,
        0,
        0,
        write_id,
        len(metadata),
        len(body),
        HEAD_NBYTES + len(after),
        cost_seconds,
    )
    digest = blake3(ad + header + after).digest()
    return header + digest + _mac(digest, signing_key) + after


def _mac(digest: bytes, signing_key: bytes | None) -> bytes:
    return NO_MAC if signing_key is None else blake3(digest, key=signing_key).digest()


def _digest(*parts: Buffer) -> bytes:
    hashing = hasher(sum(map(len, parts)))
    for part in parts:
        hashing.update(part)
    return hashing.digest()


def open_envelope(
    data: Buffer, ad: bytes, *, key: object, place: str, signing_keys: Sequence[bytes] = ()
) -> Envelope:
    """Verify the head of an entry: everything but its buffers.

    Parameters
    ----------
    data : bytes-like
        The whole entry.
    ad : bytes
        From `associated_data`, for the key that it should belong to.
    key, place
        For the errors.
    signing_keys : sequence of bytes, optional
        If there are any, the entry must be signed with one of them.

    Raises
    ------
    CorruptEntry
        If anything is not as it was written.
    """
    try:
        nbytes = len(data)
        if nbytes < HEAD_NBYTES:
            raise _Corrupt(f"{nbytes} bytes are too few for an entry")
        header = HEADER.unpack_from(data)
        magic, version, flags, codec, zero, n, _, meta_nbytes, body_nbytes, total, cost = header
        body_start = HEAD_NBYTES + n * RECORD.size + meta_nbytes
        end = body_start + body_nbytes
        if (
            magic != MAGIC
            or version != VERSION
            or total != nbytes
            or (end > total if n else end != total)
            or zero
            or flags > ALL_FLAGS
        ):
            raise _wrong_header(magic, version)
        if nbytes < SMALL_NBYTES and type(data) is bytes:
            # Slices of a small one are cheaper copied than viewed.
            view: bytes | memoryview = data
            found = blake3(ad + data[:64] + data[HEAD_NBYTES:end]).digest()
        else:
            view = memoryview(data)
            found = _digest(ad, view[:64], view[HEAD_NBYTES:end])
        digest = bytes(view[64:96])
        if found != digest:
            raise _Corrupt("its checksum is wrong: it is damaged, or belongs to another key")
        mac = bytes(view[96:HEAD_NBYTES])
        if signing_keys or flags & SIGNED or mac != NO_MAC:
            _check_signature(digest, mac, is_signed=flags & SIGNED, keys=signing_keys)
    except _Corrupt as why:
        raise why.kind(key=key, place=place, reason=str(why)) from None
    body = view[body_start:end]
    return _new(
        Envelope, (codec, bool(flags & SIGNED), cost, digest, n, bool(flags & BODY_IN_BUFFER), body, end)
    )


def open_plain(data: bytes, ad: bytes, codec: int) -> tuple[bytes, float] | None:
    """Return body and cost of a small entry of a codec, as most are; None for any other.

    Such an entry has neither buffers nor a signature. None says nothing about the entry:
    `open_envelope` knows what is wrong with it, if anything is. This takes half its time.
    """
    nbytes = len(data)
    if not HEAD_NBYTES <= nbytes < SMALL_NBYTES or data[:16] != PLAIN_STARTS[codec]:
        return None
    meta_nbytes, body_nbytes, total, cost = SIZES.unpack_from(data, 32)
    start = HEAD_NBYTES + meta_nbytes
    if not total == nbytes == start + body_nbytes:
        return None
    if data[64:HEAD_NBYTES] != blake3(ad + data[:64] + data[HEAD_NBYTES:]).digest() + NO_MAC:
        return None
    return data[start:], cost


def _wrong_header(magic: bytes, version: int) -> _Corrupt:
    """Say what is wrong with a header."""
    if magic != MAGIC:
        return _Corrupt("it doesn't begin like an entry of persicache")
    if version > VERSION:
        newest = f"it is of format version {version}, and this persicache reads up to {VERSION}; upgrade it"
        return _Corrupt(newest, NewerFormat)
    return _Corrupt("its header contradicts its length: it is cut, or something follows it")


def open_buffers(
    data: Buffer, opened: Envelope, *, key: object, place: str, trusted: bool = False
) -> list[Buffer]:
    """Verify the buffers of an entry, and return them; only compressed ones are copies.

    Parameters
    ----------
    data : bytes-like
        The whole entry.
    opened : Envelope
        Its head.
    key, place
        For the errors.
    trusted : bool, default False
        Whether the buffers are known to be what they were when they were last verified.

    Raises
    ------
    CorruptEntry
        If anything is not as it was written; nothing is decompressed before that is known.
    """
    view = memoryview(data)
    try:
        buffers: list[Buffer] = []
        end = opened.end
        for offset, record in _layout(view, opened.n_buffers, end):
            # What may be unpickled is verified on every read.
            is_body = opened.body_in_buffer and len(buffers) == opened.n_buffers - 1
            buffers.append(_buffer(view, end, offset, record, trusted=trusted and not is_body))
            end = offset + record[0]
    except _Corrupt as why:
        raise why.kind(key=key, place=place, reason=str(why)) from None
    except CorruptEntry as error:
        raise type(error)(key=key, place=place, reason=error.reason) from None
    return buffers


class _Corrupt(Exception):
    """A reason, on its way to where key and place are known."""

    def __init__(self, reason: str, kind: type[CorruptEntry] = CorruptEntry) -> None:
        super().__init__(reason)
        self.kind = kind


def _check_signature(digest: bytes, mac: bytes, *, is_signed: int, keys: Sequence[bytes]) -> None:
    if not is_signed:
        if mac != NO_MAC:
            raise _Corrupt("it has a signature that its header denies")
        if keys:
            raise _Corrupt("it isn't signed, and a signing_key was given", BadSignature)
    elif keys and not any(hmac.compare_digest(blake3(digest, key=key).digest(), mac) for key in keys):
        raise _Corrupt("it was signed with another key", BadSignature)


_Record: TypeAlias = tuple[int, int, int, bytes, bytes]


def _layout(data: memoryview, n: int, end: int) -> list[tuple[int, _Record]]:
    """Place the buffers, and check that they fill the entry to its last byte."""
    spans = []
    for record in RECORD.iter_unpack(data[HEAD_NBYTES : HEAD_NBYTES + n * RECORD.size]):
        stored, _, _, reserve, _ = record
        if reserve != NO_RESERVE:
            raise _Corrupt("its buffer table is damaged")
        offset = aligned(end)
        spans.append((offset, record))
        end = offset + stored
    if end != len(data):
        raise _Corrupt("its buffers don't fill it")
    return spans


def _buffer(data: memoryview, end: int, offset: int, record: _Record, *, trusted: bool) -> Buffer:
    stored, raw, used, _, digest = record
    view = data[offset : offset + stored]
    if not trusted:
        if any(data[end:offset]):
            raise _Corrupt("there is something between its buffers")
        if hashed(view) != digest:
            raise _Corrupt("the checksum of a buffer is wrong: it is damaged")
    buffer: Buffer = compressions.decompress(view, used, raw)
    return buffer
