"""A SpillDict under several threads, which read and write its copies at once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from persicache import PersiDict, SpillDict
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
            files = [path for path in Path(c._place._directory.path).iterdir() if path.suffix == ".pc"]
            assert len(files) == len(wanted)
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
