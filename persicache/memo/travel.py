"""How a memoized function reaches another process: by its name, or with its code."""

from __future__ import annotations

import copyreg
import functools
import importlib
import sys
from contextvars import ContextVar
from typing import Any, Final

from persicache.codecs import dump_object, load_object

__all__ = ["named", "reduced"]

#: Of so many functions that came with their code a process keeps one object for all copies.
_MOST_LOADED: Final = 128

#: Whether a function's code is being pickled, and all that it reaches with it.
_packing: ContextVar[bool] = ContextVar("persicache_packing", default=False)


def named(module: str, qualname: str | None) -> Any:
    """Return what is called so in a module that is loaded; None if nothing is.

    Of a method of a class, the function.
    """
    if qualname is None:
        return None
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return getattr(found, "__func__", found)


def reduced(memoized: Any, state: tuple[Any, ...]) -> str | tuple[Any, ...]:
    """Return what `__reduce__` of a memoized function should.

    A name is enough where the other process can import it. A notebook's or a script's
    functions travel with their code too: a dask or joblib worker doesn't have their
    ``__main__``, a multiprocessing worker has.

    Parameters
    ----------
    memoized : Memoized
        The function.
    state : tuple
        What its `__setstate__` takes.
    """
    module, qualname = memoized.__module__, getattr(memoized, "__qualname__", None)
    if module == "__mp_main__":  # as multiprocessing calls the script in its workers
        module = "__main__"
    has_name = named(module, qualname) is memoized
    if has_name and module != "__main__":
        return _imported, (module, qualname)
    if _packing.get():
        # As a state and not as arguments: it can lead back here, and a pickle can hold such a
        # circle only so. Functions that call themselves, or one another, are circles.
        return copyreg.__newobj__, (type(memoized),), state  # type: ignore[attr-defined]
    token = _packing.set(True)
    try:
        payload = dump_object(memoized)
    except Exception:
        if has_name:
            return _imported, (module, qualname)
        raise
    finally:
        _packing.reset(token)
    return _restored, (module, qualname, memoized.code_digest(), payload)


def _imported(module: str, qualname: str) -> Any:
    importlib.import_module(module)
    found = named(module, qualname)
    if found is None:
        raise AttributeError(f"{module} has no {qualname} in this process")
    return found


def _restored(module: str, qualname: str | None, code_digest: bytes, payload: bytes) -> Any:
    known = named(module, qualname)
    if getattr(known, "code_digest", None) is not None and known.code_digest() == code_digest:
        return known
    return _loaded(payload)


@functools.lru_cache(_MOST_LOADED)
def _loaded(payload: bytes) -> Any:
    # Every task of a worker brings one: they are to share what is known of the code and the
    # results in memory.
    return load_object(payload)
