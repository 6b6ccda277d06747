"""pandas objects as Arrow IPC streams, for places where pickle isn't trusted.

Only an exact round trip is accepted: it is tried when the value is stored.

References
----------
The Arrow IPC streaming format, https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from persicache.errors import MissingDependency

__all__ = ["ArrowFrames", "InexactFrame"]


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
        MissingDependency
            If pandas or pyarrow is not installed.
        """
        arrow = _pyarrow()
        with arrow.ipc.open_stream(arrow.py_buffer(buffer)) as reader:
            # Arrow's columns are read-only views of the stream; a result is writable.
            frame = reader.read_all().to_pandas().copy()
        return _put_together(import_module("pandas"), description, frame)


def _pyarrow() -> Any:
    try:
        import_module("pandas")
        import_module("pyarrow.ipc")
        return import_module("pyarrow")
    except ImportError as error:
        raise MissingDependency(package=error.name or "pyarrow", extra="pandas") from error


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
    return about, frame


def _put_together(pandas: Any, about: dict[str, Any], frame: Any) -> Any:
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
    if any(
        not _same_objects(one, other) for one, other in zip(_objects(value), _objects(again), strict=True)
    ):
        return "some elements of an object column change their type"
    return ""


def _objects(value: Any) -> list[Any]:
    """Return the object columns and labels of a pandas object."""
    arrays = []
    if hasattr(value, "columns"):
        arrays = [value.iloc[:, i] for i in range(value.shape[1])]
        arrays += [value.columns]
    elif hasattr(value, "index"):
        arrays = [value]
    index = getattr(value, "index", value)
    arrays += [index.get_level_values(i) for i in range(index.nlevels)]
    return [list(array) for array in arrays if array.dtype == object] + [
        list(index.names),
        [getattr(value, "name", None)],
    ]


def _same_objects(one: list[Any], other: list[Any]) -> bool:
    # assert_frame_equal takes 1 for True, and None for nan.
    return len(one) == len(other) and all(
        type(a) is type(b) and (a is b or repr(a) == repr(b)) for a, b in zip(one, other, strict=True)
    )
