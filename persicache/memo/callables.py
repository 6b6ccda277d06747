"""What can be memoized, and what it is called."""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path
from typing import Any

__all__ = ["check_function", "kind_of", "label_of"]


def check_function(function: Any) -> None:
    """Raise TypeError unless `function` is one that can be memoized.

    Examples
    --------
    >>> check_function(3)
    Traceback (most recent call last):
    TypeError: persistent_memoize decorates functions, not 3
    """
    if isinstance(function, (property, functools.cached_property)):
        above = type(function).__name__
        raise TypeError(f"put @persistent_memoize below @{above}, next to the function")
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"persistent_memoize decorates functions, not {function!r}")


def kind_of(function: Any) -> str:
    """Return what a function's result is: "function" for what it returns, or the kind of its generator.

    Examples
    --------
    >>> async def f(): ...
    >>> kind_of(f), kind_of(len)
    ('coroutine', 'function')
    """
    while isinstance(function, functools.partial):
        function = function.func
    called = getattr(type(function), "__call__", None)  # noqa: B004 - its kind, not whether there is one
    kinds = {
        "asynchronous generator": inspect.isasyncgenfunction,
        "coroutine": inspect.iscoroutinefunction,
        "generator": inspect.isgeneratorfunction,
    }
    for kind, is_kind in kinds.items():
        if is_kind(function) or is_kind(called):  # type: ignore[arg-type]
            return kind
    return "function"


def label_of(function: Any) -> str:
    """Return the full name of a function, the same in every process.

    A script's functions go by the name of its file, as if it were imported: worker processes
    call its module otherwise.
    """
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None) or "__main__"
    if module in {"__main__", "__mp_main__"}:
        main = sys.modules.get(module)
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name.removesuffix(".__main__")
        elif file is not None:
            module = Path(file).stem
        else:
            module = "__main__"
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
