"""What every storage does alike: one suite over every place, asking for capabilities."""

from __future__ import annotations

import contextlib
import pickle
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from test_storage_children import echo, in_fork, in_spawned

from persicache.errors import BlobNotFound, ConditionsUnsupported, VersionConflict
from persicache.mappings.near import NearStorage
from persicache.mappings.near_copies import Copies
from persicache.mappings.near_directory import DirectoryCopies
from persicache.mappings.near_memory import MemoryCopies
from persicache.storage import ABSENT, Storage, open_storage

MIB = 1024 * 1024
MARK = b"marked by its writer:"


def identify(head):
    """Return what follows MARK, if that is how the bytes begin."""
    start = bytes(head[:64])
    return start[len(MARK) : len(MARK) + 8].decode() if start.startswith(MARK) else None


@dataclass
class Place:
    url: Any
    storage_options: dict[str, Any] = field(default_factory=dict)
    copies: Copies | None = None

    def open(self, *, durable: bool = False) -> Storage:
        storage = open_storage(
            self.url, storage_options=self.storage_options, durable=durable, identify=identify
        )
        return storage if self.copies is None else NearStorage(storage, self.copies, trusts=False)


@pytest.fixture(
    params=[
        *("local", "durable", "memory", "s3", "dir", "simplecache", "sqlite", "lmdb", "jsondoc"),
        *("near-memory", "near-directory"),
    ]
)
def place(request, tmp_path):
    kind = request.param
    if kind in {"local", "durable"}:
        return Place(tmp_path / "store" / "deep")
    if kind == "memory":
        return Place(f"memory://{uuid.uuid4().hex}/x")
    if kind == "sqlite":
        return Place(tmp_path / "deep" / "x.db")
    if kind == "lmdb":
        pytest.importorskip("lmdb")
        return Place(f"lmdb://{tmp_path}/deep/env?table=t")
    if kind == "jsondoc":
        return Place(tmp_path / "deep" / "x.json")
    if kind == "near-memory":
        return Place(f"memory://{uuid.uuid4().hex}/x", copies=MemoryCopies(3 * MIB))
    if kind == "near-directory":
        copies = DirectoryCopies(str(tmp_path / "near"), "the place", limit_nbytes=3 * MIB)
        return Place(tmp_path / "store" / "deep", copies=copies)
    if kind == "dir":
        return Place(f"dir::file://{tmp_path}")
    if kind == "simplecache":
        cached = {"simplecache": {"cache_storage": str(tmp_path / "copies")}}
        return Place(f"simplecache::file://{tmp_path}/store", cached)
    s3 = request.getfixturevalue("s3")
    return Place(s3.url, s3.storage_options)


@pytest.fixture
def storage(place, request):
    durable = "durable" in request.node.callspec.id
    opened = place.open(durable=durable)
    yield opened
    opened.close()


def names(storage, prefix=""):
    return sorted(info.name for info in storage.scan(prefix))


def test_keeps_the_protocol(storage):
    assert isinstance(storage, Storage)
    assert isinstance(storage.is_durable, bool)
    assert isinstance(storage.is_private, bool)


def test_what_is_written_is_read(storage):
    version = storage.write("a/b.c", [b"one ", bytearray(b"two "), memoryview(b"three")])
    blob = storage.read("a/b.c")
    assert bytes(blob.buffer) == b"one two three"
    assert blob.version == version == storage.version("a/b.c")
    assert isinstance(blob.modified, float)
    assert abs(blob.modified - storage.stat("a/b.c").modified) < 2
    hash(blob.stamp)


def test_any_size(storage):
    for nbytes in (0, 1, 63, 64, 65_535, 65_536, MIB + 1):
        data = bytes(range(256)) * (nbytes // 256) + bytes(nbytes % 256)
        version = storage.write("sized", [data])
        blob = storage.read("sized")
        assert bytes(blob.buffer) == data
        assert blob.version == version
        assert storage.stat("sized")[:2] == ("sized", nbytes)


def test_no_chunks_is_an_empty_blob(storage):
    storage.write("empty", [])
    storage.write("emptier", [b"", b""])
    assert bytes(storage.read("empty").buffer) == bytes(storage.read("emptier").buffer) == b""


def test_many_chunks(storage):
    chunks = [bytes([i % 256]) * (i % 2000) for i in range(3000)]
    storage.write("chunked", chunks)
    assert bytes(storage.read("chunked").buffer) == b"".join(chunks)


def test_overwriting_changes_the_version(storage):
    first = storage.write("a", [b"first"])
    stamp = storage.read("a").stamp
    second = storage.write("a", [b"second"])
    assert first != second
    assert bytes(storage.read("a").buffer) == b"second"
    assert storage.read("a").version == second
    assert stamp is None or storage.read("a").stamp != stamp


def test_equal_stamps_mean_unchanged(storage):
    storage.write("a", [b"same"])
    assert storage.read("a").stamp == storage.read("a").stamp


def test_the_carried_version_counts(storage, request):
    if request.node.callspec.params["place"] == "s3":
        pytest.skip("the version is the ETag")
    data = MARK + b"abcdefgh" + bytes(100)
    assert storage.write("a", [data[:5], data[5:30], data[30:]]) == "abcdefgh"
    assert storage.version("a") == storage.read("a").version == "abcdefgh"
    storage.write("large", [data, bytes(MIB)])
    assert storage.version("large") == storage.read("large").version == "abcdefgh"


def test_large_buffers_are_writable_and_the_readers_own(storage):
    storage.write("large", [b"x" * MIB])
    mine, other = storage.read("large"), storage.read("large")
    version = mine.version
    view = memoryview(mine.buffer)
    assert not view.readonly
    view[0:4] = b"mine"
    assert bytes(other.buffer[:4]) == bytes(storage.read("large").buffer[:4]) == b"xxxx"
    assert mine.version == version == storage.version("large")


def test_a_map_outlives_its_blob(storage):
    storage.write("large", [b"x" * MIB])
    blob = storage.read("large")
    storage.write("large", [b"y" * MIB])
    storage.remove("large")
    assert bytes(blob.buffer) == b"x" * MIB


def test_absence(storage):
    for ask in (storage.read, storage.stat, storage.version):
        with pytest.raises(BlobNotFound) as caught:
            ask("no/such")
        assert isinstance(caught.value, KeyError)
        assert caught.value.name == "no/such"
    assert storage.remove("no/such") is False
    storage.remove_many([])
    assert names(storage) == []


def test_removal(storage):
    storage.write("a", [b"x"])
    assert storage.remove("a") is True
    assert storage.remove("a") is False
    with pytest.raises(BlobNotFound):
        storage.read("a")
    storage.write("a", [b"again"])
    assert bytes(storage.read("a").buffer) == b"again"


def test_scan_and_prefix(storage):
    for name in ("a", "b/c", "b/d/e", "bb/f"):
        storage.write(name, [name.encode()])
    assert names(storage) == ["a", "b/c", "b/d/e", "bb/f"]
    assert names(storage, "b/") == ["b/c", "b/d/e"]
    assert names(storage, "b/d/") == ["b/d/e"]
    assert names(storage, "nothing/") == []
    infos = {info.name: info for info in storage.scan()}
    assert infos["b/d/e"].nbytes == 5
    assert infos["a"].modified == pytest.approx(storage.stat("a").modified, abs=1)


def test_scan_can_be_left_early(storage):
    storage.write_many({f"n{i}": [b"x"] for i in range(5)})
    listing = storage.scan()
    next(listing)
    listing.close()


def test_a_listing_sees_what_another_handle_wrote(place):
    one, two = place.open(), place.open()
    assert names(one) == []
    two.write("new", [b"x"])
    assert names(one) == ["new"]
    assert bytes(one.read("new").buffer) == b"x"


def test_many(storage):
    items = {f"d{i % 3}/n{i}": [str(i).encode()] for i in range(40)}
    versions = storage.write_many(items)
    assert versions.keys() == items.keys()
    found = dict(storage.read_many([*items, "absent"]))
    assert {name: bytes(blob.buffer) for name, blob in found.items()} == {
        name: chunks[0] for name, chunks in items.items()
    }
    assert {name: blob.version for name, blob in found.items()} == versions
    storage.remove_many([*list(items)[:25], "absent"])
    assert len(names(storage)) == 15


def test_only_what_changed_is_read(storage):
    known = storage.write_many({name: [name.encode()] for name in "abc"} | {"empty": [b""]})
    storage.write("b", [b"changed"])
    storage.remove("c")
    found = dict(storage.read_changed([*known.items(), ("absent", known["a"])]))
    assert bytes(found.pop("b").buffer) == b"changed"
    assert found == {"a": None, "empty": None}
    again = dict(storage.read_changed([("a", None), ("b", known["b"])]))
    assert {name: bytes(blob.buffer) for name, blob in again.items()} == {"a": b"a", "b": b"changed"}
    with pytest.raises(ValueError, match="can't name a blob"):
        list(storage.read_changed([("../up", None)]))


def test_many_can_be_left_early(storage):
    storage.write_many({f"n{i}": [b"x"] for i in range(20)})
    reading = storage.read_many(f"n{i}" for i in range(20))
    next(reading)
    reading.close()


BAD = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../up",
    "a/../b",
    "a//b",
    "a/",
    ".hidden",
    "a/.tmp-1",
    "Ä",
    "a b",
    "a\n",
    "ä",
    "a\0",
    "*",
    "a?",
    "[a]",
    "a::b",
    "s3://x",
    "a\\b",
]


def test_bad_names_are_refused(storage):
    for name in BAD:
        for attempt in (
            storage.read,
            storage.stat,
            storage.version,
            storage.remove,
            lambda name: storage.write(name, [b"x"]),
            lambda name: list(storage.read_many([name])),
            lambda name: storage.write_many({name: [b"x"]}),
            lambda name: storage.remove_many([name]),
        ):
            with pytest.raises(ValueError, match="can't name a blob"):
                attempt(name)
    assert names(storage) == []


def test_names_as_other_systems_give_them_are_names_too(storage):
    theirs = {"Loss_cr4b.pkl", "runs_q6ey/(A)~1.=b.JSON", "~a/~"}
    storage.write_many({name: [name.encode()] for name in theirs})
    assert {name: bytes(blob.buffer) for name, blob in storage.read_many(theirs)} == {
        name: name.encode() for name in theirs
    }
    assert set(names(storage)) == theirs


def test_bad_prefixes_are_refused(storage):
    for prefix in ("a", "../", "/", "é/", "a//"):
        with pytest.raises(ValueError, match="no prefix"):
            storage.scan(prefix)


def test_names_look_like_patterns_but_are_none(storage):
    storage.write("a!b=c,(d)", [b"x"])
    storage.write("abc", [b"y"])
    storage.remove("a!b=c,(d)")
    assert names(storage) == ["abc"]


def test_bad_expectations_are_refused(storage):
    with pytest.raises(TypeError, match="expect"):
        storage.write("a", [b"x"], expect=None)
    with pytest.raises(TypeError, match="expect"):
        storage.remove("a", expect=1)


def test_compare_and_swap(storage):
    if not storage.can_compare_and_swap:
        with pytest.raises(ConditionsUnsupported):
            storage.write("a", [b"x"], expect=ABSENT)
        with pytest.raises(ConditionsUnsupported):
            storage.remove("a", expect="version")
        assert names(storage) == []
        return
    first = storage.write("a", [b"one"], expect=ABSENT)
    with pytest.raises(VersionConflict) as caught:
        storage.write("a", [b"two"], expect=ABSENT)
    assert caught.value.actual == first
    second = storage.write("a", [b"two"], expect=first)
    with pytest.raises(VersionConflict) as caught:
        storage.write("a", [b"three"], expect=first)
    assert (caught.value.expected, caught.value.actual) == (first, second)
    with pytest.raises(VersionConflict) as caught:
        storage.write("absent", [b"x"], expect=second)
    assert caught.value.actual is None
    assert bytes(storage.read("a").buffer) == b"two"
    assert names(storage) == ["a"]


def test_conditional_removal(storage):
    if not storage.can_compare_and_swap:
        return
    first = storage.write("a", [b"one"])
    second = storage.write("a", [b"two"])
    for expect in (first, ABSENT):
        with pytest.raises(VersionConflict) as caught:
            storage.remove("a", expect=expect)
        assert caught.value.actual == second
    assert storage.remove("a", expect=second) is True
    assert storage.remove("a", expect=ABSENT) is False
    with pytest.raises(VersionConflict) as caught:
        storage.remove("a", expect=second)
    assert caught.value.actual is None


def test_swapping_large_blobs(storage):
    if not storage.can_compare_and_swap:
        return
    first = storage.write("a", [b"x" * MIB, b"y" * MIB], expect=ABSENT)
    second = storage.write("a", [b"y" * MIB, b"x" * MIB], expect=first)
    with pytest.raises(VersionConflict):
        storage.write("a", [b"z" * MIB, b"z" * MIB], expect=first)
    assert storage.version("a") == second


def test_pickling(storage):
    storage.write("a", [b"x"])
    again = pickle.loads(pickle.dumps(storage))
    assert again.url == storage.url
    assert again.is_durable == storage.is_durable
    assert bytes(again.read("a").buffer) == b"x"
    again.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forking(storage):
    storage.write("parent", [b"from the parent"])
    in_fork(lambda: echo(storage))
    if storage.url.startswith("memory:"):
        assert names(storage) == ["parent"]
    else:
        assert bytes(storage.read("child").buffer) == b"from the child"
    assert bytes(storage.read("parent").buffer) == b"from the parent"


def test_spawning(storage):
    if storage.url.startswith("memory:"):
        return
    storage.write("parent", [b"from the parent"])
    assert in_spawned(echo, [(storage,)]) == [b"from the parent"]
    assert bytes(storage.read("child").buffer) == b"from the child"


def test_closing_is_not_the_end(storage):
    storage.write("a", [b"x"])
    storage.close()
    storage.close()
    assert bytes(storage.read("a").buffer) == b"x"


def test_threads_never_see_a_mixture(storage):
    values = [bytes([i]) * 100_000 for i in range(4)]
    storage.write("a", [values[0]])
    start = threading.Barrier(4)

    def work(value):
        start.wait()
        for _ in range(5):
            storage.write("a", [value[:50_000], value[50_000:]])
            seen = bytes(storage.read("a").buffer)
            assert seen in values

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, values))


def test_threads_lose_no_update(storage):
    if not storage.can_compare_and_swap:
        return
    storage.write("n", [b"0"])

    def work(_):
        for _ in range(10):
            done = False
            while not done:
                blob = storage.read("n")
                with contextlib.suppress(VersionConflict):
                    storage.write("n", [b"%d" % (int(bytes(blob.buffer)) + 1)], expect=blob.version)
                    done = True

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert bytes(storage.read("n").buffer) == b"30"


def test_reprs_are_short(storage):
    assert storage.url in repr(storage)
    assert "planted" not in repr(storage) + storage.url
    storage.write("a", [b"x" * 1000])
    assert len(repr(storage.read("a"))) < 150


def test_a_head_is_read_alone(storage):
    data = bytes(range(256)) * 1000
    for name, nbytes in (("empty", 0), ("small", 100), ("large", len(data))):
        storage.write(f"d/{name}", [data[:nbytes]])
        for most in (1, 64, 100, 4096, 100_000):
            head = storage.read_head(f"d/{name}", most)
            assert isinstance(head, bytes)
            assert head == data[: min(most, nbytes)]
    with pytest.raises(BlobNotFound):
        storage.read_head("no/such", 64)
    with pytest.raises(ValueError, match="can't name a blob"):
        storage.read_head("../up", 64)


def test_privacy_for_a_name(storage):
    assert storage.is_private_for("a/b") is storage.is_private
    storage.write("a/b", [b"x"])
    assert storage.is_private_for("a/b") is storage.read("a/b").is_private
    assert storage.is_private_for("c/d") is storage.is_private
