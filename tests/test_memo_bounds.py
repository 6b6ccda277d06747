"""Stores stay within their limits, and keep what a textbook would."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import persicache
from persicache import BackendError, PersicacheWarning, persistent_memoize
from persicache.codecs import EntryCodec
from persicache.eviction import POLICIES, new_policy
from persicache.mappings import Entries
from persicache.memo import MemoizedFunction
from persicache.memo.settings import Settings
from persicache.storage.memory import MemoryStorage


@pytest.fixture(params=["directory", "memory", "s3", "sqlite", "lmdb", "dir"])
def store(request, tmp_path):
    """Return a decorator factory over a store of its own."""
    where = {
        "directory": lambda: (tmp_path / "memo", {}),
        "memory": lambda: (f"memory://{uuid.uuid4().hex}", {}),
        "sqlite": lambda: (tmp_path / "x.db", {}),
        "lmdb": lambda: (f"lmdb://{tmp_path}/env", {}),
        "dir": lambda: (f"dir::file://{tmp_path}", {}),
        "s3": lambda: (
            request.getfixturevalue("s3").url,
            {"storage_options": request.getfixturevalue("s3").storage_options},
        ),
    }
    url, options = where[request.param]()
    return lambda **more: persistent_memoize(url, **options, memory=None, **more)


def text(x):
    return "x" * 1000


def sizes(f):
    return [info.nbytes for info in f.entries()]


def arguments(f):
    return {info.args["x"] for info in f.entries()}


def test_no_more_entries_than_allowed(store):
    f = store(max_entries=10)(text)
    for x in range(25):
        assert f(x) == "x" * 1000
    f.flush()
    assert 9 <= len(sizes(f)) <= 10
    for x in range(25):
        assert f(x) == "x" * 1000


def test_no_more_bytes_than_allowed(store):
    f = store(max_size="20 kB", policy="lru")(text)
    for x in range(40):
        f(x)
    f.flush()
    assert 14_000 < sum(sizes(f)) <= 20_000


def test_a_process_keeps_the_bounds_without_being_told(tmp_path):
    f = persistent_memoize(tmp_path, max_entries=10)(text)
    for x in range(500):
        f(x)
    for _ in range(6000):  # in the background, with much time
        if len(list(tmp_path.rglob("*.pc"))) <= 10:
            break
        time.sleep(0.01)
    assert 0 < len(list(tmp_path.rglob("*.pc"))) <= 10


SCRIPT = """
import sys
from persicache import persistent_memoize
@persistent_memoize(sys.argv[1], max_entries=10, memory=None)
def f(x):
    return x
for x in range(300):
    f(x)
"""


def test_a_process_that_ends_leaves_no_more_than_allowed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    subprocess.run([sys.executable, tmp_path / "script.py", tmp_path / "memo"], check=True)
    assert 0 < len(list((tmp_path / "memo").rglob("*.pc"))) <= 10


def crowd(place, start):
    f = persistent_memoize(place, max_entries=100, policy="lru", memory=None)(text)
    return [len(f(x)) for x in range(start, start + 200)]


def test_processes_at_once_stay_within_the_bounds_together(tmp_path):
    f = persistent_memoize(tmp_path, max_entries=100, policy="lru", memory=None)(text)
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        found = pool.starmap(crowd, [(tmp_path, start) for start in range(0, 800, 200)], chunksize=1)
        assert found == [[1000] * 200] * 4
        pool.close()
        pool.join()
    # Each knows of what the others stored since it listed them only that it may be anything.
    assert 80 <= len(list(tmp_path.rglob("*.pc"))) <= 160
    f.flush()
    assert 80 <= len(sizes(f)) <= 100


class Clock:
    """Advances when it is told."""

    now = 0.0

    def __call__(self):
        return self.now

    def __persicache_key__(self):
        return "a clock"  # that it advances makes no other function of who looks at it


KEYS = 8
#: What each costs, and how much longer than that its result is; sums and quotients are exact.
COSTS = [0.0, 0.25, 0.25, 1.0, 4.0, 4.0, 16.0, 64.0]
LENGTHS = [10, 10, 2000, 10, 2000, 10, 8000, 8000]


@pytest.mark.parametrize("name", POLICIES)
@given(
    rounds=st.lists(
        st.tuples(st.lists(st.integers(0, KEYS - 1), max_size=12), st.integers(1, KEYS)), max_size=6
    )
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])
def test_those_who_stay_are_the_textbooks(name, rounds):
    clock = Clock()

    def f(x):
        clock.now += COSTS[x]
        return "x" * LENGTHS[x]

    def opened(**options):
        entries = Entries(MemoryStorage(url), EntryCodec())
        return MemoizedFunction(f, entries, Settings.of(memory=None, policy=name, **options), clock=clock)

    url = f"memory://{uuid.uuid4().hex}"
    free = opened()
    nbytes = {}
    policy = new_policy(name)
    for calls, most in rounds:
        for x in calls:
            free(x)
            if x not in nbytes:
                nbytes = {int(info.args["x"]): info.nbytes for info in free.entries()} | nbytes
            if x in policy:
                policy.touch(x)
            else:
                policy.add(x, nbytes=nbytes[x], cost_seconds=COSTS[x])
        opened(max_entries=most).flush()
        while len(policy) > most:
            policy.evict(policy.victim())
        assert {int(info.args["x"]) for info in free.entries()} == {x for x in range(KEYS) if x in policy}
    free.clear()


def make_old(place, seconds=1000):
    for path in place.rglob("*.pc"):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def test_what_has_just_been_stored_or_used_leaves_last(tmp_path):
    f = persistent_memoize(tmp_path, memory=None)(text)
    for x in range(5):
        f(x)
    make_old(tmp_path)
    f(3)
    f(5)
    # The others have the same cost and more uses, or were used at the same time.
    for most, left in [(3, {"3", "5"}), (2, {"3", "5"}), (1, {"3"})]:
        persistent_memoize(tmp_path, memory=None, max_entries=most, policy="lfu")(text).flush()
        assert left <= arguments(f)
        assert len(arguments(f)) == most


def test_what_has_expired_leaves_first(tmp_path):
    f = persistent_memoize(tmp_path, memory=None)(text)
    for x in range(3):
        f(x)
    make_old(tmp_path)
    for x in range(3, 6):
        f(x)
    for _ in range(9):
        f(0)
        f(1)
        f(2)
    persistent_memoize(tmp_path, memory=None, max_entries=4, policy="lfu", expires=100)(text).flush()
    assert {"3", "4", "5"} < arguments(f)

    def moments(x):
        return x

    def expires(value):
        return 0 if value < 3 else 1000

    g = persistent_memoize(tmp_path, memory=None, max_entries=4, policy="lru", expires=expires)(moments)
    for x in (5, 4, 3, 2, 1):
        g(x)
    g.flush()
    assert {"5", "4", "3"} < arguments(g)


def test_a_large_result_that_fits_stays(tmp_path):
    def f(x):
        return "x" * x

    free = persistent_memoize(tmp_path, memory=None)(f)
    free(20_000)
    make_old(tmp_path)
    f = persistent_memoize(tmp_path, memory=None, max_size=100_000)(f)
    f(95_000)
    f.flush()
    assert arguments(f) == {"95000"}


def test_results_of_other_code_count_and_what_is_no_result_of_it_does_not(tmp_path):
    old = persistent_memoize(tmp_path, memory=None, version=1)(text)
    for x in range(5):
        old(x)
    make_old(tmp_path)
    other = persistent_memoize(tmp_path)(crowd)
    other.put("kept", "place", 1)
    d = persicache.open(tmp_path)
    mine = [(key[0], "mine", i) for key in d if key[0].endswith("text") for i in range(9)]
    for key in mine:
        d[key] = "somebody's"
    new = persistent_memoize(tmp_path, memory=None, version=2, max_entries=3)(text)
    for x in range(10, 13):
        new(x)
    new.flush()
    assert arguments(new) == {"10", "11", "12"}
    assert all(d[key] == "somebody's" for key in mine)
    assert other.lookup("place", 1) == "kept"


def test_a_store_does_not_list_what_is_there(tmp_path, monkeypatch):
    f = persistent_memoize(tmp_path, max_entries=10_000_000, max_size="1 TB")(text)
    f(0)
    (entry,) = tmp_path.rglob("*.pc")
    for i in range(5000):
        digest = f"{i:064x}"[::-1]
        path = entry.parents[1] / digest[:2] / f"{digest[2:]}.pc"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    listings = []
    monkeypatch.setattr(os, "scandir", lambda *args: listings.append(args))
    monkeypatch.setattr(os, "listdir", lambda *args: listings.append(args))
    for x in range(200):
        f(x)
    assert f.stats().misses == 200
    assert not listings


class Stubborn(MemoryStorage):
    """Lets nobody remove anything."""

    def remove_many(self, names):
        raise BackendError(place=self.url, action="remove", cause="access denied")


def test_who_may_not_evict_is_told_so_once_and_gets_his_results():
    entries = Entries(Stubborn(f"memory://{uuid.uuid4().hex}"), EntryCodec())
    for x in range(4):
        MemoizedFunction(text, entries, Settings.of(memory=None))(x)
    f = MemoizedFunction(text, entries, Settings.of(memory=None, max_entries=3))
    with pytest.raises(BackendError, match="access denied"):
        f.flush()
    with pytest.warns(PersicacheWarning, match=r"text can't be kept within their.*access denied") as told:
        for x in range(4, 400):
            assert f(x) == "x" * 1000
            end = time.monotonic() + 30
            while x > 100 and not told:  # the background has its turn
                assert time.monotonic() < end
                time.sleep(0.001)
    assert len(told) == 1


def test_uses_are_counted_once_where_what_was_merged_can_not_be_removed():
    storage = Stubborn(f"memory://{uuid.uuid4().hex}")
    f = MemoizedFunction(text, Entries(storage, EntryCodec()), Settings.of(memory=None))
    f(1)
    for _ in range(40):
        f(1)
        f.flush()
    (info,) = f.entries()
    assert info.hits == 40


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("max_size", 0),
        ("max_size", -1),
        ("max_size", "much"),
        ("max_size", "auto"),
        ("max_size", 0.5),
        ("max_size", True),
        ("max_entries", 0),
        ("max_entries", "3"),
        ("max_entries", True),
        ("max_entries", 1.5),
        ("policy", "mru"),
        ("policy", None),
    ],
)
def test_limits_that_make_no_sense_are_refused(tmp_path, option, wrong):
    with pytest.raises((TypeError, ValueError), match=r"must be|unknown policy"):
        persistent_memoize(tmp_path, **{option: wrong})
    assert not list(tmp_path.iterdir())
