"""Memories and memoized functions in the workers of joblib.Parallel."""

import pickle
from collections import Counter

import joblib
import joblib_workers
import numpy as np
import persicache_joblib
import pytest
from joblib.externals.loky import get_reusable_executor

from persicache import persistent_memoize


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Return the file that workers note computations in; they inherit its name."""
    path = tmp_path_factory.mktemp("log") / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(joblib_workers.LOG, str(path))
        yield path


@pytest.fixture(autouse=True)
def empty_log(log):
    log.write_text("")
    persicache_joblib.register()


def computed(log):
    return Counter(log.read_text().split())


@pytest.fixture(scope="module")
def processes(log):
    get_reusable_executor().shutdown(wait=True)  # they wouldn't know of the log
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="module")
def cluster(log):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        yield


@pytest.fixture(params=["loky", "threading", "dask"])
def parallel(request, log):
    """Return what runs calls in the workers of a backend."""
    if request.param != "threading":
        request.getfixturevalue({"loky": "processes", "dask": "cluster"}[request.param])

    def run(calls):
        with joblib.parallel_config(backend=request.param, n_jobs=3):
            return joblib.Parallel()(calls)

    return run


@pytest.fixture(params=["directory", "s3"])
def place(request, tmp_path):
    """Return a place for results, and the options that it takes."""
    if request.param == "directory":
        return tmp_path, {}
    s3 = request.getfixturevalue("s3")
    return s3.url, {"storage_options": s3.storage_options}


def test_a_memory_works_in_workers(parallel, log, place):
    location, options = place
    memory = joblib.Memory(location, backend="persicache", verbose=0, backend_options=options)
    square, total = memory.cache(joblib_workers.square), memory.cache(joblib_workers.total)
    array = np.ones(300_000)  # large enough for joblib to hand it over in a file
    calls = [joblib.delayed(square)(x) for x in range(4)]
    for _ in range(2):
        assert parallel(calls) == [0, 1, 4, 9]
        assert parallel([joblib.delayed(total)(array)]) == [300_000]
    assert [square(2), total(array)] == [4, 300_000]
    assert computed(log) == {"0": 1, "1": 1, "2": 1, "3": 1, "total": 1}


def test_workers_return_references(parallel, log, tmp_path):
    square = joblib.Memory(tmp_path, backend="persicache", verbose=0).cache(joblib_workers.square)
    shelved = parallel(joblib.delayed(square.call_and_shelve)(x) for x in range(3))
    assert [each.get() for each in shelved] == [0, 1, 4]
    assert max(len(pickle.dumps(each)) for each in shelved) < 3000


def test_equal_calls_at_once_are_computed_once(parallel, log, place):
    store, options = place
    f = persistent_memoize(store, memory=None, **options)(joblib_workers.square)
    calls = [joblib.delayed(f)(x) for x in (1, 2, 1, 1, 2, 1)]
    assert parallel(calls) == [1, 4, 1, 1, 4, 1]
    assert computed(log) == {"1": 1, "2": 1}
    assert f(1) == 1
    assert computed(log)["1"] == 1


def test_functions_of_a_session_are_memoized_in_workers(parallel, log, tmp_path):
    namespace = {"__name__": "__main__", "note": joblib_workers.note}
    source = "def helper(x): return x + 1\ndef f(x):\n    note(x)\n    return helper(x)"
    exec(source, namespace)
    f = persistent_memoize(tmp_path, memory=None)(namespace["f"])
    g = joblib.Memory(tmp_path, backend="persicache", verbose=0).cache(namespace["f"])
    calls = [joblib.delayed(each)(x) for x in (1, 1, 2) for each in (f, f)]
    assert parallel(calls) == [2, 2, 2, 2, 3, 3]
    assert computed(log) == {"1": 1, "2": 1}
    for _ in range(2):
        assert parallel([joblib.delayed(g)(5)]) == [6]
    assert [f(2), g(5)] == [3, 6]  # what workers computed is found here
    assert computed(log) == {"1": 1, "2": 1, "5": 1}
    exec(source.replace("x + 1", "x + 2"), namespace)
    # What was decorated is the old function, that uses the new helper.
    assert parallel([joblib.delayed(f)(1), joblib.delayed(g)(5)]) == [3, 7]
