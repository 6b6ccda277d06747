"""Writers of xarray's objects: by their variables, coordinates, indexes and attributes.

Imported when the first of them turns up. What doesn't count is what they remember beside that:
accessors, and the file that they were loaded from.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from persicache.keys.arrays import write_items
from persicache.keys.codes import write_class
from persicache.keys.writers import class_name, write, write_text, writes_family

if TYPE_CHECKING:
    from persicache.keys.writers import Seen

__all__: list[str] = []


def _write_variable(out: bytearray, value: Any, seen: Seen) -> None:
    _write_head(out, value, seen)
    write(out, tuple(value.dims), seen)
    if value._in_memory:  # noqa: SLF001 - xarray has no public name for it
        out += b"="
        data = value.data
        if hasattr(data, "__array_interface__"):
            write_items(out, data, seen)
        else:  # of a type that pandas adds
            write(out, data, seen)
    else:
        # Of dask, of another package; or in a file, and refused.
        out += b"~"
        write(out, value._data, seen)  # noqa: SLF001 - `data` would read the file


def _write_array(out: bytearray, value: Any, seen: Seen) -> None:
    _write_head(out, value, seen)
    write(out, value.name, seen)
    write(out, value.variable, seen)
    write(out, {name: each.variable for name, each in value.coords.items()}, seen)
    write(out, dict(value.xindexes), seen)


def _write_dataset(out: bytearray, value: Any, seen: Seen) -> None:
    _write_head(out, value, seen)
    # In any order, as a dict: a store lists them in one of its own.
    write(out, dict(value.variables), seen)
    write(out, set(value.coords), seen)
    write(out, dict(value.xindexes), seen)


def _write_tree(out: bytearray, value: Any, seen: Seen) -> None:
    _write_head(out, value, seen)
    write(out, value.name, seen)
    write(out, value.to_dataset(), seen)
    write(out, dict(value.children), seen)


def _write_head(out: bytearray, value: Any, seen: Seen) -> None:
    write_text(out, b"o", class_name(type(value)))
    write_class(out, type(value), seen)
    write(out, (dict(value.attrs), dict(value.encoding), getattr(value, "__dict__", {})), seen)


if importlib.util.find_spec("xarray") is not None:
    import xarray

    writes_family(xarray.Variable)(_write_variable)
    writes_family(xarray.DataArray)(_write_array)
    writes_family(xarray.Dataset)(_write_dataset)
    if hasattr(xarray, "DataTree"):  # 2024.10
        writes_family(xarray.DataTree)(_write_tree)
