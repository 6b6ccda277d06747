"""persicache for zarr: its arrays and groups in any place, every chunk checked when it is read.

`PersiStore` is a zarr 3 `Store` over a `PersiDict`, and so over a directory, a bucket, an SQLite
or LMDB file, with copies near or without.
"""

from typing import TYPE_CHECKING, Any

from persicache import MissingDependency

if TYPE_CHECKING:
    from persicache_zarr.store import PersiStore

__all__ = ["PersiStore"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # A store is of zarr's class, so zarr is imported when it is first asked for.
    try:
        import zarr.abc.store  # noqa: PLC0415, F401 - as above
    except ModuleNotFoundError as error:
        raise MissingDependency(package="zarr", extra="zarr") from error
    from persicache_zarr.store import PersiStore  # noqa: PLC0415 - as above

    globals()[name] = PersiStore
    return PersiStore


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
