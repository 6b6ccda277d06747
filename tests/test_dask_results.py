"""Results of dask collections that outlive the session, on the schedulers of this machine."""

import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import ANY

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import dask_pipelines
import fsspec
import numpy as np
import pandas as pd
import persicache_dask
import pytest
import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem
from zarr.storage import FsspecStore

from persicache import MissingDependency, PersicacheWarning, StaleReference

# What dask itself does with a newer pandas.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def folder(tmp_path):
    dask_pipelines.write_files(tmp_path)
    return tmp_path


@pytest.fixture
def calls(tmp_path, monkeypatch):
    log = tmp_path / "calls"
    monkeypatch.setattr(dask_pipelines, "LOG", str(log))

    def since_last():
        found = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    return since_last


def entries(store):
    return sorted(Path(store).rglob("*.pc"))


def computed(collection, store, scheduler="sync", **options):
    """Compute in what could be another session, and return what was done."""
    cache = persicache_dask.ResultCache(store, **options)
    with cache:
        return collection.compute(scheduler=scheduler, num_workers=1), cache.stats()


# Another session


def session(folder, store, *, scheduler, seed):
    done = subprocess.run(
        [sys.executable, dask_pipelines.__file__, folder, store, scheduler],
        env={**os.environ, "PYTHONHASHSEED": str(seed), "CALLS": str(folder / "calls-of-session")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_second_session_runs_no_function_of_the_user(folder, store):
    plain = {
        name: dask_pipelines.plain(collection.compute(scheduler="sync"))
        for name, collection in dask_pipelines.pipelines(folder).items()
    }
    first = session(folder, store, scheduler="sync", seed=1)
    assert {name: told["result"] for name, told in first.items()} == plain
    assert all(told["calls"] for told in first.values())
    second = session(folder, store, scheduler="threads", seed=2)
    assert {name: told["result"] for name, told in second.items()} == plain
    assert {name: told["calls"] for name, told in second.items()} == {name: [] for name in plain}
    assert all(told["stats"]["hits"] and not told["stats"]["misses"] for told in second.values())


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_a_scheduler_may_be_named(store, scheduler, calls):
    bag = db.from_sequence(range(4), npartitions=2).filter(dask_pipelines.is_even)
    with contextlib.ExitStack() as stack:
        if scheduler == "processes":  # one pool for both: a process imports long
            pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            stack.enter_context(dask.config.set(pool=pool))
        assert computed(bag, store, scheduler)[0] == [0, 2]
        calls()
        assert computed(bag, store, scheduler) == ([0, 2], (2, 0, 0, 0, ANY))
    assert calls() == []


def test_the_scheduler_is_the_one_that_it_would_be_without(store):
    seen = []

    def spy(graph, keys, **options):
        seen.append(options)
        return dask.get(graph, keys)

    array = da.arange(4, chunks=2) + 1
    with dask.config.set(scheduler=spy), persicache_dask.ResultCache(store):
        assert array.compute(marked=True).tolist() == [1, 2, 3, 4]
    assert seen == [{"marked": True}]
    assert dask.config.get("scheduler", None) is None


def test_after_unregister_nothing_is_stored(store, calls):
    cache = persicache_dask.ResultCache(store)
    cache.register()
    dask.delayed(dask_pipelines.doubled)(1).compute()
    cache.unregister()
    before = entries(store)
    assert dask.delayed(dask_pipelines.doubled)(2).compute(scheduler="threads") == 4
    assert dask.delayed(dask_pipelines.doubled)(2).compute() == 4
    assert entries(store) == before
    with pytest.raises(RuntimeError, match="register"):
        cache.unregister()


# What is the same, and what has changed


def edited(tmp_path, text, name="steps_of_results"):
    """Return a module of the user's with this text."""
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    sys.path.insert(0, str(tmp_path))
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(tmp_path))


def test_comments_are_no_change_and_code_is(tmp_path, store, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    text = """
        RATE = 2
        def helper(x):
            return x * RATE
        def step(part, factor=1):
            return helper(part) * factor
    """

    def run(text, **options):
        step = edited(tmp_path, text).step
        array = (da.ones(4, chunks=2) + 1).map_blocks(step, dtype="f8", **options)
        result, stats = computed(array, store)
        return result.tolist(), stats.hits, stats.misses

    assert run(text) == ([4] * 4, 0, 2)
    assert run(text) == ([4] * 4, 2, 0)
    commented = text.replace("return helper", "# as agreed\n            return helper").replace(
        "def helper(x):", 'def helper(x):\n            """Helps."""'
    )
    assert run(commented) == ([4] * 4, 2, 0)
    assert run(text, factor=3) == ([12] * 4, 0, 2)
    assert run(text.replace("RATE = 2", "RATE = 5")) == ([10] * 4, 0, 2)
    assert run(text.replace("x * RATE", "x + RATE")) == ([4] * 4, 0, 2)
    assert run(text) == ([4] * 4, 2, 0)  # and back


@pytest.mark.parametrize("kind", ["csv", "json", "arrow"])
def test_of_the_parts_of_files_that_of_the_changed_file_is_computed(folder, store, calls, kind):
    def run():
        return computed(dask_pipelines.pipelines(folder)[kind], store)

    with dask.config.set({"dataframe.parquet.minimum-partition-size": 0}):
        run()
        calls()
        frame = dask_pipelines.frame(7)
        if kind == "arrow":
            frame.to_parquet(folder / "frames/0.parquet")
        elif kind == "csv":
            frame.to_csv(folder / "a.csv", index=False)
        else:
            frame.to_json(folder / "a.json", orient="records", lines=True)
        result, _ = run()
    assert calls() == ["doubled"]
    expected = pd.concat([frame, dask_pipelines.frame(1)]) * 2
    # JSON has fewer digits, and pyarrow its own order of files.
    assert np.allclose(dask_pipelines.plain(result), dask_pipelines.plain(expected))


def test_a_parquet_file_that_changed_is_read_again(folder, store, calls):
    def run():
        return computed(dask_pipelines.pipelines(folder)["groupby"], store)[0]

    run()
    dask_pipelines.frame(7).to_parquet(folder / "frames/0.parquet")
    expected = pd.concat([dask_pipelines.frame(7), dask_pipelines.frame(1)])
    expected = (expected * 2).groupby("k").v.sum()
    calls()
    assert np.allclose(run().sort_index(), expected)
    assert calls()
    assert np.allclose(run().sort_index(), expected)
    assert not calls()


def test_a_zarr_array_that_changed_in_place_is_read_again(folder, store, calls):
    def run():
        return computed(dask_pipelines.pipelines(folder)["zarr"], store)[0].tolist()

    assert run() == [2.0 * x for x in range(20)]
    zarr.open_array(folder / "z.zarr")[0] = 100
    calls()
    assert run() == [200, *(2.0 * x for x in range(1, 20))]
    assert "doubled" in calls()


def test_a_file_that_a_function_is_given_the_name_of_is_an_input(tmp_path, store):
    def run():
        return computed(dask.delayed(Path.read_text)(tmp_path / "x.txt"), store)[0]

    def by_text():
        return computed(dask.delayed(lambda name: Path(name).read_text())(str(tmp_path / "x.txt")), store)[
            0
        ]

    (tmp_path / "x.txt").write_text("one")
    assert (run(), by_text()) == ("one", "one")
    (tmp_path / "x.txt").write_text("two")
    assert (run(), by_text()) == ("two", "two")


def test_a_file_in_memory_is_an_input_like_any(store):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/results-input/a.txt", b"one\n")
    read = db.read_text("memory://results-input/*.txt")
    assert computed(read, store)[0] == ["one\n"]
    fs.pipe_file("/results-input/a.txt", b"two\n")
    assert computed(read, store)[0] == ["two\n"]
    fs.rm("/results-input", recursive=True)


def test_an_input_whose_changes_nobody_can_notice_is_named(store, monkeypatch):
    def info(fs, path, **options):
        return {name: each for name, each in told(fs, path, **options).items() if name != "created"}

    told = MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, "info", info)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/timeless/a.txt", b"one\n")
    read = db.read_text("memory://timeless/a.txt")
    with pytest.warns(PersicacheWarning, match="nothing tells when memory:///timeless/a.txt was changed"):
        assert computed(read, store)[0] == ["one\n"]
    fs.pipe_file("/timeless/a.txt", b"two\n")
    cache = persicache_dask.ResultCache(store)
    with cache, pytest.warns(PersicacheWarning, match="always computed") as warned:
        for _ in range(2):
            assert read.compute(scheduler="sync") == ["two\n"]
    assert len(warned) == 1
    assert cache.stats().unkeyed == 2
    assert entries(store) == []
    fs.rm("/timeless", recursive=True)


def late(part):
    time.sleep(0.3)  # or it is computed in less time than a bucket takes to answer, and not kept
    return part


def test_inputs_and_results_in_a_bucket(s3, calls):
    options = s3.storage_options
    place = s3.url.rpartition("/")[0]
    dask_pipelines.frame(0).to_csv(f"{place}/in/a.csv", index=False, storage_options=options)
    dask_pipelines.frame(1).to_csv(f"{place}/in/b.csv", index=False, storage_options=options)

    def run():
        frame = dd.read_csv(f"{place}/in/*.csv", storage_options=options)
        frame = frame.map_partitions(dask_pipelines.doubled, meta=dask_pipelines.META)
        frame = frame.map_partitions(late, meta=dask_pipelines.META)
        return computed(frame, f"{place}/out", storage_options=options, signing_key="secret")

    whole = run()[0]
    assert run()[0].equals(whole)
    assert calls() == ["doubled"] * 2
    dask_pipelines.frame(2).to_csv(f"{place}/in/a.csv", index=False, storage_options=options)
    changed, stats = run()
    assert calls() == ["doubled"]
    assert (stats.hits, stats.misses) == (1, 1)
    assert np.allclose(changed.iloc[:100], dask_pipelines.frame(2) * 2)


def test_a_version_makes_all_new(store):
    array = da.arange(4, chunks=2) + 1
    assert computed(array, store)[1].misses == 2
    assert computed(array, store, version="b")[1].misses == 2
    assert computed(array, store)[1].hits == 2


# What is never skipped


def test_what_writes_always_runs(tmp_path, store):
    frame = dd.from_pandas(dask_pipelines.frame(), npartitions=2)
    array = da.arange(4, chunks=2) + 1
    target = np.zeros(4)

    def write():
        frame.to_parquet(tmp_path / "o", write_index=False)
        frame.to_csv(str(tmp_path / "o/*.csv"))
        frame.to_json(str(tmp_path / "o/*.json"))
        db.from_sequence("ab", npartitions=2).to_textfiles(str(tmp_path / "o/*.txt"))
        array.to_zarr(str(tmp_path / "o/z"), overwrite=True)
        da.store(array, target)
        da.to_npy_stack(str(tmp_path / "o/stack"), array)
        dask.compute([dask.delayed((tmp_path / f"o/{i}.mine").touch)() for i in range(2)])

    def written():
        return sorted(each.relative_to(tmp_path).as_posix() for each in (tmp_path / "o").rglob("*.*"))

    with persicache_dask.ResultCache(store), dask.config.set(scheduler="sync"):
        write()
        first = written()
        for each in (tmp_path / "o").rglob("*.*"):
            if each.is_file():
                each.unlink()
        target[:] = 0
        write()
    assert written() == first
    assert target.tolist() == [1, 2, 3, 4]
    assert zarr.open_array(tmp_path / "o/z")[:].tolist() == [1, 2, 3, 4]


AVRO = {"name": "x", "type": "record", "fields": [{"name": "v", "type": "int"}]}
WRITERS = {
    "avro": ("fastavro", lambda given, to: given["bag"].to_avro(f"{to}/*.avro", AVRO)),
    "hdf": ("tables", lambda given, to: given["frame"].to_hdf(f"{to}/*.h5", "/x")),
    "hdf5": ("h5py", lambda given, to: given["array"].to_hdf5(f"{to}/x.h5", "/x")),
    "netcdf": ("scipy", lambda given, to: given["data"]().to_netcdf(f"{to}/x.nc", engine="scipy")),
    "netcdf4": ("netCDF4", lambda given, to: given["data"]().to_netcdf(f"{to}/x.nc", engine="netcdf4")),
    "npy stack": ("numpy", lambda given, to: da.to_npy_stack(to, given["array"])),
    "orc": ("pyarrow", lambda given, to: given["frame"].to_orc(to)),
    "sql": ("sqlalchemy", lambda given, to: given["frame"].to_sql("t", f"sqlite:///{to}/x.db")),
    "xarray zarr": ("xarray", lambda given, to: given["data"]().to_zarr(f"{to}/z", consolidated=False)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_runs_again_and_nothing_of_it_is_a_result(tmp_path, store, name):
    package, write = WRITERS[name]
    pytest.importorskip(package)
    array = da.ones(4, chunks=2) + 1
    given = {
        "array": array,
        "bag": db.from_sequence([{"v": 1}, {"v": 2}], npartitions=2),
        "data": lambda: pytest.importorskip("xarray").Dataset({"x": (("i",), array)}),
        "frame": dd.from_pandas(dask_pipelines.frame(), npartitions=2),
    }
    written = []
    for _ in range(2):
        (tmp_path / "o").mkdir()
        with persicache_dask.ResultCache(store) as cache, dask.config.set(scheduler="sync"):
            write(given, str(tmp_path / "o"))
        written.append(sorted(each.name for each in (tmp_path / "o").rglob("*.*")))
        shutil.rmtree(tmp_path / "o")
        assert cache.stats().misses == 0
    assert written[0]
    assert written[0] == written[1]


def test_what_leads_up_to_a_write_can_be_loaded(tmp_path, store, calls):
    array = persicache_dask.cached(
        da.ones(4, chunks=2).map_blocks(dask_pipelines.doubled, dtype="f8"), store
    )
    array.to_zarr(str(tmp_path / "one.zarr"))
    assert calls() == ["doubled"] * 2
    array = persicache_dask.cached(
        da.ones(4, chunks=2).map_blocks(dask_pipelines.doubled, dtype="f8"), store
    )
    array.to_zarr(str(tmp_path / "two.zarr"))
    assert calls() == []
    assert zarr.open_array(tmp_path / "two.zarr")[:].tolist() == [2] * 4


def test_a_task_that_is_there_twice_runs_twice(store):
    rolls = [dask.delayed(np.random.random)() for _ in range(20)]
    cache = persicache_dask.ResultCache(store)
    with cache:
        first = dask.compute(*rolls, scheduler="sync")
        assert len(set(first)) == 20


# Collections


def test_persist_gives_collections_whose_parts_are_stored(store, calls):
    array = da.ones((4, 4), chunks=2).map_blocks(dask_pipelines.doubled, dtype="f8")
    bag = db.from_sequence(range(4), npartitions=2).filter(dask_pipelines.is_even)
    for expected in [8, 0]:
        with persicache_dask.ResultCache(store) as cache:
            one, two = dask.persist(array, bag, scheduler="sync")
        assert len(calls()) == expected
        assert (one.sum().compute(), two.compute(scheduler="sync")) == (32, [0, 2])
        assert calls() == []
    assert cache.stats().hits == 6


@pytest.mark.parametrize("name", ["delayed", "array", "bag", "csv", "parquet", "merge"])
def test_cached_returns_a_collection_of_the_same_kind(folder, store, calls, name):
    collection = dask_pipelines.pipelines(folder)[name]
    expected = dask_pipelines.plain(collection.compute(scheduler="sync"))
    for is_first in [True, False]:
        calls()
        found = persicache_dask.cached(collection, store)
        assert type(found) is type(collection)
        if name == "array":
            assert found.chunks == collection.chunks
        assert dask_pipelines.plain(found.compute(scheduler="sync")) == expected
        assert bool(calls()) == is_first


def test_what_compute_stored_cached_and_persist_load(store, calls):
    array = da.ones((4, 4), chunks=2).map_blocks(dask_pipelines.doubled, dtype="f8").sum()
    assert computed(array, store)[0] == 32
    calls()
    assert persicache_dask.cached(array, store).compute() == 32
    with persicache_dask.ResultCache(store):
        assert array.persist().compute() == 32
    assert calls() == []


def test_xarray_needs_nothing_of_its_own(tmp_path, store, calls):
    xr = pytest.importorskip("xarray")
    part = da.ones((4, 4), chunks=2).map_blocks(dask_pipelines.doubled, dtype="f8")
    data = xr.Dataset({"x": (("i", "j"), part), "y": (("i",), np.arange(4))})
    for expected in [4, 0]:
        with persicache_dask.ResultCache(store):
            assert float(data.sum().compute().x) == 32
            assert float(data.persist().x.sum()) == 32
        assert float(persicache_dask.cached(data, store).x.mean()) == 2
        # The sum is of parts that are fused with it.
        assert len(calls()) == 2 * expected


# Half of it


@pytest.mark.parametrize("method", ["tasks", "disk"])
def test_a_shuffle_of_which_half_was_evicted_is_right(store, method):
    frame = dask_pipelines.frame(rows=300)
    with dask.config.set({"dataframe.shuffle.method": method}):
        shuffled = dd.from_pandas(frame, npartitions=4).shuffle("k", npartitions=4)
        whole = dask_pipelines.plain(computed(shuffled, store, "threads")[0])
        assert whole == dask_pipelines.plain(frame)
        for each in entries(store)[::2]:
            each.unlink()
        half, stats = computed(shuffled, store, "threads")
    assert dask_pipelines.plain(half) == whole
    assert (stats.hits, stats.misses) == (2, 2)


@pytest.mark.parametrize("scope", ["outputs", "all"])
def test_what_is_lost_is_computed_again_from_what_is_left(store, calls, scope):
    array = da.ones((4, 4), chunks=2).map_blocks(dask_pipelines.doubled, dtype="f8").sum()
    assert computed(array, store, scope=scope)[0] == 32
    calls()
    newest = max(entries(store), key=lambda each: each.stat().st_mtime_ns)
    newest.unlink()
    assert computed(array, store, scope=scope)[0] == 32
    assert len(calls()) == (4 if scope == "outputs" else 0)


def test_a_damaged_entry_is_computed_again(store):
    array = da.arange(4, chunks=2) + 1
    computed(array, store)
    data = bytearray(entries(store)[0].read_bytes())
    data[-1] ^= 1
    entries(store)[0].write_bytes(data)
    with pytest.warns(PersicacheWarning, match="computes again"):
        assert computed(array, store)[0].tolist() == [1, 2, 3, 4]
    assert computed(array, store) == (pytest.approx([1, 2, 3, 4]), (2, 0, 0, 0, ANY))


def test_what_is_removed_before_it_is_loaded_is_computed(store):
    array = da.arange(4, chunks=2) + 1
    computed(array, store)

    def remove_and_get(graph, keys, **options):
        for each in entries(store):
            each.unlink()
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=remove_and_get), persicache_dask.ResultCache(store):
        assert array.compute().tolist() == [1, 2, 3, 4]
    computed(array, store)
    kept = persicache_dask.cached(array, store)
    for each in entries(store):
        each.unlink()
    assert kept.compute(scheduler="sync").tolist() == [1, 2, 3, 4]
    much = da.from_array(np.arange(1_000_000), chunks=500_000) + 1
    computed(much, store)
    kept = persicache_dask.cached(much, store)
    for each in entries(store):
        each.unlink()
    with pytest.raises(StaleReference, match="removed or damaged since"):
        kept.compute(scheduler="sync")


def test_many_small_tasks_are_not_much_data_to_send_along(store, monkeypatch):
    monkeypatch.setattr("persicache_dask.plan._MOST_BYTES", 1000)
    total = (da.ones(100, chunks=2) + 1).sum(split_every=4)
    computed(total, store)
    kept = persicache_dask.cached(total, store)
    for each in entries(store):
        each.unlink()
    assert kept.compute(scheduler="sync") == 200


@pytest.mark.parametrize("method", ["tasks", "disk"])
def test_a_shuffle_that_is_removed_before_it_is_loaded_is_computed(store, method):
    frame = dask_pipelines.frame(rows=300)
    with dask.config.set({"dataframe.shuffle.method": method}):
        shuffled = dd.from_pandas(frame, npartitions=4).shuffle("k", npartitions=4)
        computed(shuffled, store)
        kept = persicache_dask.cached(shuffled, store)
        for each in entries(store)[::2]:
            each.unlink()
        assert dask_pipelines.plain(kept.compute(scheduler="sync")) == dask_pipelines.plain(frame)


@pytest.mark.filterwarnings("ignore::persicache.PersicacheWarning")  # each damaged entry is told
def test_however_many_entries_are_damaged_all_is_computed(store):
    array = da.arange(20, chunks=2) + 1
    computed(array, store)
    for each in entries(store):
        data = bytearray(each.read_bytes())
        data[-1] ^= 1
        each.write_bytes(data)
    assert computed(array, store)[0].tolist() == list(range(1, 21))


def test_what_is_no_collection_is_named(store):
    with pytest.raises(TypeError, match="takes a dask collection, not 5"):
        persicache_dask.cached(5, store)


def test_what_a_task_raises_is_raised_and_not_kept(store):
    broken = dask.delayed(int)("one")
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            computed(broken, store)
    assert entries(store) == []


def test_a_cache_within_itself_keeps_results_once(store, calls):
    array = da.ones(4, chunks=2).map_blocks(dask_pipelines.doubled, dtype="f8")
    cache = persicache_dask.ResultCache(store)
    with cache, cache:
        assert persicache_dask.cached(array, store).compute().tolist() == [2] * 4
        assert array.compute().tolist() == [2] * 4
    assert len(entries(store)) == 2
    assert calls() == ["doubled"] * 2
    assert dask.config.get("scheduler", None) is None


# What is worth it


def test_what_is_computed_faster_than_it_loads_is_not_stored(store):
    computed(da.arange(4, chunks=2) + 1, store, min_seconds=100)
    # Made in no time, as nobody touches its pages; to be loaded it takes 0.4 s.
    computed(dask.delayed(np.empty)(2 * 10**9, "u1"), store)
    assert entries(store) == []


def test_none_is_not_stored(store, calls):
    for _ in range(2):
        assert computed(dask.delayed(dask_pipelines.called)("x"), store)[0] is None
        assert calls() == ["x"]


def test_options_that_make_no_sense_are_refused(store):
    with pytest.raises(ValueError, match=r"scope must be one of \('outputs', 'all'\), not 'some'"):
        persicache_dask.ResultCache(store, scope="some")
    with pytest.raises(ValueError, match="min_seconds must be a number of seconds"):
        persicache_dask.ResultCache(store, min_seconds=-1)
    with pytest.raises(TypeError, match="polcy"):
        persicache_dask.ResultCache(store, polcy="lru")


# What is told


def costs(cache):
    return [each.cost_seconds for each in cache.entries()]


def nap(seconds):
    time.sleep(seconds)
    return seconds


def test_the_seconds_are_told_that_loading_saved(store):
    naps = [dask.delayed(nap)(seconds) for seconds in [0.01, 0.02, 0.04]]
    saved = []
    for _ in range(2):
        with persicache_dask.ResultCache(store) as cache:
            dask.compute(*naps, scheduler="sync")
        saved.append(cache.stats().seconds_saved)
    assert saved[0] == 0
    assert saved[1] >= 0.07
    assert cache.stats().seconds_saved == saved[1] == pytest.approx(sum(costs(cache)))
    with persicache_dask.ResultCache(store) as cache:
        dask.compute(*naps, scheduler="sync")
        cache.clear()  # and nobody can tell any more
    assert (cache.stats().hits, cache.stats().seconds_saved) == (3, 0)


def test_explain_tells_what_is_stored_and_what_never_is(store, tmp_path):
    (tmp_path / "x.txt").write_text("one")
    kept = dask.delayed(Path.read_text)(tmp_path / "x.txt")
    cache = persicache_dask.ResultCache(store)
    assert not cache.explain(kept).is_hit
    computed(kept, store)
    told = cache.explain(kept)
    assert told.is_hit
    assert str(told).startswith("1 of 1 result is stored; 1 of 1 task needn't run\n  reads ")
    assert told.files == (str(tmp_path / "x.txt"),)
    told = cache.explain(dask.delayed(id)(object()))
    (reason,) = told.unkeyed.values()
    assert "bare object()" in reason
    assert cache.stats() == (0, 0, 0, 0, 0)


def test_without_dask_the_first_use_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.delitem(vars(persicache_dask), "ResultCache", raising=False)
    assert "ResultCache" in dir(persicache_dask)
    with pytest.raises(MissingDependency, match=r"persicache\[dask\]"):
        persicache_dask.ResultCache  # noqa: B018 - looking is enough
    with pytest.raises(AttributeError, match="no attribute 'Cache'"):
        persicache_dask.Cache  # noqa: B018 - as above


# What only looks the same


def in_archive(folder, name):
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("x.txt"), f"{name}\n" * 500)
    return db.read_text(f"zip://x.txt::{folder}/{name}.zip").frequencies()


def in_folder(folder, name, system):
    (folder / name).mkdir()
    (folder / name / "x.txt").write_text(name)
    if system is SubTreeFileSystem:
        fs = SubTreeFileSystem(str(folder / name), LocalFileSystem())
        return dask.delayed(lambda fs: slowly(fs.open_input_file("x.txt").read()))(fs)
    fs = DirFileSystem(str(folder / name), fsspec.filesystem("file"))
    return dask.delayed(lambda fs: slowly(fs.cat("x.txt")))(fs)


def in_arrays(folder, name):
    (folder / name).mkdir()
    zarr.create_array(folder / name / "z", shape=(2,), chunks=(2,), dtype="f8")[:] = ord(name)
    inner = DirFileSystem(str(folder / name), fsspec.filesystem("file"))
    fs = AsyncFileSystemWrapper(inner, asynchronous=True)
    return da.from_zarr(zarr.open_array(FsspecStore(fs, path="z"), mode="r")).map_blocks(slowly).sum()


def slowly(value):
    time.sleep(2e-3)
    return value


def names(**options):
    return slowly(list(options))


LOOKALIKES = {
    "order of a dict": lambda _: [
        dask.delayed(lambda given: slowly(list(pd.DataFrame(given))))({name: [1] for name in order})
        for order in ["ab", "ba"]
    ],
    "order of keywords": lambda _: [dask.delayed(names)(a=1, b=2), dask.delayed(names)(b=2, a=1)],
    "id that is the name, too": lambda _: [
        dask.delayed(slowly)(each * 32, dask_key_name=f"load-{each * 32}") for each in "ab"
    ],
    "what is done about bad bytes": lambda folder: [
        db.read_text(str(folder / "bytes.txt"), errors=errors) for errors in ["ignore", "replace"]
    ],
    "file in two archives": lambda folder: [in_archive(folder, name) for name in "ab"],
    "file in two folders": lambda folder: [in_folder(folder, name, DirFileSystem) for name in "ab"],
    "array in two folders": lambda folder: [in_arrays(folder, name) for name in "ab"],
    "file in two subtrees": lambda folder: [in_folder(folder, name, SubTreeFileSystem) for name in "ab"],
}


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_of_two_that_look_the_same_each_is_computed(tmp_path, store, kind):
    (tmp_path / "bytes.txt").write_bytes(b"a\xff\n" * 500)
    one, two = LOOKALIKES[kind](tmp_path)
    plain = [each.compute(scheduler="sync") for each in [one, two]]
    assert plain[0] != plain[1]
    with persicache_dask.ResultCache(store):
        assert list(dask.compute(one, two, scheduler="sync")) == plain
    # In another order than they were stored.
    with persicache_dask.ResultCache(store) as cache:
        assert list(dask.compute(two, one, scheduler="sync")) == plain[::-1]
    assert cache.stats().hits == 2


@pytest.mark.parametrize("kind", ["arrow", "orc"])
def test_a_file_that_was_written_over_is_read_again_wherever_it_is(tmp_path, store, kind):
    fs = fsspec.filesystem("memory")

    def total(value):
        frame = pd.DataFrame({"x": [value] * 500})
        if kind == "arrow":
            frame.to_parquet(tmp_path / "x.parquet")
            os.utime(tmp_path / "x.parquet", (1, 1))
            read = dd.read_parquet(tmp_path / "x.parquet", filesystem="arrow")
        else:
            with fs.open("/results-orc/x.orc", "wb") as file:
                frame.to_orc(file, index=False)
            read = dd.read_orc("memory://results-orc/x.orc")
        return int(computed(read.x.sum(), store)[0])

    assert total(1) == 500
    assert total(2) == 1000
