"""The decorator `persistent_memoize`: it reads its options and builds the object."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, overload

import platformdirs

from persicache.codecs import EntryCodec, SigningKey, Verify
from persicache.keys import CodeMode
from persicache.mappings import open_entries
from persicache.memo.base import Memoized
from persicache.memo.callables import check_function, kind_of
from persicache.memo.generator import MemoizedAsyncGenerator, MemoizedGenerator
from persicache.memo.memoized import MemoizedFunction
from persicache.memo.settings import Kinds, OnError, PolicyName, Settings

__all__ = ["default_store", "persistent_memoize"]

P = ParamSpec("P")
R = TypeVar("R")

_KINDS: Final[dict[str, type[Memoized[..., Any]]]] = {
    "function": MemoizedFunction,
    "generator": MemoizedGenerator,
    "asynchronous generator": MemoizedAsyncGenerator,
}


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
    ignore: str | Iterable[str] = (),
    key: Callable[..., Any] | None = None,
    version: object = None,
    depends_on: Iterable[Any] = (),
    code: CodeMode = "deep",
    expires: float | str | timedelta | Callable[[Any], Any] | None = None,
    memory: float | str | None = "64 MiB",
    single_flight: bool = True,
    lease: float | str | timedelta = 10.0,
    cache_exceptions: Kinds = (),
    on_error: OnError = "warn",
    record_args: bool = True,
    max_size: int | str | None = None,
    max_entries: int | None = None,
    policy: PolicyName = "gdsf",
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
    ignore: str | Iterable[str] = (),
    key: Callable[..., Any] | None = None,
    version: object = None,
    depends_on: Iterable[Any] = (),
    code: CodeMode = "deep",
    expires: float | str | timedelta | Callable[[Any], Any] | None = None,
    memory: float | str | None = "64 MiB",
    single_flight: bool = True,
    lease: float | str | timedelta = 10.0,
    cache_exceptions: Kinds = (),
    on_error: OnError = "warn",
    record_args: bool = True,
    max_size: int | str | None = None,
    max_entries: int | None = None,
    policy: PolicyName = "gdsf",
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
    ignore : str or iterable of str, optional
        Parameters that don't change the result, such as ``verbose``.
    key : callable, optional
        A function with the same parameters. It is called with the arguments, defaults included,
        and what it returns stands for them all: ``key=lambda path: Path(path).read_bytes()``.
    version : object, optional
        Part of the key: change it to make all results new.
    depends_on : iterable, optional
        What else the results depend on: functions and classes, with their code; files, given as
        `pathlib.Path`, with their content; all else as a value.
    code : {"deep", "own", "off"}, default "deep"
        Which code is part of the key: the function's and all that it reaches, the function's
        alone, or none.
    expires : float, str, timedelta or callable, optional
        How long a result is fresh: seconds, ``"90 s"``, ``"15 min"``, ``"1 h"``, ``"7 days"``; or
        a function from a result to one of these. By default for ever.
    memory : int, float, str or None, default "64 MiB"
        How much memory holds the results of this function that were stored or read last, so
        that the store is not even asked for them: bytes, a text, or a share of the machine's
        memory. None for none: then every hit sees at once what other processes did to the store.
    single_flight : bool, default True
        Whether of several equal calls at one time, in threads, tasks, processes or on other
        hosts, one computes and the others wait for its result.
    lease : float, str or timedelta, default 10 seconds
        For how long the others wait for one that stopped, or that they can't see any more,
        before another computes. One that was killed on the same machine they don't wait for.
    cache_exceptions : type or iterable of types, optional
        Exceptions that are results too: stored, and raised again.
    on_error : {"warn", "raise"}, default "warn"
        Whether trouble with the store is a warning, once a kind, and the call is computed; or
        an error. A damaged entry is always replaced.
    record_args : bool, default True
        Whether an entry says, in a few characters each, which arguments it is for; turn it off
        where arguments are secrets.
    max_size : int or str, optional
        How many bytes the results of this function may take in the store, by whatever code:
        ``"10 GiB"``. When there is more, some are evicted in the background until a tenth is free.
    max_entries : int, optional
        How many results there may be.
    policy : {"gdsf", "lru", "lfu"}, default "gdsf"
        Which results leave first: those that save the least time for their size, as often as
        they are used; the least recently used; the least frequently used. What has expired
        leaves before all others.
    durable : bool, default False
        Whether a stored result survives a power cut: without it one may have to be computed
        again.
    compression, signing_key, allow_pickle, verify, namespace, storage_options
        As for `PersiDict`.

    Returns
    -------
    MemoizedFunction
        The function, which now has verbs: ``f.lookup(...)``, ``f.contains(...)``,
        ``f.refresh(...)``, ``f.forget(...)``, ``f.explain(...)``, ``f.put(result, ...)``, ``f.clear()``,
        ``f.stats()``, ``f.entries()``, ``f.flush()``; ``f.map(iterable)`` looks up many calls at
        once, and ``f.ref(...)`` refers to a result without loading it. A coroutine function is
        still one, and generator functions are still generator functions, whose items are stored
        when all were taken.

    Raises
    ------
    TypeError
        If what is decorated is no function.
    TypeError, ValueError
        If an option makes no sense.

    Notes
    -----
    Equal dicts are one argument, whatever the order of their items, and so are keyword
    arguments taken by ``**kwargs``: don't memoize a function that looks at that order.

    The code that counts is found by name. What a function reaches only by a computed name
    (``getattr(module, name)``, ``importlib.import_module(name)``), or has changed in the
    middle of a large array or dict of its module, is not seen: give `version`.

    A function that waits for work in a thread pool whose threads are all busy with calls equal to
    its own waits for ever, as it does without being memoized.

    ``dask.delayed(f)(x)`` has a new key in dask each time, unless it is ``dask.delayed(f, pure=True)``;
    the result is computed once all the same.

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
    settings = Settings.of(
        ignore=ignore,
        key=key,
        version=version,
        depends_on=depends_on,
        code=code,
        expires=expires,
        memory=memory,
        single_flight=single_flight,
        lease=lease,
        cache_exceptions=cache_exceptions,
        on_error=on_error,
        record_args=record_args,
        max_size=max_size,
        max_entries=max_entries,
        policy=policy,
    )
    codec = EntryCodec(
        namespace=namespace,
        compression=compression,
        signing_key=signing_key,
        allow_pickle=allow_pickle,
        verify=verify,
    )
    place = default_store() if store is None else store
    entries = open_entries(place, codec, durable=durable, storage_options=storage_options)

    def decorate(function: Any) -> Any:
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(decorate(function.__func__))
        check_function(function)
        kind = kind_of(function)
        if kind == "coroutine":
            # Whoever has no coroutines needn't wait for asyncio to be imported.
            from persicache.memo.coroutine import MemoizedCoroutine  # noqa: PLC0415 - as above

            return MemoizedCoroutine(function, entries, settings)
        return _KINDS[kind](function, entries, settings)

    return decorate
