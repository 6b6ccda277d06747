"""Processes that share a store compute each call once, whatever becomes of the one that does."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from memo_together_children import call
from places import PLACES

SPAWN = multiprocessing.get_context("spawn")
SHARED = [kind for kind in PLACES if kind.name in {"directory", "s3", "sqlite", "lmdb", "json"}]


@pytest.fixture(scope="module")
def pool():
    """Yield eight processes, which are up before any is asked for something."""
    with ProcessPoolExecutor(8, mp_context=SPAWN) as processes:
        list(processes.map(time.sleep, [0.5] * 8))
        yield processes


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def computed(log):
    """Return what was computed, and by whom."""
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begin(place, log, go):
    """Start a process that computes the call of 1; return it when it is at it."""
    holder = SPAWN.Process(target=call, args=(place, log, 1, 0.0), kwargs={"lease": 1, "go": go})
    holder.start()
    until(lambda: (1, holder.pid) in computed(log))
    return holder


@pytest.mark.parametrize("kind", SHARED, ids=str)
def test_eight_processes_compute_one_call_once_and_different_ones_at_once(place, pool, log, tmp_path):
    calls = [pool.submit(call, place, log, 1, 1.0) for _ in range(8)]
    results = [each.result() for each in calls]
    assert len(computed(log)) == 1
    assert results == [results[0]] * 8
    log.unlink()
    go = tmp_path / "go"
    calls = [pool.submit(call, place, log, x, 0.0, go=go) for x in range(2, 8)]
    try:
        until(lambda: len(computed(log)) == 6)  # one after the other they would never be
    finally:
        go.touch()
    assert [each.result()[0] for each in calls] == [*range(2, 8)]
    assert len(computed(log)) == 6


@pytest.mark.parametrize("kind", SHARED, ids=str)
def test_when_the_one_that_computes_is_killed_exactly_one_other_does(place, pool, log, tmp_path):
    holder = begin(place, log, tmp_path / "never")
    waiting = [pool.submit(call, place, log, 1, 0.2, lease=2) for _ in range(4)]
    time.sleep(0.5)
    assert not any(each.done() for each in waiting)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    outcomes = [each.result(30) for each in waiting]
    assert len(computed(log)) == 2
    assert {result[1] for result in outcomes} == {computed(log)[1][1]}


@pytest.mark.parametrize("kind", SHARED, ids=str)
def test_one_that_was_stopped_is_not_waited_for_and_overwrites_nothing(place, pool, log, tmp_path):
    go = tmp_path / "go"
    holder = begin(place, log, go)
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        result = pool.submit(call, place, log, 1, 0.0, lease=1).result(30)
        assert result[1] != holder.pid
    finally:
        go.touch()
        os.kill(holder.pid, signal.SIGCONT)
    holder.join(30)
    assert holder.exitcode == 0
    assert call(place, log, 1, 0.0) == result
    assert len(computed(log)) == 2
