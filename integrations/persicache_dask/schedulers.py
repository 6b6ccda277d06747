"""How dask comes to ask a cache first: the schedulers that `compute` and `persist` find."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Final, Protocol, TypeAlias

import dask
from dask import base as dask_base

__all__ = ["Caching", "Get", "Registration", "is_client"]

Get: TypeAlias = Callable[..., Any]

# Half of its names have types, and these others than they could have.
_base: Final[Any] = dask_base
#: What dask calls the client that is current.
_DISTRIBUTED: Final = ("dask.distributed", "distributed")


class Caching(Protocol):
    """A cache, as schedulers see it."""

    def get(self, inner: Get, expr: Any, keys: Any, *, waits: bool = True, **options: Any) -> Any:
        """Compute keys of a graph by a scheduler, as far as they aren't stored."""

    def submit(self, inner: Get, expr: Any, keys: Any) -> dict[Any, Any]:
        """Return the futures of keys of a graph, by what submits one."""


def is_client(get: Get) -> bool:
    """Whether this is the ``get`` of a distributed client, and not of a local scheduler."""
    return hasattr(getattr(get, "__self__", None), "persist")


#: Whether a graph comes from here, and need not be planned again by the client that it goes to.
_is_planned: Final[ContextVar[bool]] = ContextVar("is_planned", default=False)


class Registration:
    """Puts a cache in front of every scheduler that dask may choose, until `end`.

    Parameters
    ----------
    cache : Caching
        The cache.
    """

    def __init__(self, cache: Caching) -> None:
        self._before = dask.config.get("scheduler", None)
        self._ours: dict[str, Scheduler | None] = {}
        named = _base.named_schedulers
        self._theirs: dict[str, Get] = dict(named)
        self.is_active = True
        for name, inner in self._theirs.items():
            self._ours[name] = named[name] = Scheduler(self, cache, partial(_given, inner))
        for name in _DISTRIBUTED:
            if name not in self._theirs:
                self._ours[name] = named[name] = Scheduler(self, cache, _current)
        self._client = _Client(self, cache)
        self._config: Any = dask.config.set(scheduler=Scheduler(self, cache, self._default))

    def end(self) -> None:
        """Take it away again."""
        # Race: what was chosen before goes on, without the cache.
        self.is_active = False
        self._config.__exit__(None, None, None)
        self._client.end()
        named = _base.named_schedulers
        for name, ours in self._ours.items():
            if named.get(name) is not ours:
                continue  # another cache was put in front of this one, which is a pane of glass now
            if name in self._theirs:
                named[name] = self._theirs[name]
            else:
                del named[name]

    def _default(self, expr: Any) -> Get:
        """Return the scheduler that there would be without a cache."""
        if self._before is not None:
            found = _base.get_scheduler(scheduler=self._before)
            is_ours = isinstance(found, Scheduler) and found.registration is self
            return found.resolve(expr) if is_ours else found  # type: ignore[no-any-return]
        if "distributed" in sys.modules:
            try:
                return _current(expr)
            except ValueError:
                pass
        return self._theirs["processes" if _is_bag(expr) else "threads"]


class _Client:
    """Has clients ask a cache that are asked themselves, by ``client.compute(x)``.

    Parameters
    ----------
    registration : Registration
        Whose it is.
    cache : Caching
        The cache.
    """

    #: What compute, persist and get go by, and all else that clients do.
    _NAME: Final = "_graph_to_futures"

    def __init__(self, registration: Registration, cache: Caching) -> None:
        from distributed import Client  # noqa: PLC0415 - imported when it is used

        self._class: Any = Client
        self._theirs: Any = getattr(Client, self._NAME)
        theirs = self._theirs

        @wraps(theirs)
        def submit(client: Any, expr: Any, keys: Any, *args: Any, **options: Any) -> Any:
            def inner(expr: Any, keys: Any) -> Any:
                return theirs(client, expr, keys, *args, **options)

            # What is submitted or mapped is no collection, and may be called for what it does.
            is_call = type(expr).__name__ in {"LLGExpr", "_MapExpr"}
            if is_call or _is_planned.get() or not registration.is_active:
                return inner(expr, keys)
            token = _is_planned.set(True)
            try:
                return cache.submit(inner, expr, keys)
            finally:
                _is_planned.reset(token)

        self._ours = submit
        setattr(Client, self._NAME, submit)

    def end(self) -> None:
        """Have clients be as they were."""
        if getattr(self._class, self._NAME) is self._ours:
            setattr(self._class, self._NAME, self._theirs)


class Scheduler:
    """What dask calls in place of a scheduler.

    Parameters
    ----------
    registration : Registration
        Whose it is.
    cache : Caching
        The cache.
    resolve : callable
        Returns the scheduler for a graph.
    """

    def __init__(self, registration: Registration, cache: Caching, resolve: Callable[[Any], Get]) -> None:
        self.registration = registration
        self.resolve = resolve
        self._cache = cache

    def __call__(self, expr: Any, keys: Any, **options: Any) -> Any:
        """Compute keys of a graph."""
        inner = self.resolve(expr)
        if not self.registration.is_active:
            return inner(expr, keys, **options)
        return self._computed(inner, expr, keys, **options)

    def persist(self, collections: Any, *, optimize_graph: bool = True, **options: Any) -> Any:
        """Compute collections into ones that hold the results, or futures."""
        # By the way for schedulers that have no such method: it rebuilds collections of every kind.
        return _base.persist(
            *collections, traverse=False, optimize_graph=optimize_graph, scheduler=self._submit, **options
        )

    def _computed(self, inner: Get, expr: Any, keys: Any, **options: Any) -> Any:
        token = _is_planned.set(True)
        try:
            return self._cache.get(inner, expr, keys, **options)
        finally:
            _is_planned.reset(token)

    @property
    def _submit(self) -> Get:
        def submit(expr: Any, keys: Any, **options: Any) -> Any:
            inner = self.resolve(expr)
            if self.registration.is_active:
                return self._computed(inner, expr, keys, waits=False, **options)
            return (
                inner(expr, keys, sync=False, **options)
                if is_client(inner)
                else inner(expr, keys, **options)
            )

        return submit


def _given(inner: Get, expr: object) -> Get:  # noqa: ARG001 - the same for every graph
    return inner


def _current(expr: object) -> Get:  # noqa: ARG001 - as above
    from distributed import get_client  # noqa: PLC0415 - slow, and not everybody has a cluster

    client = get_client()
    if client.asynchronous:
        raise RuntimeError("an asynchronous client can't compute here; use a synchronous one, or cached()")
    return client.get


def _is_bag(expr: Any) -> bool:
    """Whether a graph is that of a bag, which dask computes in processes."""
    optimizers = [getattr(each, "low_level_optimizer", None) for each in getattr(expr, "operands", ())]
    optimizers.append(getattr(expr, "low_level_optimizer", None))
    return any(getattr(each, "__module__", "").startswith("dask.bag") for each in optimizers if each)
