"""Writers of functions, classes and modules: as values they are what their code is."""

from __future__ import annotations

import functools
import types
from typing import Any, Final

from persicache.keys.codes import code_of
from persicache.keys.containers import write_each
from persicache.keys.origins import is_user_file, is_user_module, library
from persicache.keys.reached import Reached
from persicache.keys.writers import (
    Seen,
    Trouble,
    begin,
    class_name,
    finish,
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


@writes(types.FunctionType)
def _write_function(out: bytearray, value: types.FunctionType, seen: Seen) -> None:
    if not is_user_file(value.__code__.co_filename) and value.__closure__ is None:
        write_text(out, b"L", f"{library(str(value.__module__))} {class_name(value)}")
    elif type(seen) is Reached:
        write_text(out, b"u", class_name(value))
        seen.set_aside(out, value)
    else:
        out += b"u"
        out += code_of(value, is_value=True)


@writes_family(type)
def _write_class(out: bytearray, value: type, seen: Seen) -> None:
    if not is_user_module(str(value.__module__)):
        write_text(out, b"C", class_name(value))
    else:
        write_text(out, b"c", class_name(value))
        if type(seen) is Reached:
            seen.set_aside(out, value)
        else:
            out += code_of(value, is_value=True)


@writes(types.MethodType)
def _write_method(out: bytearray, value: types.MethodType, seen: Seen) -> None:
    out += b"&"
    write(out, (value.__func__, value.__self__), seen)


@writes(functools.partial)
def _write_partial(out: bytearray, value: functools.partial[Any], seen: Seen) -> None:
    if not begin(out, value, seen):
        body = bytearray(b"|")
        write_each(body, (value.func, value.args, value.keywords, vars(value)), seen)
        finish(out, value, seen, body)


@writes(type(functools.lru_cache(int)))
def _write_cached(out: bytearray, value: Any, seen: Seen) -> None:
    out += b"^"
    write(out, (value.__wrapped__, value.cache_parameters()), seen)


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
def _write_module(out: bytearray, value: types.ModuleType, seen: Seen) -> None:
    name = value.__name__
    if type(seen) is Reached:
        seen.set_aside(out, value)
        return
    write_text(out, b"O", name if is_user_module(name) else f"{name} {library(name)}")


@writes(types.CellType, types.FrameType, types.TracebackType)
def _refuse(_out: bytearray, value: object, _: Seen) -> None:
    raise Trouble(f"a {type(value).__qualname__} is a part of a running program")
