"""Writers of scipy's sparse arrays: by format, shape, and the sorted places of the items.

Imported when the first of them turns up. Formats differ, as what a function can do
with them does; the order in which items are stored doesn't count, nor do the indices' dtype
and what scipy remembers of both.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from persicache.keys.arrays import write_items
from persicache.keys.codes import write_class
from persicache.keys.writers import class_name, write_text, writes_family

if TYPE_CHECKING:
    from persicache.keys.writers import Seen

__all__: list[str] = []

_COMPRESSED = frozenset({"csr", "csc", "bsr"})


def _write_sparse(out: bytearray, value: Any, seen: Seen) -> None:
    write_text(out, b"o", class_name(type(value)))
    write_class(out, type(value), seen)
    write_text(out, b"=", f"{value.format} {value.shape} {getattr(value, 'blocksize', '')}")
    if value.format in _COMPRESSED:
        items = _canonical(value)
        places, data = (items.indptr, items.indices), items.data
    else:
        items = _canonical(value.tocoo())
        places = items.coords if hasattr(items, "coords") else (items.row, items.col)
        # What was a dictionary is canonical in its order.
        order = np.lexsort(places)
        places, data = tuple(place[order] for place in places), items.data[order]
    for place in places:
        write_items(out, place.astype(np.int64, copy=False), seen)
    write_items(out, data, seen)


def _canonical(value: Any) -> Any:
    if not value.has_canonical_format:
        value = value.copy()
        value.sum_duplicates()
    return value


def _register(sparse: Any) -> None:
    writes_family(sparse.spmatrix, sparse.sparray)(_write_sparse)


if importlib.util.find_spec("scipy") is not None:
    _register(importlib.import_module("scipy.sparse"))
