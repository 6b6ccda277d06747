"""Writers of pandas and pyarrow objects: column by column, whatever the blocks and chunks.

Imported when the first such object turns up: nothing else here imports these packages, and
either may be missing.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from persicache.keys.arrays import write_items
from persicache.keys.codes import write_class
from persicache.keys.containers import write_each
from persicache.keys.writers import class_name, hasher_for, write, write_text, writes_family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from persicache.keys.writers import Seen

__all__: list[str] = []

_BLOCK_ITEMS: Final = 1 << 17


def _write_series(out: bytearray, value: Any, seen: Seen) -> None:
    _write_head(out, value, seen)
    write(out, value.name, seen)
    _write_index(out, value.index, seen)
    _write_column(out, value.array, seen)


def _write_frame(out: bytearray, value: Any, seen: Seen) -> None:
    _write_head(out, value, seen)
    _write_index(out, value.index, seen)
    _write_index(out, value.columns, seen)
    for position in range(value.shape[1]):
        _write_column(out, value.iloc[:, position].array, seen)


def _write_head(out: bytearray, value: Any, seen: Seen) -> None:
    write_text(out, b"o", class_name(type(value)))
    write_class(out, type(value), seen)
    # What a subclass hands on with its rows.
    extra = {name: getattr(value, name, None) for name in value._metadata}  # noqa: SLF001 - pandas documents it
    write(out, (value.attrs, value.flags.allows_duplicate_labels, extra), seen)


def _write_index(out: bytearray, value: Any, seen: Seen) -> None:
    write(out, tuple(value.names), seen)
    if hasattr(value, "levels"):
        # Not the levels themselves: they may hold what no row uses.
        out += b"L%x;" % value.nlevels
        for level in range(value.nlevels):
            _write_index(out, value.get_level_values(level), seen)
        return
    progression = _progression(value)
    if progression is not None:
        # A RangeIndex is equal to the index of the same numbers.
        out += b"R%x;%x;%x;" % progression
        return
    write(out, getattr(value, "freqstr", None), seen)
    _write_column(out, value.array, seen)


def _progression(index: Any) -> tuple[int, int, int] | None:
    if index.dtype != "int64":
        return None
    count = len(index)
    if count == 0:
        return (0, 0, 0)
    first = int(index[0])
    if count == 1:
        return (1, first, 0)
    step = int(index[1]) - first
    if step == 0 or int(index[-1]) != first + step * (count - 1):
        return None
    if not hasattr(index, "step"):
        numbers = index.to_numpy()
        for start in range(0, count, _BLOCK_ITEMS):
            # One more than the block, so that blocks meet.
            if not (np.diff(numbers[start : start + _BLOCK_ITEMS + 1]) == step).all():
                return None
    return (count, first, step)


def _write_column(out: bytearray, column: Any, seen: Seen) -> None:
    """Append an extension array: a Series' or an Index's values."""
    kind = type(column).__name__
    if kind == "NumpyExtensionArray":
        out += b"A"
        write_items(out, column.to_numpy(), seen)
        return
    writer = _COLUMNS.get(kind)
    if writer is not None:
        write_text(out, b"e", f"{kind} {column.dtype}")
        writer(out, column, seen)
    elif hasattr(column, "__arrow_array__"):
        _write_arrow_column(out, column, seen)
    else:
        write(out, column, seen)


def _write_stamps(out: bytearray, column: Any, seen: Seen) -> None:
    write_items(out, column.asi8, seen)


def _write_masked(out: bytearray, column: Any, seen: Seen) -> None:
    # Public ways to the mask take the NaN of Float64 for missing, which they need not be.
    mask, data = column._mask, column._data  # noqa: SLF001 - as above
    has_missing = bool(mask.any())
    write_items(out, mask if has_missing else mask[:0], seen)
    write_items(out, np.where(mask, np.zeros(1, data.dtype), data) if has_missing else data, seen)


def _write_categorical(out: bytearray, column: Any, seen: Seen) -> None:
    write(out, bool(column.ordered), seen)
    _write_index(out, column.categories, seen)
    write_items(out, np.asarray(column.codes), seen)


def _write_intervals(out: bytearray, column: Any, seen: Seen) -> None:
    write(out, column.closed, seen)
    _write_index(out, column.left, seen)
    _write_index(out, column.right, seen)


def _write_dense(out: bytearray, column: Any, seen: Seen) -> None:
    write_items(out, np.asarray(column), seen)


def _write_object_strings(out: bytearray, column: Any, seen: Seen) -> None:
    write_items(out, column.to_numpy(dtype=object), seen)


_COLUMNS: Final[dict[str, Callable[[bytearray, Any, Seen], None]]] = {
    "DatetimeArray": _write_stamps,
    "TimedeltaArray": _write_stamps,
    "PeriodArray": _write_stamps,
    "IntegerArray": _write_masked,
    "FloatingArray": _write_masked,
    "BooleanArray": _write_masked,
    "Categorical": _write_categorical,
    "IntervalArray": _write_intervals,
    "SparseArray": _write_dense,
    "StringArray": _write_object_strings,
}


def _write_arrow_column(out: bytearray, column: Any, seen: Seen) -> None:
    import pyarrow as pa  # noqa: PLC0415 - an optional package

    values = column.__arrow_array__()
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    write(out, column.dtype, seen)
    write_text(out, b"e", type(column).__name__)
    _write_chunks(out, values.type, chunks, seen)


def _write_dtype(out: bytearray, value: Any, seen: Seen) -> None:
    write_text(out, b"o", class_name(type(value)))
    write_text(out, b"=", str(value))
    if hasattr(value, "categories") and value.categories is not None:
        _write_index(out, value.categories, seen)
        write(out, value.ordered, seen)
    if hasattr(value, "storage"):
        write(out, (value.storage, repr(value.na_value)), seen)
    if not type(value).__module__.startswith("pandas."):
        # By what it says makes it equal to another.
        write(out, [getattr(value, name) for name in value._metadata], seen)  # noqa: SLF001 - pandas documents it


def _write_extension_array(out: bytearray, value: Any, seen: Seen) -> None:
    kind = type(value).__name__
    is_known = type(value).__module__.startswith("pandas.") and (
        kind in _COLUMNS or kind == "NumpyExtensionArray" or hasattr(value, "__arrow_array__")
    )
    if is_known:
        out += b"X"
        _write_column(out, value, seen)
    else:
        write_text(out, b"o", class_name(type(value)))
        write(out, value.dtype, seen)
        write_items(out, np.asarray(value, dtype=object), seen)


def _write_table(out: bytearray, value: Any, seen: Seen) -> None:
    write_text(out, b"o", class_name(type(value)))
    write(out, value.num_rows, seen)
    write(out, value.schema, seen)
    for name, column in zip(value.schema, value.columns, strict=True):
        _write_chunks(out, name.type, getattr(column, "chunks", [column]), seen)


def _write_schema(out: bytearray, value: Any, seen: Seen) -> None:
    out += b"H"
    write(out, value.metadata, seen)
    write(
        out, [(field.name, _type_text(field.type), field.nullable, field.metadata) for field in value], seen
    )


def _write_chunked(out: bytearray, value: Any, seen: Seen) -> None:
    out += b"C"
    _write_chunks(out, value.type, value.chunks, seen)


def _write_arrow(out: bytearray, value: Any, seen: Seen) -> None:
    out += b"W"
    _write_chunks(out, value.type, [value], seen)


def _write_named(out: bytearray, value: Any, seen: Seen) -> None:
    write_text(out, b"o", class_name(type(value)))
    write(out, (str(value), _type_text(getattr(value, "type", value))), seen)


def _type_text(kind: Any) -> str:
    """Describe an Arrow type, with the parameters of extensions, which their names don't show."""
    import pyarrow as pa  # noqa: PLC0415 - an optional package

    text = str(kind)
    if isinstance(kind, pa.ExtensionType):
        text += repr(kind.__arrow_ext_serialize__())
    return text + "".join(_type_text(kind.field(index).type) for index in range(kind.num_fields))


def _write_arrow_scalar(out: bytearray, value: Any, seen: Seen) -> None:
    write_text(out, b"o", class_name(type(value)))
    write(out, (_type_text(value.type), value.as_py()), seen)


def _write_chunks(out: bytearray, kind: Any, chunks: Iterable[Any], seen: Seen) -> None:
    """Append an Arrow column: which slots are valid, and what the valid ones hold.

    Buffers differ between equal columns: in offsets, padding, chunks and what lies under nulls.
    """
    import pyarrow as pa  # noqa: PLC0415 - an optional package

    write_text(out, b"=", _type_text(kind))
    chunks = list(chunks)
    if pa.types.is_dictionary(kind):
        # First of all: the nulls may be among the values.
        chunks = [chunk.dictionary_decode() for chunk in chunks]
    elif pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        plain = pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()
        chunks = [chunk.cast(plain) for chunk in chunks]
    count, missing = sum(map(len, chunks)), sum(chunk.null_count for chunk in chunks)
    out += b"%x;%x;" % (count, missing)
    nbytes = sum(chunk.nbytes for chunk in chunks)
    valid, lengths, data = hasher_for(count), hasher_for(0), hasher_for(nbytes)
    for chunk in chunks:
        filled = None
        if missing:
            filled = chunk.is_valid().to_numpy(zero_copy_only=False)
            valid.update(filled.view(np.uint8).data)
        if _has_text(chunk.type):
            _hash_text(chunk, filled if chunk.null_count else None, lengths.update, data.update)
        else:
            _hash_slots(chunk.drop_null() if chunk.null_count else chunk, data.update, seen)
    for hasher in (valid, lengths, data):
        out += hasher.digest()


def _hash_slots(chunk: Any, data: Callable[[Any], object], seen: Seen) -> None:
    import pyarrow as pa  # noqa: PLC0415 - an optional package

    kind = chunk.type
    if pa.types.is_boolean(kind):
        data(chunk.to_numpy(zero_copy_only=False).view(np.uint8).data)
    elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        _hash_slice(chunk.buffers()[1], chunk.offset, len(chunk), kind.bit_width // 8, data)
    else:
        # Nested types, item by item.
        body = bytearray()
        write_each(body, chunk.to_pylist(), seen)
        data(body)


def _hash_slice(buffer: Any, start: int, count: int, width: int, data: Callable[[Any], object]) -> None:
    if count:
        data(memoryview(buffer)[start * width : (start + count) * width])


def _has_text(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - an optional package

    is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    return bool(is_large or pa.types.is_string(kind) or pa.types.is_binary(kind))


def _hash_text(
    chunk: Any, filled: Any, lengths: Callable[[Any], object], data: Callable[[Any], object]
) -> None:
    count = len(chunk)
    if not count:
        return
    offsets = _offsets(chunk)
    sizes = np.diff(offsets).astype(np.int64)
    if filled is not None:
        hidden = sizes * ~filled
        if hidden.any():
            # Under a null there is nearly always nothing, and a copy without nulls takes longest.
            sizes -= hidden
            chunk = chunk.drop_null()
            offsets = _offsets(chunk)
    lengths(sizes.view(np.uint8).data)
    buffer = chunk.buffers()[2]
    if buffer is not None:
        data(memoryview(buffer)[int(offsets[0]) : int(offsets[-1])])


def _offsets(chunk: Any) -> np.ndarray[Any, Any]:
    import pyarrow as pa  # noqa: PLC0415 - an optional package

    is_small = pa.types.is_string(chunk.type) or pa.types.is_binary(chunk.type)
    offsets: np.ndarray[Any, Any] = np.frombuffer(chunk.buffers()[1], np.int32 if is_small else np.int64)
    return offsets[chunk.offset : chunk.offset + len(chunk) + 1]


def _register_pandas() -> None:
    import pandas as pd  # noqa: PLC0415 - an optional package

    writes_family(pd.Series)(_write_series)
    writes_family(pd.DataFrame)(_write_frame)
    writes_family(pd.Index)(_write_tagged_index)
    writes_family(pd.api.extensions.ExtensionArray)(_write_extension_array)
    writes_family(pd.api.extensions.ExtensionDtype)(_write_dtype)


def _write_tagged_index(out: bytearray, value: Any, seen: Seen) -> None:
    # Without the class: a RangeIndex is an index of numbers.
    out += b"I"
    _write_index(out, value, seen)


def _register_pyarrow() -> None:
    import pyarrow as pa  # noqa: PLC0415 - an optional package

    writes_family(pa.Table, pa.RecordBatch)(_write_table)
    writes_family(pa.Schema)(_write_schema)
    writes_family(pa.ChunkedArray)(_write_chunked)
    writes_family(pa.Array)(_write_arrow)
    writes_family(pa.Scalar)(_write_arrow_scalar)
    writes_family(pa.DataType, pa.Field)(_write_named)


if importlib.util.find_spec("pandas") is not None:
    _register_pandas()
if importlib.util.find_spec("pyarrow") is not None:
    _register_pyarrow()
