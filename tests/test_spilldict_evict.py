"""A SpillDict says which values leave memory, and sees what others do in a place that it was given."""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from persicache import PersicacheWarning, PersiDict, SpillDict

N_KEYS = 12


def unit(budget, **options):
    return SpillDict(available_memory=budget, weigh=lambda _: 1, **options)


def test_a_hook_is_told_of_each_value_that_leaves():
    left = []
    with unit(2, on_evict=lambda key, value: left.append((key, value))) as c:
        c.update({"a": 1, "b": 2, "c": 3})
        assert left == [("a", 1)]
        assert c["a"] == 1
        c.spill("c")
        c["a"]
        c.evict()
        assert left == [("a", 1), ("b", 2), ("c", 3), ("a", 1)]  # whether it is written, or was


def test_a_hook_is_told_of_what_never_enters():
    left = []
    with SpillDict(available_memory=2, weigh=int, on_evict=lambda *item: left.append(item)) as c:
        c["large"] = 3
        assert left == [("large", 3)]
        assert c["large"] == 3


@pytest.mark.parametrize("is_private", [True, False])
def test_what_the_hook_says_has_changed_is_stored_again(is_private, tmp_path):
    place = None if is_private else tmp_path / "given"
    with unit(
        1, spill_to=place, private_in=tmp_path if is_private else None, on_evict=lambda *_: True
    ) as c:
        c["list"] = ["x" * 100_000]
        c.spill("list")
        for i in range(3):
            c["list"].append(i)
            c.spill("list")
        assert c["list"][1:] == [0, 1, 2]
        files = [name for _, _, names in os.walk(tmp_path) for name in names if name.endswith(".pc")]
        assert len(files) == 1  # of older values none is left


def test_a_hook_that_fails_keeps_the_value(tmp_path):
    kept = {"a"}

    def refuse(key, value):
        if key in kept:
            raise RuntimeError(f"{key} stays")

    with unit(1, spill_to=tmp_path, on_evict=refuse) as c:
        c["a"] = 1
        with pytest.raises(RuntimeError, match="a stays"):
            c["b"] = 2
        kept.clear()
        assert dict(c) == {"a": 1}


def test_a_hook_can_use_the_dictionary():
    def look(key, _):
        other = (key + 1) % N_KEYS
        assert c.get(other, other) % N_KEYS == other

    def use(seed):
        chance = random.Random(seed)
        for _ in range(400):
            key = chance.randrange(N_KEYS)
            if chance.random() < 0.5:
                c[key] = key + N_KEYS * chance.randrange(9)
            assert c[key] % N_KEYS == key

    with unit(3, on_evict=look) as c:
        c.update({key: key for key in range(N_KEYS)})
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(use, range(3)))
        assert c.on_disk.n_values == N_KEYS - len(c.in_memory)
        assert c.memory_usage == len(c.in_memory) <= 3


@pytest.mark.parametrize("verb", ["spill", "clear", "refresh", "close"])
def test_a_hook_that_would_wait_for_itself_is_told_so(verb, tmp_path):
    def wait(key, _):
        getattr(c, verb)(*[key] * (verb == "spill"))

    c = unit(1, spill_to=tmp_path, on_evict=wait)
    c["a"] = 1
    with pytest.raises(RuntimeError, match=r"for which this was called|not in a hook"):
        c["b"] = 2
    assert dict(c) == {"a": 1}
    assert c.in_memory == {"a"}
    c.close()


def test_refresh_shows_what_others_stored_and_removed(tmp_path):
    with unit(9, spill_to=tmp_path) as c, PersiDict(tmp_path) as other:
        c.update({"mine": 1, "shared": 2})
        c.flush()
        c["new"] = 3  # in memory only
        other["theirs"] = 4
        del other["shared"]
        assert set(c) == {"mine", "shared", "new"}
        c.refresh()
        assert dict(c) == {"mine": 1, "new": 3, "theirs": 4}
        assert c.memory_usage == 3


def test_refresh_of_a_private_place_changes_nothing():
    with unit(1) as c:
        c.update({"a": 1, "b": 2})
        c.refresh()
        assert dict(c) == {"a": 1, "b": 2}


def test_a_value_that_can_not_leave_is_passed_over():
    with SpillDict(available_memory=9, weigh=lambda _: 1) as c:
        c.update({i: (x for x in "abc") for i in range(3)})  # generators can't be stored
        c["text"] = "t"
        with pytest.warns(PersicacheWarning, match="stays in memory"):
            assert c.evict() == 1
        assert c.in_memory == {0, 1, 2}
        assert c.evict() == 0
