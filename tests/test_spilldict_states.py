"""Any history of a SpillDict is that of a dict, wherever it spills and whatever fails there."""

import errno
import pickle
import shutil
import tempfile
import warnings
from collections.abc import MutableMapping
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from persicache import PersicacheWarning, PersiDict, SpillDict

BUDGET = 5


class Unstorable:
    """A value that stays where it is, such as a lock or a generator."""

    def __init__(self, weight):
        self.weight = weight

    def __reduce_ex__(self, _):
        raise TypeError("not to be stored")

    def __deepcopy__(self, _):
        return self


def weigh(value):
    return value.weight if isinstance(value, Unstorable) else value[1]


class Pickles(MutableMapping):
    """Somebody's mapping, which takes what can be pickled, and gives others back."""

    def __init__(self):
        self.texts = {}

    def __setitem__(self, key, value):
        self.texts[key] = pickle.dumps(value)

    def __getitem__(self, key):
        return pickle.loads(self.texts[key])

    def __delitem__(self, key):
        del self.texts[key]

    def __iter__(self):
        return iter(self.texts)

    def __len__(self):
        return len(self.texts)


class Faulty:
    """A place whose reads, writes or removals fail from a certain one on, until it recovers."""

    def __init__(self, place):
        self._place = place
        self.countdowns = {}

    def __getattr__(self, name):
        verb = "remove" if name == "remove_all" else name
        real = getattr(self._place, name)
        if verb not in {"write", "read", "remove"}:
            return real

        def called(*args, **options):
            if verb in self.countdowns:
                self.countdowns[verb] -= 1
                if self.countdowns[verb] <= 0:
                    raise OSError(errno.ENOSPC, "planted")
            return real(*args, **options)

        return called

    def recover(self):
        self.countdowns.clear()


keys = st.integers(0, 4)
storable = st.tuples(st.integers(), st.sampled_from([0, 1, 1, 1, 2, 3, BUDGET, BUDGET + 1, 50]))
values = storable | storable | st.builds(Unstorable, st.sampled_from([1, 2, BUDGET + 1]))


class SpillMachine(RuleBasedStateMachine):
    """A SpillDict beside a dict."""

    @initialize(
        kind=st.sampled_from(["private", "private", "mapping", "directory", "sqlite"]),
        policy=st.sampled_from(["lru", "lfu", "gdsf"]),
        on_return=st.sampled_from(["view", "copy"]),
    )
    def start(self, kind, policy, on_return):
        self.folder = Path(tempfile.mkdtemp())
        self.spill_to = {
            "private": None,
            "mapping": Pickles(),
            "directory": self.folder / "d",
            "sqlite": self.folder / "d.db",
        }[kind]
        self.options = {"policy": policy, "on_return": on_return, "weigh": weigh}
        self.budget = BUDGET
        self.model = {}
        self.open()

    def open(self):
        self.c = SpillDict(available_memory=self.budget, spill_to=self.spill_to, **self.options)
        self.place = self.c._place = Faulty(self.c._place)
        self.is_over = self.has_orphans = False

    def attempt(self, change):
        """Return whether a change worked; else a planted fault stopped it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PersicacheWarning)
            try:
                change()
            except OSError as error:
                if error.strerror != "planted":
                    raise
                # What failed to make room, or to clean up, may have done half of it.
                self.is_over = True
                return False
            finally:
                if self.place.countdowns.get("remove", 1) <= 0:
                    self.has_orphans = True
                if self.place.countdowns.get("write", 1) <= 0:
                    self.is_over = True
            return True

    # One key

    @rule(key=keys, value=values)
    def put(self, key, value):
        if self.attempt(lambda: self.c.__setitem__(key, value)):
            self.model[key] = value

    @rule(key=keys)
    def look(self, key):
        found = []
        if self.attempt(lambda: found.append(self.c.get(key))):
            assert found == [self.model.get(key)]

    @rule(key=keys)
    def remove(self, key):
        if key not in self.model:
            with pytest.raises(KeyError):
                del self.c[key]
        elif self.attempt(lambda: self.c.__delitem__(key)):
            del self.model[key]

    @rule(key=keys)
    def pop(self, key):
        found = []
        if self.attempt(lambda: found.append(self.c.pop(key, None))):
            assert found == [self.model.pop(key, None)]

    @rule()
    def popitem(self):
        found = []
        if not self.model:
            with pytest.raises(KeyError):
                self.c.popitem()
        elif self.attempt(lambda: found.append(self.c.popitem())):
            ((key, value),) = found
            assert self.model.pop(key) == value

    @rule(key=keys, value=values)
    def setdefault(self, key, value):
        found = []
        if self.attempt(lambda: found.append(self.c.setdefault(key, value))):
            assert found == [self.model.setdefault(key, value)]

    @rule(key=keys)
    def spill(self, key):
        out = []
        if key not in self.model:
            with pytest.raises(KeyError):
                self.c.spill(key)
        elif self.attempt(lambda: out.append(self.c.spill(key))):
            assert out == [not isinstance(self.model[key], Unstorable)]
            assert out == [key not in self.c.in_memory]

    # Several

    @rule(items=st.dictionaries(keys, values, max_size=5), overwrite=st.booleans())
    def update(self, items, overwrite):
        wanted = {**self.model, **items} if overwrite else {**items, **self.model}
        self.keep_what_was_set(
            wanted, worked=self.attempt(lambda: self.c.update(items, overwrite=overwrite))
        )

    def keep_what_was_set(self, wanted, *, worked):
        if worked:
            self.model = wanted
            return
        self.place.recover()
        found = {}
        assert self.attempt(lambda: found.update(self.c))
        for key, value in found.items():  # each was set or not
            assert value in [self.model.get(key), wanted.get(key)]
        self.model = found

    @rule(items=st.dictionaries(keys, storable, max_size=5), overwrite=st.booleans())
    def take_over(self, items, overwrite):
        """As `update`, from another one, whose files it can have."""
        wanted = {**self.model, **items} if overwrite else {**items, **self.model}
        spill_to = None if self.spill_to is None else self.folder / "other"
        with SpillDict(items, available_memory=1, spill_to=spill_to, weigh=weigh) as other:
            other.flush()
            other.evict()
            worked = self.attempt(lambda: self.c.update(other, overwrite=overwrite))
            other.drop()
        self.keep_what_was_set(wanted, worked=worked)

    @rule()
    def evict(self):
        before, freed = self.c.memory_usage, []
        if self.attempt(lambda: freed.append(self.c.evict())):
            assert before - freed[0] == self.c.memory_usage

    @rule(wanted=st.lists(keys, max_size=5))
    def prefetch(self, wanted):
        free = self.budget - self.c.memory_usage
        known = [key for key in wanted if key in self.model]
        fits = sum(weigh(self.model[key]) for key in known) <= free
        if self.attempt(lambda: self.c.prefetch(wanted)) and fits:
            assert self.c.in_memory.issuperset(known)

    @rule()
    def flush(self):
        if self.attempt(self.c.flush):
            assert all(item.is_clean or item.is_pinned for item in self.c._items.values())

    @rule()
    def clear(self):
        if self.attempt(self.c.clear):
            self.model.clear()
        else:
            self.model = {key: value for key, value in self.model.items() if key in self.c}

    # What is around it

    @rule(budget=st.sampled_from([1, 3, BUDGET, 60]))
    def resize(self, budget):
        if self.attempt(lambda: setattr(self.c, "available_memory", budget)):
            self.budget, self.is_over = budget, False
        assert self.c.available_memory == self.budget

    @rule(verb=st.sampled_from(["write", "read", "remove"]), after=st.integers(1, 3))
    def begin_to_fail(self, verb, after):
        self.place.countdowns[verb] = after

    @rule()
    def recover(self):
        self.place.recover()

    @precondition(lambda self: self.spill_to is not None)
    @rule()
    def reopen(self):
        if not self.attempt(self.c.close):
            return
        had_orphans = self.has_orphans
        self.open()
        self.model = {k: v for k, v in self.model.items() if not isinstance(v, Unstorable)}
        if had_orphans:  # a value that could be stored may have been left below one that couldn't
            for key in set(self.c) - set(self.model):
                del self.c[key]

    # What always holds

    @invariant()
    def is_as_the_model(self):
        if not hasattr(self, "c"):
            return
        c, items = self.c, self.c._items
        assert set(c) == set(items) == set(self.model)
        assert len(c) == len(self.model)
        assert c.in_memory == {key for key, item in items.items() if item.is_in_memory}
        real = self.place._place
        for key, item in items.items():
            value = item.value if item.is_in_memory else real.read(key, item.copy)
            assert value == self.model[key]
            assert item.weight == weigh(value) or not item.is_in_memory
            assert not item.is_leaving
            if item.is_clean:
                assert real.read(key, item.copy) == value
            assert item.is_pinned <= isinstance(value, Unstorable)
        assert not c._busy

    @invariant()
    def is_counted(self):
        if not hasattr(self, "c"):
            return
        c, inside = self.c, [item for item in self.c._items.values() if item.is_in_memory]
        assert c.memory_usage == sum(item.weight for item in inside)
        outside = [item for item in self.c._items.values() if not item.is_in_memory]
        taken = [c._place.nbytes_of(item.copy) for item in outside]
        weights = [item.weight for item in outside]
        on_disk = (w if n is None else n for w, n in zip(weights, taken, strict=True))
        assert c.on_disk == (len(outside), sum(weights), sum(on_disk))
        evictable = {item.key for item in inside if not item.is_pinned}
        assert len(c._room._policy) == len(evictable)
        assert all(key in c._room._policy for key in evictable)
        if not self.is_over and c.memory_usage > self.budget:
            # What can't leave comes on top.
            assert sum(item.weight for item in inside if not item.is_pinned) == 0

    @invariant()
    def nothing_is_left_over(self):
        if not hasattr(self, "c") or self.has_orphans:
            return
        copies = [item.copy for item in self.c._items.values() if item.copy is not None]
        if self.spill_to is not None:
            assert set(self.place._place._mapping) == {copy.name for copy in copies}
        elif (directory := self.place._place._directory) is not None:
            assert len(directory) == len(copies)

    def teardown(self):
        if not hasattr(self, "c"):
            return
        self.place.recover()
        try:
            found = {}
            assert self.attempt(lambda: found.update(self.c))
            assert found == self.model
            if self.attempt(self.c.drop) and self.spill_to is not None and not self.has_orphans:
                left = PersiDict(self.spill_to) if isinstance(self.spill_to, Path) else self.spill_to
                assert not dict(left)
        finally:
            self.attempt(self.c.close)
            shutil.rmtree(self.folder)


TestAnyHistory = SpillMachine.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
