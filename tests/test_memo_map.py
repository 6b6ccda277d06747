"""Many calls at once: looked up together, computed once, each result in its place."""

import asyncio
import copy
import dataclasses
import itertools
import os
import threading
import uuid
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import aclosing
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from persicache import BackendError, PersicacheWarning, UndigestibleValue, persistent_memoize
from persicache.codecs import EntryCodec
from persicache.mappings import Entries
from persicache.memo import MemoizedFunction
from persicache.memo.settings import Settings
from persicache.storage.memory import MemoryStorage


@pytest.fixture
def memoize():
    url = f"memory://{uuid.uuid4().hex}"

    def memoize(function=None, **options):
        decorate = persistent_memoize(url, memory=None, **options)
        return decorate if function is None else decorate(function)

    return memoize


def square(x):
    return [x * x]


def fail_on_three(x):
    if x == 3:
        raise ValueError("three")
    return x


def outcomes(mapped):
    """Return all results, with the exceptions in their places."""
    found = []
    while True:
        try:
            found.append(next(mapped))
        except StopIteration:
            return found
        except ValueError as error:
            found.append(str(error))


def test_results_come_in_order_and_equal_calls_are_computed_once(memoize):
    f = memoize(square)
    assert list(f.map([3, 1, 3, 2, 1])) == [[9], [1], [9], [4], [1]]
    assert f.stats()[:2] == (2, 3)
    assert list(f.map(range(4))) == [[0], [1], [4], [9]]
    assert f.stats().misses == 4
    assert list(f.map([])) == []


def test_arguments_come_from_several_iterables_until_one_ends(memoize):
    f = memoize(lambda x, y, z=0: (x, y, z))
    assert list(f.map([1, 2, 3], itertools.repeat(5))) == [(1, 5, 0), (2, 5, 0), (3, 5, 0)]
    assert list(f.map([1], [2, 2], iter([3, 3]))) == [(1, 2, 3)]
    assert f.contains(1, 5)
    assert f.contains(x=1, y=2, z=3)


def test_an_exception_is_raised_in_its_place_and_the_others_are_stored(memoize):
    f = memoize(fail_on_three)
    assert outcomes(f.map([1, 3, 2, 3, 4])) == [1, "three", 2, "three", 4]
    assert [x for x in range(5) if f.contains(x)] == [1, 2, 4]
    with pytest.raises(ValueError, match="three"):
        list(f.map([5, 3, 6]))
    assert (f.contains(5), f.contains(6)) == (True, False)


def test_unordered_gives_what_is_stored_first(memoize):
    f = memoize(square)
    f(2), f(4)
    assert list(f.map([1, 2, 3, 4], ordered=False)) == [[4], [16], [1], [9]]


def test_nothing_is_computed_before_its_turn(memoize):
    f = memoize(square)
    mapped = f.map([1, 2, 3])
    assert f.stats().misses == 0
    assert (next(mapped), f.stats().misses) == ([1], 1)


def test_what_cannot_be_digested_is_told_in_its_place(memoize):
    f = memoize(lambda x: x)
    mapped = f.map([1, threading.Lock(), 2])
    assert next(mapped) == 1
    with pytest.raises(UndigestibleValue, match="argument 'x'"):
        next(mapped)
    assert next(mapped) == 2


class Log:
    """Notes what was done, and is no part of what a function's result depends on."""

    def __init__(self):
        self.running = self.most = 0

    def __persicache_key__(self):
        return "log"


class Counting(MemoryStorage):
    """Notes how many names are asked for at once."""

    def __init__(self, url):
        super().__init__(url)
        self.asked = []
        self.trouble = None

    def read(self, name):
        self.asked.append(1)
        if self.trouble:
            raise self.trouble
        return super().read(name)

    def read_many(self, names):
        names = list(names)
        self.asked.append(len(names))
        if self.trouble:
            raise self.trouble
        yield from MemoryStorage(self.url).read_many(names)


def counted(function, **options):
    storage = Counting(f"memory://{uuid.uuid4().hex}")
    # With leases, each call would look again once it has its own.
    settings = Settings.of(single_flight=False, **options)
    return MemoizedFunction(function, Entries(storage, EntryCodec()), settings), storage


def test_keys_are_looked_up_in_batches_that_grow(memoize):
    f, storage = counted(square, memory=None)
    list(f.map(range(100)))
    assert storage.asked == [8, 16, 32, 44]
    assert list(f.map(range(100))) == [[x * x] for x in range(100)]
    assert storage.asked[4:] == [8, 16, 32, 44]
    assert f.stats()[:2] == (100, 100)


def test_what_memory_has_is_not_asked_for():
    f, storage = counted(square)
    f(1), f(2)
    storage.asked.clear()
    assert list(f.map([1, 2, 3, 3])) == [[1], [4], [9], [9]]
    assert storage.asked == [1]


def test_large_results_make_small_batches_and_few_arguments_are_taken_ahead():
    f, storage = counted(lambda x: bytes(16 * 1024 * 1024), memory=None, code="off")
    list(f.map(range(12)))
    storage.asked.clear()
    taken = []

    def given():
        for x in range(12):
            taken.append(x)
            yield x

    for i, result in enumerate(f.map(given())):
        assert len(result) == 16 * 1024 * 1024
        assert len(taken) <= max(8, i + 2)
    assert storage.asked == [8, 1, 1, 1, 1]


def test_one_request_each_on_s3(s3):
    # Who takes leases writes them, too.
    options = {"storage_options": s3.storage_options, "memory": None, "single_flight": False}
    f = persistent_memoize(s3.url, **options)(square)
    f(0)  # probes the bucket
    s3.server.clear()
    assert list(f.map(range(20))) == [[x * x] for x in range(20)]
    requests = [request.split()[0] for request in s3.server.requests()]
    assert requests.count("PUT") == 19
    s3.server.clear()
    assert list(f.map(range(20))) == [[x * x] for x in range(20)]
    assert [request.split()[0] for request in s3.server.requests()] == ["GET"] * 20


def test_an_iterator_may_give_the_same_array_again_and_again(memoize):
    def fill():
        array = np.zeros(3)
        for i in range(6):
            array[:] = i % 4
            yield array

    f = memoize(lambda a: float(a.sum()))
    assert list(f.map(fill())) == [0, 3, 6, 9, 0, 3]
    with ThreadPoolExecutor(3) as pool:
        f.clear()
        assert list(f.map(fill(), executor=pool)) == [0, 3, 6, 9, 0, 3]
    assert [f.lookup(np.full(3, float(i))) for i in range(4)] == [0, 3, 6, 9]


def test_an_argument_that_is_changed_ahead_of_its_turn_is_no_longer_that_call(memoize):
    f = memoize(sorted)
    arguments = [[1], [2]]
    mapped = f.map(arguments)
    assert next(mapped) == [1]
    arguments[1].append(3)
    with pytest.raises(LookupError, match="has changed since"):
        next(mapped)
    assert not f.contains([2])


def test_what_iterables_raise_comes_after_what_they_gave(memoize):
    def given():
        yield from (1, 2)
        raise OSError("no more")

    f = memoize(square)
    with ThreadPoolExecutor(2) as pool:
        for options in ({}, {"executor": pool}, {"executor": pool, "ordered": False}):
            mapped = f.map(given(), **options)
            assert sorted([next(mapped), next(mapped)]) == [[1], [4]]
            with pytest.raises(OSError, match="no more"):
                next(mapped)


def test_code_that_changes_meanwhile_is_noticed(memoize):
    namespace = {}
    exec("def helper(x): return x + 1\ndef f(x): return helper(x)", namespace)
    f = memoize(namespace["f"])
    for x in range(4):
        f(x)
    mapped = f.map(range(4))
    assert next(mapped) == 1
    exec("def helper(x): return x + 2", namespace)
    assert list(mapped) == [3, 4, 5]


def test_trouble_with_the_store_is_told_once_and_all_is_computed():
    f, storage = counted(square, memory=None)
    storage.trouble = BackendError(place=storage.url, action="read", cause="refused")
    with pytest.warns(PersicacheWarning, match="refused") as caught:
        assert list(f.map(range(3))) == [[0], [1], [4]]
    assert len(caught) == 1
    g, storage = counted(square, memory=None, on_error="raise")
    storage.trouble = BackendError(place=storage.url, action="read", cause="refused")
    mapped = g.map(range(2))
    for _ in range(2):
        with pytest.raises(BackendError, match="refused"):
            next(mapped)


class Silent(MemoryStorage):
    """Answers after 20 s that it doesn't, here; pickled it is well."""

    def __init__(self, url):
        super().__init__(url)
        self.asked = []
        self.now = 0.0

    def _fail(self, *names):
        self.asked.append(names)
        self.now += 20
        raise BackendError(place=self.url, action="read", cause="nobody answers")

    read = read_many = stat = _fail


def silent(function):
    storage = Silent(f"memory://{uuid.uuid4().hex}")
    settings = Settings.of(memory=None)
    return MemoizedFunction(
        function, Entries(storage, EntryCodec()), settings, clock=lambda: storage.now
    ), storage


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_store_that_takes_long_to_fail_is_not_asked_for_every_batch():
    f, storage = silent(square)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool,
        pytest.warns(PersicacheWarning, match="nobody answers") as caught,
    ):
        assert list(f.map(range(40), executor=pool)) == [[x * x] for x in range(40)]
    assert len(caught) == len(storage.asked) == 1


def test_references_travel_with_their_arguments_where_a_store_takes_long_to_fail():
    f, storage = silent(len)
    refs = [f.ref(bytes(100_000 + n)) for n in range(5)]
    with pytest.warns(PersicacheWarning, match="nobody answers") as caught:
        arrived = [copy.copy(ref) for ref in refs]  # by what they are pickled by
    assert len(caught) == len(storage.asked) == 1
    assert [ref.get() for ref in arrived] == [100_000 + n for n in range(5)]


def test_a_damaged_entry_is_computed_again(tmp_path):
    f = persistent_memoize(tmp_path, memory=None)(square)
    list(f.map(range(5)))
    damaged = sorted(tmp_path.rglob("*.pc"))[2]
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.warns(PersicacheWarning, match="computes again"):
        assert list(f.map(range(5))) == [[x * x] for x in range(5)]
    assert f.stats()[:2] == (4, 6)


def test_expired_results_are_computed_again(tmp_path):
    f = persistent_memoize(tmp_path, memory=None, expires=0)(square)
    assert list(f.map([1, 2])) == list(f.map([1, 2])) == [[1], [4]]
    assert f.stats()[:2] == (0, 4)


def test_methods_map_too(memoize):
    @dataclasses.dataclass
    class Scale:
        factor: int

        @memoize
        def apply(self, x, y=0):
            return self.factor * x + y

    assert list(Scale(2).apply.map([1, 2, 3])) == [2, 4, 6]
    assert list(Scale(5).apply.map([1, 2], [1, 1])) == [6, 11]
    assert Scale(2).apply.contains(3)


def test_threads_compute(memoize):
    met = threading.Barrier(3, timeout=30)

    @memoize(code="off")
    def f(x):
        if x < 3:
            met.wait()  # one alone would wait for ever
        return fail_on_three(x)

    with ThreadPoolExecutor(3) as pool:
        assert outcomes(f.map([0, 1, 2, 3, 4, 0], executor=pool)) == [0, 1, 2, "three", 4, 0]
        f(50)
        unordered = outcomes(f.map([*range(40), 50], executor=pool, ordered=False))
    assert sorted(unordered, key=str) == sorted([*range(3), "three", *range(4, 40), 50], key=str)
    assert f.stats().misses == 5 + 1 + 36


def test_two_maps_at_once_compute_once(memoize):
    f = memoize(square)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: list(f.map(range(30))), range(4)))
    assert results == [[[x * x] for x in range(30)]] * 4
    assert f.stats().misses == 30


def test_what_is_left_is_not_computed(memoize):
    turns = threading.Semaphore(1)

    @memoize(code="off")
    def f(x):
        assert turns.acquire(timeout=30)
        return x

    with ThreadPoolExecutor(1) as pool:
        mapped = f.map(range(8), executor=pool)
        assert next(mapped) == 0
        mapped.close()
        assert list(mapped) == []
        turns.release()  # for the one that may have begun
    assert f.stats().misses <= 2


def with_pid(x):
    return x, os.getpid()


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("where", ["directory", "memory"])
def test_processes_compute_and_this_one_has_the_results(tmp_path, where):
    url = tmp_path if where == "directory" else f"memory://{uuid.uuid4().hex}"
    f = persistent_memoize(url)(with_pid)
    f(0)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        results = list(f.map([*range(12), 3], executor=pool))
    assert [x for x, _ in results] == [*range(12), 3]
    assert results[3] == results[12]
    assert results[0][1] == os.getpid()
    assert os.getpid() not in {pid for _, pid in results[1:]}
    assert list(f.map(range(12))) == results[:12]


def test_generators_are_refused(memoize):
    @memoize
    def f(n):
        yield from range(n)

    with pytest.raises(TypeError, match="builtin map"):
        f.map([1, 2])
    assert [list(each) for each in map(f, [1, 2])] == [[0], [0, 1]]


async def collected(mapped):
    found = []
    while True:
        try:
            found.append(await anext(mapped))
        except StopAsyncIteration:
            return found
        except ValueError as error:
            found.append(str(error))


def test_coroutines_map(memoize):
    log = Log()

    @memoize
    async def f(x):
        log.running += 1
        log.most = max(log.most, log.running)
        await asyncio.sleep(0.002)
        log.running -= 1
        return fail_on_three(x)

    expected = [*range(3), "three", *range(4, 30), 1]
    assert asyncio.run(collected(f.map([*range(30), 1]))) == expected
    assert (log.most, f.stats().misses) == (1, 30)
    f.clear()
    found = asyncio.run(collected(f.map([*range(30), 1], ordered=False, concurrency=4)))
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert 1 < log.most <= 4
    assert f.stats().misses == 60
    assert asyncio.run(collected(f.map([2, 1]))) == [2, 1]
    assert f.stats().misses == 60
    with pytest.raises(ValueError, match="concurrency must be"):
        f.map([1], concurrency=0)


def test_coroutines_that_are_left_are_cancelled(memoize):
    log = Log()

    @memoize
    async def f(x):
        try:
            log.running += 1
            await asyncio.sleep(0 if x == 0 else 3600)
        finally:
            log.running -= 1
        return x

    async def main():
        async with aclosing(f.map([0, 1, 2], concurrency=2)) as mapped:
            assert await anext(mapped) == 0

    asyncio.run(main())
    assert log.running == 0
    assert [x for x in range(3) if f.contains(x)] == [0]


def test_paths_from_an_iterator_are_looked_up_together():
    f, storage = counted(lambda path: path.name, memory=None)
    assert list(f.map(Path(f"/a/{i}") for i in range(8))) == [str(i) for i in range(8)]
    assert storage.asked[0] == 8
