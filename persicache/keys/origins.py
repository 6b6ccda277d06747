"""Where code comes from: the user's own files, or a library with a version."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["import_user_module", "is_user_file", "is_user_module", "library"]

_LIBRARY_PLACES: Final = tuple(
    f"{os.path.realpath(path)}{os.sep}"
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)

# Our own modules are a library, also where they lie in a working copy.
_OURS: Final = f"{Path(__file__).resolve().parent.parent}{os.sep}"


@functools.lru_cache(maxsize=4096)
def is_user_file(filename: str) -> bool:
    """Whether a code object's file is the user's own.

    Examples
    --------
    >>> is_user_file("/home/me/analysis.py"), is_user_file("<ipython-input-1>"), is_user_file(os.__file__)
    (True, True, False)
    """
    if filename.startswith("<"):
        # Typed, generated or notebook code has no file; what is frozen is Python's.
        return not filename.startswith("<frozen ")
    return not os.path.realpath(filename).startswith((*_LIBRARY_PLACES, _OURS))


def is_user_module(name: str) -> bool:
    """Whether a module is the user's own: whatever is not known to be a library.

    Examples
    --------
    >>> is_user_module("__main__"), is_user_module("os"), is_user_module("numpy")
    (True, False, False)
    """
    if name in {"__main__", "__mp_main__"}:
        return True
    filename = getattr(sys.modules.get(name), "__file__", None)
    if filename is not None:
        return is_user_file(filename)
    return name.partition(".")[0] not in sys.stdlib_module_names


def library(module: str) -> str:
    """Name the package that a module belongs to, with its version.

    Examples
    --------
    >>> import numpy
    >>> library("numpy.linalg") == f"numpy {numpy.__version__}"
    True
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"Python {sys.version_info.major}.{sys.version_info.minor}"
    version = getattr(sys.modules.get(top), "__version__", None)
    return f"{top} {version if isinstance(version, str) else _installed_version(top)}"


@functools.cache
def _installed_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return "?"


def import_user_module(name: str) -> ModuleType | None:
    """Return a module that a function is going to import, if it is the user's own.

    It is imported already now, or else the function would have one fingerprint before its
    first call and another one after.
    """
    try:
        if name not in sys.modules:
            # The top package only: to find what lies in a package, it is imported.
            spec = importlib.util.find_spec(name.partition(".")[0])
            if (
                spec is None
                or spec.origin in {"built-in", "frozen"}
                or not is_user_file(spec.origin or "<")
            ):
                return None
        module = importlib.import_module(name)
    except Exception:  # noqa: BLE001 - the user's own code ran; the function's call will tell them
        return None
    return module if is_user_module(name) else None
