"""persicache for joblib: its `Memory` over any place.

After `register()`, ``joblib.Memory("s3://team/cache", backend="persicache")`` keeps its results where any
persicache dictionary could be.
"""

from typing import Any

from persicache import MissingDependency

__all__ = ["register"]


def register(**defaults: Any) -> None:
    """Teach joblib the backend "persicache", in this process.

    Parameters
    ----------
    **defaults
        What ``backend_options=`` of `joblib.Memory` takes: `storage_options`, `near`,
        `signing_key`, `allow_pickle`, `verify`, `namespace` and `durable`, as for
        `persicache.PersiDict`; for every Memory with this backend that doesn't say otherwise.
        They replace those of an earlier call.

    Raises
    ------
    MissingDependency
        If joblib isn't installed.
    TypeError
        If there is no such option.

    Notes
    -----
    A Memory, and what it decorated, can be pickled. `storage_options` and `signing_key` aren't in
    the pickle: worker processes on the same machine find them in a file that only this user can
    read, as long as this process lives. On other machines, call this function with them first;
    dask has ``client.run(register, storage_options=...)`` for that.

    Examples
    --------
    >>> import joblib
    >>> register()
    >>> memory = joblib.Memory("memory://doc-joblib", backend="persicache", verbose=0)
    >>> @memory.cache
    ... def square(x):
    ...     print("computing")
    ...     return x * x
    >>> square(3), square(x=3)
    computing
    (9, 9)
    >>> memory.clear(warn=False)
    """
    try:
        import joblib  # noqa: PLC0415 - a bare install imports this package, too
    except ModuleNotFoundError as error:
        raise MissingDependency(package="joblib", extra="joblib") from error
    from persicache_joblib.backend import PersicacheBackend  # noqa: PLC0415 - it needs joblib
    from persicache_joblib.options import set_defaults  # noqa: PLC0415 - beside the other

    set_defaults(defaults)
    joblib.register_store_backend("persicache", PersicacheBackend)
