"""What dask's local schedulers computed is used again: right for any value, in any number of threads."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("dask")

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
from persicache_dask import OpportunisticCache

SECONDS = 0.005  # what a task takes that is worth to be kept


class Calls:
    """Counts the calls of functions, in all processes, by a file."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def __call__(self, function):
        # Not as it is: a file that is named is an input, and this one changes.
        return partial(_counted, function, str(self.path).encode().hex())

    def __len__(self):
        return self.path.stat().st_size


def _counted(function, path, /, *args):
    with Path(bytes.fromhex(path).decode()).open("ab") as file:
        file.write(b".")
    time.sleep(SECONDS)
    return function(*args)


@pytest.fixture
def calls(tmp_path):
    return Calls(tmp_path / "calls")


@pytest.fixture
def cache():
    return OpportunisticCache(available_memory="64 MiB", max_size="1 GiB")


def node(function, *args, name=None, **options):
    return dask.delayed(function, pure=True)(*args, dask_key_name=name, **options)


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("scheduler", ["threads", "sync", "processes"])
def test_what_was_computed_is_not_computed_again(scheduler, calls, cache, request):
    x = node(calls(np.arange), 1000)
    y = node(calls(np.sum), x)
    options = {"scheduler": scheduler}
    if scheduler == "processes":
        options["pool"] = request.getfixturevalue("pool")
    with cache:
        assert y.compute(**options) == 499_500
        assert len(calls) == 2
        assert y.compute(**options) == 499_500
        assert node(calls(np.max), x).compute(**options) == 999
        assert len(calls) == 3
    assert cache.stats.hits == 2
    assert cache.stats.n_values == 3
    assert cache.stats.saved_seconds > SECONDS
    assert x.compute(**options)[1] == 1  # outside, nothing is kept or used
    assert len(calls) == 4


def test_arrays_frames_and_bags_share_their_parts(calls, cache):
    with cache:
        x = da.arange(4000, chunks=1000).map_blocks(calls(lambda block: block + 1), meta=np.array([0]))
        assert x.compute().sum() == 8_002_000
        assert x.compute()[-1] == 4000
        assert len(calls) == 4

        frame = pd.DataFrame({"a": range(100), "b": list("xy") * 50})
        parts = dd.from_pandas(frame, npartitions=2).map_partitions(calls(lambda part: part), meta=frame)
        pd.testing.assert_frame_equal(parts.compute(), parts.compute())
        assert len(calls) == 6

        bag = db.from_sequence(range(10), npartitions=2).map_partitions(calls(sorted))
        assert bag.compute(scheduler="threads") == bag.compute(scheduler="threads") == list(range(10))
        assert len(calls) == 8


def test_what_is_asked_for_beside_what_is_made_of_it_is_not_computed_again(calls, cache):
    x = node(calls(np.arange), 10)
    y = node(calls(np.sum), x)
    with cache:
        for _ in range(2):
            got, total = dask.compute(x, y)
            assert list(got) == list(range(10))
            assert total == 45
    assert len(calls) == 2


@pytest.mark.parametrize(
    "value",
    [
        (len, [1, 2]),
        ("other", 0),
        "other",
        float("nan"),
        0,
        "",
        [],
        {"a": [{1, 2}]},
        ValueError("is a value"),
        np.array([]),
        np.array([None, "x"], dtype=object),
        pd.DataFrame({"a": [1.5, None], "b": ["x", None]}),
        pd.Series([], dtype="datetime64[ns]"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_any_value_comes_back_as_it_is(value, calls, cache):
    x = node(calls(lambda: value))
    # "other" is a task in the same graph, and must not be taken for the string.
    other = node(calls(lambda given: ("made of", given)), x, name="other")
    with cache:
        for _ in range(3):
            got, (_, given) = dask.compute(x, other)
            assert repr(got) == repr(given) == repr(value)
            assert type(got) is type(value)
    assert len(calls) == 2


def test_iterators_and_what_has_no_copy_are_computed_each_time(calls, cache):
    with cache:
        for make in (lambda: iter([1, 2]), lambda: (i for i in (1, 2)), lambda: map(int, "12")):
            x = node(calls(make))
            assert [list(x.compute()) for _ in range(2)] == [[1, 2], [1, 2]]
        lock = node(calls(threading.Lock))
        assert lock.compute() is not lock.compute()
    assert len(calls) == 8
    assert cache.stats.n_values == 0


def test_changing_a_result_changes_nobody_elses(calls, cache):
    x = node(calls(lambda: [np.zeros(3)]))
    with cache:
        for _ in range(3):
            (got,) = x.compute()
            assert got.tolist() == [0, 0, 0]
            got += 1
    assert len(calls) == 1


def test_a_key_that_means_something_else_is_not_taken_for_what_it_meant(tmp_path, calls, cache):
    with cache:
        assert node(calls(lambda: 1), name="x").compute() == 1
        assert node(calls(lambda: 2), name="x").compute() == 2
        assert node(calls(lambda: 1), name="x").compute() == 1
        assert len(calls) == 2

        path = tmp_path / "in.csv"
        path.write_text("a\n1\n2\n")
        frame = dd.read_csv(str(path))
        slow = frame.map_partitions(calls(lambda part: part * 2), meta=frame._meta)
        assert slow["a"].compute().tolist() == [2, 4]
        path.write_text("a\n5\n6\n")
        assert slow["a"].compute().tolist() == [10, 12]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # dask's own
def test_what_is_there_for_what_it_does_is_always_done(tmp_path, calls, cache):
    done = []

    def act(x):
        done.append(x)

    def after(_):
        return "done"

    x = node(calls(lambda: 3))
    last = node(calls(after), node(calls(act), x))
    with cache:
        for n in (1, 2):
            assert last.compute(scheduler="sync") == "done"
            assert done == [3] * n
        assert len(calls) == 5  # only the first of the three is kept

        frame = dd.from_pandas(pd.DataFrame({"a": range(10)}), npartitions=2)
        frame = frame.map_partitions(calls(lambda part: part), meta=frame._meta)
        for _ in range(2):
            frame.to_parquet(tmp_path / "out")
            assert len(list((tmp_path / "out").glob("*.parquet"))) == 2
            shutil.rmtree(tmp_path / "out")
        array = da.ones(10, chunks=5).map_blocks(calls(lambda block: block), meta=np.ones(0))
        for _ in range(2):
            target = np.zeros(10)
            da.store(array, target, lock=False)
            assert target.sum() == 10


def test_shuffles_are_right_again_and_again(cache):
    frame = pd.DataFrame({"k": np.arange(200) % 7, "v": range(200)})
    parts = dd.from_pandas(frame, npartitions=4)
    parts = parts.map_partitions(lambda part: time.sleep(SECONDS) or part, meta=frame)
    bag = db.from_sequence(range(40), npartitions=4)
    with cache:
        for method in ("disk", "tasks"):
            for _ in range(3):
                got = parts.shuffle("k", shuffle_method=method).compute(scheduler="threads")
                pd.testing.assert_frame_equal(got.sort_values("v"), frame)
        for _ in range(3):
            got = bag.groupby(lambda x: x % 3, shuffle="disk").compute(scheduler="threads")
            assert {key: sorted(each) for key, each in got} == {i: list(range(i, 40, 3)) for i in range(3)}


def test_many_threads_compute_at_once(calls, cache):
    bases = [node(calls(lambda i=i: np.full(1000, i)), name=f"base-{i}") for i in range(4)]

    def compute(n):
        base = bases[n % 4]
        return int(node(lambda x, n=n: int(x.sum()) + n, base, name=f"y-{n}").compute(scheduler="sync"))

    with cache:
        dask.compute(*bases)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(compute, range(64))) == [n % 4 * 1000 + n for n in range(64)]
    # Who begins while another does may not be told of the cache by dask.
    assert len(calls) <= 16
    assert cache.stats.hits >= 48


def test_what_a_task_computes_itself_is_kept_too_and_nothing_after_the_end(calls, cache):
    inner = node(calls(lambda: 1), name="inner")
    outer = node(lambda: inner.compute(scheduler="sync") + 1)
    with cache:
        assert outer.compute() == 2
        assert inner.compute() == 1
        assert len(calls) == 1
    assert outer.compute() == 2
    assert len(calls) == 2
    assert cache.stats.hits >= 1
    assert not dask.callbacks.Callback.active


def test_a_failing_task_leaves_all_as_it_was(calls, cache):
    x = node(calls(lambda: 1))
    bad = node(calls(lambda x: x / 0), x)
    with cache:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                bad.compute()
        assert len(calls) == 3
        assert node(lambda x: x + 1, x).compute() == 2
    assert len(calls) == 3


def test_it_keeps_to_its_size_and_what_saves_most_stays(calls):
    cache = OpportunisticCache(available_memory="4 MiB", max_size="8 MiB")

    def large(i, seconds):
        time.sleep(seconds)
        return np.full(131_072, float(i))  # 1 MiB

    with cache:
        dear = node(calls(large), -1, 0.3)
        dear.compute()
        for i in range(30):
            assert node(calls(large), i, 0.0).compute()[0] == i
            assert cache.stats.nbytes <= 8 << 20
        assert 6 <= cache.stats.n_values <= 8
        assert dear.compute()[0] == -1
        assert len(calls) == 31
        cache.clear()
        assert cache.stats[:2] == (0, 0)
        dear.compute()
        assert len(calls) == 32


def test_what_is_cheap_is_not_kept(cache):
    with cache:
        assert node(lambda: np.zeros(100_000_000)).compute()[-1] == 0  # of pages that nobody touched
    assert cache.stats.n_values == 0


def test_what_cannot_be_read_any_more_is_computed(calls, monkeypatch, tmp_path):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    cache = OpportunisticCache(available_memory=1, max_size="64 MiB")
    x = node(calls(np.arange), 100_000)
    y = node(calls(lambda x: np.repeat(x, 2)), x)
    with cache:
        assert y.compute()[-1] == 99_999
        assert y.compute()[-1] == 99_999
        assert len(calls) == 2
        (spilled,) = place.iterdir()
        shutil.rmtree(spilled)
        assert y.compute()[-1] == 99_999
        assert len(calls) == 4
        assert list(dask.compute(x, y)[0][:2]) == [0, 1]


def test_it_can_be_registered_for_all_that_comes(calls, cache):
    x = node(calls(lambda: 1))
    cache.register()
    try:
        assert x.compute() == x.compute() == 1
        assert len(calls) == 1
    finally:
        cache.unregister()
    x.compute()
    assert len(calls) == 2
    assert "hits=1" in repr(cache)


def test_a_memory_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="'lots'"):
        OpportunisticCache(available_memory="lots")
    with pytest.raises(ValueError, match="0"):
        OpportunisticCache(max_size=0)
