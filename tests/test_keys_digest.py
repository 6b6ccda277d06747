"""Equal values digest equally in every process and layout; different ones don't."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import gc
import io
import itertools
import json
import os
import pathlib
import pickle
import random
import re
import subprocess
import sys
import tempfile
import threading
import types
import uuid
import weakref
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import persicache
from persicache.errors import UndigestibleValue
from persicache.keys import CallDigest, digest, feed, register_digest


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: object
    y: object = 2


@dataclasses.dataclass(slots=True)
class Slotted:
    x: object


@dataclasses.dataclass(frozen=True)
class Other:
    x: object
    y: object = 2


class Plain:
    def __init__(self, **state):
        self.__dict__.update(state)


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


class MyDict(dict):
    pass


class MyList(list):
    pass


class MySet(set):
    pass


class MyInt(int):
    pass


Pair = collections.namedtuple("Pair", "x y")  # noqa: PYI024 - the untyped form is the subject


def build(text):
    """A str that isn't interned."""
    return "".join(list(text))


def in_order(cls, items):
    return cls(items)


NAIVE = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - naive is a value too
GRID = np.arange(24, dtype="f8").reshape(4, 6)
BIG = np.arange(300 * 70, dtype="f8").reshape(300, 70)
with pytest.warns(PendingDeprecationWarning):
    MATRIX = np.matrix([[1, 2]])
PADDED = np.dtype([("a", "i1"), ("b", "f8")], align=True)


def padded(fill):
    raw = np.full(3 * PADDED.itemsize, fill, "u1")
    items = raw.view(PADDED)
    items["a"], items["b"] = [1, 2, 3], [4, 5, 6]
    return items


def masked(under):
    return np.ma.MaskedArray([1, under, 3], mask=[False, True, False])


def long_double(noise):
    raw = np.full(4 * np.dtype("g").itemsize, noise, "u1")
    items = raw.view("g")
    items[:] = [1, 2, 3, 4]
    return items


def memmapped(items):
    with tempfile.NamedTemporaryFile() as file:
        file.write(items.tobytes())
        file.flush()
        return np.memmap(file.name, items.dtype, "r", shape=items.shape)


def shared(value):
    return [value, value]


def frame(**columns):
    return pd.DataFrame(columns or {"a": [1, 2, 3], "b": [1.0, 2.0, 3.0], "c": ["x", None, "z"]})


def frame_by_insertion():
    result = pd.DataFrame({"a": [1, 2, 3]})
    result.insert(1, "c", ["x", None, "z"])
    result.insert(1, "b", [1.0, 2.0, 3.0])
    return result


def frame_after_drop():
    twice = pd.concat([frame(), frame()], ignore_index=True)
    return twice.drop_duplicates()


def with_attrs(value, **attrs):
    value = value.copy()
    value.attrs.update(attrs)
    return value


def arrow_sliced(values):
    return pa.array(["padding", *values, "after"])[1:-1]


def arrow_ints(under):
    """An array with a null slot, with something under it."""
    data = pa.py_buffer(np.array([1, under, 3], "i8"))
    return pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x05"), data])


def cached_property_used():
    value = Cached()
    assert value.total == 3
    return value


class Cached:
    @functools.cached_property
    def total(self):
        return 3


EQUAL = {
    "dict order": ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    "dict order, mixed keys": ({1: 1, "b": 2, None: 3}, {None: 3, "b": 2, 1: 1}),
    "set order": ({8, 0, 16, 24}, {24, 16, 0, 8}),
    "frozenset order": (frozenset("abcdef"), frozenset("fedcba")),
    "interned": ("interned_name", build("interned_name")),
    "shared lists": (shared([1, 2]), [[1, 2], [1, 2]]),
    "shared long lists": (shared(list(range(99))), [list(range(99)), list(range(99))]),
    "shared objects": (shared(Plain(a="x" * 200)), [Plain(a="x" * 200), Plain(a="x" * 200)]),
    "huge int": (10**5000, 10**4999 * 10),
    "NaN": (float("nan"), -float("nan")),
    "ranges": (range(0, 3, 2), range(0, 4, 2)),
    "empty ranges": (range(0), range(5, 1)),
    "attribute order": (Plain(a=1, b=2), Plain(b=2, a=1)),
    "Counter order": (collections.Counter("aab"), collections.Counter("baa")),
    "MyDict order": (MyDict(a=1, b=2), MyDict(b=2, a=1)),
    "MySet order": (MySet([0, 8, 16]), MySet([16, 8, 0])),
    "cached property": (Cached(), cached_property_used()),
    "path": (pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath("a") / "b"),
    "Fortran order": (GRID, np.asfortranarray(GRID)),
    "large Fortran order": (BIG, np.asfortranarray(BIG)),
    "sliced": (GRID[1:3, 2:4], np.ascontiguousarray(GRID[1:3, 2:4])),
    "large sliced": (BIG[::2, 1:], np.ascontiguousarray(BIG[::2, 1:])),
    "reversed": (BIG[::-1, ::-1], BIG[::-1, ::-1].copy()),
    "broadcast": (np.broadcast_to(np.float64(3), (200, 100)), np.full((200, 100), 3.0)),
    "memmapped": (BIG, memmapped(BIG)),
    "read-only": (GRID, np.frombuffer(GRID.tobytes()).reshape(4, 6)),
    "padding": (padded(0), padded(255)),
    "long double padding": (long_double(0), long_double(255)),
    "under the mask": (masked(2), masked(7)),
    "object array": (np.array(["a", 1, None], object), np.array([build("a"), 1, None], object)),
    "StringDType": (np.array(["a", "b" * 99], np.dtypes.StringDType()), np.array(["a", "b" * 99], "T")),
    "dtype names": (
        np.dtype("long"),
        np.dtype("longlong") if np.dtype("long").itemsize == 8 else np.dtype("long"),
    ),
    "columns inserted": (frame(), frame_by_insertion()),
    "duplicates dropped": (frame(), frame_after_drop()),
    "range index": (frame(), frame().set_axis(pd.Index([0, 1, 2]))),
    "range index of one": (pd.RangeIndex(5, 6), pd.Index([5])),
    "empty range index": (pd.RangeIndex(0), pd.Index([], dtype="int64")),
    "columns from a matrix": (pd.DataFrame(GRID), pd.DataFrame(dict(enumerate(GRID.T.copy())))),
    "sliced strings": (pd.Series(["b", "c"]), pd.Series(["a", "b", "c"])[1:].reset_index(drop=True)),
    "chunked strings": (
        pd.Series(["a", "b"]),
        pd.concat([pd.Series(["a"]), pd.Series(["b"])], ignore_index=True),
    ),
    "multi-index levels": (
        pd.MultiIndex.from_product([["a", "b"], [1, 2]])[:2],
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]),
    ),
    "masked integers": (
        pd.Series(pd.arrays.IntegerArray(np.array([1, 2]), np.array([False, True]))),
        pd.Series(pd.arrays.IntegerArray(np.array([1, 9]), np.array([False, True]))),
    ),
    "arrow slices": (pa.array(["x", None, "zz"]), arrow_sliced(["x", None, "zz"])),
    "arrow chunks": (pa.chunked_array([["x", "y"], [None]]), pa.chunked_array([["x"], [], ["y", None]])),
    "arrow nulls": (arrow_ints(2), arrow_ints(7)),
    "arrow booleans": (pa.array([True, None, False]), pa.array([True, True, None, False])[1:]),
    "arrow tables": (
        pa.table({"a": [1, 2, 3]}),
        pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2, 3]})]),
    ),
    "arrow nested": (pa.array([[1], None, [2, 3]]), pa.array([[0], [1], None, [2, 3]])[1:]),
}

KINDS = [
    *(
        "f8",
        "i8",
        "u8",
        "i4",
        "f4",
        "c8",
        "M8[s]",
        "M8[ns]",
        "m8[s]",
        "S8",
        "U2",
        "O",
        "T",
        ">i8",
        "V8",
        "?",
        "g",
    ),
    *([("a", "i8")], [("b", "i8")]),
]

DIFFERENT = {
    "ones": [
        1, 1.0, True, "1", b"1", (1,), [1], {1}, frozenset([1]), 1j, np.int64(1), np.float64(1),
        np.array(1), np.array([1]), Number.ONE, MyInt(1), decimal.Decimal(1), fractions.Fraction(1),
        {1: None}, bytearray(b"1"), memoryview(b"1"), dt.timedelta(days=1), range(1), "one", None,
        np.True_, np.int32(1), np.str_("1"),
    ],
    "empty": [
        "", b"", (), [], {}, set(), frozenset(), None, 0, False, np.array([]), np.zeros((0, 1)),
        np.zeros((1, 0)), pd.DataFrame(), pd.Series([], dtype=object), range(0), MyDict(), MyList(),
        MySet(), collections.deque(),
    ],
    "zeros": [
        0.0, -0.0, 0, False, 0j, np.float64(0), np.float64(-0.0), np.array([0.0]), np.array([-0.0]),
    ],
    "nesting": [
        [[1], 2], [1, [2]], [1, 2], [(1, 2)], ([1], 2), [[1, 2]], [[], 1, 2], [1, 2, []], ["1", 2],
        ["12"], ["1", "2"],
    ],
    "text": [
        "a", b"a", "A", "é", "e\N{COMBINING ACUTE ACCENT}", "\ud800", "a\0", "a" * 70_000, "a" * 70_001,
    ],
    "classes": [
        Pair(1, 2), (1, 2), [1, 2], Point(1, 2), Other(1, 2), Plain(x=1, y=2), Point(1, 3), Point(2, 1),
        Slotted(1), Slotted(2), Slots(1), Slots(2), Plain(x=1), types.SimpleNamespace(x=1, y=2),
        MyList([1, 2]), Plain(x=1, y=3),
    ],
    "order": [
        collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2},
        [("a", 1), ("b", 2)], collections.defaultdict(int, a=1, b=2),
        collections.defaultdict(list, a=1, b=2), MyDict(a=1, b=2),
    ],
    "dtypes": [np.zeros(4, kind) for kind in KINDS],
    "shapes": [
        GRID, GRID.T, GRID.reshape(6, 4), GRID.ravel(), GRID[None], GRID.reshape(2, 12),
        GRID.astype(object), GRID + 1,
    ],
    "squares": [BIG[:70], BIG[:70].T, BIG[:70][::-1], BIG[:70][:, ::-1], np.rot90(BIG[:70])],
    "masks": [
        masked(2), np.ma.MaskedArray([1, 2, 3]), np.array([1, 2, 3]),
        np.ma.MaskedArray([1, 2, 3], fill_value=4),
        np.ma.MaskedArray([1, 2, 3], mask=[True, False, False]), np.ma.masked,
    ],
    "array classes": [MATRIX, np.array([[1, 2]]), padded(0), padded(0).view(np.recarray)],
    "object arrays": [
        np.array(["a", "bc"], object), np.array(["ab", "c"], object), np.array(["a", None], object),
    ],
    "dtype objects": [
        np.dtype("f8"), np.float64, "f8", np.dtype(">f8"), PADDED, np.dtype([("a", "i1"), ("b", "f8")]),
    ],
    "joblib": [[np.dtype("f8"), "a"], ["a", np.dtype("f8")], [np.dtype("f8"), np.dtype("f8")]],
    "series": [
        pd.Series([1, 2]), pd.Series([1, 2], name="a"), pd.Series([1, 2], index=[1, 2]),
        pd.Series([1.0, 2]), pd.Series([1, 2], index=pd.Index([0, 1], name="i")),
        pd.Series([1, 2], dtype="Int64"), pd.Series([1, None], dtype="Int64"),
        pd.Series([1, 2], dtype="category"), with_attrs(pd.Series([1, 2]), a=1),
        pd.Series([1, 2], dtype=object), pd.Index([1, 2]), pd.DataFrame([1, 2]),
        pd.Series([1, 2], dtype="int32"), pd.Series([1, 2], dtype="int64[pyarrow]"),
        pd.Series([1, 2]).array,
    ],
    "strings": [
        pd.Series(["a", "bc"]), pd.Series(["ab", "c"]), pd.Series(["a", None]), pd.Series(["a", ""]),
        pd.Series([None, "a"]), pd.Series(["a", "bc"], dtype=object),
        pd.Series(["a", "bc"], dtype="string"), pd.Series(["a", "bc"], dtype="category"),
        pd.Series(["a", "bc"], dtype=pd.ArrowDtype(pa.string())),
    ],
    "categories": [
        pd.Categorical(["a"]), pd.Categorical(["a"], ["a", "b"]), pd.Categorical(["a"], ["b", "a"]),
        pd.Categorical(["a"], ordered=True), pd.Categorical([None], ["a"]), pd.CategoricalIndex(["a"]),
    ],
    "frames": [
        frame(), frame().rename(columns={"a": "A"}), frame()[["b", "a", "c"]], frame().iloc[::-1],
        frame().T, frame().set_index("a"), with_attrs(frame(), a=1), with_attrs(frame(), a=2),
        frame().astype({"a": "f8"}), frame().rename_axis("i"), frame().rename_axis(columns="i"),
        frame().iloc[:2], pa.table(frame()), frame().set_flags(allows_duplicate_labels=False),
    ],
    "indexes": [
        pd.RangeIndex(3), pd.RangeIndex(1, 4), pd.RangeIndex(0, 6, 2), pd.Index([0, 1, 3]),
        pd.Index([0, 0, 0]), pd.Index([0, 1, 2], dtype="int32"), pd.Index([0, 1, 2], name="a"),
        pd.Index([0.0, 1, 2]), pd.Index([2, 1, 0]), pd.MultiIndex.from_arrays([[0, 1, 2]]),
        pd.MultiIndex.from_arrays([[0, 1, 2], [0, 1, 2]]),
    ],
    "moments": [
        pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01", tz="UTC"), dt.date(2024, 1, 1), NAIVE,
        NAIVE.replace(fold=1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")),
        dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), np.datetime64("2024-01-01"),
        np.datetime64("2024-01-01", "ns"), dt.time(1), dt.time(1, tzinfo=dt.UTC),
        pd.date_range("2024", periods=2), pd.date_range("2024", periods=2, tz="UTC"), pd.NaT, pd.NA,
        pd.date_range("2024", periods=2).as_unit("s"), pd.Period("2024"),
        pd.period_range("2024", periods=2),
    ],
    "arrow": [
        pa.array([1, 2]), pa.array([1, None]), pa.array([1.0, 2.0]), pa.array([1, 2], pa.int32()),
        pa.array(["1", "2"]), pa.chunked_array([[1, 2]]), pa.array([[1], [2]]), pa.array([[1, 2], []]),
        pa.scalar(1), pa.int64(), pa.int32(), pa.table({"a": [1, 2]}), pa.table({"b": [1, 2]}),
        pa.table({"a": [1, 2]}).replace_schema_metadata({"k": "v"}),
        pa.array(["a", "a"]).dictionary_encode(), pa.array([b"1", b"2"]), pa.array([True, False]),
        pa.schema({"a": pa.int64()}), pa.array([{"a": 1}]), pa.array([1, 2]).view(pa.float64()),
        pa.nulls(2), pa.array([decimal.Decimal("1.0")]),
    ],
    "misc": [
        Color.RED, Color.BLUE, 1, uuid.UUID(int=1), uuid.UUID(int=2), pathlib.PurePath("a"),
        pathlib.Path("a"), "a", pathlib.PureWindowsPath("a"), re.compile("a"),
        re.compile("a", re.IGNORECASE), re.compile(b"a"), ..., NotImplemented, slice(1),
        slice(None, 1, 1), slice(0, 1), decimal.Decimal("1.0"), decimal.Decimal("1.00"),
        fractions.Fraction(1, 3), int, float, Color, Point, Plain, ValueError("a"), ValueError("b"),
        KeyError("a"), list[int], list[str], int | None, array.array("i", [1]), array.array("l", [1]),
        types.MappingProxyType({"a": 1}), io, io.StringIO, json.dumps,
    ],
    "random": [
        random.Random(1), random.Random(2), np.random.default_rng(1), np.random.default_rng(2),
        np.random.RandomState(1), np.random.RandomState(2), np.random.Generator(np.random.MT19937(1)),
        np.random.SeedSequence(1),
    ],
    "deques": [
        collections.deque([1, 2]), collections.deque([1, 2], 5), collections.deque([2, 1]), iter([1, 2]),
        [1, 2],
    ],
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_equal_values(one, other):
    assert digest(one) == digest(other)
    assert digest([one]) == digest([other])


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_different_values(values):
    digests = {}
    for value in values:
        assert repr(digests.setdefault(digest(value), value)) == repr(value)
    assert len(digests) == len(values)


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_a_copy_is_equal(values):
    for value in values:
        if isinstance(value, memoryview | types.MappingProxyType | types.ModuleType):
            continue
        if isinstance(value, np.ndarray) and value.dtype == ">i8":
            continue  # numpy's pickles forget the byte order
        assert digest(pickle.loads(pickle.dumps(value))) == digest(value), value


def test_generators_that_moved_on_differ():
    for make in (random.Random, np.random.default_rng, np.random.RandomState):
        one, other = make(5), make(5)
        assert digest(one) == digest(other)
        one.random()
        assert digest(one) != digest(other)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=4)
    ),
)


def shape_of(value):
    """A text that is equal for equal values of equal types, whatever their order."""
    if isinstance(value, dict):
        return f"dict{sorted((shape_of(key), shape_of(item)) for key, item in value.items())}"
    if isinstance(value, frozenset):
        return f"set{sorted(map(shape_of, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[shape_of(item) for item in value]}"
    return f"{type(value).__name__}:{value!r}"


@given(plain, plain)
@settings(deadline=None)
def test_equal_digests_are_equal_values(one, other):
    assert (digest(one) == digest(other)) == (shape_of(one) == shape_of(other))


@given(plain)
@settings(deadline=None)
def test_what_is_fed_tells_where_it_ends(value):
    one, two = bytearray(), bytearray()
    feed(one, value)
    feed(two, value)
    feed(two, 1)
    assert two.startswith(one)
    assert digest([value, 1]) != digest([[value, 1]])
    assert digest(pickle.loads(pickle.dumps(value))) == digest(value)


@given(
    hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)),
    st.data(),
)
@settings(deadline=None)
def test_layout_does_not_matter(items, data):
    axes = tuple(data.draw(st.permutations(range(items.ndim))))
    back = sorted(range(items.ndim), key=axes.__getitem__)
    moved = np.ascontiguousarray(items.transpose(axes)).transpose(back).reshape(items.shape)
    assert digest(moved) == digest(items)
    holes = np.zeros(tuple(2 * side for side in items.shape), items.dtype)[
        tuple(slice(None, None, 2) for _ in items.shape)
    ]
    holes[...] = items
    assert digest(holes) == digest(items)


@pytest.mark.parametrize(
    "shape", [(3, 400_000), (400_000, 3), (700, 900), (90, 80, 100), (2, 3, 100_000), (1_200_000,)]
)
def test_large_layouts(shape):
    items = np.arange(np.prod(shape), dtype="f8").reshape(shape)
    expected = digest(items)
    assert digest(np.asfortranarray(items)) == expected
    assert digest(items[::-1].copy()[::-1]) == expected
    assert digest(np.repeat(items, 2, axis=-1)[..., ::2]) == expected
    items[tuple(side // 2 for side in shape)] += 1
    assert digest(items) != expected


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "value"),
        ([1, {"name": object()}], "value[1]['name']"),
        (Point(1, threading.Lock()), "value.y"),
        (Plain(deep=[Plain(lock=threading.Lock())]), "value.deep[0].lock"),
        ({"generator": (n for n in "ab")}, "value['generator']"),
        (sys.__stderr__, "value"),
        (sys._getframe(), "value"),
        ({1, object()}, "value{...}"),
        (np.array([1, object()], object), "value[1]"),
        (pd.Series([1, object()]), "value[1]"),
        (types.MappingProxyType({"a": object()}), "value['a']"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_meaning_elsewhere_is_refused(value, path):
    with pytest.raises(UndigestibleValue) as caught:
        digest(value)
    assert caught.value.path == path
    assert isinstance(caught.value, TypeError)


def cycles():
    inside = [1]
    inside.append(inside)
    yield inside
    table = {}
    table["self"] = [table]
    yield table
    thing = Plain()
    thing.itself = thing
    yield thing
    point = Point(1)
    point.y = {"point": point}
    yield point
    items = np.array([None], object)
    items[0] = [items, inside]
    yield items


def test_cycles_are_refused():
    for value in cycles():
        with pytest.raises(UndigestibleValue, match=r"contains itself|too deep"):
            digest(value)


def test_deep_nesting_is_refused():
    for wrap in (lambda value: [value], lambda value: {"a": value}, lambda value: Plain(a=value)):
        value = 1
        for _ in range(5000):
            value = wrap(value)
        with pytest.raises(UndigestibleValue, match="too deep"):
            digest(value)
        while value != 1:  # Freeing it in one go would recurse.
            value = (
                value[0] if isinstance(value, list) else value["a"] if isinstance(value, dict) else value.a
            )


def test_shared_values_are_written_once():
    value = ["x" * 50]
    for _ in range(60):
        value = [value, value]
    assert digest(value) == digest(value)


def test_temporary_objects_are_not_taken_for_one_another():
    class Fresh:
        def __init__(self, n):
            self.n = n

        def __getstate__(self):
            return {"items": [f"{self.n} of many" * 20 for _ in range(9)]}

    values = [Fresh(n) for n in range(50)]
    assert len({digest(value) for value in values}) == 50
    assert digest(values) != digest(values[::-1])
    assert digest(values[:2]) != digest([values[0], values[0]])


def test_key_methods():
    class Keyed:
        def __init__(self, key):
            self.key, self.lock = key, threading.Lock()

        def __persicache_key__(self):
            return self.key

    class Child(Keyed):
        pass

    assert digest(Keyed(1)) == digest(Keyed(1))
    assert len({digest(Keyed(1)), digest(Keyed(2)), digest(Child(1)), digest(1)}) == 4
    with pytest.raises(UndigestibleValue, match="lock"):
        digest([Keyed(threading.Lock())])


def test_registered_functions():
    class Handle:
        def __init__(self, name):
            self.name, self.lock = name, threading.Lock()

    class Child(Handle):
        pass

    with pytest.raises(UndigestibleValue):
        digest(Handle("a"))
    register_digest(Handle, lambda handle: handle.name)
    assert digest(Handle("a")) == digest(Handle("a"))
    assert len({digest(Handle("a")), digest(Handle("b")), digest(Child("a"))}) == 3
    register_digest(Child, lambda handle: handle.name.lower())
    assert digest(Child("A")) == digest(Child("a"))
    assert digest(Handle("A")) != digest(Handle("a"))


def test_dataclasses_say_their_state_themselves_if_they_want():
    @dataclasses.dataclass
    class Stateful:
        x: int
        lock: object = None

        def __getstate__(self):
            return {"x": self.x}

    assert digest(Stateful(1, threading.Lock())) == digest(Stateful(1))


def call(salt, names, values):
    return CallDigest(salt, names)(values)


def test_calls():
    names = ("x", "y")
    assert call(b"", names, (1, 2)) == call(b"", names, (1, 2))
    several = [
        *((b"", names, (1, 2)), (b"a", names, (1, 2)), (b"", names, (2, 1)), (b"", ("x", "z"), (1, 2))),
        *((b"", ("x",), (1,)), ((b"", 1), names, (1, 2)), (b"", names, ((1,), 2)), (b"", (), ())),
        # Long ones are digested in another way.
        *((b"", names, ("a" * 5000, 2)), (b"a", names, ("a" * 5000, 2)), (b"", names, ("a" * 5001, 2))),
        *((b"", names, ("a" * 5000, 3)), (b"", names, (2, "a" * 5000))),
    ]
    assert len(set(itertools.starmap(call, several))) == len(several)
    with pytest.raises(UndigestibleValue, match=r"argument 'y'\[0\]"):
        call(b"", names, (1, [object()]))
    with pytest.raises(UndigestibleValue, match="salt"):
        call(object(), names, (1, 2))


@given(st.tuples(plain, plain), st.tuples(plain, plain))
@settings(deadline=None, max_examples=50)
def test_digests_of_each_argument_tell_which_differs(one, other):
    digest_call = CallDigest("f", ("x", "y"))
    first, second = digest_call.of_each(one), digest_call.of_each(other)
    assert list(first) == ["x", "y"]
    assert (first == second) == (digest_call(one) == digest_call(other))
    assert (first["x"] == second["x"]) == (digest(one[0]) == digest(other[0]))


def test_digests_of_each_argument_refuse_what_a_call_refuses():
    digest_call = CallDigest("f", ("x", "y"))
    with pytest.raises(UndigestibleValue, match=r"argument 'y'\[0\]"):
        digest_call.of_each((1, [object()]))
    with pytest.raises(ValueError, match="zip"):
        digest_call.of_each((1,))


SAMPLE = """
import collections, dataclasses, datetime, enum, pathlib, random, re, sys
import numpy as np, pandas as pd, pyarrow as pa
from persicache.keys import digest
class Color(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Point:
    x: object
class Thing:
    def __init__(self, **state): self.__dict__.update(state)
def helper(x): return x in {"a", "b", "c"}
def function(x, y={"p", "q"}): return helper(x)
words = [f"word{n}" for n in range(50)]
values = [
    set(words), frozenset(words), {word: n for n, word in enumerate(words)},
    {frozenset(words): set(words)}, Color.RED, Point(set(words)), Thing(names=set(words),
    points=[Point(1)]), collections.Counter(words), function, lambda x: {1, 2}, Thing, Point, Color,
    pathlib.Path("a"), re.compile("a"), random.Random(1), np.random.default_rng(1),
    datetime.date(2024, 1, 1), np.arange(1000), np.array(words), np.array(words, object),
    pd.DataFrame({"a": words, "b": range(50)}), pd.Series(words),
    pd.date_range("2024", periods=3, tz="Europe/Berlin"), pd.Categorical(words),
    pa.table({"a": words}), pd.Timestamp("2024"), (1, 1.0, "1", b"1", None, True, 1j, ...),
    Thing(f=function, g=Thing(c=Color.RED), s={Color.RED}), {Color.RED: {Point: 1}},
]
for value in values:
    print(digest(value).hex())
"""


def test_processes_agree_whatever_the_hash_seed(tmp_path):
    script = tmp_path / "sample.py"
    script.write_text(SAMPLE)

    def start(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, check=True, env=environment
        )
        return done.stdout.split()

    first = start("1")
    assert len(set(first)) == 30
    assert start("2") == first
    assert start("random") == first


def test_importing_the_room_imports_no_large_package():
    script = """
import sys
sys.modules["persicache"] = type(sys)("persicache")
sys.modules["persicache"].__path__ = [sys.argv[1]]
from persicache.keys import digest
digest([1])
print([name for name in ("pandas", "pyarrow", "fsspec", "heapdict") if name in sys.modules])
"""
    package = pathlib.Path(persicache.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script, package], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_digest_large_buffers():
    # In processes of its own: a fork of the test's process would take over its threads.
    script = """
import os, signal, sys
from persicache.keys import digest
big = bytes(1 << 21)
expected = digest(big)
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if digest(big) == expected else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def make_model(k, base=object):
    class Model(base):
        def predict(self):
            return k

    return Model


@pytest.mark.parametrize(
    "make",
    [
        lambda cls: cls(),
        lambda cls: [cls()],
        lambda cls: dataclasses.dataclass(cls)(),
        lambda cls: cls().predict,
        lambda cls: cls,
    ],
)
def test_objects_count_with_the_code_of_their_class(make):
    assert digest(make(make_model(1))) == digest(make(make_model(1)))
    assert digest(make(make_model(1))) != digest(make(make_model(2)))


def test_a_change_of_an_objects_class_is_noticed():
    cls = make_model(1)
    model = cls()
    before = digest(model)
    cls.predict = lambda self: 2
    assert digest(model) != before
    member = enum.Enum("Kind", "A")
    before = digest(member.A)
    member.describe = lambda self: 1
    assert digest(member.A) != before


def affine(a, b):
    return lambda x: a * x + b


def pipe(functions):
    return lambda x: functools.reduce(lambda y, f: f(y), functions, x)


def compose(f, g):
    return lambda x: f(g(x))


def test_the_order_of_functions_in_arguments_counts():
    one, two = affine(2, 0), affine(1, 3)
    assert digest(pipe([one, two])) != digest(pipe([two, one]))
    assert digest(pipe([one, two])) == digest(pipe([affine(2, 0), affine(1, 3)]))
    assert digest({one, two}) == digest({affine(1, 3), affine(2, 0)})
    same = [affine(1, 1)] * 6
    first = functools.reduce(compose, [*same, one, *same, two, *same])
    second = functools.reduce(compose, [*same, two, *same, one, *same])
    assert digest(first) != digest(second)


def test_changed_state_of_function_and_class_arguments_is_noticed():
    array_, holder = np.zeros(3), Plain(x=1)

    class Cfg:
        rate = 1

    for value, change in (
        (lambda: array_.sum() + 0, lambda: array_.fill(1)),
        (lambda: holder.x, lambda: setattr(holder, "x", 2)),
        (Cfg, lambda: setattr(Cfg, "rate", 2)),
    ):
        before = digest(value)
        assert digest(value) == before
        change()
        assert digest(value) != before


def test_closures_are_not_kept_alive():
    gone = []
    for _ in range(3):
        held = Plain(a=np.ones(10))
        gone.append(weakref.ref(held))
        digest(lambda held=held: held.a)
        del held
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


class TupleState:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def __getstate__(self):
        return (self.a, {"b": self.b})


@dataclasses.dataclass
class NamedList(list):
    name: str

    def __init__(self, items, name):
        list.__init__(self, items)
        self.name = name


@dataclasses.dataclass(eq=False, init=False)
class NamedFloat(float):
    name: str

    def __new__(cls, value, name):
        made = float.__new__(cls, value)
        made.name = name
        return made

    def __getnewargs__(self):
        return (float(self), self.name)


class SlotBase:
    __slots__ = ("x",)


@dataclasses.dataclass
class OnSlots(SlotBase):
    y: int


class SlotSet(set):
    __slots__ = ("tag",)


class UnitFrame(pd.DataFrame):
    _metadata = ["unit"]  # noqa: RUF012 - how pandas wants it

    @property
    def _constructor(self):
        return UnitFrame


class ByLambda:
    def __init__(self, k):
        self.k = k

    def __reduce__(self):
        k = self.k
        return ((lambda: ByLambda(k)), ())


class TaggedPath(type(pathlib.Path())):
    pass


def with_(value, **attributes):
    for name, item in attributes.items():
        setattr(value, name, item)
    return value


def cached(k):
    @functools.lru_cache
    def g(x):
        return x + k

    return g


def swapped(value, dtype):
    items = np.zeros(1, dtype)
    items[:] = value
    return items


DIFFERENT = {
    "state that is a tuple": lambda n: TupleState(n, 5),
    "cached functions": cached,
    "sizes of caches": lambda n: functools.lru_cache(maxsize=n),
    "dataclass of a list": lambda n: NamedList([n], "a"),
    "dataclass of a float": lambda n: NamedFloat(n, "a"),
    "slots of a base": lambda n: with_(OnSlots(1), x=n),
    "slots of a set": lambda n: with_(SlotSet([1]), tag=n),
    "nulls in a dictionary": lambda n: pa.DictionaryArray.from_arrays([n - 1, 2 - n], ["a", None]),
    "metadata of a frame": lambda n: with_(UnitFrame({"a": [1]}), unit=n),
    "maker of a copy": ByLambda,
    "swapped long doubles": lambda n: swapped(np.longdouble(1.1) + n * np.longdouble(1e-16), ">f16"),
    "swapped complex": lambda n: swapped(np.longdouble(1.1) + n * np.longdouble(1e-16), ">c32"),
    "attributes of a path": lambda n: with_(TaggedPath("a"), tag=n),
    "metadata of a dtype": lambda n: np.dtype("i4", metadata={"a": n}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", DIFFERENT.values(), ids=DIFFERENT)
def test_what_was_once_taken_for_the_same_differs(make):
    assert digest(make(1)) == digest(make(1))
    assert digest(make(1)) != digest(make(2))


def test_a_name_that_leads_nowhere_is_no_digest():
    assert digest(np.sin) != digest(np.cos)
    with pytest.raises(UndigestibleValue, match="in no module"):
        digest(np.frompyfunc(lambda x: x + 1, 1, 1))


def test_trouble_in_the_users_code_names_the_argument():
    class Raises:
        def __persicache_key__(self):
            raise ZeroDivisionError("no")

    with pytest.raises(UndigestibleValue, match=r"argument 'y'.*ZeroDivisionError"):
        CallDigest("f", ("x", "y"))((1, Raises()))


def test_what_is_shared_again_and_again_is_written_once():
    def objects(item):
        pair = np.empty(2, object)
        pair[:] = [item, item]
        return pair

    for double in (
        objects,
        lambda item: slice(item, item),
        lambda item: functools.partial(max, item, item),
    ):
        value = 1
        for _ in range(60):
            value = double(value)
        assert len(digest(value)) == 32
