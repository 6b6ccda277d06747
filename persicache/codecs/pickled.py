"""The pickle codec: whatever the tree can't hold. The one module that pickles.

Pickle protocol 5 with out-of-band buffers (PEP 574); cloudpickle for what pickle can't name,
such as lambdas and classes defined in a function. Unpickling runs code: whoever calls `load`
has asked the trust rule before.

References
----------
PEP 574, https://peps.python.org/pep-0574/
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections import ChainMap
from pickle import PicklingError
from typing import Any, ClassVar, Final, Never

import cloudpickle
import numpy as np

__all__ = ["CannotPickle", "PicklingError", "dump", "dump_object", "load", "load_object"]

PROTOCOL: Final = 5
#: Smaller buffers lie in the pickle: a place of its own costs 64 bytes and padding.
SMALL_NBYTES: Final = 512


class CannotPickle(Exception):
    """Neither pickle nor cloudpickle can store the value."""


def _reduce_text_file(file: io.TextIOWrapper) -> tuple[Any, ...]:
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):  # the reader has one of its own
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle {file!r}: store its path, or what it holds")


def _refuse_memoryview(view: memoryview) -> Never:  # noqa: ARG001 - as pickle calls it
    raise TypeError("cannot pickle a memoryview: store bytes")


def _reduce_array(array: np.ndarray) -> Any:
    # Arrays of times export no buffer: numpy would put their bytes into the pickle, which is
    # read whole whenever it is loaded. Anybody can load this, without persicache.
    if array.dtype.kind in "mM":
        return np.ndarray.view, (array.view(np.int64), array.dtype)
    return array.__reduce_ex__(PROTOCOL)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles what cloudpickle can, but for what would come back as something else.

    That makes a StringIO of an open file, with all of its text, and bytes of a memoryview.
    """

    dispatch_table: ClassVar[ChainMap[type, Any]] = ChainMap(
        {io.TextIOWrapper: _reduce_text_file, memoryview: _refuse_memoryview, np.ndarray: _reduce_array},
        cloudpickle.Pickler.dispatch_table,
    )


def _cloud_dumps(value: object, *, protocol: int, buffer_callback: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=protocol, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()


def _dumps(value: object, *, protocol: int, buffer_callback: Any) -> bytes:
    if buffer_callback is None:
        return pickle.dumps(value, protocol=protocol)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=protocol, buffer_callback=buffer_callback)
    pickler.dispatch_table = {np.ndarray: _reduce_array, **copyreg.dispatch_table}
    pickler.dump(value)
    return file.getvalue()


def dump(value: object, *, in_band: bool = False) -> tuple[bytes, list[memoryview]]:
    """Return the pickle of `value` and its large buffers.

    Parameters
    ----------
    value : object
        Anything that can be pickled.
    in_band : bool, default False
        Whether the buffers lie in the pickle too, as in an ordinary pickle file.

    Raises
    ------
    CannotPickle
        If it can't be.
    """
    try:
        return _dump(_dumps, value, in_band=in_band)
    except Exception:  # noqa: BLE001 - __reduce__ may raise anything; cloudpickle has the last word
        try:
            return _dump(_cloud_dumps, value, in_band=in_band)
        except Exception as error:
            raise CannotPickle(f"{type(error).__name__}: {error}") from error


def _dump(dumps: Any, value: object, *, in_band: bool) -> tuple[bytes, list[memoryview]]:
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < SMALL_NBYTES:
            return True
        buffers.append(raw)
        return False

    body = dumps(value, protocol=PROTOCOL, buffer_callback=None if in_band else keep)
    return body, buffers


def load(body: Any, buffers: list[Any]) -> Any:
    """Return the value; its arrays lie in `buffers` without a copy."""
    return pickle.loads(body, buffers=buffers)


def dump_object(value: object) -> bytes:
    """Return the pickle of what is no entry: an object on its way to another process.

    What that may be unable to import, such as all that a script defines, goes with its code.
    """
    try:
        return bytes(cloudpickle.dumps(value, protocol=PROTOCOL))
    except Exception as error:
        raise CannotPickle(f"{type(error).__name__}: {error}") from error


def load_object(body: bytes) -> Any:
    """Return what `dump_object` pickled, in the process that it was sent to."""
    return load(body, [])
