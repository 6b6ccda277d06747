"""Arrays and groups of zarr, and of dask, in places of persicache."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from persicache_dask import ResultCache
from persicache_zarr import PersiStore
from places import PLACES
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from persicache import CorruptEntry, PersiDict

NAMES = ("directory", "memory", "s3", "sqlite", "lmdb", "json")
KINDS = [kind for name in NAMES for kind in PLACES if kind.name == name]
PROTOTYPE = default_buffer_prototype()
X = np.arange(60.0).reshape(6, 10)


def same(store):
    """Return another store of the same place, as another session would open it."""
    return PersiStore(PersiDict(**store._mapping.get_params()), read_only=True)


def fill(store):
    """Make groups and arrays of every sort, and look at them."""
    root = zarr.open_group(store, mode="w", attributes={"title": "runs"})
    plain = root.create_array("deep/er/plain", data=X, chunks=(2, 5))
    plain[1:3, 4:7] = -1
    shards = root.create_array(
        "shards", shape=(6, 10), chunks=(1, 5), shards=(3, 10), dtype="i4", fill_value=7
    )
    shards[2] = 3
    root.create_array("raw", data=X, compressors=None)
    root.create_array("old", data=X[:0])
    del root["old"]
    zarr.consolidate_metadata(root.store)


def seen(store):
    root = zarr.open_group(store, mode="r")
    found = dict(root.members(max_depth=None))
    return {
        "attributes": dict(root.attrs),
        "listed": sorted(
            name for name, _ in zarr.open_group(store, use_consolidated=False, mode="r").members(None)
        ),
        "stored": sorted(zarr.core.sync.sync(collect(store.list()))),
        **{name: node[...].tolist() for name, node in found.items() if isinstance(node, zarr.Array)},
        "rows": root["shards"][2:4, 3:6].tolist(),
    }


async def collect(names):
    return [name async for name in names]


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_groups_and_arrays_are_as_in_zarrs_own_store(place):
    expected = MemoryStore()
    fill(expected)
    store = PersiStore(place.pop("url"), **place)
    fill(store)
    assert seen(same(store)) == seen(expected)


def test_zarrs_older_format_is_kept_too(tmp_path):
    zarr.create_array(PersiStore(tmp_path), name="a", data=X, chunks=(4, 4), zarr_format=2)
    assert (zarr.open_array(PersiStore(tmp_path), path="a", zarr_format=2)[...] == X).all()
    assert ("a", ".zarray") in PersiDict(tmp_path)


def test_a_damaged_chunk_is_an_error_where_zarr_would_fill_in(tmp_path):
    zarr.create_array(PersiStore(tmp_path), name="a", data=X, chunks=(3, 10), fill_value=0)
    (chunk,) = tmp_path.glob("a/c/1/0.pc")
    data = bytearray(chunk.read_bytes())
    data[-70] ^= 1
    chunk.write_bytes(data)
    a = zarr.open_array(PersiStore(tmp_path), path="a")
    assert (a[:3] == X[:3]).all()
    with pytest.raises(CorruptEntry, match=r"'a', 'c', '1', '0'"):
        a[3:]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (RangeByteRequest(2, 5), slice(2, 5)),
        (RangeByteRequest(8, 99), slice(8, 99)),
        (OffsetByteRequest(4), slice(4, None)),
        (OffsetByteRequest(10), slice(10, None)),
        (SuffixByteRequest(3), slice(-3, None)),
        (SuffixByteRequest(99), slice(None)),
    ],
)
def test_a_range_is_a_slice_of_the_value(asked, part):
    store = PersiStore({"c/0": b"0123456789"})
    got = asyncio.run(store.get("c/0", PROTOTYPE, asked))
    assert got.to_bytes() == b"0123456789"[part]


def test_several_ranges_of_a_chunk_are_one_request(s3):
    store = PersiStore(s3.url, storage_options=s3.storage_options)
    store.set_sync("c/0", Buffer.from_bytes(b"0123456789"))
    s3.server.clear()
    ranges = [("c/0", RangeByteRequest(0, 2)), ("c/1", None), ("c/0", SuffixByteRequest(2)), ("c/0", None)]
    parts = asyncio.run(store.get_partial_values(PROTOTYPE, ranges))
    assert [part and part.to_bytes() for part in parts] == [b"01", None, b"89", b"0123456789"]
    assert len(s3.server.requests()) == 2


def test_a_group_on_s3_is_removed_by_two_requests(s3):
    root = zarr.open_group(PersiStore(s3.url, storage_options=s3.storage_options))
    root.create_array("a/b", data=X, chunks=(1, 10))
    root.create_array("ab", data=X)
    s3.server.clear()
    zarr.core.sync.sync(root.store_path.store.delete_dir("a"))
    assert len(s3.server.requests()) == 2
    assert [name for name, _ in root.members(max_depth=None)] == ["ab"]


def test_chunks_in_front_of_a_bucket_are_not_fetched_again(s3):
    store = PersiStore(s3.url, near="1 MiB", storage_options=s3.storage_options)
    a = zarr.create_array(
        store, name="a", data=np.ones(1000), chunks=(100,), shards=(1000,), compressors=None
    )
    a[...]
    s3.server.clear()
    assert a[150:250].all()
    asked = s3.server.requests()
    assert asked.count("304") == len(asked) // 2 > 0


def test_what_others_keep_in_the_dictionary_is_neither_listed_nor_removed(tmp_path):
    d = PersiDict(tmp_path)
    others = {7: 1, ("a", 7): 2, ("a",): 3, "a/b": 4, ("a", ("b", "c")): 5, b"a": 6}
    d.update(others)
    store = PersiStore(d)
    zarr.create_array(store, name="a", data=X)
    assert set(zarr.core.sync.sync(collect(store.list()))) == {"zarr.json", "a/zarr.json", "a/c/0/0"}
    zarr.open_group(store, mode="w")
    del d["zarr.json"]
    assert dict(d) == others


def test_a_value_that_is_not_zarrs_is_named():
    with pytest.raises(TypeError, match=r"'zarr.json' in PersiStore\(.*\) is of type dict: not bytes"):
        PersiStore({"zarr.json": {}}).get_sync("zarr.json")
    with pytest.raises(TypeError, match="zarr Buffer is stored, not bytes"):
        PersiStore({}).set_sync("zarr.json", b"{}")


def test_a_store_of_a_part_has_the_rest_out_of_reach(tmp_path):
    d = PersiDict(tmp_path)
    part = PersiStore(d.get_subdict(("runs", "7")))
    zarr.create_array(part, data=X)
    assert (zarr.open_array(PersiStore(d), path="runs/7")[...] == X).all()
    assert str(part) == f"{tmp_path}/runs/7"
    zarr.create_array(PersiStore(d), name="other", data=X)
    zarr.core.sync.sync(part.clear())
    assert (zarr.open_array(PersiStore(d), path="other")[...] == X).all()
    assert zarr.core.sync.sync(part.is_empty(""))


def test_a_home_is_not_cleared_but_a_group_in_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store = PersiStore("~")
    zarr.create_array(store, name="a", data=X)
    with pytest.raises(ValueError, match="whole disk, home or bucket"):
        zarr.open_group(store, mode="w")
    assert list(zarr.open_group(store, path="a", mode="w").members()) == []


def test_stores_are_equal_that_show_the_same(tmp_path):
    d = PersiDict(tmp_path)
    assert PersiStore(tmp_path) == PersiStore(d) == PersiStore(d)
    assert PersiStore(d) != PersiStore(d, read_only=True)
    assert PersiStore(d.get_subdict("a")) == PersiStore(d.get_subdict("a"))
    assert PersiStore(d.get_subdict("a")) != PersiStore(d.get_subdict("b"))
    assert PersiStore({}) != PersiStore({})


def test_options_come_with_a_url_only(tmp_path):
    with pytest.raises(TypeError, match=r"options are for a URL.*\['durable'\]"):
        PersiStore({}, durable=False)


def test_one_of_many_who_make_the_same_node_makes_it(tmp_path):
    values = [Buffer.from_bytes(str(i).encode()) for i in range(16)]

    def offer(value):
        store = PersiStore(tmp_path, durable=False)
        asyncio.run(store.set_if_not_exists("zarr.json", value))
        return store.get_sync("zarr.json").to_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(offer, values))) == 1


def test_what_is_set_is_the_stores_own():
    d = {}
    data = np.arange(4, dtype="u1")
    PersiStore(d).set_sync("c/0", Buffer.from_array_like(data))
    data[:] = 9
    assert d == {"c/0": b"\0\1\2\3"}


LOADS = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).get_sync('c/0').to_bytes())"


def test_a_store_is_opened_in_another_process_if_it_can_be(tmp_path):
    store = PersiStore(tmp_path)
    store.set_sync("c/0", Buffer.from_bytes(b"chunk"))
    done = subprocess.run(
        [sys.executable, "-c", LOADS], input=pickle.dumps(store), capture_output=True, check=True
    )
    assert done.stdout.strip() == b"b'chunk'"


def test_a_store_in_memory_is_not_taken_for_another_processes(tmp_path):
    store = PersiStore(f"memory://{tmp_path.name}")
    store.set_sync("c/0", Buffer.from_bytes(b"chunk"))
    done = subprocess.run(
        [sys.executable, "-c", LOADS], input=pickle.dumps(store), capture_output=True, check=False
    )
    assert b"lies in the memory of another process; use a directory" in done.stderr


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_rather_than_storing_for_itself():
    store = PersiStore({"c/0": b"chunk"})
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            store.with_read_only(read_only=False).set_sync("c/1", Buffer.from_bytes(b"lost"))
        except ValueError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading) as told:  # noqa: PTH123 - a descriptor
        assert "lies in the memory of another process" in told.read()


def test_without_zarr_the_package_is_imported_and_the_store_names_the_extra():
    code = """
        import sys
        sys.modules["zarr"] = None
        import persicache_zarr, persicache
        assert "PersiStore" in dir(persicache_zarr)
        try:
            persicache_zarr.PersiStore
        except persicache.MissingDependency as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=True, text=True
    )
    assert done.stdout == "zarr is not installed: pip install 'persicache[zarr]'\n"


# dask


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.is_shared and kind.name != "json"], ids=str
)
def test_dask_stores_and_loads_by_worker_processes(client, place):
    store = PersiStore(place.pop("url"), **place)
    x = da.from_array(X, chunks=(2, 5))
    da.to_zarr(x + 1, store, component="sums")
    y = da.from_zarr(same(store), component="sums")
    assert y.chunks == x.chunks
    assert (y.T.compute() == X.T + 1).all()


@pytest.mark.parametrize("kind", KINDS[:3], ids=str)
def test_results_computed_from_an_array_are_kept_until_it_changes(place, tmp_path):
    store = PersiStore(place.pop("url"), **place)
    a = zarr.create_array(store, name="a", data=X, chunks=(3, 5))
    zarr.create_array(store, name="ab", data=X)
    calls = []

    def double(x):
        calls.append(1)
        return 2 * x

    def doubled():
        calls.clear()
        x = da.from_zarr(same(store), component="a").map_blocks(double, meta=np.empty((0, 0)))
        with ResultCache(tmp_path / "results", min_seconds=0):
            return x.compute(scheduler="sync")

    assert (doubled() == 2 * X).all()
    assert len(calls) == 4
    zarr.open_array(store, path="ab")[0] = 1
    assert (doubled() == 2 * X).all()
    assert calls == []
    a[5, 9] = -1
    assert doubled()[5, 9] == -2
    assert calls
    assert PersiStore({}).etags("a") is None


def test_dask_on_worker_processes_is_told_that_memory_is_not_shared(client, tmp_path):
    url = f"memory://{tmp_path.name}"
    zarr.create_array(PersiStore(url), data=X, chunks=(2, 5))
    y = da.from_zarr(PersiStore(url))
    assert (y.compute(scheduler="threads") == X).all()
    with pytest.raises(Exception, match="memory of another process"):
        y.compute()
