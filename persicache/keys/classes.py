"""What counts of a class: the part of its dictionary that somebody wrote."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from typing import TYPE_CHECKING, Any, Final

from persicache.keys.rebinding import rebound

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CODE", "class_parts", "own_state", "state_names"]

#: Functions, and what functions become in a class.
CODE: Final = (
    *(types.FunctionType, types.MethodType, type),
    *(staticmethod, classmethod, property, functools.cached_property),
)

# Documentation, places, and what is computed from the rest.
_INCIDENTAL: Final = frozenset(
    {
        *("__doc__", "__dict__", "__weakref__", "__module__", "__qualname__", "__orig_bases__"),
        *("__firstlineno__", "__static_attributes__", "__slotnames__", "__parameters__", "_abc_impl"),
        *("__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__"),
        *("__dataclass_fields__", "__dataclass_params__", "_is_runtime_protocol"),
    }
)

# Packages keep their caches under such names too; of data, these alone say something.
_MEANT: Final = frozenset(
    {"__annotations__", "__hash__", "__match_args__", "__private_attributes__", "__pydantic_fields__"}
)


def class_parts(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that make a class what it is, besides its bases."""
    attributes = type.__dict__["__dict__"].__get__(cls)
    is_enum = issubclass(type(cls), enum.EnumType)
    for name in sorted(attributes.keys() - _INCIDENTAL):
        value = attributes[name]
        kind = type(value)
        is_data = not issubclass(kind, CODE) and not callable(value)
        if name.startswith("__") and name.endswith("__") and is_data:
            if name not in _MEANT or (name == "__annotations__" and not value):
                continue
        elif is_enum and (name in cls.__members__ or (is_data and _is_sunder(name))):  # type: ignore[attr-defined]
            continue
        yield name, value
    if is_enum:
        yield "members", [_member(name, member) for name, member in cls.__members__.items()]  # type: ignore[attr-defined]
    metadata = [
        (field.name, dict(field.metadata))
        for field in attributes.get("__dataclass_fields__", {}).values()
        if isinstance(field, dataclasses.Field) and field.metadata
    ]
    if metadata:
        yield "metadata", metadata


def state_names(function: Any) -> set[str]:
    """Return the attributes of its first argument that a method rebinds."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if not isinstance(code, types.CodeType):
        return set()
    return {attribute for owner, attribute in rebound(code).attributes if not owner}


def own_state(value: object) -> dict[str, object]:
    """Return the dictionary of an object itself, whatever its class makes of attributes."""
    try:
        state = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return state if type(state) is dict else {}


def _is_sunder(name: str) -> bool:
    return name.startswith("_") and name.endswith("_")


def _member(name: str, member: Any) -> tuple[str, object, dict[str, object]]:
    # Those of enums' own are computed, some of them when they are first asked for.
    extra = {key: item for key, item in own_state(member).items() if not _is_sunder(key)}
    return name, member.value, extra
