"""Where code comes from: the user's own files, or a library with a version."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

__all__ = ["is_user_file", "is_user_module", "library", "module_of_import"]

_LIBRARY_PLACES: Final = tuple(
    f"{os.path.realpath(path)}{os.sep}"
    for path in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *(getattr(site, "getsitepackages", list)()),
        *([site.getusersitepackages()] if hasattr(site, "getusersitepackages") else []),
    )
    if path
)

# Of another Python, of the user, or on the path by hand.
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})

# Our own modules are a library, also where they lie in a working copy, the integrations beside them.
_HERE: Final = Path(__file__).resolve().parent.parent
_OURS: Final = (f"{_HERE}{os.sep}", str(_HERE.parent / "integrations" / "persicache_"))


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
    path = os.path.realpath(filename)
    return not path.startswith((*_LIBRARY_PLACES, *_OURS)) and _INSTALLED.isdisjoint(Path(path).parts)


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
    # What is installed, not what the module says: it may not be loaded yet.
    version = _installed_version(top) or getattr(sys.modules.get(top), "__version__", None)
    return f"{top} {version if isinstance(version, str) else '?'}"


@functools.cache
def _installed_version(package: str) -> str | None:
    from importlib import metadata  # noqa: PLC0415 - it imports a lot, and few ask

    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        pass
    names = sorted(set(_distributions().get(package, ())))
    try:
        return " ".join(f"{name} {metadata.version(name)}" for name in names) or None
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    from importlib import metadata  # noqa: PLC0415 - as above

    # Slow, as it reads what every distribution contains; for PyYAML and its like only.
    return metadata.packages_distributions()


def module_of_import(name: str, package: str = "") -> ModuleType | None:
    """Return a module that a function is going to import, if it is the user's own.

    It is imported already now, or else the function would have one fingerprint before its
    first call and another one after.
    """
    try:
        name = importlib.util.resolve_name(name, package)
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
