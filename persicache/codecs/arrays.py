"""numpy arrays and scalars as a description and raw bytes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

__all__ = [
    "SMALL_NBYTES",
    "NotPlain",
    "describe",
    "describe_masked",
    "describe_objects",
    "describe_scalar",
    "raw_bytes",
    "restore",
    "restore_masked",
    "restore_objects",
    "restore_scalar",
]

#: Arrays below this size lie in the tree: a buffer of its own costs 64 bytes and its padding.
SMALL_NBYTES: Final = 512
#: How numpy lays out text on the machines that entries are made for.
UTF_32: Final = "utf-32-le"


class NotPlain(Exception):
    """The array can't be told by a description and its bytes."""


def describe(array: np.ndarray[Any, Any]) -> tuple[Any, tuple[int, ...], bool, memoryview]:
    """Return dtype description, shape, whether it is Fortran-ordered, and the raw bytes.

    The bytes are a view unless the array is neither C- nor F-contiguous.
    """
    descr = _describe_dtype(array.dtype)
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return descr, array.shape, is_fortran, raw_bytes(array.T if is_fortran else array)


def raw_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """Return the bytes of `array` in C order, without a copy if it is C-contiguous."""
    if array.nbytes == 0:
        return memoryview(b"")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def restore(descr: Any, shape: list[int], buffer: Any, *, is_fortran: bool) -> np.ndarray[Any, Any]:
    """Return the array over `buffer`, not a copy of it.

    Raises
    ------
    ValueError
        If description and buffer don't fit.
    """
    dtype = _restore_dtype(descr)
    if math.prod(shape) * dtype.itemsize != len(buffer):
        raise ValueError("an array doesn't fit its buffer")
    return np.ndarray(shape, dtype, buffer=buffer, order="F" if is_fortran else "C")


def _describe_dtype(dtype: np.dtype[Any]) -> Any:
    if dtype.isbuiltin == 1 and dtype.kind in "biufc":
        return dtype.str
    if dtype.hasobject or dtype.metadata is not None:
        raise NotPlain(f"numpy dtype {dtype!r} has parts outside the array")
    descr = npy.dtype_to_descr(dtype) if dtype.fields else dtype.str
    again = _restore_dtype(descr)
    # Registered dtypes (bfloat16) call themselves void; titles and alignment get lost.
    if again != dtype or again.type is not dtype.type or again.isalignedstruct != dtype.isalignedstruct:
        raise NotPlain(f"numpy dtype {dtype!r} has no exact description")
    return descr


@lru_cache(maxsize=256)
def _named_dtype(name: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(name)
    if dtype.hasobject:
        raise ValueError(f"dtype {dtype!r} holds references, not bytes")
    return dtype


def _restore_dtype(descr: Any) -> np.dtype[Any]:
    if isinstance(descr, str):
        return _named_dtype(descr)
    dtype: np.dtype[Any] = npy.descr_to_dtype(descr)
    if dtype.hasobject:
        raise ValueError(f"dtype {dtype!r} holds references, not bytes")
    return dtype


def describe_scalar(scalar: np.generic) -> tuple[Any, bytes]:
    """Return dtype description and bytes of a numpy scalar."""
    if type(scalar) is not scalar.dtype.type:
        raise NotPlain(f"{type(scalar).__qualname__} is a subclass of a numpy scalar")
    if isinstance(scalar, (np.str_, np.bytes_)):
        # As arrays they would lose trailing NULs, which a scalar of its own keeps.
        return scalar.dtype.kind, scalar.tobytes()[: scalar.dtype.itemsize]
    return _describe_dtype(scalar.dtype), scalar.tobytes()


def restore_scalar(descr: Any, raw: bytes) -> Any:
    """Return the scalar that `describe_scalar` took apart."""
    if not isinstance(raw, bytes):
        raise TypeError("a scalar is restored from bytes")
    if descr == "U":
        return np.str_(raw.decode(UTF_32, "surrogatepass"))
    if descr == "S":
        return np.bytes_(raw)
    return restore(descr, [], bytearray(raw), is_fortran=False)[()]


def describe_objects(array: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], bool, list[Any]]:
    """Return shape, order and elements of an array of objects."""
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return array.shape, is_fortran, list((array.T if is_fortran else array).reshape(-1))


def restore_objects(shape: list[int], is_fortran: bool, items: list[Any]) -> np.ndarray[Any, Any]:  # noqa: FBT001 - positions of a payload
    """Return the array that `describe_objects` took apart."""
    flat = np.empty(len(items), dtype=object)
    # Not flat[:] = items: numpy would look into nested sequences.
    for i, item in enumerate(items):
        flat[i] = item
    return flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)


def describe_masked(array: np.ma.MaskedArray[Any, Any]) -> list[Any]:
    """Return data, mask, fill value and hardness of a masked array.

    What lies under the mask is kept.
    """
    if array.baseclass is not np.ndarray or array.__dict__.get("_optinfo"):
        raise NotPlain("a masked array over a subclass, or with notes on it, has more to keep")
    mask = None if array.mask is np.ma.nomask else np.asarray(array.mask)
    fill = array.__dict__.get("_fill_value")
    return [np.asarray(array.data), mask, None if fill is None else np.asarray(fill), array.hardmask]


def restore_masked(data: Any, mask: Any, fill: Any, hard_mask: bool) -> Any:  # noqa: FBT001 - positions of a payload
    """Return the masked array that `describe_masked` took apart."""
    array: Any = np.ma.MaskedArray(
        data, mask=np.ma.nomask if mask is None else mask, hard_mask=hard_mask, copy=False
    )
    if fill is not None:
        array.fill_value = fill[()]
    return array
