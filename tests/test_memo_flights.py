"""Equal calls at one time compute once in a process, and nothing waits for ever."""

import contextlib
import os
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from persicache import BackendError, PersicacheWarning, persistent_memoize
from persicache.codecs import EntryCodec
from persicache.mappings import Entries
from persicache.memo import MemoizedFunction, flights
from persicache.memo.settings import Settings
from persicache.storage.memory import MemoryStorage


class Log:
    """Notes of what ran, of all threads; no part of a key."""

    def __init__(self):
        self.notes = []

    def append(self, note):
        self.notes.append(note)

    def until(self, note, times):
        """Wait until so many have noted it."""
        end = time.monotonic() + 30
        while self.notes.count(note) < times:
            assert time.monotonic() < end, "nobody else came"
            time.sleep(0.001)

    def meet(self, parties=2):
        """Wait until so many are here."""
        self.notes.append("here")
        self.until("here", parties)

    def __persicache_key__(self):
        return "log"


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def waiting(monkeypatch, log):
    """Have whoever waits for another's computation note that it "waits"."""
    real = flights.waiting
    monkeypatch.setattr(flights, "waiting", lambda flight: log.append("waits") or real(flight))


@pytest.fixture
def memoize():
    place = f"memory://{uuid.uuid4().hex}"

    def decorate(body=None, **options):
        options = {"code": "off", **options}
        return persistent_memoize(place, **options)(body) if body else persistent_memoize(place, **options)

    return decorate


def at_once(*calls):
    """Call all at one time, in threads; return what came of each, trouble with the store included."""
    gate = threading.Barrier(len(calls))

    def run(call):
        gate.wait(30)
        try:
            return call()
        except BackendError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(60) for future in [pool.submit(run, call) for call in calls]]


@pytest.mark.parametrize("memory", [None, "64 MiB"])
def test_eight_threads_compute_once(memoize, log, memory):
    @memoize(memory=memory)
    def f(x):
        log.append(x)
        time.sleep(0.05)
        return [x]

    results = at_once(*[lambda: f(1)] * 8)
    assert results == [[1]] * 8
    assert log.notes == [1]
    assert f.stats()[:2] == (7, 1)
    results[0].append("mine")
    assert results[1] == f(1) == [1]


def test_many_threads_that_come_and_go_compute_each_call_once(memoize, log):
    @memoize(memory=None)
    def f(x):
        log.append(x)
        return x

    assert at_once(*[lambda: [f(i) for i in range(200)]] * 6) == [list(range(200))] * 6
    assert sorted(log.notes) == list(range(200))


def test_without_single_flight_all_compute(memoize, log):
    @memoize(single_flight=False)
    def f(x):
        log.meet(3)
        return x

    assert at_once(*[lambda: f(1)] * 3) == [1] * 3


def test_different_calls_never_wait_for_one_another(memoize, log):
    @memoize()
    def f(x):
        log.meet(4)
        return x

    assert at_once(*[lambda x=x: f(x) for x in range(4)]) == [0, 1, 2, 3]


def test_equal_calls_of_other_functions_never_wait_for_one_another(memoize, log):
    def body(x):
        log.meet(2)
        return x

    def other(x):
        log.meet(2)
        return x

    f, g = memoize(body), memoize(other)
    assert at_once(lambda: f(1), lambda: g(1)) == [1, 1]


@pytest.mark.usefixtures("waiting")
def test_an_exception_lets_the_others_go_on_all_at_once(memoize, log):
    begun = threading.Event()

    @memoize()
    def f(x):
        first = not begun.is_set()
        begun.set()
        if first:
            log.until("waits", 3)
            raise ValueError("first")
        log.meet(3)  # one after the other they would never meet
        return x

    with ThreadPoolExecutor(4) as pool:
        failing = pool.submit(f, 1)
        begun.wait(30)
        others = [pool.submit(f, 1) for _ in range(3)]
        with pytest.raises(ValueError, match="first"):
            failing.result(30)
        assert [each.result(60) for each in others] == [1] * 3


class Unstored(MemoryStorage):
    """Forgets what is written."""

    def write(self, name, *args, **options):
        version = super().write(name, *args, **options)
        self.remove(name)
        return version


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("kind", ["unstorable", "forgotten", "expired"])
def test_results_that_are_not_kept_do_not_make_the_others_queue(memoize, log, kind):
    begun = threading.Event()

    def body(x):
        if not begun.is_set():
            begun.set()
            log.until("waits", 3)
        else:
            log.meet(3)
        return threading.Lock() if kind == "unstorable" else x

    if kind == "forgotten":
        entries = Entries(Unstored(uuid.uuid4().hex), EntryCodec())
        f = MemoizedFunction(body, entries, Settings.of(code="off", memory=None))
    else:
        f = memoize(body, expires=0 if kind == "expired" else None, memory=None)
    warned = pytest.warns(PersicacheWarning) if kind == "unstorable" else contextlib.nullcontext()
    with warned, ThreadPoolExecutor(4) as pool:
        first = pool.submit(f, 1)
        begun.wait(30)
        others = [pool.submit(f, 1) for _ in range(3)]
        assert len([each.result(60) for each in (first, *others)]) == 4


def test_recursion_ends(memoize):
    @memoize(memory=None)
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert at_once(*[lambda: fib(25)] * 4) == [75025] * 4
    assert fib.stats().misses == 26


def test_mutual_recursion_between_threads_ends(memoize, log):
    inside = threading.local()

    def body(x, other):
        if hasattr(inside, "x"):
            return x
        inside.x = x
        log.meet()  # now each computes one call, and needs that of the other
        return other(x)

    @memoize(memory=None)
    def f(x):
        return body(x, g)

    @memoize(memory=None)
    def g(x):
        return body(x, f)

    assert at_once(lambda: f(1), lambda: g(1)) == [1, 1]


def test_a_refresh_computes_although_another_has_just_done(memoize, log):
    @memoize()
    def f(x):
        log.append(x)
        time.sleep(0.02)
        return len(log.notes)

    assert sorted(at_once(lambda: f.refresh(1), lambda: f.refresh(1))) == [1, 2]
    assert f(1) == 2


def test_an_interrupt_lets_another_begin(memoize, log):
    @memoize()
    def f(x):
        log.append("begun")
        if len(log.notes) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        return x

    with pytest.raises(KeyboardInterrupt):
        f(1)
    assert f(1) == 1
    assert log.notes == ["begun"] * 2


@pytest.mark.usefixtures("waiting")
def test_an_interrupt_while_waiting_stops_only_who_waits(memoize, log):
    begun, may_end = threading.Event(), threading.Event()

    @memoize()
    def f(x):
        log.append(x)
        begun.set()
        assert may_end.wait(30)
        return x

    def interrupt():
        log.until("waits", 1)
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(f, 1)
        begun.wait(30)
        interrupted = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            f(1)
        interrupted.result(30)
        may_end.set()
        assert first.result(30) == 1
    assert f(1) == 1
    assert log.notes == [1, "waits"]


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_trouble_with_the_store_holds_nobody_up(on_error, log):
    class Broken(MemoryStorage):
        def write(self, name, *args, **options):
            raise BackendError(place=self.url, action="write", cause="broken")

    def body(x):
        log.append(x)
        time.sleep(0.02)
        return x

    f = MemoizedFunction(
        body, Entries(Broken(uuid.uuid4().hex), EntryCodec()), Settings.of(code="off", on_error=on_error)
    )
    with pytest.warns(PersicacheWarning) if on_error == "warn" else contextlib.nullcontext():
        results = at_once(*[lambda: f(1)] * 4)
    if on_error == "warn":
        assert results == [1] * 4
    else:
        assert {type(result) for result in results} == {BackendError}


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_fork_during_a_computation_leaves_the_child_free(tmp_path, log):
    begun, may_end = threading.Event(), threading.Event()

    @persistent_memoize(tmp_path, code="off")
    def f(x):
        log.append(x)
        if not begun.is_set():
            begun.set()
            assert may_end.wait(30)
        return x

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(f, 1)
        begun.wait(30)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # else a child that waits for ever would be left behind
            os._exit(f(2) == 2 and 7)
        _, status = os.waitpid(child, 0)
        may_end.set()
        assert first.result(30) == 1
    assert os.waitstatus_to_exitcode(status) == 7


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_fork_within_a_computation_goes_on_in_both(tmp_path, log):
    @persistent_memoize(tmp_path, code="off")
    def f(x):
        if x == "inner":
            return "in"
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(7 if f("inner") == "in" else 8)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), f("inner")

    assert f("outer") == (7, "in")
