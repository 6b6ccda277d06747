"""From the graph of a computation to one that loads what is stored, and stores what is not."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef, convert_legacy_graph, cull
from dask.sizeof import sizeof

from persicache import BackendError, PersicacheWarning, digest
from persicache_dask.contents import Contents, Key, Unkeyed
from persicache_dask.inputs import Inputs
from persicache_dask.stored import Keeping, Loading, Place

__all__ = ["Plan", "Scope", "make_plan"]

Scope: TypeAlias = Literal["outputs", "all"]
Graph: TypeAlias = dict[Key, GraphNode]

#: The functions that put the parts of a collection together: the parts are kept, not the whole, so
#: that a part that changed is all that is computed again.
_GLUE: Final = {
    ("dask.array.core", "finalize"),
    ("dask.bag.core", "finalize"),
    ("dask.dataframe.core", "_concat"),
    ("dask.delayed", "finalize"),
}
#: So much goes with a task that loads a result, to compute it if that has gone; and so much more
#: with some of a computation's, as reductions have few results and many tasks.
_MOST_TASKS: Final = 100
_MOST_TASKS_MORE: Final = 10_000
_MOST_BYTES: Final = 1_000_000
#: What a task holds beside data: shapes, names, slices.
_TASK_BYTES: Final = 1_000


@dataclass(slots=True)
class Plan:
    """What is to be computed, and what is not.

    Attributes
    ----------
    graph : dict of key to GraphNode
        What is to be computed.
    names : dict of key to key
        What a key that was asked for, or its annotations, is called there.
    hits, misses : dict of key to bytes
        The digests of the results that are loaded, and of those that are computed.
    unkeyed : dict of key to str
        The results that can't be kept, and why.
    troubles : dict of key to str
        Those of them that could be, if their tasks were others.
    tasks_skipped : int
        How many tasks don't run.
    contents : dict of key to bytes
        What those that were asked for mean, by the new keys.
    inputs : Inputs
        The files that the tasks read.
    """

    graph: Graph
    names: dict[Key, Key]
    hits: dict[Key, bytes]
    misses: dict[Key, bytes]
    unkeyed: dict[Key, str]
    troubles: dict[Key, str]
    tasks_skipped: int
    contents: dict[Key, bytes]
    inputs: Inputs


def make_plan(
    given: Mapping[Key, Any],
    keys: Iterable[Key],
    place: Place,
    *,
    scope: Scope,
    salt: object,
    min_seconds: float,
    known: Mapping[Key, bytes],
    avoid: Collection[bytes] | None = (),
    again: bool = False,
) -> Plan:
    """Plan a computation.

    Parameters
    ----------
    given : mapping
        The graph.
    keys : iterable of key
        What is asked for.
    place : Place
        The store.
    scope : {"outputs", "all"}
        Whose results are kept.
    salt : object
        What the results depend on besides.
    min_seconds : float
        What computes faster isn't stored.
    known : mapping of key to bytes
        The digests of futures.
    avoid : collection of bytes or None
        Results that can't be loaded, though there are entries; None: all.
    again : bool, default False
        Whether a task that loads a result brings with it what computes that, if it isn't much.
    """
    wanted = list(dict.fromkeys(keys))
    graph: Graph = cull(convert_legacy_graph(given), wanted)
    for key in wanted:
        _split(graph, _target(graph, key))
    inputs = Inputs()
    contents = Contents(graph, known, inputs)
    plan = Plan({}, {}, {}, {}, {}, {}, 0, {}, inputs)
    if scope == "all" and any(_is_shuffle(node) for node in graph.values()):
        # Parts of a shuffle tell one another what they do; one that is loaded tells nothing.
        scope = "outputs"
    seen: set[Key] = set()
    times: Counter[bytes] = Counter()
    frontier = _outputs(graph, wanted)
    while frontier:
        seen.update(frontier)
        found = {key: contents.digest(key) for key in frontier}
        keyed = {}
        for key, each in found.items():
            if isinstance(each, Unkeyed):
                plan.unkeyed[key] = each.reason
                if each.is_trouble:
                    plan.troubles[key] = each.reason
            else:
                # Twice the same task is computed twice, if it were by dask: it may throw dice.
                keyed[key] = digest((each, salt, times[each]))
                times[each] += 1
        asked = set() if avoid is None else {each for each in keyed.values() if each not in avoid}
        stored = _stored(place, asked)
        for key, each in keyed.items():
            (plan.hits if each in stored else plan.misses)[key] = each
        if scope == "all":
            left = [key for key in found if key not in plan.hits]
            below = {dep: None for key in left for dep in sorted(graph[key].dependencies, key=repr)}
            frontier = [key for key in below if key not in seen and _can_be_kept(graph.get(key))]
        else:
            frontier = []
    _rewrite(plan, graph, wanted, contents, place, min_seconds, digest(salt), again=again)
    plan.contents |= {
        plan.names[key]: each for key in wanted if isinstance(each := contents.digest(key), bytes)
    }
    plan.tasks_skipped = len(graph) - len(plan.graph)
    return plan


def _rewrite(
    plan: Plan,
    graph: Graph,
    wanted: Iterable[Key],
    contents: Contents,
    place: Place,
    min_seconds: float,
    salt: bytes,
    *,
    again: bool,
) -> None:
    """Put into a plan the tasks that are left, under names that tell what they mean.

    A scheduler goes by names, and dask's don't change with a file or a function: what it still
    holds from before could be something else, and would be stored as what it isn't.
    """
    now, names, room = time.time(), plan.names, _MOST_TASKS_MORE
    stack = list(wanted)
    while stack:
        key = stack[-1]
        if key in names or key not in graph:
            names.setdefault(key, key)
            stack.pop()
            continue
        node = graph[key]
        needs = [] if key in plan.hits else sorted(node.dependencies, key=repr)
        missing = [each for each in needs if each not in names]
        if missing:
            stack += missing
            continue
        content = contents.digest(key)
        meaning = content.hex() if isinstance(content, bytes) else ""
        token = digest(f"{key!r} {meaning} {salt.hex()} {[names[each] for each in needs]!r}")
        if key in plan.hits:
            names[key] = name = _named(key, token, "load-")
            leading = _leading_to(graph, key, max(_MOST_TASKS, room)) if again else None
            # What is too much for one is too much for the next: nobody looks as far again.
            room -= room if leading is None else len(leading[0])
            loading = Loading(place, plan.hits[key], leading)
            plan.graph[name] = Task(name, loading, _data_producer=True)
        elif key in plan.misses:
            names[key] = name = _named(key, token, "")
            leads = any(type(graph.get(each)) is not DataNode and each not in plan.hits for each in needs)
            keeping = Keeping(
                place, plan.misses[key], node, needs, began=now if leads else None, min_seconds=min_seconds
            )
            plan.graph[name] = Task(name, keeping, *(TaskRef(names[each]) for each in needs))
        elif isinstance(node, Alias):
            names[key] = name = _named(key, token, "")
            plan.graph[name] = Alias(name, names[node.target])
        else:
            # Who takes part in dask's shuffle is looked up there by name.
            names[key] = name = key if _is_p2p(node) else _named(key, token, "")
            changed = {each: names[each] for each in needs if names[each] != each}
            plan.graph[name] = node.substitute(changed, key=name)


def _leading_to(graph: Graph, wanted: Key, most_tasks: int) -> tuple[Graph, Key] | None:
    """Return what computes a result; None if it is much to send along, or can't run by itself."""
    found: Graph = {}
    stack, size = [wanted], 0
    while stack:
        key = stack.pop()
        if key in found:
            continue
        node = graph.get(key)
        if node is None or _is_p2p(node):
            return None
        found[key] = node
        size += max(_weight(node) - _TASK_BYTES, 0)
        if len(found) > most_tasks or size > _MOST_BYTES:
            return None
        stack += node.dependencies
    return found, wanted


def _weight(value: Any) -> int:
    """Estimate the bytes of the data in a task, or of a part of it: not of the task itself."""
    if isinstance(value, DataNode):
        return _weight(value.value)
    if isinstance(value, Task):
        return sum(map(_weight, (*value.args, *value.kwargs.values())))
    if isinstance(value, dict) and len(value) < _MOST_TASKS:
        return sum(map(_weight, value.values()))
    return 0 if isinstance(value, (GraphNode, TaskRef, str, int)) else sizeof(value)


def _named(key: Key, token: bytes, prefix: str) -> Key:
    """Return a name that is like `key` to people, and unlike to schedulers."""
    if isinstance(key, tuple) and key and isinstance(key[0], str):
        return (_named(key[0], token, prefix), *key[1:])
    name = key if isinstance(key, str) else "task"
    return f"{prefix}{name}-{token.hex()[:32]}"


def _split(graph: Graph, key: Key) -> None:
    """Undo the fusion of a part with what puts parts together: `persist` has the part alone."""
    node = graph.get(key)
    if not isinstance(node, Task) or not node.has_subgraph():
        return
    inner, outer_key, names, *values = node.args
    outer = inner[outer_key]
    # The part of a bag is an iterator then, and gone when it was stored.
    if not _is_glue(outer) or _module(outer) == "dask.bag.core" or len(outer.dependencies) != 1:
        return
    (part,) = outer.dependencies
    if part not in inner or part in graph:
        return
    rest = {name: each for name, each in inner.items() if name != outer_key}
    graph[part] = Task(part, node.func, rest, part, names, *values)
    graph[key] = outer.substitute({}, key=key)


def _is_glue(node: GraphNode | None) -> bool:
    return isinstance(node, Task) and (_module(node), _name(node.func)) in _GLUE


def _outputs(graph: Graph, wanted: Iterable[Key]) -> list[Key]:
    """Return the tasks whose results are asked for, or are what those are put together from."""
    found: dict[Key, None] = {}
    for key in wanted:
        target = _target(graph, key)
        node = graph.get(target)
        if node is not None and _is_glue(node):
            found |= {_target(graph, each): None for each in sorted(node.dependencies, key=repr)}
        else:
            found[target] = None
    return [key for key in found if _can_be_kept(graph.get(key))]


def _can_be_kept(node: GraphNode | None) -> bool:
    if type(node) is not Task:
        return False
    if node.has_subgraph():
        inner, key = node.args[:2]
        while isinstance(node := inner.get(key), Alias):
            key = node.target
    # What is kept already need not be kept twice.
    return not isinstance(getattr(node, "func", None), (Keeping, Loading))


def _target(graph: Graph, key: Key) -> Key:
    """Follow aliases: what is fused gets a new name, and an alias for the old."""
    while isinstance(node := graph.get(key), Alias) and node.target in graph:
        key = node.target
    return key


def _name(function: object) -> str:
    return str(getattr(function, "__name__", ""))


def _is_p2p(node: GraphNode) -> bool:
    function = getattr(node, "func", None)
    return _module(node).startswith("distributed.shuffle") or _name(function) == "_shuffle_transfer"


def _is_shuffle(node: GraphNode) -> bool:
    return "shuffle" in _module(node) or "rechunk" in _module(node) or "partd" in _module(node)


def _module(node: GraphNode) -> str:
    return str(getattr(getattr(node, "func", None), "__module__", None) or "")


def _stored(place: Place, digests: Collection[bytes]) -> set[bytes]:
    """Return which results there are."""
    try:
        return place.stored(digests)
    except BackendError as error:
        warnings.warn(f"nothing is loaded, because {error}", PersicacheWarning, stacklevel=2)
        return set()
