"""How a memoized function reaches another process: by its name, or with its code."""

from __future__ import annotations

import importlib
import inspect
import sys
import uuid
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

from persicache.codecs import dump_object, load_object

__all__ = ["arrived", "named", "reduced"]

#: What tells a function from all others, and which code it had when it was packed.
Token: TypeAlias = tuple[str, bytes]

_ids: Final[WeakKeyDictionary[Any, str]] = WeakKeyDictionary()
#: Functions that were sent, and are here.
_here: Final[WeakValueDictionary[Token, Any]] = WeakValueDictionary()


def reduced(memoized: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what `__reduce__` of a memoized function should.

    It travels as a plain function does. Pickle leaves a name, which the other process imports:
    multiprocessing's workers have a script's ``__main__``. Cloudpickle, which dask, joblib and
    notebooks use, packs the code of what is in ``__main__``. One without a name, such as a
    lambda, is packed by both.

    Parameters
    ----------
    memoized : Memoized
        The function.
    state : tuple
        What it is made of. Its `__setstate__` takes it, after what `arrived` takes.
    """
    module, qualname = memoized.__module__, getattr(memoized, "__qualname__", None)
    if module == "__mp_main__":  # as multiprocessing calls the script in its workers
        module = "__main__"
    is_packed = _is_packed()
    if named(module, qualname) is memoized and not (is_packed and module == "__main__"):
        return _imported, (module, qualname)
    if not is_packed:
        return load_object, (dump_object(memoized),)
    token = None
    if state[2].code == "deep":  # else its code could have changed, and this doesn't tell
        token = _ids.setdefault(memoized, uuid.uuid4().hex), memoized.code_digest()
        _here.setdefault(token, memoized)  # it may come back to where it is from
    # As a state and not as arguments: it can lead back here, and a pickle can hold such a circle
    # only so. Functions that call themselves, or one another, are circles.
    return _arriving, (type(memoized), token), (token, state)


def arrived(memoized: Any, token: Token | None) -> None:
    """Note that a function is here, for when it comes again."""
    if token is not None:
        _ids[memoized] = token[0]
        _here[token] = memoized


def _arriving(kind: type[Any], token: Token | None) -> Any:
    # Each task brings its functions and their classes. Of a class there is one in a process, and
    # so its methods are to be the same ones, too: others would look like other code.
    known = None if token is None else _here.get(token)
    return object.__new__(kind) if known is None else known


def _is_packed() -> bool:
    """Return whether cloudpickle is at work.

    It doesn't tell whom it asks. But half by name and half by value would be wrong: a worker's
    own ``__main__`` has classes of the same names, of which nothing that was sent is an instance.
    """
    frame = inspect.currentframe()
    while frame is not None:
        # Several packages bring their own copy.
        if frame.f_globals.get("__name__", "").endswith("cloudpickle.cloudpickle"):
            return True
        frame = frame.f_back
    return False


def named(module: str, qualname: str | None) -> Any:
    """Return what is called so in a module that is loaded, of a method the function; None if nothing is."""
    if qualname is None:
        return None
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return getattr(found, "__func__", found)


def _imported(module: str, qualname: str) -> Any:
    importlib.import_module(module)
    found = named(module, qualname)
    if found is None:
        raise AttributeError(f"{module} has no {qualname} in this process")
    return found
