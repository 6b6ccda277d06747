"""pandas objects as Arrow IPC streams, for places where pickle isn't trusted.

Only an exact round trip is accepted: it is tried when the value is stored. And only a stream
that such a round trip could have made is loaded, because anybody could have written it.

References
----------
The Arrow IPC streaming format, https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import Any, Final

from persicache.codecs.arrow_messages import is_compressed
from persicache.errors import MissingDependency

__all__ = ["ArrowFrames", "InexactFrame"]

#: How much larger a frame may be than its stream: rows times columns, 8 bytes each.
MAX_RATIO: Final = 256
#: What an object column may hold: their repr tells them from one another.
PLAIN_TYPES: Final = (str, bytes, int, float, bool, type(None), Decimal, dt.date, dt.time, dt.timedelta)


class InexactFrame(Exception):
    """The object doesn't survive Arrow unchanged."""


class ArrowFrames:
    """Packs Series, DataFrame and Index; see `persicache.codecs.tree.FrameCodec`."""

    def pack(self, value: Any) -> tuple[dict[str, Any], Any] | None:
        """Return a description of `value` and its Arrow stream; None if it is nothing of pandas.

        Raises
        ------
        InexactFrame
            If the stream would give back something else.
        MissingDependency
            If pyarrow is not installed.
        """
        pandas = sys.modules.get("pandas")
        if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
            return None
        arrow = _pyarrow()
        try:
            about, frame = _take_apart(pandas, value)
            table = arrow.Table.from_pandas(frame)
            sink = arrow.BufferOutputStream()
            with arrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            buffer = memoryview(sink.getvalue())
            again = self.unpack(about, buffer)
        except Exception as error:
            # Arrow and pandas raise many kinds for what they can't convert.
            raise InexactFrame(f"Arrow can't hold this {type(value).__name__}: {error}") from error
        difference = _difference(pandas, value, again)
        if difference:
            raise InexactFrame(f"Arrow would change this {type(value).__name__}: {difference}")
        return about, buffer

    def unpack(self, description: dict[str, Any], buffer: Any) -> Any:
        """Return the object that `pack` took apart, writable.

        Raises
        ------
        ValueError
            If the stream is one that `pack` doesn't make.
        MissingDependency
            If pandas or pyarrow is not installed.
        """
        arrow = _pyarrow()
        table = _read(arrow, buffer)
        # Arrow's columns are read-only views of the stream; a result is writable.
        frame = table.to_pandas().copy()
        return _put_together(import_module("pandas"), description, frame)


def _pyarrow() -> Any:
    try:
        import_module("pandas")
        import_module("pyarrow.ipc")
        return import_module("pyarrow")
    except ImportError as error:
        raise MissingDependency(package=error.name or "pyarrow", extra="pandas") from error


def _read(arrow: Any, buffer: Any) -> Any:
    """Read a stream that a stranger may have written: no bombs, no lying offsets."""
    source = arrow.py_buffer(buffer)
    for message in arrow.ipc.MessageReader.open_stream(source):
        if is_compressed(memoryview(message.metadata)):
            raise ValueError("its Arrow stream is compressed")
    with arrow.ipc.open_stream(source) as reader:
        table = reader.read_all()
    for field in table.schema:
        if any(name in str(field.type) for name in ("run_end_encoded", "_view")):
            raise ValueError(f"its Arrow stream has a column of type {field.type}")
    if table.num_rows * max(1, table.num_columns) * 8 > MAX_RATIO * (len(source) + 4096):
        raise ValueError(f"its Arrow stream claims to grow to {table.num_rows} rows")
    table.validate(full=True)
    return table


def _take_apart(pandas: Any, value: Any) -> tuple[dict[str, Any], Any]:
    about: dict[str, Any] = {"type": type(value).__name__}
    if type(value) is pandas.DataFrame:
        index = value.index
        frame = value
    elif type(value) is pandas.Series:
        index = value.index
        about["name"] = value.name
        frame = value.to_frame("value")
    else:
        index = value
        frame = pandas.DataFrame(index=value)
    about["attrs"] = dict(getattr(value, "attrs", {}))
    if about["attrs"]:
        # Arrow keeps them as JSON, which is not exact; the tree is.
        frame = frame.copy(deep=False)
        frame.attrs = {}
    columns: Any = getattr(value, "columns", None)
    about["columns"] = None
    if type(columns) is pandas.RangeIndex:
        # The columns of pd.DataFrame(array): Arrow's are texts, and come back as an int64 index.
        about["columns"] = [columns.start, columns.stop, columns.step, columns.name]
        frame = frame.set_axis([str(i) for i in range(len(columns))], axis=1)
    freq = getattr(index, "freq", None)
    about["freq"] = None if freq is None or index.dtype.kind not in "mM" else freq.freqstr
    # Arrow keeps the name of a time zone, not what kind of object it is.
    about["zones"] = [_zone(frame.iloc[:, i]) for i in range(frame.shape[1])]
    about["zone"] = _zone(index)
    return about, frame


def _zone(values: Any) -> Any:
    return getattr(values.dtype, "tz", None)


def _put_together(pandas: Any, about: dict[str, Any], frame: Any) -> Any:
    for i, zone in enumerate(about["zones"]):
        if zone is not None and repr(_zone(frame.iloc[:, i])) != repr(zone):
            frame.isetitem(i, frame.iloc[:, i].dt.tz_convert(zone))
    if about["zone"] is not None and repr(_zone(frame.index)) != repr(about["zone"]):
        frame.index = frame.index.tz_convert(about["zone"])
    if about["freq"] is not None:
        frame.index.freq = about["freq"]
    if about["type"] == "DataFrame":
        if about["columns"] is not None:
            start, stop, step, name = about["columns"]
            frame.columns = pandas.RangeIndex(start, stop, step, name=name)
        frame.attrs = about["attrs"]
        return frame
    if about["type"] == "Series":
        series = frame["value"]
        series.name = about["name"]
        series.attrs = about["attrs"]
        return series
    index = frame.index
    if type(index).__name__ != about["type"]:
        raise ValueError(f"a {about['type']} came back as {type(index).__name__}")
    return index


def _difference(pandas: Any, value: Any, again: Any) -> str:
    """Say in what two pandas objects differ, "" if in nothing."""
    if type(value) is not type(again):
        return f"it comes back as {type(again).__name__}"
    parts, parts_again = _parts(value), _parts(again)
    if len(parts) != len(parts_again):
        return "it changes its shape"
    for part, other in zip(parts, parts_again, strict=True):
        difference = _part_difference(pandas, part, other)
        if difference:
            return difference
    check: Callable[[], None] = {
        "DataFrame": lambda: pandas.testing.assert_frame_equal(
            value, again, check_exact=True, check_column_type="exact", check_index_type="exact"
        ),
        "Series": lambda: pandas.testing.assert_series_equal(
            value, again, check_exact=True, check_index_type="exact"
        ),
    }.get(type(value).__name__, lambda: pandas.testing.assert_index_equal(value, again, exact=True))
    try:
        check()
    except AssertionError as error:
        return " ".join(str(error).split())
    return ""


def _parts(value: Any) -> list[Any]:
    """Return the columns and the levels of the labels of a pandas object."""
    columns = [value.iloc[:, i] for i in range(value.shape[1])] if hasattr(value, "columns") else []
    axes = [value.columns, value.index] if hasattr(value, "columns") else [getattr(value, "index", value)]
    levels = [level for axis in axes for level in getattr(axis, "levels", [axis])]
    return [*columns, *levels, value] if not hasattr(value, "columns") else [*columns, *levels]


def _part_difference(pandas: Any, part: Any, other: Any) -> str:
    if repr(part.dtype) != repr(other.dtype) or repr(_zone(part)) != repr(_zone(other)):
        return f"a part of type {part.dtype} comes back as {other.dtype}"
    if repr(getattr(part, "freq", None)) != repr(getattr(other, "freq", None)):
        return "the frequency of its labels gets lost"
    if isinstance(part, pandas.Index) and len(part) != len(other):
        return "unused labels get lost"
    if [type(name) for name in _names(part)] != [type(name) for name in _names(other)]:
        return "a name changes its type"
    if isinstance(part.dtype, pandas.CategoricalDtype):
        return _part_difference(pandas, part.dtype.categories, other.dtype.categories)
    if part.dtype == object and not _same_objects(list(part), list(other)):
        return "some elements of an object column change, or are of a type that can't be compared"
    return ""


def _names(part: Any) -> list[Any]:
    return list(getattr(part, "names", [part.name]))


def _same_objects(one: list[Any], other: list[Any]) -> bool:
    # assert_frame_equal takes 1 for True, and None for nan.
    return len(one) == len(other) and all(
        type(a) is type(b) and isinstance(a, PLAIN_TYPES) and (a is b or repr(a) == repr(b))
        for a, b in zip(one, other, strict=True)
    )
