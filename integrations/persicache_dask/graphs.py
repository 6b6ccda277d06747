"""From a plan back to what dask takes: a graph with annotations, a collection."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from persicache_dask.contents import Key
from persicache_dask.plan import Plan

__all__ = ["graph_of", "rebuilt"]


def graph_of(expr: Any, plan: Plan, more: Mapping[Key, Any] | None = None) -> Any:
    """Return the graph of a plan, with what the tasks of `expr` were annotated with.

    Parameters
    ----------
    expr : Expr or mapping
        What was planned.
    plan : Plan
        The plan.
    more : mapping, optional
        Tasks that aren't in the plan.

    Returns
    -------
    dict or HighLevelGraph
        A dict if there are no annotations.
    """
    graph = {**plan.graph, **(more or {})}
    found = expr.__dask_annotations__() if hasattr(expr, "__dask_annotations__") else {}
    by_name: dict[Key, dict[str, Any]] = {}
    for kind, values in found.items():
        for key, value in values.items():
            if (name := plan.names.get(key)) in graph:
                by_name.setdefault(name, {})[kind] = value
    if not by_name:
        return graph
    # A layer for each set of annotations; the plain tasks' is the last, without any.
    layers: dict[str, tuple[dict[str, Any], dict[Key, Any]]] = {}
    for name, node in graph.items():
        annotations = by_name.get(name, {})
        layer = layers.setdefault(repr(sorted(annotations.items())), (annotations, {}))
        layer[1][name] = node
    made = {
        label: MaterializedLayer(nodes, annotations=annotations or None)
        for label, (annotations, nodes) in layers.items()
    }
    home = {name: label for label, layer in made.items() for name in layer}
    needs = {
        label: {home[dep] for node in layer.values() for dep in node.dependencies if dep in home} - {label}
        for label, layer in made.items()
    }
    return HighLevelGraph(made, needs)


def rebuilt(collection: Any, expr: Any, graph: Any, keys: Sequence[Key]) -> Any:
    """Return a collection of the same kind over another graph.

    Parameters
    ----------
    collection : dask collection
        What there was.
    expr : Expr
        The sequence of one that it became when it was optimized.
    graph : dict or HighLevelGraph
        The graph.
    keys : sequence of key
        What the parts are called.
    """
    frames = sys.modules.get("dask.dataframe.dask_expr._collection")
    if frames is not None and isinstance(collection, frames.FrameBase):
        # What it makes of persisted parts sorts their names, which are in order here.
        (frame,) = expr.operands
        return frames.from_graph(dict(graph), frame._meta, frame.divisions, list(keys), "persicache")  # noqa: SLF001 - as dask does
    rebuild, state = collection.__dask_postpersist__()
    return rebuild(graph, *state)
