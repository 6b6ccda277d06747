"""Results of dask collections that outlive the session: `ResultCache`, `cached`."""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar, get_args

from dask import core
from dask._expr import HLGExpr, LLGExpr
from dask._task_spec import Alias
from dask.base import collections_to_expr, is_dask_collection

from persicache import PersicacheWarning, StaleReference
from persicache_dask.contents import Key
from persicache_dask.explanation import ResultExplanation
from persicache_dask.graphs import graph_of, rebuilt
from persicache_dask.plan import Plan, Scope, make_plan
from persicache_dask.schedulers import Get, Registration, is_client
from persicache_dask.stored import Place

__all__ = ["ResultCache", "ResultStats", "cached"]

C = TypeVar("C")

#: How often a computation is planned anew because what was to be loaded has gone.
_MOST_PLANS: Final = 4
#: The digests of so many futures are known.
_MOST_KNOWN: Final = 1_000_000


class ResultStats(NamedTuple):
    """What a `ResultCache` did.

    Attributes
    ----------
    hits : int
        Results that were loaded.
    misses : int
        Results that were computed, and stored if that was worth it.
    unkeyed : int
        Results that were computed because nothing tells what they mean; `ResultCache.explain`
        says why.
    tasks_skipped : int
        Tasks that didn't run.
    seconds_saved : float
        What computing the results that were loaded had taken, as far as their entries still say.
    """

    hits: int = 0
    misses: int = 0
    unkeyed: int = 0
    tasks_skipped: int = 0
    seconds_saved: float = 0.0


class ResultCache:
    """Under which dask computes what isn't stored, stores it, and loads what is.

    Parameters
    ----------
    store : str or path-like
        Where the results lie: a directory, ``s3://bucket/prefix``, any fsspec URL that the
        workers reach, too.
    scope : {"outputs", "all"}, default "outputs"
        Whether the results of a computation are kept, part by part as they are chunks or
        partitions; or also what it computes on the way, where that is safe.
    min_seconds : float, default 0.0
        What computes faster isn't stored; nor ever is what computes faster than it would load.
    version : object, optional
        What the results depend on besides: change it to make all new.
    **options
        Those of `persicache.persistent_memoize` for its store: ``expires``, ``max_size``,
        ``max_entries``, ``policy``, ``on_error``, ``durable``, ``compression``, ``signing_key``,
        ``allow_pickle``, ``verify``, ``namespace``, ``storage_options``.

    Notes
    -----
    A result is found by what its task means: the code of its functions, its arguments, and the
    files that it reads, whose changes are noticed by their times, checksums or etags; not by dask's
    names. So tasks are taken to return the same whenever they run: seed what throws dice.

    Workers store and load, not the client, so a store must be one that they share: a
    ``memory://`` store is each process's own. What computing takes is measured where a task
    runs: its own time, or, if others lead up to it, the time since they were sent off.

    Never skipped is what writes (``to_parquet``, ``to_zarr``, ``store``...) and what returns None.
    Something else that is read (a database, a folder of files named by a string) is not noticed
    when it changes: give `version`.

    Examples
    --------
    >>> import dask.array as da
    >>> import persicache_dask
    >>> x = da.arange(1_000_000, chunks=250_000)
    >>> cache = persicache_dask.ResultCache("memory://doc-results")
    >>> with cache:
    ...     int((x ** 2).sum().compute())
    333332833333500000
    >>> with cache:
    ...     int((x ** 2).sum().compute())
    333332833333500000
    >>> cache.stats().hits
    1
    """

    def __init__(
        self,
        store: str | os.PathLike[str],
        *,
        scope: Scope = "outputs",
        min_seconds: float = 0.0,
        version: object = None,
        **options: Any,
    ) -> None:
        if scope not in get_args(Scope):
            raise ValueError(f"scope must be one of {get_args(Scope)}, not {scope!r}")
        url = os.fspath(store)
        # Workers may have another working directory.
        self._place = Place(url if "://" in url else str(Path(url).expanduser().absolute()), options)
        self._place.results  # noqa: B018 - says what is wrong with the options
        self._scope: Scope = scope
        self._min_seconds = _seconds(min_seconds)
        self._salt = version
        self._known: dict[Key, bytes] = {}
        self._counts: Counter[str] = Counter()
        # Whose entries were not asked yet what the results cost: nobody who computes waits for that.
        self._unasked: deque[bytes] = deque(maxlen=_MOST_KNOWN)
        self._seconds_saved = 0.0
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._registered: list[Registration | None] = []

    def __repr__(self) -> str:
        with self._lock:
            hits, misses = self._counts["hits"], self._counts["misses"]
        return f"<ResultCache in {self._place.results.url!r}: {hits} hits, {misses} misses>"

    def __enter__(self) -> Self:
        self.register()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unregister()

    def register(self) -> None:
        """Have ``compute`` and ``persist`` use the cache, until `unregister`; in all threads."""
        # Once is enough: a second time, what is kept already would be kept again.
        self._registered.append(None if self._registered else Registration(self))

    def unregister(self) -> None:
        """Have ``compute`` and ``persist`` be as they were before `register`."""
        if not self._registered:
            raise RuntimeError("unregister() without a register() before")
        registration = self._registered.pop()
        if registration is not None:
            registration.end()

    def stats(self) -> ResultStats:
        """Return what happened since this object was made; entries are asked what they saved."""
        with self._lock:
            unasked = list(self._unasked)
            self._unasked.clear()
        seconds = self._place.seconds(unasked)
        with self._lock:
            self._seconds_saved += seconds
            return ResultStats(**self._counts, seconds_saved=self._seconds_saved)

    def explain(self, collection: Any) -> ResultExplanation:
        """Tell what of a collection is stored, what isn't, and what can't be, and why.

        Nothing is computed, and nothing is stored.

        Examples
        --------
        >>> import dask
        >>> import persicache_dask
        >>> cache = persicache_dask.ResultCache("memory://doc-results-explain")
        >>> print(cache.explain(dask.delayed(sum)([1, 2])))
        0 of 1 result is stored; 0 of 1 task needn't run
          to be computed: sum-...
        """
        if not is_dask_collection(collection):
            raise TypeError(f"explain() takes a dask collection, not {collection!r}")
        expr: Any = collections_to_expr([collection]).optimize()
        return ResultExplanation.of(self._plan(expr.__dask_graph__(), expr.__dask_keys__()))

    def entries(self) -> Iterable[Any]:
        """Return an iterable of what is stored, as of a memoized function."""
        found: Iterable[Any] = self._place.results.entries()
        return found

    def clear(self) -> int:
        """Remove all stored results of dask from the store; return how many."""
        count: int = self._place.results.clear()
        return count

    def cached(self, collection: C) -> C:
        """Return a collection of the same kind, that loads what is stored, and stores the rest.

        What is stored is looked up now; if it is removed before it is loaded, it is computed, or, where
        that takes more than ten thousand tasks, a megabyte of data or a P2P shuffle, computing
        raises StaleReference.
        """
        if not is_dask_collection(collection):
            raise TypeError(f"cached() takes a dask collection, not {collection!r}")
        expr: Any = collections_to_expr([collection]).optimize()
        keys = list(_flat(expr.__dask_keys__()))
        plan = self._planned(expr.__dask_graph__(), keys, again=True)
        names: dict[Key, Any] = {key: Alias(key, plan.names[key]) for key in keys}
        return rebuilt(collection, expr, graph_of(expr, plan, more=names), keys)  # type: ignore[no-any-return]

    def get(self, inner: Get, expr: Any, keys: Any, *, waits: bool = True, **options: Any) -> Any:
        """Compute keys of a graph by a scheduler, as far as they aren't stored.

        Parameters
        ----------
        inner : callable
            The scheduler's ``get``.
        expr : Expr or mapping
            The graph.
        keys : key, or nested lists of these
            What is asked for.
        waits : bool, default True
            Whether to return results; else futures, of a scheduler that has some.
        **options
            For the scheduler.
        """
        given = expr if isinstance(expr, Mapping) else expr.__dask_graph__()
        if is_client(inner) and not waits:
            options["sync"] = False
        avoid: list[bytes] | None = []
        again = is_client(inner) and not waits  # nobody is here to plan anew when a future fails
        while True:
            plan = self._planned(given, keys, avoid=avoid, again=again)
            graph = graph_of(expr, plan) if is_client(inner) else plan.graph
            try:
                return inner(graph, _renamed(keys, plan.names), **options)
            except StaleReference as error:
                if avoid is None:
                    raise
                avoid.append(bytes.fromhex(error.call))
                if len(avoid) >= _MOST_PLANS:
                    avoid = None  # nothing is loaded then

    def submit(self, inner: Get, expr: Any, keys: Any) -> dict[Key, Any]:
        """Return the futures of keys of a graph, by what submits one to a cluster.

        Parameters
        ----------
        inner : callable
            Takes an Expr and its keys, and returns futures by key.
        expr : Expr
            The graph.
        keys : iterable of key
            What is asked for.
        """
        plan = self._planned(expr.__dask_graph__(), list(keys), again=True)
        graph = graph_of(expr, plan)
        kind: Any = LLGExpr if isinstance(graph, dict) else HLGExpr
        futures = inner(kind(graph), [plan.names[key] for key in keys])
        return {key: futures[plan.names[key]] for key in keys}

    def _planned(self, graph: Mapping[Key, Any], keys: Any, **how: Any) -> Plan:
        """Plan, and count."""
        plan = self._plan(graph, keys, **how)
        for reason in dict.fromkeys(plan.troubles.values()):
            if reason not in self._told:
                self._told.add(reason)
                warnings.warn(
                    f"some results are always computed, because {reason}", PersicacheWarning, stacklevel=2
                )
        with self._lock:
            self._counts.update(
                hits=len(plan.hits),
                misses=len(plan.misses),
                unkeyed=len(plan.unkeyed),
                tasks_skipped=plan.tasks_skipped,
            )
            self._unasked.extend(plan.hits.values())
            # Futures are called as the tasks that they are of.
            self._known |= plan.contents
            while len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return plan

    def _plan(self, graph: Mapping[Key, Any], keys: Any, **how: Any) -> Plan:
        return make_plan(
            graph,
            _flat([keys]),
            self._place,
            scope=self._scope,
            salt=self._salt,
            min_seconds=self._min_seconds,
            known=self._known,
            **how,
        )


def cached(collection: C, store: str | os.PathLike[str] | ResultCache, **options: Any) -> C:
    """Return a collection of the same kind, whose results are loaded if they are stored, or are stored.

    Parameters
    ----------
    collection : dask collection
        An array, a dataframe, a bag, a delayed value, or any other, as those of xarray.
    store : str, path-like or ResultCache
        Where the results lie.
    **options
        Those of `ResultCache`.

    Examples
    --------
    >>> import dask
    >>> from persicache_dask import cached
    >>> total = dask.delayed(sum)([1, 2])
    >>> cached(total, "memory://doc-results-cached").compute()
    3
    """
    cache = store if isinstance(store, ResultCache) else ResultCache(store, **options)
    return cache.cached(collection)


def _seconds(given: Any) -> float:
    if not isinstance(given, (int, float)) or not given >= 0:
        raise ValueError(f"min_seconds must be a number of seconds, 0 or more, not {given!r}")
    return float(given)


_flat: Final[Any] = core.flatten


def _renamed(keys: Any, names: Mapping[Key, Key]) -> Any:
    return [_renamed(each, names) for each in keys] if isinstance(keys, list) else names[keys]
