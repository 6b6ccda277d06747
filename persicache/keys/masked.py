"""Writers of numpy's masked arrays: what is masked doesn't count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from persicache.keys.arrays import write_items
from persicache.keys.writers import class_name, write, write_text, writes_family

if TYPE_CHECKING:
    from persicache.keys.writers import Seen

__all__: list[str] = []


@writes_family(np.ma.MaskedArray)
def _write_masked(out: bytearray, value: np.ma.MaskedArray[Any, Any], seen: Seen) -> None:
    write_text(out, b"M", class_name(type(value)))
    if value is np.ma.masked:
        return
    write(out, value.dtype, seen)
    write(out, value.fill_value, seen)
    out += b"h" if value.hardmask else b"s"
    _write_unmasked(out, value, seen)


def _write_unmasked(out: bytearray, value: np.ma.MaskedArray[Any, Any], seen: Seen) -> None:
    if value.dtype.names is None:
        write_items(out, np.ma.getmaskarray(value), seen)
        write_items(out, np.asarray(value.compressed()), seen)
    else:
        for name in value.dtype.names:
            _write_unmasked(out, value[name], seen)
