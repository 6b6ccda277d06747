"""Any history of a PersiDict, wherever it lies, is that of a dict."""

import datetime as dt
import pickle
import uuid

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from places import PLACES
from same import assert_same
from test_storage_children import in_fork

import persicache as p
from persicache import PersiDict

#: Of every kind, and none equal to another, so that a dict can be the model.
KEYS = [
    *["a", "A", "é", "1", b"1", "x" * 300, None, True, -2, 2.5],
    *[(), ("a",), ("a", "b"), ("a", "b", 3), ("a", "x" * 300), (("a",), 1)],
    *[dt.date(2024, 2, 29), uuid.UUID(int=7), uuid.SafeUUID.safe],
]
VALUES = [
    *[None, True, 2**70, -0.0, float("nan"), "", "text" * 500, b"\0\xff", (), (1, [2, {3}])],
    *[{"loss": 0.25, (1, 2): dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}, np.float32(1.5)],
    *[np.zeros(0), np.arange(12).reshape(3, 4).T, np.array(["a", "bc"]), np.arange(9000.0)],
]
GONE = p.ITEM_NOT_AVAILABLE

# Two of them half of the time, so that what is done to one key meets.
keys = st.sampled_from(["a", ("a", "b")]) | st.sampled_from(KEYS)
values = st.sampled_from(VALUES) | st.integers() | st.text() | st.lists(st.floats())
items = st.lists(st.tuples(keys, values), max_size=4).map(dict)
conditions = st.sampled_from([p.ETAG_IS_THE_SAME, p.ETAG_HAS_CHANGED, p.ANY_ETAG])


def holds(condition, expected_etag, actual):
    """Return whether a condition holds."""
    return condition is p.ANY_ETAG or (expected_etag == actual) is (condition is p.ETAG_IS_THE_SAME)


def is_same(found, wanted):
    """Return whether two dicts have the same items, whatever their order."""
    try:
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert_same(found[key], value)
    except AssertionError:
        return False
    return True


class History(RuleBasedStateMachine):
    """Two handles on one place, used in turns, beside a dict.

    Where sets wait, what a handle has set is seen by itself at once, and by the other as far as
    it was committed: as one of the states since the last flush. Elsewhere both agree always.
    """

    @initialize()
    def start(self):
        self.arguments = self.new_place()
        self.d, self.other = PersiDict(**self.arguments), PersiDict(**self.arguments)
        self.model = {}
        self.etags = {}  # as last seen, of what wasn't written since
        self.old_etags = {}
        self.states = [{}]

    def teardown(self):
        if hasattr(self, "d"):
            self.d.close()
            self.other.close()

    # What the model does beside the dictionary

    def wrote(self, *changed):
        for key in changed:
            if key in self.etags:
                self.old_etags.setdefault(key, set()).add(self.etags.pop(key))
        if not self.kind.waits:
            self.states.clear()
        self.states.append(dict(self.model))

    def committed(self):
        self.states = [dict(self.model)]

    def etag(self, key):
        """Return the etag of a key: one while it isn't written, and none that it had before."""
        if key not in self.model:
            with pytest.raises(KeyError):
                self.d.etag(key)
            return GONE
        found = self.d.etag(key)
        assert found not in self.old_etags.get(key, ())
        assert self.etags.setdefault(key, found) == found
        return found

    # Which handle, and how it is opened

    @rule()
    def turn(self):
        if self.kind.waits:
            self.d.flush()
            self.committed()
        self.d, self.other = self.other, self.d

    @rule()
    def flush(self):
        self.d.flush()
        self.committed()

    @rule()
    def reopen(self):
        self.d.close()
        self.committed()
        self.d = PersiDict(**self.arguments)

    @rule()
    def use_closed(self):
        self.d.close()
        self.committed()

    @rule()
    def travel(self):
        travelled = pickle.loads(pickle.dumps(self.d))
        self.d.close()
        self.committed()
        self.d = travelled

    # One key

    @rule(key=keys, value=values)
    def put(self, key, value):
        self.d[key] = self.model[key] = value
        self.wrote(key)

    @rule(key=keys)
    def discard(self, key):
        assert self.d.discard(key) is (key in self.model)
        self.model.pop(key, None)
        self.wrote(key)

    @rule(key=keys)
    def delete(self, key):
        if key in self.model:
            del self.d[key], self.model[key]
            self.wrote(key)
        else:
            with pytest.raises(KeyError):
                del self.d[key]

    @rule(key=keys)
    def pop(self, key):
        assert_same(self.d.pop(key, "none"), self.model.pop(key, "none"))
        self.wrote(key)

    @precondition(lambda self: getattr(self, "model", None))
    @rule()
    def popitem(self):
        key, value = self.d.popitem()
        assert_same(value, self.model.pop(key))
        self.wrote(key)

    @rule(key=keys, value=values)
    def setdefault(self, key, value):
        is_new = key not in self.model
        assert_same(self.d.setdefault(key, value), self.model.setdefault(key, value))
        if is_new:
            self.wrote(key)

    @rule(key=keys)
    def look(self, key):
        assert (key in self.d) is (key in self.model)
        assert_same(self.d.get(key, "none"), self.model.get(key, "none"))
        self.etag(key)

    # Many keys

    @rule(some=items)
    def set_many(self, some):
        self.d.set_many(some)
        self.model.update(some)
        self.wrote(*some)

    @rule(some=st.lists(keys, max_size=5))
    def get_many(self, some):
        assert is_same(self.d.get_many(some), {key: self.model[key] for key in some if key in self.model})

    @rule(some=st.lists(keys, max_size=5))
    def discard_many(self, some):
        self.d.discard_many(some)
        for key in some:
            self.model.pop(key, None)
        self.wrote(*some)

    @rule()
    def clear(self):
        gone = list(self.model)
        self.d.clear()
        self.model.clear()
        self.wrote(*gone)

    # On a condition

    def expected(self, key, which):
        """Return an etag to expect: the right one, one that it had, another's, or none."""
        if which == "right":
            return self.etag(key)
        if which == "old":
            return min(self.old_etags.get(key, ["never"]))
        return GONE if which == "none" else which

    expectations = st.sampled_from(["right", "old", "none", "another's"])

    @rule(key=keys, value=values, condition=conditions, which=expectations, delete=st.booleans())
    def set_item_if(self, key, value, condition, which, delete):
        if delete:
            value = p.DELETE_CURRENT
        options = {"condition": condition, "expected_etag": self.expected(key, which)}
        if not self.kind.swaps:
            with pytest.raises(p.ConditionsUnsupported):
                self.d.set_item_if(key, value=value, **options)
            return
        actual = self.etag(key)
        done = self.d.set_item_if(key, value=value, **options, retrieve_value=p.ALWAYS_RETRIEVE)
        self.changed(key, GONE if delete else value, done, holds(**options, actual=actual), actual)

    @rule(key=keys, value=values, condition=conditions, which=expectations)
    def setdefault_if(self, key, value, condition, which):
        if self.kind.swaps:
            options = {"condition": condition, "expected_etag": self.expected(key, which)}
            actual = self.etag(key)
            done = self.d.setdefault_if(
                key, default_value=value, **options, retrieve_value=p.ALWAYS_RETRIEVE
            )
            value = self.model.get(key, value)
            self.changed(key, value, done, holds(**options, actual=actual), actual)

    @rule(key=keys, condition=conditions, which=expectations)
    def discard_if(self, key, condition, which):
        if self.kind.swaps:
            options = {"condition": condition, "expected_etag": self.expected(key, which)}
            actual = self.etag(key)
            done = self.d.discard_if(key, **options)
            if done.condition_was_satisfied:
                assert done.new_value is GONE
            self.changed(key, GONE, done, holds(**options, actual=actual), actual)

    @rule(key=keys, value=values, joker=st.sampled_from([None, p.KEEP_CURRENT, p.DELETE_CURRENT]))
    def transform_item(self, key, value, joker):
        given = []

        def transformer(old):
            given.append(old)
            return joker or value

        if not self.kind.swaps:
            with pytest.raises(p.ConditionsUnsupported):
                self.d.transform_item(key, transformer=lambda _: value)
            return
        actual = self.etag(key)
        old = self.model.get(key, GONE)
        done = self.d.transform_item(key, transformer=transformer)
        (seen,) = given
        assert_same(seen, old)
        value = {None: value, p.KEEP_CURRENT: old, p.DELETE_CURRENT: GONE}[joker]
        assert_same(done.new_value, value)
        if joker is p.KEEP_CURRENT:
            assert done.resulting_etag == actual
        else:
            self.now(key, value, done)

    def changed(self, key, value, done, is_satisfied, actual):
        assert done.condition_was_satisfied is is_satisfied
        assert done.actual_etag == actual
        if done.value_was_mutated:
            assert is_satisfied
            self.now(key, value, done)
        else:
            assert not is_satisfied or self.model.get(key, GONE) is value
        if done.new_value is not p.VALUE_NOT_RETRIEVED:
            assert_same(done.new_value, self.model.get(key, GONE))

    def now(self, key, value, done):
        """Note that a key has a value; GONE is none."""
        self.model.pop(key, None)
        if value is not GONE:
            self.model[key] = value
        self.wrote(key)
        assert self.etag(key) == done.resulting_etag

    # A part

    prefixes = st.sampled_from([("a",), ("a", "b"), (("a",),)])

    def part(self, prefix):
        """Return the keys below a prefix as a sub-dictionary has them, and as they are."""
        n = len(prefix)
        below = [k for k in self.model if isinstance(k, tuple) and len(k) > n and k[:n] == prefix]
        return {k[n] if len(k) == n + 1 and not isinstance(k[n], tuple) else k[n:]: k for k in below}

    @rule(prefix=prefixes)
    def look_at_a_part(self, prefix):
        wanted = {key: self.model[full] for key, full in self.part(prefix).items()}
        assert is_same(dict(self.d.get_subdict(prefix)), wanted)

    @rule(prefix=prefixes, key=st.sampled_from(["b", ("b", 3), 1]), value=values)
    def change_a_part(self, prefix, key, value):
        full = (*prefix, *(key if isinstance(key, tuple) else (key,)))
        self.d.get_subdict(prefix)[key] = self.model[full] = value
        self.wrote(full)

    @rule(prefix=prefixes)
    def clear_a_part(self, prefix):
        gone = list(self.part(prefix).values())
        self.d.get_subdict(prefix).clear()
        for key in gone:
            del self.model[key]
        self.wrote(*gone)

    # All of it

    @rule()
    def list_all(self):
        assert len(self.d) == len(self.model)
        assert bool(self.d) is bool(self.model)
        listed = list(self.d.keys())
        assert len(listed) == len(self.model)
        assert set(listed) == self.model.keys()
        assert is_same(dict(self.d.items()), self.model)

    @invariant()
    def handles_agree(self):
        if hasattr(self, "d"):
            found = dict(self.other.items())
            assert any(is_same(found, state) for state in self.states)
            if self.kind.waits:  # and a listing would write what does
                assert is_same(self.d.get_many({*KEYS, *self.model}), self.model)
            else:
                assert set(self.d) == found.keys()
                assert len(self.d) == len(found)


@pytest.mark.parametrize("kind", PLACES, ids=str)
def test_any_history_is_that_of_a_dict(kind, tmp_path, request):
    class HistoryThere(History):
        def new_place(self):
            return self.kind.new(tmp_path, request)

    HistoryThere.kind = kind
    # A request takes milliseconds, and a look at all is as many.
    max_examples = 5 if kind.name == "s3" else 30
    run_state_machine_as_test(
        HistoryThere, settings=settings(max_examples=max_examples, stateful_step_count=20)
    )


@pytest.mark.parametrize("kind", [kind for kind in PLACES if kind.is_shared], ids=str)
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_another_process_sees_what_was_set_or_else_what_was_flushed(kind, place):
    d = PersiDict(**place)
    d["k"] = "set"

    def look(wanted):
        assert PersiDict(**place).get("k") == wanted
        # Nor does what waits here go with the handle.
        assert d.get("k") == wanted

    in_fork(lambda: look(None if kind.waits else "set"))
    d.flush()
    in_fork(lambda: look("set"))
