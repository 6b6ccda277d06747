"""Processes that share a store compute each call once, whatever becomes of the one that does."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from memo_together_children import call, memoized
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


def begin(place, log, x, seconds):
    """Start a process that computes a call; return it when it is at it."""
    holder = SPAWN.Process(target=call, args=(place, log, x, seconds))
    holder.start()
    deadline = time.monotonic() + 30
    while (x, holder.pid) not in computed(log):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return holder


@pytest.mark.parametrize("kind", SHARED, ids=str)
def test_eight_processes_compute_one_call_once_and_different_ones_at_once(place, pool, log):
    calls = [pool.submit(call, place, log, 1, 1.0) for _ in range(8)]
    results = [each.result()[0] for each in calls]
    assert len(computed(log)) == 1
    assert results == [results[0]] * 8
    log.unlink()
    calls = [pool.submit(call, place, log, x, 1.5) for x in range(2, 8)]
    for x, each in enumerate(calls, start=2):
        result, seconds = each.result()
        assert result[0] == x
        assert seconds < 6  # one after the other they would take nine
    assert len(computed(log)) == 6


@pytest.mark.parametrize("kind", SHARED, ids=str)
def test_when_the_one_that_computes_is_killed_exactly_one_other_does(place, pool, log):
    holder = begin(place, log, 1, 60)
    waiting = [pool.submit(call, place, log, 1, 0.2) for _ in range(4)]
    time.sleep(0.5)
    assert not any(each.done() for each in waiting)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    outcomes = [each.result(30) for each in waiting]
    assert len(computed(log)) == 2
    assert {result[1] for result, _ in outcomes} == {computed(log)[1][1]}
    assert all(seconds < 5 for _, seconds in outcomes)


@pytest.mark.parametrize("kind", SHARED, ids=str)
def test_one_that_was_stopped_is_not_waited_for_and_overwrites_nothing(place, pool, log):
    holder = begin(place, log, 1, 0.5)
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        result, seconds = pool.submit(call, place, log, 1, 0.0).result(30)
        assert result[1] != holder.pid
        assert seconds < 8
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    holder.join(30)
    assert holder.exitcode == 0
    assert memoized(place, log)(1, 0.0) == result
    assert len(computed(log)) == 2
