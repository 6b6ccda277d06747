"""What local schedulers computed, kept in case it is wanted again: `OpportunisticCache`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from dask._task_spec import DataNode, GraphNode, Task
from dask.callbacks import Callback
from dask.local import get_sync

from persicache_dask.contents import Contents, Key
from persicache_dask.inputs import Inputs
from persicache_dask.kept_values import KeptStats, KeptValues

__all__ = ["OpportunisticCache"]

Graph = dict[Key, GraphNode]
#: A task, by its name and by what it means.
Name = tuple[Key, bytes]
#: What puts the parts of a result together, and has another name in each computation.
_NEW_EACH_TIME: Final = "finalize-hlgfinalizecompute-"


@dataclass
class _Run:
    """What is known while a scheduler computes a graph."""

    names: dict[Key, Name]
    starts: dict[Key, float] = field(default_factory=dict)
    seconds: dict[Key, float] = field(default_factory=dict)
    #: What depends on a task that is there for what it does.
    tainted: set[Key] = field(default_factory=set)


class OpportunisticCache(Callback):
    """Keeps what dask's local schedulers compute, intermediate results too, and uses it again.

    Like `dask.cache.Cache`: a context manager, or registered for all computations to come; for
    the threaded, process and synchronous schedulers, not for a distributed Client. What doesn't
    fit into memory goes to disk. Of all, what saved the least seconds for its bytes goes first.

    Parameters
    ----------
    available_memory : int, float or str, default "auto"
        What may be in memory: bytes, ``"2 GiB"``, a share of the machine's or the cgroup's memory
        such as 0.1, or ``"auto"``: a share of 0.3.
    max_size : int, float or str, optional
        What may be kept in all, on disk too; by default ten times the memory.

    Notes
    -----
    A result is used again where a task has the same key and means the same: the same code, the
    same arguments, input files that haven't changed since. It is not kept if it took no longer to
    compute than to have back; if it is an iterator, or can't be copied; if it is None, as of a task
    that is there for what it does; nor if it depends on such a task, or on one of dask's writers.

    Who gets a kept result may change it: it is a copy. Several threads can compute at once.

    Examples
    --------
    >>> import time
    >>> import dask
    >>> def slow(x):
    ...     time.sleep(0.02)
    ...     return x + 1
    >>> y = dask.delayed(slow, pure=True)(1)
    >>> cache = OpportunisticCache(available_memory="10 MiB")
    >>> with cache:
    ...     y.compute(), y.compute(), cache.stats.hits
    (2, 2, 1)
    """

    def __init__(
        self, available_memory: float | str = "auto", *, max_size: float | str | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept = KeptValues(available_memory=available_memory, max_size=max_size)
        # By the identity of a graph, which lives as long as its computation.
        self._runs: dict[int, _Run] = {}
        self._n_wanted = 0  # how often it was entered or registered

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.stats})"

    @property
    def stats(self) -> KeptStats:
        """How many values there are, their bytes, how often one was used, and the seconds saved."""
        return self._kept.stats

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def __enter__(self) -> Self:
        self.register()
        return self

    def __exit__(self, *error: object) -> None:
        self.unregister()

    def register(self) -> None:
        """Use it from now on, in all threads."""
        self._n_wanted += 1
        super().register()

    def unregister(self) -> None:
        """Use it no longer, if nobody else has registered it."""
        self._n_wanted = max(self._n_wanted - 1, 0)
        if not self._n_wanted:
            Callback.active.discard(self._callback)

    # What a scheduler calls, in the thread that computes

    def _start(self, graph: Graph) -> None:
        if not self._n_wanted:
            return
        # Race: while one thread computes, dask hides all callbacks from the others, and afterwards
        # it may restore what was hidden from them: none. So they get it in spite of that.
        Callback.active.add(self._callback)
        contents = Contents(dict(graph), {}, Inputs())
        run = _Run({})
        self._runs[id(graph)] = run
        original: Graph | None = None
        for key, node in list(graph.items()):
            if type(node) is not Task or str(key).startswith(_NEW_EACH_TIME):
                continue
            digest = contents.digest(key)
            if not isinstance(digest, bytes):
                run.tainted.add(key)
                continue
            run.names[key] = name = (key, digest)
            if name in self._kept:
                original = dict(graph) if original is None else original
                graph[key] = _Kept(self, name, original)

    def _pretask(self, key: Key, graph: Graph, state: Mapping[str, Any]) -> None:  # noqa: ARG002 - dask's
        run = self._runs.get(id(graph))
        if run is not None:
            run.starts[key] = time.perf_counter()

    def _posttask(
        self,
        key: Key,
        value: Any,
        graph: Graph,
        state: Mapping[str, Any],
        worker_id: object,  # noqa: ARG002 - dask's
    ) -> None:
        run = self._runs.get(id(graph))
        if run is None or key not in run.starts:
            return
        # To have it again would take what it is made of, too.
        needs = state["dependencies"][key]
        seconds = time.perf_counter() - run.starts[key]
        seconds += max((run.seconds.get(each, 0.0) for each in needs), default=0.0)
        run.seconds[key] = seconds
        if not run.tainted.isdisjoint(needs) or _is_effect(value, graph[key]):
            run.tainted.add(key)
        elif key in run.names and value is not None and not _is_passing(value):
            self._kept.put(run.names[key], value, cost_seconds=seconds)

    def _finish(self, graph: Graph, state: Mapping[str, Any], errored: bool) -> None:  # noqa: ARG002, FBT001 - dask's
        self._runs.pop(id(graph), None)

    def _load(self, name: Name, graph: Graph) -> Any:
        """Return a value; computed, if it went meanwhile or can't be read."""
        try:
            return self._kept.get(name)
        except Exception:  # noqa: BLE001 - it is only not kept, whatever the disk says
            return get_sync(graph, name[0], callbacks=())


class _Kept(DataNode):
    """A task in whose place a kept value comes, which is read only if the scheduler gets there."""

    __slots__ = ("_cache", "_graph", "_name")

    def __init__(self, cache: OpportunisticCache, name: Name, graph: Graph) -> None:
        super().__init__(name[0], None)
        self._cache = cache
        self._name = name
        self._graph = graph

    def __call__(self, values: object = ()) -> Any:  # noqa: ARG002 - dask's
        return self._cache._load(self._name, self._graph)  # noqa: SLF001 - its own kind


def _is_effect(value: object, node: GraphNode) -> bool:
    """Return whether a task is there for what it does: not those of dask's own shuffles."""
    return value is None and not all(each.startswith("dask.") for each in _modules(node))


def _modules(node: GraphNode) -> Iterator[str]:
    if not isinstance(node, Task):
        return
    if node.has_subgraph():
        for each in node.args[0].values():
            yield from _modules(each)
    else:
        yield str(getattr(node.func, "__module__", None) or type(node.func).__module__)


def _is_passing(value: object) -> bool:
    """Return whether a value is used up by using it, or stands for something outside."""
    return isinstance(value, Iterator) or type(value).__module__.partition(".")[0] == "partd"
