"""The decorator `persistent_memoize`: it reads its options and builds the object."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args, overload

import platformdirs

from persicache.codecs import EntryCodec, SigningKey, Verify
from persicache.mappings import open_entries
from persicache.memo.callables import check_function
from persicache.memo.memoized import CodeMode, MemoizedFunction, OnError

__all__ = ["default_store", "persistent_memoize"]

P = ParamSpec("P")
R = TypeVar("R")


def default_store() -> Path:
    """Return the directory that holds results when no store is named: in the user's cache."""
    return Path(platformdirs.user_cache_dir("persicache")) / "memo"


@overload
def persistent_memoize(store: Callable[P, R], /) -> MemoizedFunction[P, R]: ...


@overload
def persistent_memoize(
    store: str | os.PathLike[str] | None = None,
    /,
    *,
    ignore: Iterable[str] = (),
    version: object = None,
    code: CodeMode = "deep",
    on_error: OnError = "warn",
    durable: bool = False,
    compression: str | None = None,
    signing_key: SigningKey | None = None,
    allow_pickle: bool | None = None,
    verify: Verify = "first",
    namespace: str = "",
    storage_options: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], MemoizedFunction[P, R]]: ...


def persistent_memoize(
    store: Callable[..., Any] | str | os.PathLike[str] | None = None,
    /,
    *,
    ignore: Iterable[str] = (),
    version: object = None,
    code: CodeMode = "deep",
    on_error: OnError = "warn",
    durable: bool = False,
    compression: str | None = None,
    signing_key: SigningKey | None = None,
    allow_pickle: bool | None = None,
    verify: Verify = "first",
    namespace: str = "",
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Keep the results of a function, so that the same call is never computed twice.

    Two calls are the same if their arguments are equal, defaults included, and the function's
    code is: its own and that of every function, class and constant of yours that it uses.
    Edits to comments, docstrings and layout don't count. Old results stay: switching back to
    old code finds them again.

    Parameters
    ----------
    store : str or path-like, optional
        Where the results lie: a directory, ``s3://bucket/prefix``, any fsspec URL. By default
        a directory in the user's cache.
    ignore : iterable of str, optional
        Parameters that don't change the result, such as ``verbose``.
    version : object, optional
        Part of the key: change it to make all results new.
    code : {"deep", "own", "off"}, default "deep"
        Which code is part of the key: the function's and all that it reaches, the function's
        alone, or none.
    on_error : {"warn", "raise"}, default "warn"
        Whether trouble with the store is a warning, once a kind, and the call is computed; or
        an error. A damaged entry is always replaced.
    durable : bool, default False
        Whether a stored result survives a power cut: without it one may have to be computed
        again.
    compression, signing_key, allow_pickle, verify, namespace, storage_options
        As for `PersiDict`.

    Returns
    -------
    MemoizedFunction
        The function, which now has verbs: ``f.lookup(...)``, ``f.contains(...)``,
        ``f.forget(...)``, ``f.clear()``, ``f.stats()``.

    Raises
    ------
    TypeError
        If what is decorated is not a plain function.
    ValueError
        If an option makes no sense.

    Notes
    -----
    Equal dicts are one argument, whatever the order of their items, and so are keyword
    arguments taken by ``**kwargs``: don't memoize a function that looks at that order.

    The code that counts is found by name. What a function reaches only by a computed name
    (``getattr(module, name)``, ``importlib.import_module(name)``), or has changed in the
    middle of a large array or dict of its module, is not seen: give `version`.

    Examples
    --------
    >>> @persistent_memoize("memory://doc-memoize")
    ... def square(x):
    ...     print("computing")
    ...     return x * x
    >>> square(3), square(x=3)
    computing
    (9, 9)
    >>> square.stats().hits
    1
    """
    if store is not None and not isinstance(store, (str, os.PathLike)):
        check_function(store)
        return persistent_memoize()(store)
    if code not in get_args(CodeMode):
        raise ValueError(f"code must be one of {get_args(CodeMode)}, not {code!r}")
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error must be one of {get_args(OnError)}, not {on_error!r}")
    codec = EntryCodec(
        namespace=namespace,
        compression=compression,
        signing_key=signing_key,
        allow_pickle=allow_pickle,
        verify=verify,
    )
    place = default_store() if store is None else store
    entries = open_entries(place, codec, durable=durable, storage_options=storage_options)

    def decorate(function: Callable[P, R]) -> MemoizedFunction[P, R]:
        return MemoizedFunction(
            function, entries, ignore=ignore, version=version, code=code, on_error=on_error
        )

    return decorate
