"""JSON as jsonpickle writes it, read without running code.

jsonpickle rebuilds whatever class a file names. Here only tuples, sets, bytes, arrays and a few
classes of the standard library are; a file that names another is refused before jsonpickle sees it,
and so is, when it is set, a value that could not be read again.
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from persicache.codecs.buffer import Buffer
from persicache.codecs.plain import PlainFormat
from persicache.codecs.trust import NeedsCode
from persicache.errors import MissingDependency

__all__ = ["jsonpickle_format"]

_CLASSES: Final = frozenset(
    {
        *(f"builtins.{name}" for name in ("complex", "frozenset", "range", "slice")),
        *(f"collections.{name}" for name in ("Counter", "OrderedDict", "deque")),
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(f"numpy.{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)),
        *("numpy.bool", "numpy.bool_", "numpy.datetime64", "numpy.ndarray", "numpy.timedelta64"),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID"),
    }
)
_HARMLESS: Final = frozenset({"py/b64", "py/id", "py/newargs", "py/reduce", "py/set", "py/tuple"})


def jsonpickle_format(extension: str) -> PlainFormat:
    """Return the format of ``jsonpickle.dumps(value, indent=4)``, and of what it reads without code.

    Examples
    --------
    >>> plain = jsonpickle_format(".json")
    >>> plain.load(plain.dump({"a": (1, {2})})[0])
    {'a': (1, {2})}
    >>> plain.load(b'{"py/object": "os.system"}')
    Traceback (most recent call last):
    persicache.codecs.trust.NeedsCode: its JSON names 'os.system', which reading it must not run
    """
    return PlainFormat(extension, _dump, _load)


def _dump(value: Any) -> list[Buffer]:
    for node in _nodes(value):
        _check_kept(node)
    tree = _jsonpickle("pickler").Pickler(keys=False).flatten(value)
    for node in _nodes(tree):
        _check_tags(node)
    return [json.dumps(tree, indent=4).encode()]


def _load(data: Buffer) -> Any:
    tree = json.loads(bytes(data))
    for node in _nodes(tree):
        _check_tags(node)
    # The tree that was checked, and not the text: another parser could find something else in it.
    return _jsonpickle("unpickler").Unpickler().restore(tree, reset=True)


def _nodes(tree: Any) -> Iterator[Any]:
    """Yield what there is in a tree of builtins, each container once."""
    pending, seen = [tree], set()
    while pending:
        node = pending.pop()
        if isinstance(node, (dict, list, tuple, set, frozenset, deque)):
            if id(node) in seen:
                continue
            seen.add(id(node))
            pending.extend(node.values() if isinstance(node, dict) else node)
        yield node


def _check_kept(node: Any) -> None:
    """Refuse what jsonpickle would leave out without a word."""
    if isinstance(node, io.IOBase) or (callable(node) and not isinstance(node, type)):
        raise NeedsCode(f"JSON can't hold {type(node).__name__} objects")
    for key in node if isinstance(node, dict) else ():
        if isinstance(key, str) and key.startswith("py/"):
            raise NeedsCode(f"key {key!r} has a meaning of its own in jsonpickle's JSON, and would be lost")


def _check_tags(node: Any) -> None:
    for tag, told in node.items() if isinstance(node, dict) else ():
        if tag in {"py/object", "py/type"}:
            if not isinstance(told, str) or told not in _CLASSES:
                raise NeedsCode(f"its JSON names {told!r}, which reading it must not run")
        elif tag.startswith("py/") and tag not in _HARMLESS:
            raise NeedsCode(f"its JSON has a {tag!r}, and reading it must not run code")


def _jsonpickle(module: str) -> Any:
    try:
        arrays = import_module("jsonpickle.ext.numpy")
    except ImportError as error:
        raise MissingDependency(package="jsonpickle", extra="persidict") from error
    arrays.register_handlers()
    return import_module(f"jsonpickle.{module}")
