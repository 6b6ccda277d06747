"""Workers that spill by persicache: a real cluster with more data than memory, and real `dask worker`s."""

from __future__ import annotations

import itertools
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

import dask
import dask.array as da
from distributed import Client, LocalCluster, wait
from distributed.sizeof import safe_sizeof
from distributed.spill import SpillBuffer
from persicache_dask import spill_data

MIB = 1 << 20
LIMIT_NBYTES = 512 * MIB
CHUNK = MIB  # numbers of 8 bytes


def until(what, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return got


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("spilled")


@pytest.fixture(scope="module")
def client(scratch):
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            memory_limit=LIMIT_NBYTES,
            dashboard_address=":0",
            data=spill_data(spill_to=scratch),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
    assert list(scratch.iterdir()) == []


def on_worker(client, function):
    (answer,) = client.run(function).values()
    return answer


def budget(dask_worker):
    return dask_worker.data.available_memory


def spilled(dask_worker):
    return tuple(dask_worker.data.spilled_total)


def metrics(client):
    (worker,) = client.scheduler_info()["workers"].values()
    url = f"http://{worker['host']}:{worker['services']['dashboard']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


def seen_by_scheduler(client):
    def look(dask_scheduler):
        (worker,) = dask_scheduler.workers.values()
        return worker.memory.spilled, worker.memory.managed

    return client.run_on_scheduler(look)


def test_three_times_the_memory_of_a_worker_goes_through_it_and_all_figures_are_right(client, scratch):
    pytest.importorskip("prometheus_client")
    pid = on_worker(client, os.getpid)
    n = 3 * LIMIT_NBYTES // (CHUNK * 8)
    x = da.arange(1, n * CHUNK + 1, chunks=CHUNK, dtype=float).persist()
    wait(x)
    size, nbytes = n * CHUNK, x.nbytes
    assert float(x.sum().compute()) == size * (size + 1) / 2
    assert on_worker(client, os.getpid) == pid
    assert on_worker(client, budget) == int(0.6 * LIMIT_NBYTES)

    memory_nbytes, disk_nbytes = until(lambda: on_worker(client, spilled))
    assert memory_nbytes >= nbytes - on_worker(client, budget)
    assert memory_nbytes <= disk_nbytes < 1.01 * memory_nbytes + MIB
    until(lambda: seen_by_scheduler(client) == (disk_nbytes, nbytes - memory_nbytes))
    files = [path.stat() for path in scratch.rglob("*") if path.is_file()]
    assert sum(each.st_size for each in files) >= disk_nbytes

    seen = metrics(client)
    on_disk = memory_nbytes // (CHUNK * 8)
    assert seen['dask_worker_tasks{state="disk"}'] == on_disk
    assert seen['dask_worker_tasks{state="memory"}'] == n - on_disk
    assert seen['dask_worker_spill_count_total{activity="disk-write"}'] >= on_disk
    assert seen['dask_worker_spill_bytes_total{activity="disk-write"}'] >= memory_nbytes
    assert seen['dask_worker_spill_count_total{activity="disk-read"}'] > 0
    assert seen['dask_worker_spill_bytes_total{activity="memory-read"}'] > 0
    assert seen['dask_worker_spill_time_seconds_total{activity="disk-write"}'] > 0

    del x
    until(lambda: seen_by_scheduler(client) == (0, 0))
    assert max((path.stat().st_size for path in scratch.rglob("*") if path.is_file()), default=0) < 8 * MIB


def test_the_memory_monitor_has_values_leave_when_something_else_takes_the_memory(client):
    x = client.submit(np.ones, 12 * MIB)  # 96 MiB: well within the budget
    wait(x)
    assert until(lambda: on_worker(client, spilled) == (0, 0))

    def take(dask_worker):
        import psutil

        rss = psutil.Process().memory_info().rss
        dask_worker.taken = b"x" * max(int(0.75 * dask_worker.memory_manager.memory_limit) - rss, 0)

    def give_back(dask_worker):
        del dask_worker.taken

    client.run(take)
    try:
        assert until(lambda: on_worker(client, spilled) != (0, 0))
    finally:
        client.run(give_back)
    assert float(client.submit(np.sum, x).result()) == 12 * MIB


def test_workers_of_the_command_line_spill_by_it(tmp_path):
    config = os.environ | {"DASK_PERSICACHE__SPILL__AVAILABLE_MEMORY": "0.125"}
    config |= {"DASK_PERSICACHE__SPILL__POLICY": "gdsf"}
    ways = {
        "class": ["--worker-class", "persicache_dask.SpillWorker", "--no-nanny"],
        "preload": ["--preload", "persicache_dask.preload", "--no-nanny"],
    }
    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        run = [sys.executable, "-m", "distributed.cli.dask_worker"]
        common = ["--no-dashboard", "--nthreads", "1", "--memory-limit", "512MiB"]
        common += ["--local-directory", str(tmp_path)]
        workers = [
            subprocess.Popen(
                [*run, cluster.scheduler_address, "--name", name, *common, *way],
                env=config,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for name, way in ways.items()
        ]
        try:
            client.wait_for_workers(2, timeout=60)

            def look(dask_worker):
                return (
                    dask_worker.name,
                    type(dask_worker).__name__,
                    repr(dask_worker.data),
                    budget(dask_worker),
                )

            seen = {name: rest for name, *rest in client.run(look).values()}
            assert seen.keys() == ways.keys()
            assert [kind for kind, *_ in seen.values()].count("SpillWorker") == 1
            for _, text, nbytes in seen.values():
                assert text.startswith("WorkerData(")
                assert nbytes == 64 * MIB
            for name in ways:
                futures = client.map(np.full, [MIB] * 16, range(16), workers=[name], pure=False)
                totals = client.gather(client.map(np.sum, futures, workers=[name], pure=False))
                assert [int(each) for each in totals] == [i * MIB for i in range(16)]
                until(lambda: any(spilled_bytes[0] for spilled_bytes in client.run(spilled).values()))
                del futures
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(30)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > MIB]


# Without a cluster: the mapping itself, as distributed would have it made


@pytest.fixture
def data(tmp_path):
    return spill_data(available_memory="32 MiB")(str(tmp_path))


def chunk(i):
    return np.full(MIB // 2, float(i))  # 4 MiB


class Witness:
    """A value that notes which thread pickles it."""

    threads: list[int] = []  # noqa: RUF012 - all share it

    def __init__(self):
        self.body = chunk(0)

    def __reduce__(self):
        Witness.threads.append(threading.get_ident())
        return Witness, ()


def test_values_are_written_by_another_thread_than_the_one_that_sets_them(tmp_path):
    data = spill_data(available_memory="38 MiB")(str(tmp_path))  # eight are at ease, nine fit
    Witness.threads.clear()
    for n in range(1, 13):
        data["witness", n] = Witness()
        until(lambda n=n: data.spilled_total[0] >= 4 * MIB * (n - 8))
    assert len(Witness.threads) >= 4
    assert threading.get_ident() not in Witness.threads
    assert all((data["witness", n].body == 0).all() for n in range(1, 13))


def test_it_keeps_to_its_budget_whatever_comes(data):
    for i in range(40):
        data[f"x-{i}"] = chunk(i)
        assert sum(chunk(0).nbytes for _ in data) - data.spilled_total[0] <= 33 * MIB
    data["large"] = np.ones(8 * MIB)  # twice the budget
    assert data["large"].sum() == 8 * MIB
    assert [float(data[f"x-{i}"][7]) for i in range(40)] == list(range(40))
    for key in list(data):
        del data[key]
    assert len(data) == 0
    assert data.spilled_total == (0, 0)
    assert "x-0" not in data


def test_with_a_full_disk_all_values_stay_and_it_spills_again_afterwards(tmp_path, caplog):
    disk = tmp_path / "disk"
    data = spill_data(available_memory="16 MiB", spill_to=disk)("unused")
    disk.rmdir()
    disk.write_text("where a directory was, is none: nothing can be written")
    for i in range(8):
        data[i] = chunk(i)
    assert [float(data[i][0]) for i in range(8)] == list(range(8))
    assert data.spilled_total == (0, 0)
    assert "values stay in memory" in caplog.text
    assert caplog.text.count("values stay in memory") == 1
    disk.unlink()
    disk.mkdir()
    data[8] = chunk(8)
    assert until(lambda: data.spilled_total[0] >= 20 * MIB)
    assert [float(data[i][0]) for i in range(9)] == list(range(9))


def test_a_disk_that_is_full_now_and_then_fills_no_log(data, caplog, monkeypatch):
    writev, turns = os.writev, itertools.count()

    def now_and_then(fd, chunks):
        if next(turns) % 2:
            raise OSError(28, "No space left on device")
        return writev(fd, chunks)

    monkeypatch.setattr("os.writev", now_and_then)
    for i in range(30):
        data[i] = chunk(i)
    assert next(turns) > 10
    assert caplog.text.count("values stay in memory") == 1
    assert [float(data[i][0]) for i in range(30)] == list(range(30))


def test_a_value_that_fails_to_pickle_in_an_odd_way_harms_no_other(data, caplog):
    class Odd:
        def __init__(self):
            self.body = chunk(0)

        def __reduce__(self):
            raise RuntimeError("the device is gone")

    data["odd"] = Odd()
    for i in range(20):
        data[i] = chunk(i)
    assert "the device is gone" in caplog.text
    assert (data["odd"].body == 0).all()
    assert [float(data[i][0]) for i in range(20)] == list(range(20))
    assert until(lambda: data.spilled_total[0] >= 40 * MIB)


def test_what_dask_does_not_see_counts_as_well(data):
    texts = [np.array([f"{i} {j}".ljust(50_000) for j in range(100)], dtype=object) for i in range(10)]
    assert safe_sizeof(texts[0]) < MIB
    for i, each in enumerate(texts):
        data[i] = each  # 5 MB
    assert until(lambda: data.spilled_total[0] >= 15 * MIB)
    assert all((data[i] == each).all() for i, each in enumerate(texts))


def test_evict_never_raises_and_ends_the_monitors_loop(data):
    assert not data.fast
    assert data.evict() == -1
    data["x"] = chunk(1)
    assert data.fast
    assert data.evict() == -1
    assert (data["x"] == 1).all()


def test_what_it_is_made_by_pickles_and_says_what_it_is():
    factory = spill_data(available_memory=0.5, policy="gdsf", spill_to="/fast/disk")
    assert pickle.loads(pickle.dumps(factory)).keywords == factory.keywords
    assert re.search(r"WorkerData.*0\.5.*gdsf.*/fast/disk", repr(factory))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"available_memory": "plenty"}, ValueError, "available_memory: 'plenty'"),
        ({"available_memory": None}, TypeError, "available_memory: None"),
        ({"policy": "random"}, ValueError, "random"),
        ({"spill_to": "s3://bucket/spilled"}, ValueError, "s3://bucket/spilled"),
        ({"spill_to": 3}, TypeError, "int"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_worker_starts(options, kind, message):
    with pytest.raises(kind, match=message):
        spill_data(**options)


def test_an_unknown_option_in_the_configuration_is_named():
    from persicache_dask.spilling import configured

    with dask.config.set({"persicache.spill": {"polcy": "lru"}}), pytest.raises(TypeError, match="polcy"):
        configured()


def test_it_has_all_that_distributed_asks_of_its_own(data, tmp_path):
    own = SpillBuffer(str(tmp_path / "own"), target=MIB)
    for name in ("fast", "slow", "evict", "spilled_total", "cumulative_metrics"):
        assert hasattr(own, name)
        assert hasattr(data, name)
    assert len(data.slow) == 0
    assert Path(tmp_path / "storage").is_dir()
