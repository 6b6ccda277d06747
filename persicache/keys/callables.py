"""Writers of functions, classes and modules: as values they are what their code is."""

from __future__ import annotations

import functools
import types
from typing import Any, Final

from persicache.keys.bytecode import write_outline
from persicache.keys.code import Fingerprint, fingerprint
from persicache.keys.origins import is_user_file, is_user_module, library
from persicache.keys.writers import (
    Reached,
    Seen,
    Trouble,
    class_name,
    write,
    write_text,
    writes,
    writes_family,
)

__all__: list[str] = []

_DESCRIPTORS: Final = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


# Fingerprints of what was written last, by id, with what keeps the id its own.
_recent: Final[dict[int, tuple[object, Fingerprint]]] = {}
_MAX_RECENT: Final = 256


def _code_of(value: Any) -> Fingerprint:
    _, code = _recent.get(id(value), (None, None))
    if code is None or not code.is_current():
        if len(_recent) >= _MAX_RECENT:
            _recent.clear()
        code = fingerprint(value)
        _recent[id(value)] = (value, code)
    return code


@writes(types.FunctionType)
def _write_function(out: bytearray, value: types.FunctionType, seen: Seen) -> None:
    if not is_user_file(value.__code__.co_filename) and value.__closure__ is None:
        write_text(out, b"L", f"{library(str(value.__module__))} {class_name(value)}")
    elif isinstance(seen, Reached):
        seen.note(value)
        write_outline(out, value, seen)
    else:
        out += b"u"
        out += _code_of(value).digest


@writes_family(type)
def _write_class(out: bytearray, value: type, seen: Seen) -> None:
    if not is_user_module(str(value.__module__)):
        write_text(out, b"C", class_name(value))
    elif isinstance(seen, Reached):
        seen.note(value)
        write_text(out, b"c", class_name(value))
    else:
        write_text(out, b"c", class_name(value))
        out += _code_of(value).digest


@writes(types.MethodType)
def _write_method(out: bytearray, value: types.MethodType, seen: Seen) -> None:
    out += b"&"
    write(out, (value.__func__, value.__self__), seen)


@writes(functools.partial)
def _write_partial(out: bytearray, value: functools.partial[Any], seen: Seen) -> None:
    out += b"|"
    write(out, (value.func, value.args, value.keywords, vars(value)), seen)


@writes(types.BuiltinFunctionType, types.MethodWrapperType)
def _write_builtin(out: bytearray, value: Any, seen: Seen) -> None:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        write_text(out, b"L", class_name(value))
    else:
        write_text(out, b"&", value.__name__)
        write(out, owner, seen)


@writes(*_DESCRIPTORS)
def _write_descriptor(out: bytearray, value: Any, _: Seen) -> None:
    write_text(out, b"L", f"{class_name(value.__objclass__)}.{value.__name__}")


@writes(staticmethod, classmethod)
def _write_static(out: bytearray, value: Any, seen: Seen) -> None:
    write_text(out, b"@", type(value).__name__)
    write(out, value.__func__, seen)


@writes(property)
def _write_property(out: bytearray, value: property, seen: Seen) -> None:
    out += b"@"
    write(out, (value.fget, value.fset, value.fdel), seen)


@writes(types.ModuleType)
def _write_module(out: bytearray, value: types.ModuleType, _: Seen) -> None:
    name = value.__name__
    write_text(out, b"O", name if is_user_module(name) else f"{name} {library(name)}")


@writes(types.CellType, types.FrameType, types.TracebackType)
def _refuse(_out: bytearray, value: object, _: Seen) -> None:
    raise Trouble(f"a {type(value).__qualname__} is a part of a running program")
