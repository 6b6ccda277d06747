"""A SpillDict under several threads, which read and write its copies at once."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from interrupts import is_interrupted

from persicache import PersiDict, SpillDict
from persicache.mappings import spilldict
from persicache.mappings.spill_place import PrivatePlace

N_THREADS = 6


def at_once(work, n=N_THREADS):
    """Run ``work(i)`` in so many threads, and raise what they raise."""
    with ThreadPoolExecutor(n) as threads:
        for done in [threads.submit(work, i) for i in range(n)]:
            done.result(timeout=60)


@pytest.fixture
def meeting(monkeypatch):
    """Let four writes, and four reads, of copies wait until all of them are under way."""
    barriers = {name: threading.Barrier(4) for name in ("write", "read")}
    met = []

    def wait_in(name):
        real = getattr(PrivatePlace, name)

        def waiting(*args, **options):
            if not barriers[name].broken:
                barriers[name].wait(timeout=30)
                met.append(name)
            return real(*args, **options)

        monkeypatch.setattr(PrivatePlace, name, waiting)

    wait_in("write")
    wait_in("read")
    yield met
    for barrier in barriers.values():
        barrier.abort()


def test_several_threads_spill_and_restore_at_once(meeting):
    with SpillDict({i: i for i in range(8)}, available_memory=100, weigh=lambda _: 1) as c:
        at_once(c.spill, 4)
        assert meeting == ["write"] * 4
        at_once(lambda i: c[i], 4)
        assert meeting == ["write"] * 4 + ["read"] * 4


@pytest.mark.parametrize("then", ["set", "delete", "pop"])
@pytest.mark.parametrize("is_given", [True, False])
def test_who_comes_while_a_value_is_written_wins(tmp_path, monkeypatch, then, is_given):
    writing, go = threading.Event(), threading.Event()
    kind = PersiDict if is_given else PrivatePlace
    name = "__setitem__" if is_given else "write"
    real = getattr(kind, name)

    def slow(*args, **options):
        writing.set()
        go.wait(0.2 if is_given else 30)
        return real(*args, **options)

    monkeypatch.setattr(kind, name, slow)
    with SpillDict(
        {"k": "old", "l": 1},
        available_memory=9,
        weigh=lambda _: 1,
        spill_to=tmp_path / "d" if is_given else None,
    ) as c:
        thread = threading.Thread(target=c.spill, args=("k",))
        thread.start()
        assert writing.wait(30)
        assert c["k"] == "old"
        if then == "set":
            c["k"] = "new"
        elif then == "delete":
            del c["k"]
        else:
            assert c.pop("k") == "old"
        go.set()
        thread.join()
        assert c.get("k") == ("new" if then == "set" else None)
        assert c.memory_usage == len(c.in_memory)
        c.flush()
    if is_given:
        assert dict(PersiDict(tmp_path / "d")) == ({"k": "new", "l": 1} if then == "set" else {"l": 1})


@pytest.mark.parametrize("policy", ["lru", "lfu", "gdsf"])
@pytest.mark.parametrize("is_given", [True, False])
def test_a_crowd_loses_nothing(tmp_path, policy, is_given):
    """Each thread has keys of its own, which must be as in its dict; and shared ones."""
    options = {"available_memory": 12, "weigh": lambda _: 1, "policy": policy}
    place = tmp_path / "d" if is_given else None
    with SpillDict(spill_to=place, **options) as c:
        models = [{} for _ in range(N_THREADS)]

        def run(me):
            rng, model = random.Random(me), models[me]
            for step in range(400):
                key = (me, rng.randrange(6))
                verb = rng.randrange(7)
                if verb < 3:
                    c[key] = model[key] = step
                elif verb == 3:
                    assert c.pop(key, None) == model.pop(key, None)
                elif verb == 4 and key in model:
                    c.spill(key)
                else:
                    assert c.get(key) == model.get(key)
                shared = rng.randrange(4)
                if verb < 3:
                    c[shared] = (me, step)
                elif verb == 3:
                    c.pop(shared, None)
                else:
                    c.get(shared)
                assert c.memory_usage <= 12

        at_once(run)
        merged = {key: value for model in models for key, value in model.items()}
        assert {key: c[key] for key in merged} == merged
        assert set(c) - set(merged) <= set(range(4))
        assert c.memory_usage == len(c.in_memory) <= 12
        wanted = dict(c)
        if not is_given:
            c.flush()
            assert n_copies(c) == len(wanted)
    if is_given:
        assert dict(PersiDict(place)) == wanted


def test_arrays_of_a_crowd_are_whole():
    with SpillDict(available_memory="2 MiB") as c:

        def run(me):
            for i in range(60):
                key = (me + i) % 8
                if i % 3 == 0:
                    c[key] = np.full(32_768, me * 100 + i)
                else:
                    value = c.get(key)
                    assert value is None or (value == value[0]).all()
                assert c.memory_usage <= c.available_memory

        at_once(run)


def test_values_are_read_ahead_several_at_once(meeting):
    with SpillDict({i: i for i in range(4)}, available_memory=100, weigh=lambda _: 1) as c:
        at_once(c.spill, 4)
        c.prefetch(["absent", *range(4)])
        assert meeting.count("read") == 4
        assert c.in_memory == set(range(4))


def test_no_more_is_read_ahead_than_there_is_room_for():
    with SpillDict({i: i for i in range(9)}, available_memory=4, weigh=lambda _: 1) as c:
        for key in list(c):
            c.spill(key)
        c.prefetch(range(9))
        assert c.in_memory == {0, 1, 2, 3}
        assert (c.stats.misses, c.stats.restored_nbytes) == (4, 4)


# One at a time, at a place that waits to be told


class Gate:
    """Lets calls of a place's method wait until they may go on, and tells when one has come."""

    def __init__(self, monkeypatch, verb):
        self.n_calls = 0
        self._come, self._go = threading.Semaphore(0), threading.Semaphore(0)
        self._is_shut = True
        real = getattr(PrivatePlace, verb)

        def waiting(*args, **options):
            self.n_calls += 1
            if self._is_shut:
                self._come.release()
                assert self._go.acquire(timeout=30)
            return real(*args, **options)

        monkeypatch.setattr(PrivatePlace, verb, waiting)

    def wait(self):
        """Return when a call has come."""
        assert self._come.acquire(timeout=30)

    def open(self):
        """Let all go on, from now on."""
        self._is_shut = False
        self._go.release(100)


@pytest.fixture
def beside():
    """Return what starts functions in threads of their own, and gives what becomes of each."""
    with ThreadPoolExecutor(8) as threads:
        yield threads.submit


def unit(n, **options):
    """Return a SpillDict that has room for `n` values."""
    return SpillDict(available_memory=n, weigh=lambda _: 1, **options)


def n_copies(c):
    """Return how many copies a private place holds."""
    return len(c._place._directory)


def fly(c, monkeypatch, beside, verb):
    """Set "k" and "l", and begin to write or read "k"; return the gate that it waits at, and its future."""
    c.update({"k": "value", "l": 1})
    if verb == "read":
        c.spill("k")
    gate = Gate(monkeypatch, verb)
    flying = beside(c.spill if verb == "write" else c.__getitem__, "k")
    gate.wait()
    return gate, flying


@pytest.mark.parametrize("verb", ["set", "delete", "pop"])
def test_who_comes_while_a_value_is_read_wins(monkeypatch, beside, verb):
    with unit(4) as c:
        c.update({"k": "old", "l": 1})
        c.spill("k")
        reading = Gate(monkeypatch, "read")
        got = beside(c.get, "k", "absent")
        reading.wait()
        change = {
            "set": lambda: c.__setitem__("k", "new"),
            "delete": lambda: c.__delitem__("k"),
            "pop": lambda: c.pop("k"),
        }[verb]
        done = beside(change)
        if verb != "pop":  # which wants the value, too
            done.result(timeout=30)
        reading.open()
        assert done.result(timeout=30) == ("old" if verb == "pop" else None)
        # It began before, or it came after.
        assert got.result(timeout=30) in {"old", "new" if verb == "set" else "absent"}
        assert dict(c) == ({"k": "new", "l": 1} if verb == "set" else {"l": 1})
        assert c.memory_usage == len(c.in_memory) == len(c)
        assert n_copies(c) == 0


def test_several_who_want_one_value_read_it_once(monkeypatch, beside):
    """Also while the first one makes room for it."""
    with unit(1) as c:
        c.update({"k": [1], "l": 2})
        reading, writing = Gate(monkeypatch, "read"), Gate(monkeypatch, "write")
        found = [beside(c.get, "k")]
        reading.wait()
        found += [beside(c.get, "k") for _ in range(3)]
        reading.open()
        writing.wait()  # "l" is on its way out
        for each in found[1:]:
            assert each.result(timeout=30) == [1]
        writing.open()
        assert len({id(each.result(timeout=30)) for each in found}) == 1
        assert reading.n_calls == c.stats.misses == 1


@pytest.mark.parametrize("verb", ["clear", "close", "drop"])
@pytest.mark.parametrize("in_flight", ["write", "read"])
def test_all_goes_when_what_is_in_flight_has_arrived(monkeypatch, beside, verb, in_flight):
    with unit(4) as c:
        gate, flying = fly(c, monkeypatch, beside, in_flight)
        done = beside(getattr(c, verb))
        assert not done.done()
        gate.open()
        done.result(timeout=30)
        assert flying.result(timeout=30) == (True if in_flight == "write" else "value")
        if verb == "clear":
            assert (len(c), c.memory_usage, c.in_memory) == (0, 0, frozenset())
        else:
            with pytest.raises(ValueError, match="closed"):
                c["k"]


def test_what_is_set_while_the_dictionary_is_closed_is_kept_or_refused(tmp_path, monkeypatch, beside):
    c = unit(9, spill_to=tmp_path)
    c["k"] = 1
    flushing, go = threading.Event(), threading.Event()
    real = PersiDict.flush

    def slow(place):
        flushing.set()
        assert go.wait(30)
        real(place)

    monkeypatch.setattr(PersiDict, "flush", slow)
    closed = beside(c.close)
    assert flushing.wait(30)
    c["l"] = 2  # after all was stored that was there
    go.set()
    closed.result(timeout=30)
    assert dict(PersiDict(tmp_path)) == {"k": 1, "l": 2}


def test_what_is_set_while_the_dictionary_is_dropped_is_refused(tmp_path):
    class Slow(SpillDict):
        def close(self):
            if late is not None and late.ident is None:
                late.start()
                late.join(0.2)  # in vain
            super().close()

    def set_late():
        try:
            c["late"] = 1
        except ValueError as error:
            refused.append(str(error))

    late, refused = None, []
    with Slow({"k": 1}, spill_to=tmp_path) as c:
        late = threading.Thread(target=set_late)
        c.drop()
        late.join(30)
    assert "closed" in refused[0]
    assert not dict(PersiDict(tmp_path))


def test_of_a_place_opened_again_no_more_is_read_ahead_than_there_is_room_for(tmp_path):
    PersiDict(tmp_path).update({i: i for i in range(40)})
    with unit(8, spill_to=tmp_path) as c:
        c.prefetch(range(40))
        # Nobody knew what they weigh, and four are read at once.
        assert 8 <= c.stats.misses <= 8 + 3
        assert len(c.in_memory) == 8


def test_several_threads_evict_different_values():
    with unit(100) as c:
        c.update({i: i for i in range(40)})
        freed = []
        at_once(lambda _: freed.extend(c.evict() for _ in range(10)), 4)
        assert freed == [1] * 40
        assert c.memory_usage == 0
        assert c.stats.spilled_nbytes == 40
        assert dict(c) == {i: i for i in range(40)}


def test_a_budget_changes_beside_sets():
    with unit(8) as c:

        def run(me):
            for i in range(150):
                c[me, i % 20] = (me, i)
                assert c[me, i % 20] == (me, i)
                if me == 0:
                    c.available_memory = 2 + i % 7

        at_once(run)
        c.available_memory = 2
        assert c.memory_usage == len(c.in_memory) <= 2
        assert set(c.values()) == {(me, i) for me in range(N_THREADS) for i in range(130, 150)}


def test_who_waits_for_room_goes_on_when_there_is_some(monkeypatch, beside):
    with unit(1) as c:
        c["k"] = 1
        writing = Gate(monkeypatch, "write")
        spilling = beside(c.__setitem__, "l", 2)
        writing.wait()
        c.available_memory = 3
        beside(c.__setitem__, "m", 3).result(timeout=30)  # doesn't wait for the disk
        writing.open()
        spilling.result(timeout=30)
        assert dict(c) == {"k": 1, "l": 2, "m": 3}


@pytest.mark.parametrize("policy", ["lru", "lfu", "gdsf"])
def test_four_threads_write_each_value_once(tmp_path, policy):
    """What is written is counted by the place itself."""
    written = []

    class Counting(PersiDict):
        def __setitem__(self, key, value):
            written.append(key)
            super().__setitem__(key, value)

    with unit(10, policy=policy, spill_to=Counting(tmp_path, durable=False)) as c:
        c.update({i: i for i in range(60)})

        def run(me):
            rng = random.Random(me)
            for _ in range(200):
                key = rng.randrange(60)
                assert c[key] == key

        at_once(run, 4)
        assert len(written) == len(set(written)) <= 60


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("in_flight", ["write", "read"])
def test_a_child_forked_in_the_middle_has_everything(monkeypatch, beside, in_flight):
    with unit(4) as c:
        gate, flying = fly(c, monkeypatch, beside, in_flight)
        pid = os.fork()
        if not pid:
            code = 1
            with contextlib.suppress(BaseException):
                gate.open()
                assert dict(c) == {"k": "value", "l": 1}
                c["k"] = "the child's"
                assert c.spill("k")
                assert c.pop("k") == "the child's"
                code = 0
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        gate.open()
        flying.result(timeout=30)
        assert status == 0
        assert dict(c) == {"k": "value", "l": 1}


INTERRUPTED = {
    "read": (None, lambda c: c["on disk"]),
    "set": (None, lambda c: c.update({"new": 1})),
    "spill": (None, lambda c: c.spill("kept")),
    "too large": (None, lambda c: c.update({"kept": 9})),
    "pop": (None, lambda c: c.pop("on disk")),
    "pop from a given place": (dict, lambda c: c.pop("on disk")),
}


@pytest.mark.parametrize(("place", "work"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_no_interrupt_leaves_anything_taken(monkeypatch, place, work):
    monkeypatch.setattr(spilldict, "PATIENCE_SECONDS", 0.001)

    def go_on(c, seen):
        seen.append(dict(c))
        assert c.memory_usage == len(c.in_memory)
        c.update(dict.fromkeys(range(3), 1))
        c.flush()
        while c.evict():
            pass
        assert c.in_memory == set()

    before = {"on disk": 1, "used": 1, "kept": 1}
    seen = []
    for moment in range(1, 1000):
        spill_to = place and place()
        with SpillDict(before, available_memory=2, weigh=abs, spill_to=spill_to) as c:
            was_interrupted = is_interrupted(lambda: work(c), moment)
            # A daemon, so that a test that fails ends.
            other = threading.Thread(target=go_on, args=(c, seen), daemon=True)
            other.start()
            other.join(10)
            assert not other.is_alive(), moment
            assert c.memory_usage == 0
        if not was_interrupted:
            break
    assert moment == len(seen) > 10
    *in_between, after = seen
    assert all(state in (before, after) for state in in_between)
