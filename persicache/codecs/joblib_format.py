"""Files as joblib writes them: a pickle with arrays in between, maybe compressed.

The pickle of builtins and arrays names a few harmless classes and functions. Where pickles aren't
trusted, one that names nothing else is loaded all the same, by an unpickler that knows no more.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, Final

from persicache.codecs.buffer import Buffer
from persicache.codecs.plain import PlainFormat
from persicache.codecs.trust import NeedsCode
from persicache.errors import MissingDependency

__all__ = ["joblib_format"]

_LZ4: Final = b"\x04\x22\x4d\x18"
_BUILD: Final = ord("b")  # the opcode that gives an object its state
_ARRAYS: Final = frozenset({"_frombuffer", "_reconstruct", "dtype", "ndarray", "scalar"})
#: What builtins and arrays are rebuilt by; none of it does anything else.
_PLAIN: Final[Mapping[str, frozenset[str]]] = {
    "builtins": frozenset({"bytearray", "complex", "frozenset", "range", "set", "slice"}),
    "_codecs": frozenset({"encode"}),
    "collections": frozenset({"Counter", "OrderedDict", "deque"}),
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}),
    "decimal": frozenset({"Decimal"}),
    "fractions": frozenset({"Fraction"}),
    "uuid": frozenset({"UUID"}),
    **dict.fromkeys(
        ("numpy", "numpy.core.multiarray", "numpy.core.numeric", "numpy._core.multiarray"), _ARRAYS
    ),
    "numpy._core.numeric": _ARRAYS,
}


def joblib_format(extension: str, *, compress: str | None = None, extra: str | None = None) -> PlainFormat:
    """Return the format of `joblib.dump`.

    Parameters
    ----------
    extension : str
        What its files end in, with the dot.
    compress : str, optional
        The compressor of what is written, such as "lz4"; whatever joblib can read is read.
    extra : str, optional
        Which extra has the libraries, to be named if one is missing; by default each one's own.

    Examples
    --------
    >>> plain = joblib_format(".pkl", compress="lz4")
    >>> plain.load(plain.dump({"a": (1, 2)})[0])
    {'a': (1, 2)}
    """

    def dump(value: Any) -> list[Buffer]:
        file = io.BytesIO()
        joblib = _joblib(extra)
        if compress == "lz4":
            _lz4(extra)
        joblib.dump(value, file, compress=compress or 0)
        return [file.getvalue()]

    def load(data: Buffer) -> Any:
        joblib = _joblib(extra)
        if bytes(data[:8]).startswith(_LZ4):  # else joblib would say of the file that it can't be read
            _lz4(extra)
        return joblib.load(io.BytesIO(data))

    def load_plain(data: Buffer) -> Any:
        return _load_plain(_joblib(extra).numpy_pickle, _plain_bytes(data, extra))

    return PlainFormat(extension, dump, load, runs_code=True, load_plain=load_plain)


def _load_plain(joblib_pickle: Any, data: Buffer) -> Any:
    file = io.BytesIO(data)

    class Wrapper(joblib_pickle.NumpyArrayWrapper):  # type: ignore[misc]  # it has no types
        """Stands where the bytes of an array follow."""

        def read(self, *args: Any) -> Any:
            if self.dtype.hasobject:  # then another pickle follows, which joblib would just load
                raise NeedsCode("it holds an array of objects")
            return super().read(*args)

    class Unpickler(joblib_pickle.NumpyUnpickler):  # type: ignore[misc]  # as above
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
                return Wrapper
            if name not in _PLAIN.get(module, ()):
                raise NeedsCode(f"it is a pickle that needs {module}.{name}")
            return super().find_class(module, name)

        def load_build(self) -> None:
            if callable(self.stack[-2]):  # a class has no state but what everybody shares
                raise NeedsCode("it is a pickle that changes a class")
            super().load_build()

        dispatch: ClassVar[dict[int, Any]] = {**joblib_pickle.NumpyUnpickler.dispatch, _BUILD: load_build}

    # joblib 1.5 asks for one more.
    takes = inspect.signature(joblib_pickle.NumpyUnpickler.__init__).parameters
    order = {"ensure_native_byte_order": True} if "ensure_native_byte_order" in takes else {}
    return Unpickler("", file, **order).load()


def _plain_bytes(data: Buffer, extra: str | None) -> Buffer:
    head = bytes(data[:8])
    if head.startswith(_LZ4):
        return bytes(_lz4(extra).decompress(data))
    for compressor in import_module("joblib.compressor")._COMPRESSORS.values():  # noqa: SLF001 - no other way
        if head.startswith(compressor.prefix):
            with compressor.decompressor_file(io.BytesIO(data)) as file:
                return bytes(file.read())
    return data


def _joblib(extra: str | None) -> Any:
    try:
        return import_module("joblib")
    except ImportError as error:
        raise MissingDependency(package="joblib", extra=extra or "joblib") from error


def _lz4(extra: str | None) -> Any:
    try:
        return import_module("lz4.frame")
    except ImportError as error:
        raise MissingDependency(package="lz4", extra=extra or "compression") from error
