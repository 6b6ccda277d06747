"""Writers of objects of any class: by what makes them what they are.

In this order: a registered function or a method ``__persicache_key__``, whichever is of the
nearer class, unless the object is but a place, and is refused; the fields of a dataclass; and
last what the object tells pickle, taken apart and never as a pickle, whose bytes differ for
equal values.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import functools
import itertools
import sys
import types
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from persicache.keys.codes import write_class
from persicache.keys.containers import write_each, write_pairs, write_unordered
from persicache.keys.elsewhere import is_elsewhere
from persicache.keys.origins import is_user_file, is_user_module
from persicache.keys.reached import Reached
from persicache.keys.writers import (
    EXACT,
    FAMILIES,
    FINDERS,
    Trouble,
    begin,
    class_name,
    finish,
    import_writers,
    write,
    write_leniently,
    write_text,
    writes,
    writes_family,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from persicache.keys.writers import Seen, Writer

__all__ = ["register_digest"]

_PROTOCOL: Final = 4

# Writers of everything else write these, and fingerprints of code too.
_ELEMENTS: Final = frozenset(
    {*(type(None), bool, int, float, complex, str, bytes), *(tuple, list, dict, set, frozenset)}
)

# Py_TPFLAGS_HEAPTYPE: of classes made by a class statement.
_HEAP: Final = 1 << 9


def register_digest(cls: type, function: Callable[[Any], object]) -> None:
    """Digest the instances of a class by what a function says of them.

    Parameters
    ----------
    cls : type
        The class, and all classes derived from it. A class nearer to the instance wins, by
        its own registration or its own ``__persicache_key__`` method; of the same class the
        registration wins, and of two registrations the later one.
    function : callable
        Takes an instance and returns any digestible value: equal for instances that are to
        count as equal, different for others.

    Raises
    ------
    TypeError
        If `cls` is no class, or one of the builtin types that a digest is made of: None, bool,
        numbers, str, bytes, tuple, list, dict, set and frozenset; or if `function` can't be
        called.

    Notes
    -----
    The value is digested together with the full name of the instance's own class and, of a class
    of the user's, its code: instances of two classes never count as equal, and an edited method is
    noticed. A method ``__persicache_key__(self)`` of the class does the same as a registration.
    Classes that an abstract base class only knows by its ``register`` method aren't derived from
    it. A registration holds in this process: make it where every process will, beside the class
    or the function that takes its instances.

    Examples
    --------
    >>> from persicache.keys import digest
    >>> class Connection:
    ...     def __init__(self, url): self.url, self.socket = url, open("/dev/null")
    ...     def __del__(self): self.socket.close()
    >>> register_digest(Connection, lambda connection: connection.url)
    >>> digest(Connection("db://a")) == digest(Connection("db://a"))
    True
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_digest needs a class, not {cls!r}")
    if cls in _ELEMENTS:
        raise TypeError(f"register_digest can't replace {cls.__name__}, which every digest is made of")
    if not callable(function):
        raise TypeError(f"register_digest needs a function of an instance, not {function!r}")

    # Before: a writer of ours that comes later would take the place of this one.
    import_writers(cls)

    def write_registered(out: bytearray, value: object, seen: Seen) -> None:
        _write_said(out, value, seen, function, f"<registered for {cls.__qualname__}>")

    if cls in EXACT:
        EXACT[cls] = write_registered
    writes_family(cls)(write_registered)


def _find_code_method(cls: type) -> Writer | None:
    return _write_by_code_method if hasattr(cls, "__persicache_code__") and cls is not type else None


def _find_family(cls: type) -> Writer | None:
    for base in cls.__mro__:
        if base in FAMILIES:
            return FAMILIES[base]
        is_there = is_elsewhere(base)
        if is_there is not None:
            return _write_elsewhere if is_there else None
        if "__persicache_key__" in vars(base):
            return _write_by_key_method
    return None


def _write_elsewhere(out: bytearray, value: object, seen: Seen) -> None:
    # Code that refers to such an object has one of that place, whatever is there.
    if type(seen) is not Reached:
        raise Trouble("what it holds can change where it is: pass what is read from it")
    _write_reduced(out, value, seen)


def _find_dataclass(cls: type) -> Writer | None:
    if not dataclasses.is_dataclass(cls):
        return None
    # Who wrote one of these has said what the state is.
    says = ("__reduce__", "__reduce_ex__", "__getstate__")
    mine = [base for base in cls.__mro__ if base is not object and any(name in vars(base) for name in says)]
    generated = all(
        getattr(vars(base).get("__getstate__"), "__module__", "") == "dataclasses" for base in mine
    )
    # What derives from list, float or Exception has contents besides its fields.
    is_plain = all(base.__flags__ & _HEAP for base in cls.__mro__ if base is not object)
    if not generated or not is_plain:
        return None
    # Names alone: with the class itself among the parts of its writer, it would live forever.
    names = tuple(sorted({field.name for field in dataclasses.fields(cls)} | _slots(cls)))
    return functools.partial(_write_dataclass, names)


def _slots(cls: type) -> set[str]:
    members = types.MemberDescriptorType
    return {
        name for base in cls.__mro__ for name, member in vars(base).items() if isinstance(member, members)
    }


def _find_reduced(_: type) -> Writer | None:
    return _write_reduced


FINDERS.extend([_find_code_method, _find_family, _find_dataclass, _find_reduced])


def _write_object(
    out: bytearray, value: object, seen: Seen, write_state: Callable[[bytearray], None]
) -> None:
    cls = type(value)
    if type(seen) is Reached and value is not seen.subject and is_user_module(str(cls.__module__)):
        seen.set_aside(out, value)
    elif not begin(out, value, seen):
        body = bytearray()
        write_text(body, b"o", class_name(cls))
        write_class(body, cls, seen)
        write_state(body)
        finish(out, value, seen, body)


def _write_by_code_method(out: bytearray, value: Any, seen: Seen) -> None:
    _write_object(out, value, seen, lambda body: write(body, value.__persicache_code__(), seen))


def _write_by_key_method(out: bytearray, value: Any, seen: Seen) -> None:
    _write_said(out, value, seen, _key_method, ".__persicache_key__()")


def _key_method(value: Any) -> object:
    return value.__persicache_key__()


def _write_said(
    out: bytearray, value: object, seen: Seen, function: Callable[[Any], object], step: str
) -> None:
    def write_answer(body: bytearray) -> None:
        try:
            answer = function(value)
        except RecursionError:
            raise
        except Exception as error:
            # Any exception: it is the user's own code.
            raise Trouble.of(error, f"{step.lstrip('.')} of a {type(value).__qualname__}") from error
        _step(body, answer, seen, step)

    _write_object(out, value, seen, write_answer)


def _write_dataclass(names: tuple[str, ...], out: bytearray, value: Any, seen: Seen) -> None:
    # Slots are fields that the instance's dictionary lacks.
    state = _present(value, names)
    state = _own_state(value, state | getattr(value, "__dict__", {}), seen)
    _write_object(out, value, seen, lambda body: _write_attributes(body, state, seen))


def _present(value: object, names: Iterable[str]) -> dict[str, object]:
    missing = object()
    found = {name: getattr(value, name, missing) for name in names}
    return {name: item for name, item in found.items() if item is not missing}


def _own_state(value: object, state: dict[str, object], seen: Seen) -> dict[str, object]:
    # What a cached_property keeps follows from the rest, and is there or not by chance.
    cls = type(value)
    without = seen.without if type(seen) is Reached and value is seen.subject else ()
    return {
        name: item
        for name, item in state.items()
        if name not in without and not isinstance(getattr(cls, name, None), functools.cached_property)
    }


def _write_attributes(out: bytearray, state: dict[str, object], seen: Seen) -> None:
    out += b"a%x;" % len(state)
    for name in sorted(state):
        write_text(out, b".", name)
        _step(out, state[name], seen, f".{name}")


def _step(out: bytearray, value: object, seen: Seen, step: str) -> None:
    if type(seen) is Reached:
        write_leniently(out, value, seen)
        return
    try:
        write(out, value, seen)
    except Trouble as trouble:
        trouble.steps.append(step)
        raise


def _write_reduced(out: bytearray, value: object, seen: Seen) -> None:
    _write_object(out, value, seen, lambda body: _write_recipe(body, value, _reduce(value), seen))


def _reduce(value: object) -> Any:
    cls = type(value)
    if cls is object:
        raise Trouble("one bare object() is like any other, but not equal to it")
    reduce: Callable[[object], Any] | None = copyreg.dispatch_table.get(cls)
    try:
        recipe = reduce(value) if reduce is not None else value.__reduce_ex__(_PROTOCOL)
    except RecursionError:
        raise
    except Exception as error:
        # Any exception: the object's own code ran.
        raise Trouble(f"a {cls.__qualname__} says nothing of its state ({error})") from error
    if not isinstance(recipe, str | tuple):
        raise Trouble(f"a {cls.__qualname__} says nothing of its state")
    return recipe


def _write_recipe(out: bytearray, value: object, recipe: Any, seen: Seen) -> None:
    if isinstance(recipe, str):
        write_text(out, b"g", f"{_home(value, recipe)}:{recipe}")
        return
    make, args, state, items, pairs = itertools.islice(itertools.chain(recipe, itertools.repeat(None)), 5)
    if getattr(make, "__module__", None) == "copyreg" and make.__name__ in {"__newobj__", "__newobj_ex__"}:
        # Without the class, which is written already.
        args = args[1:]
    elif isinstance(make, types.FunctionType | types.BuiltinFunctionType | type) and not _is_user(make):
        write_text(out, b"n", class_name(make))
    else:
        write(out, make, seen)
    write_each(out, args, seen)
    out += b";"
    _write_state(out, value, state, seen)
    write_each(out, items or (), seen)
    out += b";"
    _write_mapping(out, value, pairs or (), seen)


def _is_user(make: Any) -> bool:
    if isinstance(make, types.FunctionType):
        return is_user_file(make.__code__.co_filename)
    return isinstance(make, type) and is_user_module(str(make.__module__))


def _home(value: object, path: str) -> str:
    """Name the module where an object can be found, which says what the object is."""
    first, *others = path.split(".")
    package = _package(type(value).__module__)
    homes = []
    for name, module in list(sys.modules.items()):
        found = getattr(module, "__dict__", {}).get(first)
        for other in others:
            found = getattr(found, other, None)
        if found is value:
            homes.append((_package(name) != package, is_user_module(name), name.count("."), name))
    if not homes:
        raise Trouble(f"a {type(value).__qualname__} calls itself {path}, which is in no module")
    # That of its own package, or of a library, rather than one that imports it: which those are
    # depends on what else the process does.
    return min(homes)[-1]


def _package(module: str) -> str:
    return module.partition(".")[0]


def _write_state(out: bytearray, value: object, state: object, seen: Seen) -> None:
    if _is_from_slots(state):
        state = {**(state[0] or {}), **state[1]}
    if state is None:
        # What has no attributes, and what has an empty dictionary of them, are alike.
        state = {}
    if type(state) is dict and all(type(name) is str for name in state):
        _write_attributes(out, _own_state(value, state, seen), seen)
    else:
        _step(out, state, seen, ".__getstate__()")


def _is_from_slots(state: object) -> TypeGuard[tuple[dict[str, object] | None, dict[str, object]]]:
    # What copyreg makes of a dictionary and of slots.
    return (
        type(state) is tuple
        and len(state) == 2  # noqa: PLR2004 - as above
        and (state[0] is None or type(state[0]) is dict)
        and type(state[1]) is dict
    )


def _write_mapping(
    out: bytearray, value: object, pairs: Iterable[tuple[object, object]], seen: Seen
) -> None:
    if isinstance(value, collections.OrderedDict):
        write_each(out, [part for pair in pairs for part in pair], seen)
        out += b";"
    else:
        write_pairs(out, pairs, seen)


@writes_family(set, frozenset)
def _write_set_subclass(out: bytearray, value: Any, seen: Seen) -> None:
    # Told to pickle, the members would come in the order of their hashes.
    def write_both(body: bytearray) -> None:
        write_unordered(body, value, seen)
        state = _present(value, _slots(type(value))) | getattr(value, "__dict__", {})
        _write_attributes(body, state, seen)

    _write_object(out, value, seen, write_both)


@writes(types.MappingProxyType)
def _write_proxy(out: bytearray, value: types.MappingProxyType[Any, Any], seen: Seen) -> None:
    out += b"P"
    write(out, dict(value), seen)
