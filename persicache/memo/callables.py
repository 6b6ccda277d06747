"""What can be memoized, and what it is called."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

__all__ = ["check_function", "label_of"]


def check_function(function: Any) -> None:
    """Raise TypeError unless `function` is one whose return value is its result.

    Examples
    --------
    >>> check_function(classmethod(len))
    Traceback (most recent call last):
    TypeError: put @persistent_memoize below @classmethod, next to the function
    """
    if isinstance(function, (staticmethod, classmethod, property)):
        above = type(function).__name__
        raise TypeError(f"put @persistent_memoize below @{above}, next to the function")
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"persistent_memoize decorates functions, not {function!r}")
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    called = getattr(type(function), "__call__", None)  # noqa: B004 - its kind, not whether there is one
    if any(is_kind(each) for is_kind in kinds for each in (function, called)):
        raise TypeError(
            f"{label_of(function)} returns a coroutine or a generator, which is not its result; decorate "
            "a plain function that returns the result"
        )


def label_of(function: Any) -> str:
    """Return the full name of a function, the same in every process.

    A script's functions go by the name of its file, as if it were imported: worker processes
    call its module otherwise.
    """
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
