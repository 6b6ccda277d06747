"""A SpillDict is a dictionary that keeps to its budget."""

import contextlib
import copy
import dataclasses
import errno
import gc
import io
import itertools
import multiprocessing
import os
import pickle
import re
import shelve
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from faults.disk import no_small_disk, small_disk
from test import mapping_tests

from persicache import (
    KEEP_CURRENT,
    BackendError,
    PersicacheWarning,
    PersiDict,
    SpillDict,
    UncopyableValue,
    nbytes,
)
from persicache.mappings.budget import parse_nbytes
from persicache.mappings.progress import progress
from persicache.mappings.spill_directory import Directory, sweep

KIB = 1024
MIB = 1024 * KIB


def array(i, n=KIB):
    return np.full(n // 8, float(i))


class TestMappingProtocol(mapping_tests.BasicTestMappingProtocol):
    """CPython's own suite for mappings."""

    type2test = SpillDict

    def _empty_mapping(self):
        return SpillDict()


def test_everything_comes_back_and_the_budget_holds():
    with SpillDict(available_memory=100 * KIB) as c:
        for i in range(500):
            c[i] = array(i)
            assert c.memory_usage <= 100 * KIB
        assert len(c) == 500
        assert 50 < len(c.in_memory) < 100
        for i in range(500):
            assert c[i][5] == i
            assert c.memory_usage <= 100 * KIB
        assert sorted(c) == list(range(500))


def test_the_least_recently_used_leaves_first():
    with SpillDict(available_memory=4 * KIB, weigh=len) as c:
        for key in "abcd":
            c[key] = b"x" * KIB
        c["a"]
        c["e"] = b"x" * KIB
        assert c.in_memory == set("acde")
        c["b"]
        assert c.in_memory == set("abde")


def test_each_value_is_written_once(tmp_path):
    place = CountingDict()
    with SpillDict(available_memory=4, weigh=lambda _: 1, spill_to=place) as c:
        for i in range(10):
            c[i] = i
        for _ in range(5):
            for i in range(10):
                assert c[i] == i
    assert place.writes == 10


class CountingDict(dict):
    writes = 0

    def __setitem__(self, key, value):
        self.writes += 1
        super().__setitem__(key, value)


def test_a_value_beyond_the_budget_goes_straight_through():
    with SpillDict(available_memory=KIB) as c:
        c["big"] = array(1, 100 * KIB)
        assert c.in_memory == set()
        assert c["big"][3] == 1


def test_any_hashable_is_a_key():
    class Thing:
        pass

    keys = [Thing(), frozenset([1]), (1, Thing()), 1j, np.int64(3)]
    with SpillDict(available_memory=1, weigh=lambda _: 1) as c:
        for i, key in enumerate(keys):
            c[key] = i
        assert [c[key] for key in keys] == list(range(5))


def test_what_can_not_be_stored_stays_in_memory_with_one_warning():
    lock = threading.Lock()
    with SpillDict(available_memory=2, weigh=lambda _: 1) as c:
        c["lock"] = lock
        with pytest.warns(PersicacheWarning, match="'lock' stays in memory") as caught:
            for i in range(10):
                c[i] = i
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert c["lock"] is lock
        assert len(c) == 11
        del c["lock"]
        assert "lock" not in c


def test_an_assigned_change_is_kept():
    with SpillDict(available_memory=2 * KIB) as c:
        for i in range(5):
            c[i] = array(i)
        changed = c[0]
        changed[:] = 99
        c[0] = changed
        for i in range(5):
            assert c[i][0] == (99 if i == 0 else i)


def test_a_given_place_keeps_everything_for_another_process(tmp_path):
    with SpillDict({"a": 1}, available_memory=2, weigh=lambda _: 1, spill_to=tmp_path) as c:
        for i in range(5):
            c["k", i] = i
        c["k", 0] = "newer"
        del c["k", 1]
    again = SpillDict(spill_to=tmp_path)
    assert dict(again) == {"a": 1, ("k", 0): "newer", ("k", 2): 2, ("k", 3): 3, ("k", 4): 4}
    assert dict(PersiDict(tmp_path)) == dict(again)
    again["a"] = 2
    assert PersiDict(tmp_path)["a"] == 1
    again.flush()
    assert PersiDict(tmp_path)["a"] == 2


def test_a_full_disk_raises_and_loses_nothing():
    class Full(dict):
        full = False

        def __setitem__(self, key, value):
            if self.full:
                raise BackendError(place="disk", action="write", cause="it is full")
            super().__setitem__(key, value)

    place = Full()
    c = SpillDict(available_memory=3, weigh=lambda _: 1, spill_to=place)
    for i in range(5):
        c[i] = i
    place.full = True
    with pytest.raises(BackendError):
        for key in range(10, 15):
            c[key] = "new"
    assert [c[i] for i in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(BackendError):
        c[0] = "new"  # there is no room for it in memory, and none can be made
    assert c[0] == 0
    place.full = False
    c[99] = 99
    assert c[99] == 99
    c.close()


@pytest.mark.skipif(bool(no_small_disk()), reason="no disk of its own can be had")
@pytest.mark.parametrize("n_kib", [1, 200], ids=["small", "large"])
def test_a_full_disk_of_temporary_files_is_told_with_the_key_and_what_to_do(tmp_path, monkeypatch, n_kib):
    with small_disk(tmp_path / "disk", nbytes=900 * KIB) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with SpillDict(available_memory=2 * n_kib * KIB) as c:
            with pytest.raises(
                BackendError, match=r"spill the value of \('k', \d+\) in .*TMPDIR"
            ) as caught:
                for i in range(1000):
                    c["k", i] = array(i, n_kib * KIB)
            assert "No space left on device; spill to another disk (spill_to=)" in str(caught.value)
            assert "=i" not in str(caught.value)
            assert caught.value.__cause__.errno == errno.ENOSPC
            assert all(c["k", i][0] == i for i in range(len(c)))


@pytest.mark.parametrize("is_given", [True, False])
def test_what_can_not_be_stored_is_told_of_by_its_key_alone(tmp_path, is_given):
    with unit(1, spill_to=tmp_path if is_given else None) as c:
        c.update({i: i for i in range(5)})
        with pytest.warns(PersicacheWarning, match="'f' stays in memory") as caught:
            c["f"] = threading.Lock()
            c.spill("f")
        assert not re.search(r"\d", str(caught[0].message))
        del c["f"]


def spill_folders():
    return set(Path(tempfile.gettempdir()).glob("persicache-spill-*"))


def test_the_private_place_goes_with_the_dictionary():
    before = spill_folders()
    with pytest.raises(ZeroDivisionError), SpillDict(available_memory=1) as c:
        c["a"] = 1
        assert spill_folders() > before
        1 / 0  # noqa: B018 - the exception is the test
    assert spill_folders() == before
    c = SpillDict({"a": 1}, available_memory=1)
    del c
    gc.collect()
    assert spill_folders() == before
    subprocess.run(
        [sys.executable, "-c", "import persicache as p; c = p.SpillDict({1: 2}, available_memory=1)"],
        check=True,
    )
    assert spill_folders() == before


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_place_alone():
    with SpillDict({i: i for i in range(10)}, available_memory=2, weigh=lambda _: 1) as c:
        child = multiprocessing.get_context("fork").Process(target=sys.exit)
        child.start()
        child.join()
        assert dict(c) == {i: i for i in range(10)}


def test_threads_see_a_dictionary():
    with SpillDict(available_memory=50, weigh=lambda _: 1) as c:

        def run(t):
            for i in range(200):
                c[t, i % 40] = (t, i)
                assert c[t, i % 40] == (t, i)
                if i % 7 == 0:
                    del c[t, i % 40]

        threads = [threading.Thread(target=run, args=(t,)) for t in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert c.memory_usage == len(c.in_memory) <= 50


# Forks

ignore_fork_warning = pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")


def in_a_fork(run):
    """Run a function in a forked child; return its exit code: 0, or 1 after an exception."""
    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
        pytest.fail("the child hangs")
    return child.exitcode


def unit(n, **options):
    """Return a SpillDict that has room for `n` values."""
    return SpillDict(available_memory=n, weigh=lambda _: 1, **options)


@ignore_fork_warning
def test_a_forked_child_and_its_parent_never_see_each_others_values():
    with unit(2) as c:
        c.update({i: ("parent", i) for i in range(5)})

        go = multiprocessing.get_context("fork").Event()

        def run():
            assert go.wait(60)
            c.update({i: ("child", i) for i in range(3, 20)})
            for i in range(20):
                assert c[i] == ("parent" if i < 3 else "child", i)

        child = multiprocessing.get_context("fork").Process(target=run)
        child.start()
        c.update({i: ("parent", i) for i in range(5, 20)})
        go.set()
        child.join(60)
        assert child.exitcode == 0
        assert dict(c) == {i: ("parent", i) for i in range(20)}
        assert in_a_fork(run) == 0
        assert dict(c) == {i: ("parent", i) for i in range(20)}


@ignore_fork_warning
@pytest.mark.parametrize("verb", ["del", "clear", "close", "replace", "pop", "collect"])
def test_a_forked_child_removes_nothing_of_its_parents(verb):
    before = spill_folders()
    model = {i: i for i in range(10)}
    c = unit(2)
    c.update(model)
    kept = [c]

    def run():
        for i in range(10):
            if verb == "del":
                del c[i]
            elif verb == "pop":
                assert c.pop(i) == i
            elif verb == "replace":
                c[i] = -i
        if verb == "clear":
            c.clear()
            assert len(c) == 0
            c[1] = 1
        elif verb == "close":
            c.close()
        elif verb == "collect":
            kept.clear()
            gc.collect()

    folders = spill_folders()
    assert in_a_fork(run) == 0
    assert spill_folders() == folders  # the child's own went with it
    assert dict(c) == model
    c.close()
    assert spill_folders() == before


@ignore_fork_warning
def test_a_forked_child_is_told_when_its_parent_has_removed_a_value():
    with unit(1) as c:
        c.update({i: i for i in range(3)})
        go = multiprocessing.get_context("fork").Event()

        def run():
            assert go.wait(60)
            assert c[1] == 1
            with pytest.raises(BackendError, match="forked"):
                c[0]

        child = multiprocessing.get_context("fork").Process(target=run)
        child.start()
        del c[0]
        for i in range(3, 6):
            c[i] = i  # one of them lies now where that was
        go.set()
        child.join(60)
        assert child.exitcode == 0


@ignore_fork_warning
def test_a_lock_that_another_thread_held_at_the_fork_does_not_hang_the_child():
    entered, go = threading.Event(), threading.Event()

    def weigh(value):
        if value == "slow" and not go.is_set():
            entered.set()
            assert go.wait(30)
        return 1

    with SpillDict({i: i for i in range(5)}, available_memory=2, weigh=weigh) as c:
        thread = threading.Thread(target=c.__setitem__, args=("k", "slow"))
        thread.start()
        assert entered.wait(30)

        def run():
            assert dict(c) == {i: i for i in range(5)}
            c["child"] = 1
            assert c["child"] == 1
            assert c.memory_usage == len(c.in_memory) <= 2

        code = in_a_fork(run)
        go.set()
        thread.join()
        assert code == 0
        assert dict(c) == {**{i: i for i in range(5)}, "k": "slow"}


# What goes wrong in the place


def damage(folder):
    for path in [*Path(folder).rglob("*.pc"), *Path(folder).glob(".pile")]:
        path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


@pytest.mark.parametrize("is_given", [True, False])
def test_a_damaged_copy_can_be_replaced_and_removed(tmp_path, is_given):
    before = spill_folders()
    with SpillDict(available_memory=10**6, spill_to=tmp_path if is_given else None) as c:
        for i in range(6):
            c[i] = [f"{i}"] * 1000
            c.spill(i)
        damage(tmp_path if is_given else (spill_folders() - before).pop())
        with pytest.raises(ValueError, match="trusted"):
            c[0]
        c[0] = "new"
        assert c[0] == "new"
        del c[1]
        assert 1 not in c
        with pytest.raises(ValueError, match="trusted"):
            c.pop(2)
        assert 2 in c
        assert c.setdefault(0, 1) == "new"
        c.clear()
        assert len(c) == 0
    if is_given:
        assert dict(PersiDict(tmp_path)) == {}


def test_a_copy_that_can_not_be_removed_takes_space_only(monkeypatch):
    with unit(1) as c:
        c.update({i: i for i in range(4)})

        def refuse(*_):
            raise BackendError(place="here", action="remove", cause="planted")

        with monkeypatch.context() as patch:
            patch.setattr(Directory, "discard", refuse)
            with pytest.warns(PersicacheWarning, match="old copy of 0 could not be removed"):
                c[0] = "new"
            with pytest.warns(PersicacheWarning, match="old copy of 1 could not be removed"):
                del c[1]
        assert dict(c) == {0: "new", 2: 2, 3: 3}


class Trouble(dict):
    """A mapping that fails when it is told to."""

    fails = None

    def __setitem__(self, key, value):
        self._fail("set")
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self._fail("del")
        super().__delitem__(key)

    def __getitem__(self, key):
        self._fail("get")
        return super().__getitem__(key)

    def _fail(self, verb):
        if self.fails == verb:
            raise BackendError(place="there", action=verb, cause="planted")


def test_a_copy_in_a_given_place_that_can_not_be_removed_keeps_its_key():
    place = Trouble()
    with unit(1, spill_to=place) as c:
        c.update({i: i for i in range(4)})
        place.fails = "del"
        for change in (lambda: c.pop(0), c.clear, lambda: c.__delitem__(0)):
            with pytest.raises(BackendError):
                change()
            assert dict(c) == {i: i for i in range(4)}
        place.fails = "get"
        del c[0]
        c[1] = "new"
        c.clear()
        assert not c
        assert not place


class FailingReads(dict):
    def pop(self, *_):
        raise AssertionError("reads what is to be removed")

    __getitem__ = pop


@pytest.mark.parametrize("is_in_memory", [True, False])
@pytest.mark.parametrize(("value", "weight"), [("new", 3), ("big", 100)])
def test_a_failed_write_leaves_everything_as_it_was(is_in_memory, value, weight):
    place = Trouble()
    weights = {"big": 100, "new": 3}
    model = {"k": "old", **{i: i for i in range(4)}}
    with SpillDict(available_memory=4, weigh=lambda v: weights.get(v, 1), spill_to=place) as c:
        c.update(model)
        c.flush()
        c.update({i: i for i in range(1, 4)})
        c["k"] = "old"
        if not is_in_memory:
            c.spill("k")
        place.fails = "set"
        for key in ("k", "fresh"):
            with pytest.raises(BackendError):
                c[key] = value
            assert dict(c) == model
            assert c.memory_usage <= 4
        place.fails = None


@pytest.mark.parametrize("old", ["nothing", "in memory", "spilled"])
def test_a_value_over_the_budget_that_can_not_be_written_is_refused(old):
    place = Trouble()
    with SpillDict(available_memory=4, weigh=lambda v: {"big": 100}.get(v, 1), spill_to=place) as c:
        model = {i: i for i in range(3)} | ({} if old == "nothing" else {"k": "old"})
        c.update(model)
        c.flush()  # so that there is no other write that could fail
        if old == "spilled":
            c.spill("k")
        place.fails = "set"
        with pytest.raises(BackendError):
            c["k"] = "big"
        assert dict(c) == model
        assert c.memory_usage <= 4
        c[0] = "new"  # there is room for that
        place.fails = None


@pytest.mark.parametrize("moment", ["_replace", "_victim", "_spill"])
def test_an_interrupt_leaves_a_dictionary_that_works(monkeypatch, moment):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with unit(3) as c:
        c.update({i: i for i in range(5)})
        with monkeypatch.context() as patch:
            patch.setattr(SpillDict, moment, interrupt)
            with pytest.raises(KeyboardInterrupt):
                c[4 if moment == "_replace" else 5] = "new"
        c[4] = "newer"
        c.update({i: i for i in range(10, 15)})
        assert c.memory_usage == len(c.in_memory) <= 3
        for key in list(c):
            del c[key]
        assert c.memory_usage == 0


@pytest.mark.parametrize("is_given", [True, False])
def test_a_value_over_the_budget_is_handed_out_and_not_kept(is_given):
    with SpillDict(available_memory=10 * KIB, spill_to=CountingDict() if is_given else None) as c:
        c["small"] = 1
        c["big"] = array(1, 100 * KIB)
        assert c.in_memory == {"small"}  # nobody had to go for it
        for _ in range(2):
            assert c["big"][0] == 1
            assert c.memory_usage <= c.available_memory
            assert c.in_memory == {"small"}


def test_errors_of_another_mapping_pin_one_value_and_spare_the_others(tmp_path):
    with shelve.open(str(tmp_path / "shelf")) as place:
        with (
            pytest.warns(PersicacheWarning) as caught,
            SpillDict(available_memory=KIB, spill_to=place) as c,
        ):
            c["f"] = function = lambda: 1
            for i in range(5):
                c[f"{i}"] = "x" * 900
            c["f"] = function
            c["more"] = "x" * 900
            c[7] = "a key that a shelf can't have"
            c.flush()
            assert c["f"] is function
            assert len(c) == 8
        told = [str(each.message).partition(" stays in memory")[0] for each in caught]
        assert told[:2] == ["'f'", "7"]
        assert told[2:] == [
            "2 values are lost with a SpillDict, as DbfilenameShelf could not store them: 'f', 7"
        ]
        assert len(place) == 6


@pytest.mark.parametrize("trouble", [sqlite3.OperationalError, RuntimeError, OSError, KeyError])
def test_trouble_with_a_place_passes_and_pins_nothing(trouble):
    class Down(dict):
        is_down = True

        def __setitem__(self, key, value):
            if self.is_down:
                raise trouble("planted")
            super().__setitem__(key, value)

    place = Down()
    with unit(3, spill_to=place) as c:
        c.update({i: i for i in range(3)})
        for i in range(3, 6):
            with pytest.raises(trouble):
                c[i] = i
        assert dict(c) == {i: i for i in range(3)}
        place.is_down = False
        c.update({i: i for i in range(3, 6)})
        assert len(c.in_memory) == c.memory_usage == 3
        place.is_down = True
        assert dict(c) == {i: i for i in range(6)}  # what is read needs no room
        place.is_down = False
    assert dict(place) == {i: i for i in range(6)}


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_value_that_somebody_removed_from_a_given_place_is_told_of(tmp_path, is_ours):
    place = tmp_path if is_ours else {}
    with unit(1, spill_to=place) as c:
        c.update({"k": 1, "l": 2})
        (PersiDict(tmp_path) if is_ours else place).pop("k")
        for read in (lambda: c["k"], lambda: c.get("k"), lambda: c.pop("k"), lambda: c.setdefault("k", 3)):
            with pytest.raises(BackendError, match=r"read the value of 'k'.*something else has removed it"):
                read()
        c["k"] = 4
        assert dict(c) == {"k": 4, "l": 2}


def test_a_value_that_replaces_a_stored_one_and_can_not_be_stored_hides_the_old_one(tmp_path):
    c = unit(9, spill_to=tmp_path)
    c["k"] = "old"
    c.flush()
    c["k"] = lock = threading.Lock()
    with pytest.warns(PersicacheWarning, match="'k' stays in memory"):
        c.flush()
    assert c["k"] is lock
    with pytest.warns(PersicacheWarning, match="1 value is lost with a SpillDict.*store it: 'k'") as caught:
        c.close()
    assert caught[0].filename == __file__
    assert dict(PersiDict(tmp_path)) == {}


def test_instructions_to_a_place_are_values_here():
    for place in (None, CountingDict()):
        with unit(1, spill_to=place) as c, pytest.warns(PersicacheWarning, match="stays in memory"):
            c["k"] = KEEP_CURRENT
            c["l"] = 1
            assert c.pop("k") is KEEP_CURRENT


# Equal keys


@pytest.mark.parametrize(("first", "second"), [(1.0, 1), (True, 1), (1, True), ((1, "a"), (True, "a"))])
def test_equal_keys_are_one_key_in_a_given_place_too(tmp_path, first, second):
    def reopened():
        return SpillDict(spill_to=tmp_path)

    with reopened() as c:
        c[first] = "old"
        c.flush()
        c[second] = "new"
        assert c[first] == "new"
    with reopened() as c:
        assert dict(c) == {second: "new"}
        c[second] = "newer"
        c.spill(first)
        assert c[second] == "newer"
        del c[second]
    with reopened() as c:
        assert dict(c) == {}


def test_keys_in_a_given_place_that_would_collapse_are_reported(tmp_path):
    PersiDict(tmp_path).update({1: "int", 2: "other"})
    PersiDict(tmp_path)[1.0] = "float"
    with pytest.raises(ValueError, match="one key for a SpillDict"):
        SpillDict(spill_to=tmp_path)


# Threads


@pytest.fixture
def quick_turns():
    """Let threads take turns often: one that only looks holds up one that writes for 5 ms each time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("is_given", [True, False])
def test_a_key_is_never_missing_while_it_is_replaced(is_given):
    inside = []

    class Place(dict):
        def __setitem__(self, key, value):
            inside.append("k" in c)
            super().__setitem__(key, value)

        def __delitem__(self, key):
            inside.append("k" in c)
            super().__delitem__(key)

    with unit(2, spill_to=Place() if is_given else None) as c:
        c["k"] = 0
        stop, missed = threading.Event(), []

        def look():
            while not stop.is_set():
                if "k" not in c:
                    missed.append(1)

        thread = threading.Thread(target=look)
        thread.start()
        for i in range(300):
            c["k"] = i
            c.spill("k")
            c["other", i % 4] = i
        stop.set()
        thread.join()
        assert not missed
        assert all(inside)


def test_of_several_threads_that_pop_one_gets_the_value():
    with unit(3) as c:
        for _ in range(100):
            c.update({i: i for i in range(5)})
            barrier, got = threading.Barrier(4), []

            def run(barrier=barrier, got=got):
                barrier.wait()
                for i in range(5):
                    value = c.pop(i, None)
                    if value is not None:
                        got.append(value)
                with contextlib.suppress(KeyError):
                    got.append(c.popitem())

            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(got) == 5
            assert not c


def test_pop_is_one_step():
    reading, go = threading.Event(), threading.Event()

    class Place(dict):
        def __getitem__(self, key):
            reading.set()
            go.wait(0.2)
            return super().__getitem__(key)

    with unit(1, spill_to=Place()) as c:
        c["k"] = "old"
        c.spill("k")
        popped = []
        thread = threading.Thread(target=lambda: popped.append(c.pop("k")))
        thread.start()
        assert reading.wait(30)
        c["k"] = "new"  # waits until "old" is popped, and is not lost with it
        go.set()
        thread.join()
        assert popped == ["old"]
        assert c["k"] == "new"


def test_items_leave_from_the_end_as_they_do_a_dict():
    with unit(3) as c:
        model = {}
        for i in range(10):
            c[i] = model[i] = i
        c[4] = model[4] = "newer"
        c[2]
        while model:
            assert list(c) == list(model)
            assert c.popitem() == model.popitem()
        with pytest.raises(KeyError):
            c.popitem()


# The end


def test_clear_reads_nothing_and_takes_a_moment():
    with SpillDict(available_memory=KIB) as c:
        c.update(dict.fromkeys(range(4000), b"x" * 200))
        start = time.process_time()
        c.clear()
        assert time.process_time() - start < 2
        assert len(c) == c.memory_usage == 0
        c.update(dict.fromkeys(range(20), b"y" * 200))
        assert c[0] == b"y" * 200
    place = FailingReads()
    with unit(1, spill_to=place) as c:
        c.update({i: i for i in range(4)})
        c.clear()
        assert not place


@pytest.mark.parametrize("is_given", [True, False])
def test_a_closed_one_refuses_to_be_used(tmp_path, is_given):
    before = spill_folders()
    c = unit(1, spill_to=tmp_path if is_given else None)
    c.update({i: i for i in range(3)})
    c.close()
    c.close()
    uses = [
        lambda: c[0],
        lambda: c.__setitem__(0, 1),
        lambda: c.__delitem__(0),
        lambda: 0 in c,
        lambda: len(c),
        lambda: list(c),
        lambda: c.get(0),
        lambda: c.pop(0, None),
        c.popitem,
        lambda: c.setdefault(0, 1),
        c.clear,
        c.flush,
        lambda: c.spill(0),
        c.__enter__,
    ]
    for use in uses:
        with pytest.raises(ValueError, match="is closed"):
            use()
    assert c.memory_usage == 0
    assert "closed" in repr(c)
    assert spill_folders() == before


def test_copies_and_pickles_are_refused_with_what_to_do():
    with unit(2) as c:
        c.update({i: i for i in range(3)})
        for make in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="update"):
                make(c)
        with pytest.raises(TypeError, match="pickle dict"):
            pickle.dumps(c)
        with SpillDict(c) as other:
            other[0] = "other"
            assert c[0] == 0


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), None, "3", 1j, Decimal("nan")])
def test_weights_that_make_no_sense_are_refused(weight):
    with SpillDict(available_memory=10, weigh=lambda _: weight) as c:
        with pytest.raises((TypeError, ValueError), match=r"weigh says .* of a value of type 'int'"):
            c["k"] = 1
        assert len(c) == c.memory_usage == 0


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        ("lots", "no amount"),
        (0, "no amount"),
        (-1, "no amount"),
        ("2 XB", "no amount"),
        (float("nan"), "no amount"),
        ("1e400", "no amount"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(amount, message):
    with pytest.raises(ValueError, match=message):
        SpillDict(available_memory=amount)
    with pytest.raises(ValueError, match="unknown policy"):
        SpillDict(policy="mru")


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("available_memory", None),
        ("available_memory", [1]),
        ("available_memory", b"2 GiB"),
        ("policy", ["lru"]),
        ("policy", None),
        ("weigh", 3),
        ("on_miss", 1),
        ("on_overflow", "print"),
        ("on_return", ["copy"]),
        ("spill_to", 3),
        ("spill_to", b"place"),
        ("spill_to", frozenset()),
    ],
)
def test_options_of_a_wrong_type_are_named(option, given):
    with pytest.raises((TypeError, ValueError), match=f"{option}.*{re.escape(repr(given))}"):
        SpillDict(**{option: given})


@pytest.mark.parametrize("below", ["", "/below", "/far/below"])
@pytest.mark.parametrize("opened", [PersiDict, lambda place: SpillDict(spill_to=place)])
def test_a_file_is_no_directory_to_open(tmp_path, opened, below):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BackendError, match=r"notes\.txt.*: it is a file.* name a directory"):
        opened(f"{tmp_path}/notes.txt{below}")
    (tmp_path / "link").symlink_to(tmp_path / "notes.txt")
    with pytest.raises(BackendError, match="it is a file"):
        opened(tmp_path / "link")


def test_budgets_are_read_as_people_write_them():
    total = psutil.virtual_memory().total
    assert parse_nbytes("2 GiB") == 2 << 30
    assert parse_nbytes("500MB") == 500_000_000
    assert parse_nbytes("1e3") == 1000
    assert 0 < parse_nbytes(0.5) == parse_nbytes(np.float64(0.5)) <= total // 2 + 1
    assert 0 < parse_nbytes("auto") < total


def test_weights_are_what_values_take():
    assert 8_000_000 <= nbytes(np.zeros(10**6)) < 8_001_000
    frame = pd.DataFrame({"a": np.zeros(10**5), "s": ["text"] * 10**5})
    assert 800_000 < nbytes(frame) < 12_000_000
    assert nbytes({"a": [np.zeros(10**5)] * 1}) > 800_000
    assert 60_000 < nbytes([[0.5] * 5000] * 3000) < 80_000  # one row, and 3,000 references to it
    assert 24e6 < nbytes([[i + j / 7 for j in range(1000)] for i in range(1000)]) < 48e6


class Node:
    pass


@pytest.mark.timeout(60)
def test_weighing_ends_whatever_refers_to_whatever():
    nodes = [Node() for _ in range(25)]
    for node in nodes:
        node.neighbours = nodes
    assert 1000 < nbytes(nodes[0]) < 20_000
    row = [1]
    for _ in range(60):
        row = [row, row]
    assert nbytes(row) < 10_000

    chain = None
    for _ in range(5000):
        chain = [chain, object()]
    assert nbytes(chain) > 1000
    with SpillDict(available_memory=KIB * KIB) as c:
        c["graph"] = nodes[0]
        assert "graph" in c.in_memory


@dataclasses.dataclass(slots=True)
class Slotted:
    content: object


MIB_ARRAY = np.zeros(KIB * KIB // 8)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (deque([MIB_ARRAY, MIB_ARRAY.copy()]), 2),
        (Slotted(MIB_ARRAY), 1),
        (np.ma.masked_array(MIB_ARRAY, mask=np.zeros(MIB_ARRAY.shape, bool)), 1.125),
        (np.array([(b"x" * 2**20, 1)], dtype=[("a", object), ("b", int)]), 1),
        (np.array([((b"x" * 2**20, 1), 1)], dtype=[("s", [("a", object), ("b", int)]), ("c", int)]), 1),
        ([MIB_ARRAY, MIB_ARRAY[:1000], MIB_ARRAY.reshape(2, -1), MIB_ARRAY[::2]], 1),
        (list(MIB_ARRAY.reshape(4, -1)), 1),
        (list(MIB_ARRAY.reshape(4096, -1)), 1.5),  # of 4,096 views, each an object of its own
        ([np.zeros(128) for _ in range(4096)], 4.5),
        (MIB_ARRAY[: KIB * 64], 0.5),
        (np.broadcast_to(np.zeros(1), 10**9), 0),
        ([b"x" * 2**20] * 5000, 1),
        ([bytes([i % 256]) * 2**10 + b"%d" % i for i in range(5000)], 5),
        (pd.Series([b"x" * 2**10 + b"%d" % i for i in range(5000)], dtype=object), 5),
        (pd.DataFrame({"a": MIB_ARRAY, "b": MIB_ARRAY}), 2),
        (pd.DataFrame({"a": [np.zeros(128) for _ in range(1024)]}), 1.1),
        (pd.DataFrame(np.zeros((128, 1024))), 1),
        (pd.DataFrame({"a": MIB_ARRAY}).set_index("a").index, 1),
        (pd.Series(["x", "y"] * 2**19, dtype="category"), 1),
        (np.array([object()] * 2**17).reshape(2, -1).T, 1),
        ({"module": np, "class": Node, "function": nbytes}, 0),
    ],
)
def test_weights_of_what_refers_to_much(value, wanted):
    assert nbytes(value) / 2**20 == pytest.approx(wanted, abs=0.15, rel=0.15)


# Notebooks, hooks, numbers


def test_a_notebook_shows_a_bar_and_some_keys():
    with unit(3) as c:
        c.update({f"<{i}>": i for i in range(20)})
        shown = c._repr_html_()
        assert '<meter min="0" max="3" value="3"' in shown
        assert "items: 20, in memory: 3 B of 3 B, on disk: 17, spilled: 17 B" in shown
        assert "&lt;9&gt;" in shown
        assert "<9>" not in shown
        assert shown.count("<tr>") == 12
    assert "closed" in c._repr_html_()


def test_hooks_are_told_of_misses_and_of_overflow():
    missed, overflown = [], []
    with unit(2, on_miss=missed.append, on_overflow=overflown.append) as c:
        c.update({"a": 1, "b": 2})
        assert (missed, overflown) == ([], [])
        c["c"] = 3
        assert (missed, overflown) == ([], [1])
        c["b"]
        assert missed == []
        assert c["a"] == 1
        assert missed == ["a"]


def test_hooks_can_use_the_dictionary():
    with unit(2, on_miss=lambda key: c.pop("c", None), on_overflow=lambda _: c.flush()) as c:
        c.update({"a": 1, "b": 2, "c": 3})
        assert c["a"] == 1
        assert "c" not in c


def test_what_was_done_is_counted():
    with unit(2) as c:
        c.update({i: i for i in range(5)})
        c[4], c[0]
        stats = c.stats
        assert (stats.hits, stats.misses, stats.hit_rate) == (1, 1, 0.5)
        assert (stats.spilled_nbytes, stats.restored_nbytes) == (4, 1)
        assert stats.spill_seconds > 0
        c[0]
        assert stats.hits == 1


@pytest.mark.parametrize("policy", ["lfu", "gdsf"])
def test_other_policies_keep_what_is_used_much(policy):
    with unit(3, policy=policy) as c:
        c["much"] = 0
        for _ in range(50):
            c["much"]
        for i in range(20):
            c[i] = i
        assert "much" in c.in_memory


# What is handed out


@pytest.mark.parametrize("is_spilled", [False, True])
def test_a_view_is_the_object_in_memory_and_a_copy_the_callers_own(is_spilled):
    for on_return in ("view", "copy"):
        with SpillDict(available_memory=MIB, on_return=on_return) as c:
            c["a"] = np.zeros(1000)
            if is_spilled:
                c.spill("a")
            c["a"][:] = 7
            assert c["a"][0] == (7 if on_return == "view" else 0)
            changed = c["a"]
            changed[:] = 8
            c["a"] = changed
            c.spill("a")
            assert c["a"][0] == 8
    with pytest.raises(ValueError, match=r"on_return.*'view', 'copy'"):
        SpillDict(on_return="both")


def test_a_value_that_can_not_be_copied_is_named_and_can_be_had_by_pop():
    lock = threading.Lock()
    with SpillDict({"a": 1, "k": [lock]}, on_return="copy") as c:
        for read in (lambda: c["k"], lambda: list(c.values()), lambda: SpillDict(c), lambda: c.get("k")):
            with pytest.raises(UncopyableValue, match=r"'k'.*lock.*pop\(\).*on_return='view'"):
                read()
        assert c.setdefault("a", lock) == 1
        assert c.pop("k") == [lock]


def test_a_change_in_place_of_a_value_that_was_written_is_lost_unless_it_is_assigned():
    """As documented: each value is written once."""
    with SpillDict(available_memory=MIB) as c:
        c["a"] = np.zeros(1000)
        c.spill("a")
        c["a"][:] = 7
        c.spill("a")
        assert c["a"][0] == 0


def test_it_is_read_backwards_and_updated_by_an_operator_as_a_dict_is():
    with unit(1) as before, unit(1) as other:
        other["b"] = 20
        c = before
        c |= {"a": 1, "b": 2}
        c |= [("c", 3)]
        c |= other
        assert c is before
        assert dict(c) == {"a": 1, "b": 20, "c": 3}
        assert list(reversed(c)) == ["c", "b", "a"]
        with pytest.raises(TypeError, match=r"\|"):
            c | other
        assert "(1 item, " in repr(other)
        assert "(3 items, " in repr(c)
    with pytest.raises(ValueError, match="closed"):
        reversed(c)


def test_update_can_spare_what_is_there():
    with unit(2) as c, unit(1) as other:
        c.update({"a": 1}, b=2)
        other.update({"b": 20, "c": 30, "d": 40})
        c.update(other, overwrite=False)
        assert dict(c) == {"a": 1, "b": 2, "c": 30, "d": 40}
        c.update([("a", 10)], overwrite=False, e=5)
        assert (c["a"], c["e"]) == (1, 5)
        c.update(other)
        assert c["b"] == 20


def test_dropping_removes_from_a_given_place_what_is_its_own(tmp_path):
    (tmp_path / "notes.txt").write_text("foreign")
    c = unit(1, spill_to=tmp_path)
    c.update({"a": 1, "b": 2})
    c.flush()
    c.drop()
    assert dict(PersiDict(tmp_path)) == {}
    assert (tmp_path / "notes.txt").exists()
    with pytest.raises(ValueError, match="closed"):
        len(c)


def test_evicting_tells_how_much_it_freed():
    with SpillDict({"a": "x"}, available_memory=10, weigh=lambda _: 5) as c:
        assert c.evict() == 5
        assert c.evict() == 0
        assert c.in_memory == set()


# Another budget


def test_a_smaller_budget_holds_at_once_and_a_larger_one_gives_room(tmp_path):
    with unit(6, spill_to=tmp_path) as c:
        c.update({i: i for i in range(6)})
        c.available_memory = 2
        assert c.available_memory == 2
        assert c.in_memory == {4, 5}
        assert set(PersiDict(tmp_path)) == {0, 1, 2, 3}
        c.available_memory = "1 KiB"
        assert c.available_memory == KIB
        assert dict(c) == {i: i for i in range(6)}
        assert len(c.in_memory) == 6
        assert c.stats.spilled_nbytes == 4
    with pytest.raises(ValueError, match="closed"):
        c.available_memory = 3


@pytest.mark.parametrize("amount", [0, -1, "much", "2 parsec", True, float("nan")])
def test_a_budget_that_makes_no_sense_changes_nothing(amount):
    with unit(6) as c:
        c.update({i: i for i in range(6)})
        with pytest.raises((ValueError, TypeError), match="amount of memory"):
            c.available_memory = amount
        assert c.available_memory == len(c.in_memory) == 6


def test_a_budget_stays_if_what_must_leave_can_not_be_written():
    place = Trouble()
    with unit(4, spill_to=place) as c:
        c.update({i: i for i in range(4)})
        place.fails = "set"
        with pytest.raises(BackendError):
            c.available_memory = 1
        assert c.available_memory == len(c.in_memory) == 4
        place.fails = None
        c.available_memory = 1
        assert dict(c) == {i: i for i in range(4)}


def test_what_can_not_leave_sends_others_out_at_once():
    with SpillDict(available_memory=4, weigh=lambda v: 5 if callable(v) else 1) as c:
        c.update({i: i for i in range(4)})
        with pytest.warns(PersicacheWarning, match="stays in memory"):
            c["lock"] = threading.Lock().acquire
        assert c.in_memory == {"lock"}
        assert c.memory_usage == 5


def test_what_setdefault_hands_out_is_a_copy_too():
    with SpillDict(on_return="copy") as c:
        c.setdefault("k", []).append(1)
        c.setdefault("k", []).append(2)
        assert c["k"] == []


# What killed processes leave


def test_what_a_killed_process_left_is_swept(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        c = unit(1)
        c.update({"a": 1, "b": 2})
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    (left,) = tmp_path.glob("persicache-spill-*")
    (tmp_path / "persicache-spill-notes").write_text("a file of somebody's")
    young = tmp_path / "persicache-spill-young"  # one that is just being made
    young.mkdir()
    assert sweep() == 0  # its owner lives
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert sweep() == 1
    assert not left.exists()
    assert young.exists()
    with unit(1) as mine:
        mine.update({"a": 1, "b": 2})
        assert sweep() == 0
        assert dict(mine) == {"a": 1, "b": 2}


# One file for two dictionaries


def files_of(c):
    """Return the entries of a place by what they hold."""
    folder = c._place._directory.path if c._place.is_private else c._place._mapping.url
    return {path.stat().st_ino: path for path in Path(folder).glob("*.pc")}


@pytest.mark.parametrize("is_given", [False, True])
def test_update_has_the_files_of_another_and_each_outlives_the_other(tmp_path, is_given):
    def new(name, **options):
        return SpillDict(
            available_memory=320 * KIB, spill_to=tmp_path / name if is_given else None, **options
        )

    other = new("other", data={i: array(i, 128 * KIB) for i in range(9)})
    other.flush()
    last = other.in_memory
    before = other.stats
    with new("mine") as c:
        c.update(other)
        shared = files_of(c).keys() & files_of(other).keys()
        assert len(shared) == 9 - len(last) == 7
        assert all(path.stat().st_nlink == 2 for path in files_of(c).values())
        # Nothing was read or written, and nobody had to leave.
        assert c.stats.spilled_nbytes == other.stats.spilled_nbytes - before.spilled_nbytes == 0
        assert other.stats.misses == c.stats.misses == 0
        assert c.in_memory == other.in_memory == last
        other[0] = "changed"
        other.spill(0)
        del other[1]
        c[2] = "mine"
        c.spill(2)
        assert (other[2] == 2).all()
        other.drop()
        assert {i: c[i][0] for i in range(9) if i != 2} == {i: float(i) for i in range(9) if i != 2}
        assert c[2] == "mine"
        again = new("again", data=c)
        c.drop()
    assert again[0][0] == 0
    again.close()


def test_a_persisted_dictionary_is_taken_over_by_its_files(tmp_path):
    d = PersiDict(tmp_path / "d")
    d.update({i: array(i) for i in range(9)})
    with unit(2, spill_to=tmp_path / "c", data=d) as c:
        assert c.in_memory == set()
        assert {path.stat().st_nlink for path in files_of(c).values()} == {2}
        d.clear()
        assert c[8][0] == 8.0
    assert len(PersiDict(tmp_path / "c")) == 9


@pytest.mark.parametrize(
    "other",
    [
        {"durable": False},
        {"signing_key": "secret"},
        {"compression": "zstd"},
        {"namespace": "other"},
        {"format": "pickle"},
        {"url": "memory://spilled-elsewhere"},
    ],
)
def test_where_files_can_not_be_shared_values_are_written(tmp_path, other):
    d = PersiDict(**{"url": tmp_path / "d"} | other)
    d.update({i: array(i) for i in range(4)})
    with SpillDict(d, available_memory=2000, spill_to=tmp_path / "c") as c:
        assert [float(c[i][0]) for i in range(4)] == [0, 1, 2, 3]
        c.flush()
        assert {path.stat().st_nlink for path in files_of(c).values()} == {1}
    d.clear()


def test_files_that_others_can_write_to_are_not_shared(tmp_path):
    d = PersiDict(tmp_path / "d")
    d[0] = array(0)
    (path,) = (tmp_path / "d").glob("*.pc")
    path.chmod(0o666)
    with SpillDict(d, spill_to=tmp_path / "c") as c:
        assert path.stat().st_nlink == 1
        assert c[0][0] == 0


def test_a_file_that_came_back_is_not_taken_away_with_the_old_one():
    with unit(1) as a, unit(1) as b:
        a.update({0: "a", 1: "b"})
        b.update(a)
        a.clear()
        a.update(b)
        b.update(a)
        b.clear()
        assert a[0] == "a"
        b.update(a)
        a.drop()
        assert dict(b) == {0: "a", 1: "b"}


def test_two_that_take_over_each_others_values_at_once_end():
    with unit(1) as a, unit(1) as b:
        a.update({i: i for i in range(50)})
        b.update({i: i for i in range(50)})
        threads = [threading.Thread(target=x.update, args=(y,)) for x, y in ((a, b), (b, a)) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert dict(a) == dict(b) == {i: i for i in range(50)}


def test_what_only_passes_takes_no_room_where_it_comes_from(tmp_path):
    with unit(2) as other, unit(9, spill_to=CountingDict()) as c:
        other.update({i: i for i in range(9)})
        before = other.in_memory
        c.update(other)
        assert other.in_memory == before
        assert c.in_memory == set(range(9))
        c.update(c)
        assert dict(c) == dict(other)


def test_what_is_removed_while_it_is_taken_over_is_passed_over():
    with unit(9) as other, unit(1, on_overflow=lambda _: other.pop("c", None)) as c:
        other.update({"a": 1, "b": 2, "c": 3, "d": 4})
        c.update(other)
        assert dict(c) == {"a": 1, "b": 2, "d": 4}
    broken = FailingLookups({"a": 1})
    with unit(1, spill_to=broken) as other, unit(1) as c, pytest.raises(BackendError):
        c.update(other)  # what is lost is another matter


class FailingLookups(dict):
    def __getitem__(self, key):
        raise KeyError(key)


# How far it has come


def test_a_flush_tells_how_far_it_has_come():
    told = []
    with SpillDict({i: "x" * i for i in range(1, 5)}, available_memory=20, weigh=len) as c:
        c.spill(4)
        c.flush(progress=lambda done, total: told.append((done, total)))
        assert told == [(1, 6), (3, 6), (6, 6)]
        c.flush(progress=lambda *_: told.clear())
        assert told  # there was nothing to do


def test_a_flush_can_be_called_off_and_gone_on_with():
    def no(*_):
        raise TimeoutError

    with unit(9) as c:
        c.update({i: i for i in range(9)})
        with pytest.raises(TimeoutError):
            c.flush(progress=no)
        assert c.stats.spilled_nbytes == 1
        with pytest.raises(TypeError, match="progress must be a bool, a function or None, not 'yes'"):
            c.flush(progress="yes")
        c.flush(progress=False)
        assert c.stats.spilled_nbytes == 9


@pytest.mark.parametrize("option", [None, False, True])
def test_a_line_says_how_far_a_flush_has_come(capsys, option):
    with SpillDict({i: array(i) for i in range(4)}, weigh=lambda v: v.nbytes) as c:
        c.flush(progress=option)
    assert ("flush: 4.0 KiB of 4.0 KiB" in capsys.readouterr().err) == bool(option)


@pytest.mark.parametrize("has_rich", [True, False])
def test_a_terminal_shows_a_bar_of_what_takes_long(monkeypatch, has_rich):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    shown = {}
    for seconds in (0.1, 1.1):
        monkeypatch.setattr(sys, "stderr", Terminal())
        times = itertools.count(0, seconds)
        with progress(
            None, title="flush", total_nbytes=4096, clock=lambda times=times: next(times)
        ) as advance:
            for _ in range(4):
                advance(1024)
        shown[seconds] = sys.stderr.getvalue()
    assert shown[0.1] == ""
    assert ("4.0/4.0 KiB" if has_rich else "flush: 4.0 KiB of 4.0 KiB") in shown[1.1]
