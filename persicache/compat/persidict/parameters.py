"""What all constructors take, by its names of today and of persidict 0.36: `Options`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Generic, TypedDict, TypeVar

from persicache.codecs import FORMATS, PlainCodec, joblib_format, jsonpickle_format
from persicache.keys.safe_strings import get_safe_chars

__all__ = ["OLD", "Options", "codec_of", "param", "settled"]

V = TypeVar("V")


class Options(TypedDict, Generic[V], total=False):
    """What all constructors take, by its names of today and of 0.36."""

    serialization_format: str
    append_only: bool
    base_class_for_values: type[V] | None
    file_type: str
    immutable_items: bool


OLD: Final = {"file_type": "serialization_format", "immutable_items": "append_only"}


def settled(options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the options by their names of today, with defaults, and those of `more` that were given."""
    params: dict[str, Any] = {
        "serialization_format": "pkl",
        "append_only": False,
        "base_class_for_values": None,
    }
    for name, value in options.items():
        if OLD.get(name, name) not in params:
            raise TypeError(f"there is no parameter {name!r}")
        params[OLD.get(name, name)] = value
    form, base = params["serialization_format"], params["base_class_for_values"]
    if not form or not get_safe_chars().issuperset(form):
        raise ValueError(f"serialization_format must be of letters, digits and ()_-~.=, not {form!r}")
    if base is not None and not isinstance(base, type):
        raise TypeError(f"base_class_for_values must be a class or None, not {base!r}")
    if form not in {"pkl", "json"} and not (base and issubclass(base, str)):
        raise ValueError(
            f"{form!r} files hold text: give base_class_for_values=str, or format 'pkl' or 'json'"
        )
    params["append_only"] = bool(params["append_only"])
    return params | {name: value for name, value in more.items() if value is not None}


def codec_of(params: Mapping[str, Any], *, compress: str | None = None) -> PlainCodec:
    """Return the codec of the settled parameters."""
    name, text = params["serialization_format"], FORMATS["text"]
    if name == "pkl":
        plain = joblib_format(".pkl", compress=compress, extra="persidict")
    elif name == "json":
        plain = jsonpickle_format(".json")
    else:
        plain = replace(text, extension=f".{name}", dump=lambda value: text.dump(str(value)))
    return PlainCodec(plain, allow_pickle=params.get("allow_pickle"))


def param(name: str) -> Any:
    """Return a property that is a parameter of this name."""
    return property(lambda self: self.get_params()[name])
