"""Values that are only known by how they pickle, and values of any shape, in several processes."""

from __future__ import annotations

import enum
import functools
import json
import os
import pathlib
import subprocess
import sys
import zoneinfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from persicache import UndigestibleValue
from persicache.keys import CallDigest, digest

# Builds a value from its recipe, each time in another order and with other things shared. Read
# by the other processes too.
BUILD = '''
import collections, dataclasses, json, random, sys

class Recipe:
    """Tells pickle of sets, of dicts, and of texts made anew each time."""
    def __init__(self, items): self.items = items
    def __reduce__(self):
        return (Recipe, (set(self.items), {key: 1 for key in self.items}, "".join(["te", "xt"])))

class Lists(list):
    def __reduce_ex__(self, protocol):
        return (Lists, (), {"seen": set(self)}, iter(self), iter({key: key for key in self}.items()))

class State:
    def __init__(self, items): self.items = items
    def __getstate__(self): return {"b": set(self.items), "a": dict.fromkeys(self.items)}

@dataclasses.dataclass
class Data:
    x: object
    y: object

def shuffled(items, order):
    items = list(items)
    order.shuffle(items)
    return items

def build(recipe, order, known):
    """Make a value of nested lists that json has carried: [kind, parts...]."""
    key = json.dumps(recipe)
    if key in known and order.random() < 0.5:
        return known[key]  # shared, or else a copy
    kind, *parts = recipe
    made = [build(part, order, known) for part in parts] if kind not in "vt" else parts
    if kind == "v":
        value = parts[0]
    elif kind == "t":
        value = sys.intern(parts[0]) if order.random() < 0.5 else "".join(list(parts[0]))
    elif kind in ("set", "frozenset"):
        value = {"set": set, "frozenset": frozenset}[kind](shuffled(made, order))
    elif kind == "dict":
        value = dict(shuffled([(str(key), item) for key, item in enumerate(made)], order))
    elif kind == "counter":
        value = collections.Counter(shuffled(made, order))
    elif kind == "keys":
        value = dict.fromkeys(shuffled(made, order))
    elif kind in ("Recipe", "State"):
        value = {"Recipe": Recipe, "State": State}[kind](shuffled(made, order))
    elif kind == "Lists":
        value = Lists(made)
    elif kind == "Data":
        value = Data(made, tuple(made))
    else:
        value = {"list": list, "tuple": tuple, "deque": collections.deque}[kind](made)
    known[key] = value
    return value
'''

CHILD = (
    BUILD
    + """
from persicache.keys import digest
with open(sys.argv[1]) as file:
    recipes = json.load(file)
order = random.Random(int(sys.argv[2]))
print([digest(build(recipe, order, {})).hex() for recipe in recipes])
"""
)

# No two that are equal and differ, as 1 and True: which of them a set keeps depends on the order.
numbers = st.integers().filter(lambda number: number not in {0, 1}) | st.floats(allow_nan=False).filter(
    lambda number: not number.is_integer()
)
atoms = st.one_of(
    st.tuples(st.just("v"), st.none() | st.booleans() | numbers),
    st.tuples(st.just("t"), st.text(max_size=5) | st.text("ab", min_size=130, max_size=140)),
)
hashable = st.recursive(
    atoms,
    lambda inner: st.builds(
        lambda kind, parts: (kind, *parts),
        st.sampled_from(["tuple", "frozenset"]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=8,
)
of_hashable = st.builds(
    lambda kind, parts: (kind, *parts),
    st.sampled_from(["set", "counter", "keys", "Recipe", "State", "Lists"]),
    st.lists(hashable, max_size=6),
)
recipes = st.recursive(
    hashable | of_hashable,
    lambda inner: st.builds(
        lambda kind, parts: (kind, *parts),
        st.sampled_from(["list", "tuple", "dict", "deque", "Data"]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


def test_any_value_has_one_digest_in_all_processes(tmp_path):
    found = []

    @given(recipes)
    @settings(max_examples=300, deadline=None, phases=[Phase.generate], suppress_health_check=HealthCheck)
    def collect(recipe):
        found.append(recipe)

    collect()
    (tmp_path / "recipes.json").write_text(json.dumps(found))
    (tmp_path / "child.py").write_text(CHILD)

    def start(seed):
        command = [sys.executable, tmp_path / "child.py", tmp_path / "recipes.json", seed]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    children = [start(seed) for seed in ("1", "2", "77")]
    printed = [child.communicate()[0] for child in children]
    assert all(child.returncode == 0 for child in children)
    assert len(set(printed)) == 1
    # As many digests as there are values, not fewer.
    assert printed[0].count(",") + 1 == len(found)
    distinct = {json.dumps(recipe) for recipe in found}
    assert len(set(printed[0].split(","))) > 0.5 * len(distinct)


class Lazy:
    def __init__(self, x):
        self.x = x

    @functools.cached_property
    def squared(self):
        return self.x**2


def test_what_a_cached_property_keeps_does_not_count():
    value = Lazy(3)
    before = digest(value)
    assert value.squared == 9
    assert digest(value) == before != digest(Lazy(4))


class Unset(enum.Enum):
    UNSET = object()
    OTHER = object()  # noqa: PIE796 - no two objects are equal


def test_members_that_stand_for_nothing_count_by_their_names():
    def declare():
        return enum.Enum("Late", {"UNSET": object(), "OTHER": object()}, module=__name__)

    one, again = declare(), declare()
    assert digest(one.UNSET) == digest(again.UNSET) != digest(one.OTHER)
    assert len({digest(member) for member in (one.UNSET, one.OTHER, Unset.UNSET, Unset.OTHER)}) == 4


def test_time_zones_count_by_their_names():
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    assert digest(zone) == digest(zoneinfo.ZoneInfo.no_cache("Europe/Berlin"))
    assert digest(zone) != digest(zoneinfo.ZoneInfo("Europe/Paris"))
    for path in zoneinfo.TZPATH:
        file = pathlib.Path(path) / "Europe/Berlin"
        if file.exists():
            with file.open("rb") as stream, pytest.raises(UndigestibleValue, match="no name"):
                digest(zoneinfo.ZoneInfo.from_file(stream))


SENTINEL = object()


def test_a_default_that_means_nothing_set_is_one_argument():
    digest_call = CallDigest("f", ("x", "y"), defaults={"y": SENTINEL})
    unset = digest_call((1, SENTINEL))
    assert unset == CallDigest("f", ("x", "y"), defaults={"y": (other := object())})((1, other))
    assert len({unset, digest_call((2, SENTINEL)), digest_call((1, None)), digest_call((1, ()))}) == 4
    assert digest_call.of_each((1, SENTINEL))["y"] != digest_call.of_each((1, None))["y"]
    for wrong in ((1, object()), (SENTINEL, 1), (1, [SENTINEL])):
        with pytest.raises(UndigestibleValue, match="bare object"):
            digest_call(wrong)
    # One that can be digested counts as its value does.
    assert CallDigest("f", ("x",), defaults={"x": 5})((5,)) == CallDigest("f", ("x",))((5,))
