"""Coroutines, generators, methods, partials: all kinds of callables remember, and stay what they are."""

import abc
import asyncio
import contextlib
import contextvars
import functools
import gc
import itertools
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from persicache import BackendError, PersicacheWarning, persistent_memoize
from persicache.codecs import EntryCodec
from persicache.mappings import Entries
from persicache.memo.coroutine import MemoizedCoroutine
from persicache.memo.generator import MemoizedGenerator
from persicache.memo.settings import Settings
from persicache.storage.memory import MemoryStorage


class Log:
    """Notes of what ran; no part of a key."""

    def __init__(self):
        self.notes = []

    def append(self, note):
        self.notes.append(note)

    def __eq__(self, other):
        return self.notes == other

    def __len__(self):
        return len(self.notes)

    __hash__ = None

    def __persicache_key__(self):
        return "log"


@pytest.fixture
def memoize():
    place = f"memory://{uuid.uuid4().hex}"
    return functools.partial(persistent_memoize, place, code="off")


@pytest.fixture
def log():
    return Log()


async def noted(log, times=1):
    while len(log) < times:  # noqa: ASYNC110 - an event would be a part of the function's code
        await asyncio.sleep(0)


# Coroutines


def test_concurrent_awaits_compute_once(memoize, log):
    @memoize()
    async def f(x):
        log.append(x)
        await asyncio.sleep(0.01)
        return [x]

    async def main():
        return await asyncio.gather(*(f(x) for x in (1, 2) * 10))

    results = asyncio.run(main())
    assert results == [[1], [2]] * 10
    assert sorted(log.notes) == [1, 2]
    results[0].append("mine")
    assert results[2] == [1]
    assert asyncio.run(f(1)) == [1]
    assert f.stats()[:2] == (19, 2)


def test_it_is_still_a_coroutine_function(memoize):
    @memoize()
    async def f(x):
        return x

    class C:
        @memoize()
        async def method(self):
            return 5

        def __persicache_key__(self):
            return "c"

    assert asyncio.iscoroutinefunction(f)
    assert asyncio.iscoroutinefunction(C().method)
    assert asyncio.run(C().method()) == 5
    assert asyncio.run(C().method()) == 5
    assert asyncio.run(C().method.refresh()) == 5


@pytest.mark.parametrize("others", [1, 5])
def test_when_the_first_is_cancelled_exactly_one_of_the_others_takes_over(memoize, log, others):
    @memoize()
    async def f(x):
        log.append("begun")
        await asyncio.sleep(3600 if len(log) == 1 else 0.05)
        log.append("done")
        return x

    async def main():
        first = asyncio.create_task(f(1))
        await noted(log)
        waiting = [asyncio.create_task(f(1)) for _ in range(others)]
        await asyncio.sleep(0.02)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [1] * others
    assert log == ["begun", "begun", "done"]


def test_cancelling_who_waits_stops_nobody_else(memoize, log):
    @memoize()
    async def f(x):
        log.append(x)
        await noted(log, 2)
        return x

    async def main():
        first = asyncio.create_task(f(1))
        await noted(log)
        second = asyncio.create_task(f(1))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        log.append("cancelled")
        assert await first == 1

    asyncio.run(main())
    assert log == [1, "cancelled"]


class Stalled(MemoryStorage):
    """A place whose reads or writes last until they are let go."""

    stalls = "read"

    def __init__(self):
        super().__init__(f"stalled-{uuid.uuid4().hex}")
        self.begun, self.may_end = threading.Event(), threading.Event()

    def _stall(self, what):
        if what == self.stalls:
            self.begun.set()
            assert self.may_end.wait(30)

    def read(self, name):
        self._stall("read")
        return super().read(name)

    def write(self, name, *args, **options):
        self._stall("write")
        return super().write(name, *args, **options)


@pytest.mark.parametrize("stalls", ["read", "write"])
def test_a_cancelled_task_does_not_wait_for_the_store(stalls):
    storage = Stalled()
    storage.stalls = stalls

    async def double(x):
        return 2 * x

    f = MemoizedCoroutine(double, Entries(storage, EntryCodec()), Settings.of(code="off", memory=None))

    async def main():
        task = asyncio.create_task(f(1))
        await asyncio.to_thread(storage.begun.wait, 30)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not storage.may_end.is_set()
        storage.may_end.set()
        return await f(1)  # nothing is held by whom was cancelled

    assert asyncio.run(asyncio.wait_for(main(), 30)) == 2


@pytest.mark.parametrize("moment", range(60))
def test_cancelled_at_any_moment_it_holds_nothing_up(memoize, moment):
    @memoize()
    async def f(x):
        await asyncio.sleep(0)
        return x

    async def main():
        task = asyncio.create_task(f(1))
        for _ in range(moment):
            await asyncio.sleep(0 if moment % 2 else 0.0001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return await asyncio.wait_for(f(1), 30)

    assert asyncio.run(main()) == 1


def test_several_loops_share_one_computation(memoize, log):
    begun = threading.Event()

    @memoize()
    async def f(x):
        log.append(x)
        begun.set()
        await asyncio.sleep(0.1)
        return x

    results = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(f(1)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1] * 4
    assert log == [1]


def test_a_loop_that_ends_lets_others_compute(memoize, log):
    @memoize()
    async def f(x):
        log.append(x)
        if len(log) == 1:
            await asyncio.Event().wait()
        return x

    async def leave():
        task = asyncio.create_task(f(1))
        await noted(log)
        return task

    asyncio.run(leave())  # cancels the task
    loop = asyncio.new_event_loop()
    log.notes.clear()
    task = loop.run_until_complete(leave())
    task._log_destroy_pending = False  # as it is meant
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    del task
    gc.collect()
    assert asyncio.run(asyncio.wait_for(f(1), 30)) == 1


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_a_loop_that_is_closed_under_a_call_lets_others_compute(tmp_path, place, log):
    async def slow(x):
        log.append(x)
        if len(log) == 1:
            await asyncio.sleep(3600)
        return x

    where = f"memory://{uuid.uuid4().hex}" if place == "memory" else tmp_path
    f = persistent_memoize(where, code="off")(slow)

    closed = asyncio.new_event_loop()
    pending = closed.create_task(f(1))  # held, so that the garbage collector doesn't end it
    closed.run_until_complete(noted(log))
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(asyncio.run, asyncio.wait_for(f(1), 30))
        time.sleep(0.2)  # until it waits
        assert not waits.done()
        closed.close()
        assert waits.result(30) == 1
    assert asyncio.run(asyncio.wait_for(f(1), 30)) == 1
    assert log == [1, 1]
    assert not pending.done()


def test_it_goes_on_when_the_loop_has_no_threads_any_more(memoize):
    @memoize()
    async def f(x):
        return x

    async def main():
        await asyncio.get_running_loop().shutdown_default_executor()
        return await f(1), await f(1)

    assert asyncio.run(main()) == (1, 1)
    assert f.stats().misses == 1


def test_context_variables_are_the_callers(memoize):
    user = contextvars.ContextVar("user")

    @memoize()
    async def f(x):
        found = user.get()
        user.set("set within")
        return found

    async def main():
        user.set("caller")
        return await f(1), user.get()

    assert asyncio.run(main()) == ("caller", "set within")  # as without the decorator


def test_exceptions_of_coroutines(memoize, log):
    @memoize(cache_exceptions=KeyError)
    async def f(error):
        log.append(error)
        raise {"key": KeyError, "value": ValueError}[error]("mine")

    for kind, error in ((KeyError, "key"), (ValueError, "value")):
        for _ in range(2):
            with pytest.raises(kind, match="mine"):
                asyncio.run(f(error))
    assert log == ["key", "value", "value"]


def test_recursion_of_coroutines_ends(memoize):
    @memoize()
    async def fib(n):
        return n if n < 2 else sum(await asyncio.gather(fib(n - 1), fib(n - 2)))

    assert asyncio.run(asyncio.wait_for(fib(20), 60)) == 6765
    assert fib.stats().misses == 21


# Generators


def counting(memoize, log, **options):
    @memoize(**options)
    def numbers(n):
        for i in range(n):
            log.append(i)
            yield [i]
        return "end"

    return numbers


def returned(generator):
    def through():
        result.append((yield from generator))

    result = []
    list(through())
    return result[0]


def test_generators_are_replayed_lazily_with_what_they_return(memoize, log):
    f = counting(memoize, log)
    generator = f(3)
    assert log == []
    assert next(generator) == [0]
    assert log == [0]
    assert list(generator) == [[1], [2]]
    assert returned(f(3)) == "end"
    assert log == [0, 1, 2]
    assert f.stats()[:2] == (1, 1)
    with pytest.raises(TypeError):
        f()


def test_a_part_is_not_stored(memoize, log):
    f = counting(memoize, log)
    assert next(iter(f(3))) == [0]
    generator = f(3)
    next(generator)
    generator.close()
    assert not f.contains(3)
    assert f.stats().misses == 2
    assert list(itertools.islice(f(3), 3)) == [[0], [1], [2]]
    assert not f.contains(3)  # nobody asked whether there is more


def test_a_generator_left_alone_is_closed_at_once(memoize, log):
    @memoize()
    def f():
        try:
            yield 1
        finally:
            log.append("closed")

    generator = f()
    next(generator)
    generator.close()
    assert log == ["closed"]
    next(f())
    assert log == ["closed", "closed"]


def test_items_are_as_they_were_yielded(memoize):
    @memoize()
    def f():
        item = []
        for i in range(3):
            item.append(i)
            yield item
        array = np.zeros(2)
        yield array
        array += 1
        yield array

    for _ in range(3):
        assert [np.array(item).tolist() for item in f()] == [[0], [0, 1], [0, 1, 2], [0, 0], [1, 1]]
        for item in f():
            item[:] = item[:0] if isinstance(item, list) else 9


def test_what_consumers_do_to_items_is_not_stored(memoize):
    @memoize()
    def f():
        yield []
        yield {}

    for item in f():
        item.append(1) if isinstance(item, list) else item.update(a=1)
    assert list(f()) == [[], {}]


def test_arguments_that_change_between_items_spoil_what_is_yielded(memoize):
    @memoize()
    def doubled(numbers):
        for number in numbers:
            yield 2 * number

    numbers = [1, 2]
    with pytest.warns(PersicacheWarning, match="arguments were changed"):
        for _ in zip(doubled(numbers), itertools.count()):
            numbers += [3] if len(numbers) == 2 else []
    assert not doubled.contains([1, 2])
    assert list(doubled([1, 2])) == [2, 4]
    assert doubled.contains([1, 2])


def test_what_is_sent_or_thrown_into_a_generator_reaches_it_and_spoils_it(memoize, log):
    @memoize()
    def f(x):
        while True:
            try:
                log.append((yield x))
            except ValueError:
                yield "caught"
                return

    generator = f(1)
    next(generator)
    generator.send("hello")
    assert generator.throw(ValueError) == "caught"
    with pytest.warns(PersicacheWarning, match="is not stored: it was sent values"):
        assert list(generator) == []
    assert log == ["hello"]
    assert not f.contains(1)


def test_a_stored_generator_takes_no_values(memoize, log):
    f = counting(memoize, log)
    list(f(2))
    generator = f(2)
    next(generator)
    with pytest.raises(TypeError, match="__wrapped__"):
        generator.send("x")
    generator = f(2)
    next(generator)
    with pytest.raises(KeyError):
        generator.throw(KeyError)


def test_an_exception_of_a_generator_stores_nothing(memoize, log):
    @memoize()
    def f(x):
        yield x
        log.append(x)
        raise ValueError("mine")

    for _ in range(2):
        with pytest.raises(ValueError, match="mine"):
            list(f(1))
    assert log == [1, 1]
    assert f.stats().misses == 2


def test_an_infinite_generator_keeps_no_more_than_its_share(memoize, monkeypatch):
    from persicache.memo import generator

    monkeypatch.setattr(generator, "_SMALL_NBYTES", 1000)
    monkeypatch.setattr(generator, "_SHARE", 1e-7)

    @memoize()
    def f(n):
        yield from itertools.repeat("x" * 1000, n)

    with pytest.warns(PersicacheWarning, match="of the memory"):
        assert len(list(f(100_000))) == 100_000
    assert not f.contains(100_000)


def test_verbs_of_generators(memoize, log):
    f = counting(memoize, log)
    with pytest.raises(KeyError):
        f.lookup(2)
    f.put(iter(["a", "b"]), 2)
    assert list(f(2)) == list(f.lookup(2)) == ["a", "b"]
    assert list(f.refresh(2)) == [[0], [1]]
    assert list(f(2)) == [[0], [1]]
    assert f.forget(2)
    assert not f.contains(2)


@pytest.mark.parametrize("fails", ["read", "write"])
def test_trouble_with_the_store_stops_no_generator(fails):
    class Broken(MemoryStorage):
        def read(self, name):
            if fails == "read":
                raise BackendError(place=self.url, action="read", cause="broken")
            return super().read(name)

        def write(self, name, *args, **options):
            raise BackendError(place=self.url, action="write", cause="broken")

    def numbers(n):
        yield from range(n)

    entries = Entries(Broken(f"broken-{fails}"), EntryCodec())
    f = MemoizedGenerator(numbers, entries, Settings.of(code="off"))
    with pytest.warns(PersicacheWarning, match="broken"):
        assert list(f(3)) == [0, 1, 2]
    strict = MemoizedGenerator(numbers, entries, Settings.of(code="off", on_error="raise"))
    with pytest.raises(BackendError, match="broken"):
        list(strict(3))


# Asynchronous generators


async def collected(items):
    return [item async for item in items]


def test_async_generators_are_replayed(memoize, log):
    @memoize()
    async def f(n):
        for i in range(n):
            log.append(i)
            await asyncio.sleep(0)
            yield [i]

    async def main():
        first = await collected(f(3))
        first[0].append("mine")
        assert await collected(f(3)) == [[0], [1], [2]]
        async for _ in f(4):
            break
        assert not f.contains(4)
        assert await collected(f.refresh(3)) == [[0], [1], [2]]
        assert await collected(f.lookup(3)) == [[0], [1], [2]]
        replayed = f(3)
        await replayed.asend(None)
        with pytest.raises(TypeError, match="__wrapped__"):
            await replayed.asend("x")

    asyncio.run(main())
    assert log == [0, 1, 2, 0, 0, 1, 2]


def test_an_async_generator_is_closed_at_once_and_by_the_loop(memoize, log):
    @memoize()
    async def f(x):
        try:
            yield x
            yield x
        finally:
            await asyncio.sleep(0)
            log.append(x)

    async def main():
        generator = f(1)
        await anext(generator)
        await generator.aclose()
        assert log == [1]
        left = f(2)
        await anext(left)
        del left
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert log == [1, 2]
        kept.append(f(3))
        await anext(kept[0])

    kept = []
    asyncio.run(main())
    assert log == [1, 2, 3]
    assert f.stats().misses == 3


def test_an_async_generator_that_is_cancelled_or_spoiled_stores_nothing(memoize, log):
    @memoize()
    async def f(x):
        try:
            yield x
            await asyncio.sleep(x)
            yield x
        except ValueError:
            yield "caught"

    async def main():
        task = asyncio.create_task(collected(f(100)))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        generator = f(0)
        await anext(generator)
        assert await generator.athrow(ValueError) == "caught"
        with pytest.warns(PersicacheWarning, match="exceptions were thrown"):
            assert await collected(generator) == []

    asyncio.run(main())
    assert not f.contains(100)
    assert not f.contains(0)


# Methods, partials, objects


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_classmethods_and_staticmethods_in_both_orders(memoize, kind, above, log):
    def body(*args):
        log.append(args[-1])
        return args[-1] * 2

    decorated = kind(memoize()(body)) if above else memoize()(kind(body))

    class C:
        double = decorated

    class D(C):
        pass

    assert C.double(3) == C().double(3) == 6
    assert D.double(4) == 8
    assert D.double.lookup(4) == 8
    assert C.double.contains(4) is (kind is staticmethod)
    assert log == [3, 4]


def test_abstract_methods_stay_abstract(memoize):
    class Base(abc.ABC):
        @memoize()
        @abc.abstractmethod
        def below(self):
            """Nothing."""

        @abc.abstractmethod
        @memoize()
        def above(self):
            """Nothing."""

    assert Base.__abstractmethods__ == {"below", "above"}
    with pytest.raises(TypeError, match="abstract"):
        Base()


def test_partials_and_objects_bind_no_instance(memoize):
    class Adder:
        def __call__(self, x, y):
            return x + y

        def __persicache_key__(self):
            return "adder"

    class C:
        partial = memoize()(functools.partial(lambda x, y: x + y, 1))
        call = memoize()(Adder())
        method = memoize()(lambda self, x: x)
        bound = functools.partialmethod(method, 5)

        def __persicache_key__(self):
            return "c"

    for _ in range(2):
        assert C().partial(2) == 3
        assert C().call(1, 2) == 3
        assert C().method(7) == 7
        assert C().bound() == 5
    assert C.partial.stats()[:2] == (1, 1)


def test_partials_of_all_kinds_are_of_these_kinds(memoize):
    async def coroutine(x, y):
        return x + y

    def generator(x, y):
        yield x + y

    class Call:
        async def __call__(self, x):
            return x

        def __persicache_key__(self):
            return "call"

    f, g, h = (
        memoize()(each)
        for each in (functools.partial(coroutine, 1), functools.partial(generator, 1), Call())
    )
    for _ in range(2):
        assert asyncio.run(f(2)) == 3
        assert list(g(2)) == [3]
        assert asyncio.run(h(4)) == 4
    assert [each.stats()[:2] for each in (f, g, h)] == [(1, 1)] * 3


def test_nested_functions_and_lambdas_differ_by_what_they_close_over():
    place = f"memory://{uuid.uuid4().hex}"

    def maker(n):
        return persistent_memoize(place)(lambda x: x + n)

    one, two = maker(1), maker(2)
    assert (one(1), two(1), one(1), two(1)) == (2, 3, 2, 3)
    assert one.stats()[:2] == two.stats()[:2] == (1, 1)


@pytest.mark.parametrize("wrap", [functools.lru_cache, persistent_memoize("memory://inner")])
def test_what_wraps_a_function_without_a_signature_of_its_own_is_called_as_that_is(wrap):
    def power(x, n=2):
        return x**n

    f = persistent_memoize(f"memory://{uuid.uuid4().hex}")(wrap(power))
    assert (f(3), f(x=3, n=2), f.stats()[:2]) == (9, 9, (1, 1))
    with pytest.raises(TypeError, match="missing"):
        f()
