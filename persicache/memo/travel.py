"""How a memoized function reaches another process: by its name, or with its code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from persicache.codecs import dump_object, load_object

__all__ = ["named", "reduced"]


def named(module: str, qualname: str) -> Any:
    """Return what is called so in a module that is loaded; None if nothing is."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def reduced(
    memoized: Any, rebuild: Callable[..., Any], arguments: tuple[Any, ...]
) -> str | tuple[Any, ...]:
    """Return what `__reduce__` of a memoized function should.

    A name is enough where the other process can import it. A notebook's or a script's
    functions travel with their code too: a dask or joblib worker doesn't have their
    ``__main__``, a multiprocessing worker has.
    """
    module, qualname = memoized.__module__, memoized.__qualname__
    has_name = named(module, qualname) is memoized
    if has_name and module != "__main__":
        return str(qualname)
    try:
        payload = dump_object((rebuild, arguments))
    except Exception:
        if has_name:
            return str(qualname)
        raise
    return _restore, (module, qualname, memoized.code_digest(), payload)


def _restore(module: str, qualname: str, code_digest: bytes, payload: bytes) -> Any:
    known = named(module, qualname)
    if getattr(known, "code_digest", None) is not None and known.code_digest() == code_digest:
        return known
    rebuild, arguments = load_object(payload)
    return rebuild(*arguments)
