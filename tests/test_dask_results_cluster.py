"""Results of dask collections that outlive the session, on a cluster."""

import dask
import dask.array as da
import dask.dataframe as dd
import dask_pipelines
import numpy as np
import persicache_dask
import pytest
import zarr
from distributed import Client, LocalCluster, wait
from persicache_dask import result_cache, stored

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options, resources={"disk": 1}, memory_limit="1 GiB") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


@pytest.fixture
def store(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def remove_what_is_planned(store, monkeypatch):
    """Return what lets all entries be gone, from then on, when what is to be loaded is known."""
    make_plan = result_cache.make_plan

    def plan_and_remove(*given, **options):
        plan = make_plan(*given, **options)
        for each in entries(store):
            each.unlink()
        return plan

    return lambda: monkeypatch.setattr(result_cache, "make_plan", plan_and_remove)


@pytest.fixture
def ran(tmp_path):
    """Return a function of an array that notes its calls, and one that returns these."""
    log = tmp_path / "log"

    def step(part):
        if part.size:
            with log.open("a") as file:
                file.write("x\n")
        return part * 2

    def since_last():
        found = log.read_text().count("x") if log.exists() else 0
        log.unlink(missing_ok=True)
        return found

    return step, since_last


def entries(store):
    return sorted(store.rglob("*.pc"))


def test_workers_store_and_load_and_nothing_passes_the_client(client, store, ran, monkeypatch):
    step, calls = ran

    def fail(task):
        raise AssertionError(f"{task} runs in the client")

    for kind in (stored.Keeping, stored.Loading):
        monkeypatch.setattr(kind, "__call__", fail)
    array = da.ones((4, 4), chunks=2).map_blocks(step, dtype="f8")
    for expected in [4, 0]:
        cache = persicache_dask.ResultCache(store)
        with cache:
            wait(kept := array.persist())
            del kept
            assert array.sum().compute() == 32
        assert calls() == 2 * expected
    assert cache.stats().hits == 5


def test_compute_and_persist_of_the_client_and_by_it(client, store, ran):
    step, calls = ran
    array = da.ones((4, 4), chunks=2).map_blocks(step, dtype="f8")
    with persicache_dask.ResultCache(store):
        assert array.compute(scheduler=client).sum() == 32
        assert calls() == 4
        assert client.compute(array).result().sum() == 32
        assert client.persist(array).sum().compute() == 32
        assert client.compute([array.sum()])[0].result() == 32
        assert client.submit(sum, [1, 2], pure=False).result() == 3
    assert calls() == 0
    assert client.compute(array).result().sum() == 32
    assert calls() == 4


def test_a_scheduler_that_still_holds_the_keys_is_no_trouble(client, store, ran, caplog):
    step, calls = ran
    array = da.ones((4, 4), chunks=2).map_blocks(step, dtype="f8") + 1
    held = array.persist()
    wait(held)
    calls()
    with persicache_dask.ResultCache(store):
        one = array.persist()
        wait(one)
        assert calls() == 4
        two = array.persist()  # of what the scheduler holds, or the store: no matter
        assert (two.compute() == 3).all()
        assert one.sum().compute() == two.sum().compute() == 48
        for each in entries(store)[::2]:
            each.unlink()
        three = (array + 0).persist()
        assert (three.compute() == 3).all()
    assert held.sum().compute() == 48
    assert not [each for each in caplog.records if "run_spec" in each.getMessage()]


def test_an_array_that_changed_is_read_though_the_scheduler_holds_what_it_was(client, store, tmp_path):
    source = zarr.create_array(tmp_path / "z", shape=(4,), chunks=(2,), dtype="f8")
    source[:] = 1
    array = da.from_zarr(str(tmp_path / "z"))
    for _ in range(2):
        with persicache_dask.ResultCache(store):
            before = (array + 1).persist()
            wait(before)
            source[:] = 5
            assert (da.from_zarr(str(tmp_path / "z")) + 1).compute().tolist() == [6] * 4


@pytest.mark.parametrize("method", ["tasks", "p2p"])
def test_a_shuffle_of_which_half_was_evicted_is_right(client, store, method):
    frame = dask_pipelines.frame(rows=300)
    with dask.config.set({"dataframe.shuffle.method": method}):
        shuffled = dd.from_pandas(frame, npartitions=4).shuffle("k", npartitions=4)
        for _ in range(2):
            cache = persicache_dask.ResultCache(store)
            with cache:
                whole = shuffled.compute()
                assert dask_pipelines.plain(whole) == dask_pipelines.plain(frame)
                assert dask_pipelines.plain(shuffled.persist().compute()) == dask_pipelines.plain(frame)
            for each in entries(store)[::2]:
                each.unlink()
    assert cache.stats().hits >= 2


def test_annotations_and_resources_are_kept(client, store):
    def where(part):
        from distributed import get_worker

        return part * 0 + get_worker().port if part.size else part

    address = min(client.scheduler_info()["workers"])
    port = int(address.rpartition(":")[2])
    with dask.annotate(workers=[address], resources={"disk": 1}):
        array = da.ones((4, 4), chunks=1).map_blocks(where, dtype="f8")
    with persicache_dask.ResultCache(store), dask.config.set({"optimization.fuse.active": False}):
        assert np.unique(array.compute()).tolist() == [port]
        kept = persicache_dask.cached(array + 0, store)
        assert np.unique(kept.compute()).tolist() == [port]
        with dask.annotate(resources={"disk": 1}):
            assert (array + 1).compute().shape == (4, 4)


def test_it_may_begin_before_the_client(cluster, store, ran):
    step, calls = ran
    array = da.ones((4, 4), chunks=2).map_blocks(step, dtype="f8")
    with persicache_dask.ResultCache(store) as cache:
        with Client(cluster):
            assert array.sum().compute() == 32
        assert calls() == 4
        assert array.sum().compute() == 32
    assert calls() == 0
    assert cache.stats().hits == 1


def test_a_version_makes_all_new_though_the_scheduler_holds_what_was(client, store, ran):
    step, calls = ran
    array = da.ones((4, 4), chunks=2).map_blocks(step, dtype="f8")
    with persicache_dask.ResultCache(store, version=1):
        wait(held := array.persist())
    assert calls() == 4
    with persicache_dask.ResultCache(store, version=2):
        assert array.compute().sum() == 32
    assert calls() == 4
    assert held.compute().sum() == 32


def test_futures_of_what_is_removed_before_it_is_loaded_are_computed(
    client, store, ran, remove_what_is_planned
):
    array = da.ones((4, 4), chunks=2).map_blocks(ran[0], dtype="f8")
    remove_what_is_planned()
    for submit in [client.compute, client.persist, dask.persist]:
        with persicache_dask.ResultCache(store) as cache:
            array.compute()
            found = submit(array)
            found = found[0] if isinstance(found, tuple) else found
            assert (found.result() if submit == client.compute else found.compute()).sum() == 32
        assert cache.stats().hits >= 4


def test_futures_of_what_many_tasks_lead_up_to_are_computed_if_it_is_removed(
    client, store, remove_what_is_planned
):
    total = (da.ones(300, chunks=2) + 1).sum(split_every=2)
    assert len(total.__dask_graph__()) > 100
    with persicache_dask.ResultCache(store) as cache:
        assert total.compute() == 600
        remove_what_is_planned()
        assert client.compute(total).result() == 600
    assert cache.stats().hits == 1
