"""What the names that code looks up stand for."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from persicache.keys.origins import is_user_module, module_of_import
from persicache.keys.watch import MISSING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from persicache.keys.bytecode import Lookup
    from persicache.keys.watch import Watch

__all__ = ["Found", "resolve"]


class Found(NamedTuple):
    """What a lookup came upon.

    Attributes
    ----------
    kind : {"name", "thing", "library", "builtin", "absent"}
        A name in a namespace; a thing that plays a part without being named; or what is known by
        its path alone: a library, a builtin, or a name that isn't there.
    path : str
        How the code gets there.
    value : object
        What was found, if it is a name or a thing.
    namespace : mapping
        Where a name was found.
    """

    kind: Literal["name", "thing", "library", "builtin", "absent"]
    path: str
    value: object = None
    namespace: Mapping[str, object] = types.MappingProxyType({})


def resolve(lookup: Lookup, namespace: Mapping[str, object], watch: Watch) -> Iterator[Found]:
    """Find what a function looks up.

    Parameters
    ----------
    lookup : Lookup
        The names.
    namespace : mapping
        The function's globals.
    watch : Watch
        Remembers what was looked at.

    Examples
    --------
    >>> from persicache.keys.bytecode import Lookup
    >>> from persicache.keys.watch import Watch
    >>> next(resolve(Lookup(("rate",)), {"rate": 2}, Watch())).value
    2
    >>> next(resolve(Lookup(("len",)), {}, Watch()))[:2]
    ('builtin', 'len')
    """
    if lookup.level < 0:
        return _resolve_global(lookup.names, namespace, watch)
    return _resolve_import(lookup, namespace, watch)


def _resolve_global(
    names: tuple[str, ...], namespace: Mapping[str, object], watch: Watch
) -> Iterator[Found]:
    path = name = names[0]
    found = watch.look_up(namespace, name)
    if found is MISSING:
        # A builtin is known by its name.
        yield Found("builtin", name)
        return
    for name in names[1:]:
        if not issubclass(type(found), types.ModuleType) or not is_user_module(_name(found)):
            break
        module, namespace, path = found, vars(found), f"{path}.{name}"
        found = watch.look_up(namespace, name)
        if found is MISSING:
            found = yield from _resolve_lazily(module, name)
        if found is MISSING:
            yield Found("absent", path)
            return
    yield Found("name", path, found, namespace)


def _resolve_lazily(module: Any, name: str) -> Generator[Found, None, object]:
    lazy = vars(module).get("__getattr__", MISSING)
    if lazy is not MISSING:
        yield Found("thing", f"{_name(module)}.__getattr__", lazy)
    return module_of_import(f"{_name(module)}.{name}") or MISSING


def _resolve_import(lookup: Lookup, namespace: Mapping[str, object], watch: Watch) -> Iterator[Found]:
    package = str(namespace.get("__package__") or "")
    module = module_of_import("." * lookup.level + lookup.names[0], package)
    if module is None:
        yield Found("library", lookup.names[0])
    elif len(lookup.names) == 1:
        name = module.__name__
        while name:
            yield Found("thing", f"import {name}", module_of_import(name))
            name = name.rpartition(".")[0]
    else:
        name = lookup.names[1]
        found = watch.look_up(vars(module), name)
        if found is MISSING:
            found = yield from _resolve_lazily(module, name)
        if found is not MISSING:
            yield Found("name", f"{module.__name__}.{name}", found, vars(module))


def _name(module: Any) -> str:
    return str(module.__name__)
