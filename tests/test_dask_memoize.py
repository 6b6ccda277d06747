"""Memoized functions as the tasks of a dask cluster."""

from __future__ import annotations

import time
from collections import Counter

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from persicache import persistent_memoize


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["directory", "s3"])
def memoize(request, tmp_path):
    """Return a decorator over a new store; not of this module, which workers don't import."""
    if request.param == "directory":
        return persistent_memoize(tmp_path / "store")
    s3 = request.getfixturevalue("s3")
    return persistent_memoize(s3.url, storage_options=s3.storage_options)


@pytest.fixture
def log(tmp_path):
    """Return a file for what is computed, and by which process."""
    path = tmp_path / "computed"
    path.touch()
    return path


def computed(log):
    return Counter(line.split()[0] for line in log.read_text().splitlines())


def squaring(memoize, log):
    @memoize
    def square(x):
        import os

        time.sleep(0.2)  # the others come meanwhile
        with log.open("a") as lines:
            lines.write(f"{int(np.sum(x))} {os.getpid()}\n")
        return x * x

    return square


def test_mapped_calls_compute_once_per_key(client, memoize, log):
    square = squaring(memoize, log)
    futures = client.map(square, [1, 2, 3, 4] * 4, pure=False)
    assert client.gather(futures) == [1, 4, 9, 16] * 4
    assert computed(log) == {"1": 1, "2": 1, "3": 1, "4": 1}
    assert len({line.split()[1] for line in log.read_text().splitlines()}) == 2  # both workers
    assert square(3) == 9  # this process knows, too
    assert square.contains(4)
    assert client.gather(client.map(square, [4, 5], pure=False)) == [16, 25]
    assert computed(log) == {"1": 1, "2": 1, "3": 1, "4": 1, "5": 1}


def test_delayed_calls_compute_once_per_key(client, memoize, log):
    square = dask.delayed(squaring(memoize, log), pure=False)
    total = dask.delayed(sum)([square(x) for x in [5, 6, 5, 6, 5, 6]])
    assert total.compute() == 3 * (25 + 36)
    assert computed(log) == {"5": 1, "6": 1}
    assert total.compute(scheduler="threads") == 3 * (25 + 36)
    assert computed(log) == {"5": 1, "6": 1}


def test_equal_partitions_compute_once(client, memoize, log):
    square = squaring(memoize, log)
    frame = dd.from_map(lambda i: pd.DataFrame({"a": [i % 2, 10.0]}), range(6))
    squares = frame.map_partitions(square, meta={"a": "f8"})
    assert squares.a.sum().compute() == 3 * (100 + 101)
    assert computed(log) == {"10": 1, "11": 1}
    assert squares.a.max().compute() == 100
    assert computed(log) == {"10": 1, "11": 1}


def test_equal_blocks_compute_once(client, memoize, log):
    square = squaring(memoize, log)
    x = da.from_array(np.tile(np.arange(3.0), 4), chunks=3)
    squares = x.map_blocks(square, dtype="f8", meta=np.empty(0))
    assert squares.sum().compute() == 4 * 5
    assert computed(log) == {"3": 1}
    assert (squares.compute(scheduler="threads") == np.tile([0.0, 1.0, 4.0], 4)).all()
    assert computed(log) == {"3": 1}
