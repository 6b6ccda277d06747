"""Bytes that are not what was stored never become a value."""

import importlib.util
import pickle
import struct
import time
import tracemalloc
from pathlib import Path

import msgpack
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from blake3 import blake3
from same import assert_same

from persicache.codecs import Bytes, EntryCodec, Owner, envelope
from persicache.codecs.compression import LZ4, MAX_RATIO, ZSTD
from persicache.codecs.tree import pack_tree
from persicache.errors import (
    BadSignature,
    CorruptEntry,
    NewerFormat,
    UnknownCodec,
    UnloadableValue,
    UntrustedPickle,
)

OWNER = Owner("the key", "the key", "the place")
GOLDEN = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)

ENTRIES = {
    "small": ({"a": [1, "two"]}, {}),
    "array": ([np.arange(100.0), np.arange(70.0)], {}),
    "signed": ({"a": np.arange(80.0)}, {"signing_key": "secret"}),
    "pickle": ({1, "a", frozenset([complex])}, {}),
    "frame": (pd.DataFrame({"a": np.arange(80.0)}), {}),
    "lz4": (["x" * 5000, np.zeros(200)], {"compression": "lz4"}),
    "zstd": (["x" * 5000, np.zeros(200)], {"compression": "zstd"}),
}


def made(name):
    value, options = ENTRIES[name]
    codec = EntryCodec(**options)
    return codec, b"".join(codec.encode(value, OWNER, is_private=True))


def decode(codec, entry, owner=OWNER, *, is_private=True):
    return codec.decode(Bytes(entry, is_private=is_private), owner).value


def refused(codec, entry, kind=CorruptEntry):
    with pytest.raises(kind) as info:
        decode(codec, entry)
    assert (info.value.key, info.value.place) == ("the key", "the place")
    return info.value


@pytest.mark.parametrize("name", ENTRIES)
def test_every_truncation_is_refused(name):
    codec, entry = made(name)
    for n in range(len(entry)):
        refused(codec, entry[:n])


@pytest.mark.parametrize("name", ENTRIES)
def test_every_flipped_bit_is_refused(name):
    codec, entry = made(name)
    assert_intact = decode(codec, entry)
    assert assert_intact is not None
    for i in range(len(entry)):
        for bit in range(8):
            bad = bytearray(entry)
            bad[i] ^= 1 << bit
            refused(codec, bad)


@pytest.mark.parametrize("name", ENTRIES)
def test_trailing_bytes_are_refused(name):
    codec, entry = made(name)
    for tail in (b"\0", b"\0" * 64, entry):
        refused(codec, entry + tail)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_belongs_to_one_key_and_one_namespace(name):
    codec, entry = made(name)
    with pytest.raises(CorruptEntry, match="belongs to another key"):
        decode(codec, entry, Owner("other", "other", "the place"))
    other = EntryCodec(namespace="other", **ENTRIES[name][1])
    refused(other, entry)


def test_namespace_and_key_do_not_run_into_each_other():
    entry = b"".join(EntryCodec(namespace="ab").encode(1, Owner("c", "c", "p"), is_private=True))
    with pytest.raises(CorruptEntry):
        EntryCodec(namespace="a").decode(Bytes(entry, is_private=True), Owner("bc", "bc", "p"))


def test_a_stripped_or_wrong_signature_is_refused():
    _, unsigned = made("array")
    signing = EntryCodec(signing_key="secret")
    refused(signing, unsigned, BadSignature)
    _, entry = made("signed")
    refused(EntryCodec(signing_key="another"), entry, BadSignature)
    assert "a" in decode(EntryCodec(signing_key=["new", "secret"]), entry)
    # Without the key the signature says nothing, and the checksum still holds.
    assert "a" in decode(EntryCodec(), entry)


def sealed(value=1, *, codec=1, **options):
    body, buffers = pack_tree(value)
    return b"".join(
        envelope.seal(
            codec=codec,
            metadata=msgpack.packb({"created": 0.0, "key": "the key", "writer": "test"}),
            body=options.pop("body", body),
            buffers=buffers,
            ad=envelope.associated_data("", "the key"),
            **options,
        )
    )


def resealed(entry, offset, raw):
    """Change bytes of the head and make the checksum right again, as an attacker would."""
    bad = bytearray(entry)
    bad[offset : offset + len(raw)] = raw
    n, meta, body = struct.unpack_from("<I", bad, 12)[0], *struct.unpack_from("<QQ", bad, 32)
    end = 128 + 64 * n + meta + body
    ad = envelope.associated_data("", "the key")
    bad[64:96] = blake3(ad + bytes(bad[:64]) + bytes(bad[128:end])).digest()
    return bytes(bad)


def test_a_newer_format_says_so():
    error = refused(EntryCodec(), resealed(sealed(), 8, b"\x02"), NewerFormat)
    assert "upgrade" in str(error)


def test_an_unknown_codec_or_compression_says_so():
    refused(EntryCodec(), sealed(codec=9), UnknownCodec)
    entry = sealed(np.arange(1000.0), compression=LZ4)
    refused(EntryCodec(), resealed(entry, 128 + 16, b"\x07"), UnknownCodec)


@pytest.mark.parametrize("field", [12, 32, 40, 48])
@pytest.mark.parametrize("lie", [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
def test_lengths_that_lie_are_refused(field, lie):
    entry = sealed([np.arange(100.0), "x"])
    width = 4 if field == 12 else 8
    bad = bytearray(entry)
    bad[field : field + width] = (lie % 2 ** (8 * width)).to_bytes(width, "little")
    if bytes(bad) != entry:
        refused(EntryCodec(), bad)


@pytest.mark.parametrize("compression", [LZ4, ZSTD])
@pytest.mark.parametrize("claim", [0, 1, 99_999, 10**6 + 1, 10**12, 2**64 - 1])
def test_decompression_bombs_are_refused_in_bounded_memory(compression, claim):
    entry = sealed(np.zeros(10**6, dtype="u1"), compression=compression)
    bomb = resealed(entry, 128 + 8, struct.pack("<Q", claim))
    tracemalloc.start()
    start = time.process_time()
    refused(EntryCodec(), bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - start < 1
    assert peak < 4 * MAX_RATIO * len(entry)


@pytest.mark.parametrize("compression", [LZ4, ZSTD])
def test_very_compressible_buffers_are_read_again(compression):
    value = np.zeros(10**6)
    again = decode(EntryCodec(), sealed(value, compression=compression))
    assert_same(again, value)
    assert again.flags.writeable


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xc7\x01\x7f\x00",
        b"\x01\x01",
        b"",
        b"\xd4\x13\x05",
        b"\xd4\x0d\x05",
    ],
)
def test_a_tree_that_makes_no_sense_is_refused(body):
    refused(EntryCodec(), sealed(body=body))


def test_an_array_that_does_not_fit_its_buffer_is_refused():
    inner = msgpack.packb(["<f8", [10**6], False, b"1234"])
    refused(EntryCodec(), sealed(body=msgpack.packb(msgpack.ExtType(19, inner))))
    inner = msgpack.packb(["|O", [1], False, b"12345678"])
    refused(EntryCodec(), sealed(body=msgpack.packb(msgpack.ExtType(19, inner))))


def test_damage_to_a_buffer_after_the_first_read_is_noticed_by_its_stamp():
    codec, entry = made("array")
    bad = bytearray(entry)
    bad[-1] ^= 1
    assert codec.decode(Bytes(entry, is_private=True, stamp=1), OWNER).value
    with pytest.raises(CorruptEntry):
        codec.decode(Bytes(bad, is_private=True, stamp=2), OWNER)
    # The same stamp says that these are the very bytes that were verified.
    assert codec.decode(Bytes(bad, is_private=True, stamp=1), OWNER).value
    with pytest.raises(CorruptEntry):
        EntryCodec(verify="always").decode(Bytes(bad, is_private=True, stamp=1), OWNER)
    assert EntryCodec(verify="header").decode(Bytes(bad, is_private=True, stamp=1), OWNER).value


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("an untrusted pickle was loaded",))


def test_pickles_are_loaded_by_the_trust_rule_only():
    attack = sealed(codec=2, body=pickle.dumps(Exploit(), protocol=5))
    with pytest.raises(UntrustedPickle, match="signing_key"):
        decode(EntryCodec(), attack, is_private=False)
    with pytest.raises(UntrustedPickle):
        decode(EntryCodec(allow_pickle=False), attack, is_private=True)
    with pytest.raises(BadSignature):
        decode(EntryCodec(signing_key="secret"), attack, is_private=False)
    with pytest.raises(BadSignature):
        decode(EntryCodec(signing_key="secret"), attack, is_private=True)


def test_pickles_are_stored_where_they_will_be_loaded():
    value = {1, complex}
    with pytest.raises(UntrustedPickle, match="allow_pickle=True"):
        EntryCodec().encode(value, OWNER, is_private=False)
    for options in ({"allow_pickle": True}, {"signing_key": "s"}):
        codec = EntryCodec(**options)
        entry = b"".join(codec.encode(value, OWNER, is_private=False))
        assert decode(codec, entry, is_private=False) == value


def test_a_pickle_that_needs_something_missing_is_intact_but_unloadable():
    entry = sealed(codec=2, body=b"cno_such_module\nthing\n.")
    error = refused(EntryCodec(), entry, UnloadableValue)
    assert "no_such_module" in str(error)


def test_errors_travel_between_processes():
    codec, entry = made("small")
    error = refused(codec, entry[:-1])
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.key) == (CorruptEntry, str(error), "the key")


def test_metadata_is_kept():
    codec = EntryCodec(clock=lambda: 12.5)
    entry = b"".join(codec.encode(1, OWNER, is_private=True, cost_seconds=3.5, extra={"note": "x"}))
    about = codec.metadata(entry, OWNER)
    assert (about.created, about.cost_seconds, about.key_text) == (12.5, 3.5, "the key")
    assert about.extra == {"note": "x"}
    assert about.writer.startswith("persicache/")
    assert codec.decode(Bytes(entry, is_private=True), OWNER).cost_seconds == 3.5
    assert codec.key_text(entry, OWNER) == "the key"


@pytest.mark.parametrize("name", golden.VALUES)
def test_golden_entries_are_read_and_written_as_ever(name):
    entry = (GOLDEN / f"v1-{name}.pc").read_bytes()
    codec = EntryCodec(namespace="golden", signing_key=golden.SECRET if name == "signed" else None)
    decoded = codec.decode(Bytes(entry, is_private=False), Owner(name, name, "golden"))
    if name == "nested":
        assert decoded.value == golden.VALUES[name]
    else:
        assert_same(decoded.value, golden.VALUES[name])
    assert decoded.cost_seconds == 1.25
    if name in ("int", "array", "signed"):
        # The others hold a set, in any order, or what a compressor's version makes.
        assert golden.entry(name) == entry


def ext(kind, payload):
    return msgpack.ExtType(kind, msgpack.packb(payload))


def bomb_entry(body, buffers=(), *, compression=ZSTD):
    return b"".join(
        envelope.seal(
            codec=1,
            metadata=msgpack.packb({"created": 0.0, "key": "the key", "writer": "test"}),
            body=msgpack.packb(body),
            buffers=buffers,
            ad=envelope.associated_data("", "the key"),
            compression=compression,
        )
    )


def arrow_stream(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def frame_bomb(table, **options):
    about = {"type": "DataFrame", "attrs": {}, "columns": None, "freq": None, "zones": [], "zone": None}
    return bomb_entry(ext(23, [about, 0]), [arrow_stream(table, **options)], compression=0)


MEGA = bytes(1 << 20)
BOMBS = {
    "a buffer copied 2,000 times": lambda: bomb_entry([ext(18, 0)] * 2000, [MEGA]),
    "a buffer copied into bytearrays": lambda: bomb_entry([ext(5, [0])] * 2000, [MEGA]),
    "a bytearray of a size": lambda: bomb_entry(ext(5, [3 << 30])),
    "a fraction of a text": lambda: bomb_entry(ext(17, ["1e99999999"])),
    "a scalar of a size": lambda: bomb_entry(ext(20, ["S", 3 << 30])),
    "200 million nulls": lambda: frame_bomb(pa.table({"a": pa.nulls(200_000_000)})),
    "Arrow's own compression": lambda: frame_bomb(
        pa.table({"a": pa.array(np.zeros(10**7))}), compression="zstd"
    ),
    "runs": lambda: frame_bomb(
        pa.table({"a": pa.RunEndEncodedArray.from_arrays(pa.array([10**8], pa.int32()), pa.array([1.0]))})
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_entries_do_not_grow_without_bound(name):
    entry = BOMBS[name]()
    tracemalloc.start()
    start = time.process_time()
    refused(EntryCodec(), entry)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - start < 1
    assert peak < 100 * 2**20


def test_a_compressed_arrow_dictionary_is_noticed():
    words = pa.array(["word"] * 1000).dictionary_encode()
    refused(EntryCodec(), frame_bomb(pa.table({"a": words}), compression="lz4"))


def test_want_of_memory_is_no_corruption(monkeypatch):
    codec, entry = made("array")

    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr("persicache.codecs.entry.unpack_tree", no_memory)
    with pytest.raises(MemoryError):
        decode(codec, entry)


def test_a_time_zone_that_is_not_here_is_no_corruption():
    zone = bomb_entry(ext(14, ["Mars/Olympus_Mons"]))
    refused(EntryCodec(), zone, UnloadableValue)


def test_large_buffers_without_checksums_are_read_only_by_who_trusts_them():
    values = [np.arange(100.0), np.arange(70.0)]
    codec = EntryCodec(verify="header", hashes_buffers=False)
    entry = b"".join(codec.encode(values, OWNER, is_private=True))
    assert_same(decode(codec, entry), values)
    for verify in ("first", "always"):
        refused(EntryCodec(verify=verify), entry, CorruptEntry)
    for i in range(128):  # the head is checked as ever
        refused(codec, entry[:i] + bytes([entry[i] ^ 1]) + entry[i + 1 :], CorruptEntry)
    with pytest.raises(ValueError, match="compressed needs checksums"):
        EntryCodec(compression="zstd", hashes_buffers=False)
