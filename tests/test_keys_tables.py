"""Tables, sparse matrices and their parts: the layout doesn't count, all else does."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from persicache.keys import digest


def table():
    return pd.DataFrame(
        {
            "number": [1, 2, 3],
            "text": ["x", "y", None],
            "kind": pd.Categorical(["u", "v", "u"]),
            "moment": pd.date_range("2024", periods=3, tz="UTC"),
            "real": [1.5, None, 2.0],
            "thing": pd.Series([(1,), None, "a"], dtype=object),
        }
    )


SAME_TABLE = {
    "copied": lambda frame: frame.copy(),
    "pickled": lambda frame: pickle.loads(pickle.dumps(frame)),
    "a column put in and out": lambda frame: frame.assign(z=1).drop(columns="z"),
    "put together": lambda frame: pd.concat([frame[[name]] for name in frame], axis=1),
    "columns inserted": lambda frame: frame.iloc[:, [0, 5]].join(frame.iloc[:, 1:5])[list(frame)],
    "duplicates dropped": lambda frame: pd.concat([frame, frame]).drop_duplicates(["number"]),
    "rows of a longer one": lambda frame: pd.concat([frame.iloc[::-1], frame])[3:],
    "taken": lambda frame: frame.take([0, 1, 2]),
    "filtered": lambda frame: frame[frame["number"] > 0],
    "sorted and back": lambda frame: frame.sort_values("number", ascending=False).sort_values("number"),
    "through a multi-index": lambda frame: (
        frame.set_index(["number", "kind"]).reset_index().reindex(columns=frame.columns)
    ),
    "used": lambda frame: (frame.describe(), frame.groupby("kind", observed=True).first(), frame)[-1],
}


@pytest.mark.parametrize("make", SAME_TABLE.values(), ids=SAME_TABLE)
def test_how_a_frame_came_about_does_not_count(make):
    other = make(table())
    pd.testing.assert_frame_equal(other, table())
    assert digest(other) == digest(table())


ARROW = {
    "lists": pa.array([["x", "yy"], None, [], ["z"]]),
    "structs": pa.array([{"a": 1}, None, {"a": None}]),
    "maps": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "lists of one length": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
    "views": pa.array(["a", None, "b" * 50], pa.string_view()),
    "views of bytes": pa.array([b"a", None, b"b" * 50], pa.binary_view()),
    "large strings": pa.array(["a", None, ""], pa.large_string()),
    "dictionary": pa.array(["a", None, "b", "a"]).dictionary_encode(),
    "booleans": pa.array([True, None, False]),
    "moments": pa.array([1, None, 3], pa.timestamp("us", "UTC")),
    "decimals": pa.array([1, None], pa.decimal128(4, 1)),
    "halves": pa.array([np.float16(1), None, np.float16(2)]),
    "extension": pa.array(pd.period_range("2024", periods=3, freq="D")),
}


@pytest.mark.parametrize("items", ARROW.values(), ids=ARROW)
@pytest.mark.parametrize(
    "wrap", [pa.chunked_array, lambda chunks: pa.table({"a": pa.chunked_array(chunks)})]
)
def test_slices_and_chunks_of_arrow_do_not_count(items, wrap):
    twice = pa.concat_arrays([items, items])
    for start in range(1, len(items)):
        piece = twice[start : start + len(items)]
        plain = pa.concat_arrays([items[start:], items[:start]])
        assert digest(piece) == digest(plain)
        assert digest(wrap([piece])) == digest(wrap([items[start:], items[:0], items[:start]]))
    assert digest(wrap([items])) != digest(wrap([twice]))


@pytest.mark.parametrize(("kind", "width"), [(pa.string(), "i4"), (pa.large_binary(), "i8")])
def test_what_lies_under_a_null_text_does_not_count(kind, width):
    def text(under, filled=b"\x0d"):
        data = [b"ab", under, b"", b"cde"]
        offsets = np.cumsum([0, *map(len, data)]).astype(width)
        buffers = [filled, offsets.tobytes(), b"".join(data)]
        return pa.Array.from_buffers(kind, 4, [pa.py_buffer(buffer) for buffer in buffers])

    plain = pa.array([b"ab", None, b"", b"cde"], kind)
    assert text(b"hidden").equals(plain)
    assert digest(text(b"hidden")) == digest(text(b"")) == digest(plain)
    assert digest(text(b"hidden")[1:]) == digest(plain[1:]) != digest(plain)
    assert digest(text(b"hidden", b"\0")) == digest(pa.nulls(4, kind))
    assert digest(pa.array([None, b"ab", b"", b"cde"], kind)) != digest(plain)
    assert digest(pa.array([b"ab", b"", None, b"cde"], kind)) != digest(plain)
    assert digest(pa.array([None, None], kind)) != digest(pa.array([None, b""], kind))


@pytest.mark.parametrize("name", ["lists", "structs", "large strings", "moments", "dictionary"])
def test_arrow_columns_of_frames_neither(name):
    def column(items):
        return pd.Series(items, dtype=pd.ArrowDtype(items.type))

    items = ARROW[name]
    whole = pd.concat([column(items[:1]), column(items)], ignore_index=True)
    assert digest(whole[1:].reset_index(drop=True)) == digest(column(items))
    assert digest(column(items)) != digest(column(items[::-1]))


class Unit(pa.ExtensionType):
    def __init__(self, name):
        self._name = name
        super().__init__(pa.int64(), "persicache.unit")

    def __arrow_ext_serialize__(self):
        return self._name.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, data):
        return cls(data.decode())


def of_unit(name):
    return pa.ExtensionArray.from_storage(Unit(name), pa.array([1, 2]))


class Priced(pd.api.extensions.ExtensionDtype):
    name = "priced"
    type = object
    _metadata = ("currency",)

    def __init__(self, currency):
        self.currency = currency


DIFFERENT = {
    "arrow types": [
        pa.array([1], kind)
        for kind in (
            *(pa.int64(), pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("s", "UTC")),
            *(pa.duration("s"), pa.date64(), pa.decimal128(3, 0), pa.decimal128(4, 0)),
        )
    ],
    "units": [of_unit("m"), of_unit("km"), pa.array([1, 2])],
    "tables of units": [pa.table({"a": of_unit("m")}), pa.table({"a": of_unit("km")})],
    "unit types": [Unit("m"), Unit("km"), pa.list_(Unit("m")), pa.list_(Unit("km"))],
    "unit fields": [pa.field("a", Unit("m")), pa.field("a", Unit("km")), pa.field("b", Unit("m"))],
    "unit scalars": [of_unit("m")[0], of_unit("km")[0]],
    "periods in arrow": [pa.array(pd.PeriodIndex.from_ordinals([1, 2], freq=freq)) for freq in "DM"],
    "dtypes of others": [Priced("EUR"), Priced("USD")],
    "order of maps": [
        pa.array([items], pa.map_(pa.string(), pa.int64()))
        for items in ([("a", 1), ("b", 2)], [("b", 2), ("a", 1)])
    ],
    "zones": [pd.Series(pd.date_range("2024", periods=2, tz=zone)) for zone in (None, "UTC", "Asia/Tokyo")],
    "intervals": [
        pd.interval_range(0, 2), pd.interval_range(0, 2, closed="left"), pd.Interval(0, 1),
        pd.Interval(0, 1, closed="both"), pd.IntervalIndex.from_tuples([(0, 1)]),
    ],
    "missing": [pd.Series([item, 1.5], dtype=object) for item in (None, float("nan"), pd.NA, pd.NaT)],
    "index names": [
        pd.Index([1]), pd.Index([1], name="a"), pd.Index([1], name=("a",)),
        pd.MultiIndex.from_tuples([(1, 2)]), pd.MultiIndex.from_tuples([(1, 2)], names=["a", None]),
    ],
    "column names": [pd.DataFrame({name: [1]}) for name in (1, "1", 1.0, ("1",), True)],
    "sparse columns": [
        pd.Series([0, 1]), pd.Series([0, 1], dtype="Sparse[int]"),
        pd.Series([0, 1], dtype=pd.SparseDtype(int, 1)),
    ],
    "text": [
        pd.Series(["a"], dtype=kind) for kind in ("str", object, "string[python]", "string[pyarrow]")
    ],
    "nothing": [
        pd.DataFrame(), pd.DataFrame(index=[0]), pd.DataFrame(columns=["a"]),
        pd.DataFrame({"a": pd.Series(dtype="f8")}), pd.DataFrame({"a": pd.Series(dtype="i8")}),
    ],
    "scalars": [
        pd.Timestamp(0), pd.Timedelta(0), pd.NaT, pd.NA, pd.Period("2024-01", "M"),
        pd.Period("2024-01-01", "D"), pd.Timestamp(0, tz="UTC"), None, float("nan"), pd.offsets.Day(1),
        pd.offsets.Day(2), pd.offsets.MonthEnd(), pd.offsets.BDay(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_all_else_counts(values):
    assert len({digest(value) for value in values}) == len(values)


def matrix():
    items = np.zeros((6, 8), "f8")
    items[[0, 0, 2, 5], [1, 7, 3, 0]] = [1, 2, 3, 4]
    return items


FORMATS = ["csr", "csc", "coo", "bsr", "dia", "dok", "lil"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_what_a_sparse_matrix_remembers_does_not_count(form, kind):
    sparse = pytest.importorskip("scipy.sparse")
    make = getattr(sparse, f"{form}_{kind}")
    value, used = make(matrix()), make(matrix())
    if form in {"csr", "csc", "bsr"}:
        assert used.has_sorted_indices
        assert used.has_canonical_format
    used.sum()
    assert digest(value) == digest(used) == digest(pickle.loads(pickle.dumps(used)))
    changed = matrix()
    changed[0, 1] = 9
    moved = np.roll(matrix(), 1, axis=1)
    others = [make(changed), make(moved), make(matrix().T), make(matrix().astype("f4")), matrix()]
    assert len({digest(other) for other in [value, *others]}) == 6


def test_the_order_of_sparse_items_does_not_count_but_formats_do():
    sparse = pytest.importorskip("scipy.sparse")
    rows, columns, data = np.array([0, 0, 2, 5]), np.array([1, 7, 3, 0]), np.array([1.0, 2, 3, 4])

    def shuffled(order):
        return sparse.coo_array((data[order], (rows[order], columns[order])), shape=(6, 8))

    assert digest(shuffled([0, 1, 2, 3])) == digest(shuffled([3, 1, 0, 2]))
    unsorted = sparse.csr_array(
        (data[[1, 0, 2, 3]], columns[[1, 0, 2, 3]], [0, 2, 2, 3, 3, 3, 4]), shape=(6, 8)
    )
    wide = sparse.csr_array(matrix())
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    assert digest(unsorted) == digest(sparse.csr_array(matrix())) == digest(wide)
    assert not unsorted.has_sorted_indices
    several = [
        getattr(sparse, f"{form}_{kind}")(matrix()) for form in FORMATS for kind in ("matrix", "array")
    ]
    several += [sparse.bsr_array(matrix(), blocksize=(2, 2))]
    assert len({digest(value) for value in several}) == len(several)
