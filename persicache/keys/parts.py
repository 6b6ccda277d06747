"""The named parts of what a function reaches, to tell which of them changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from persicache.keys.coloring import color
from persicache.keys.node import Node

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

__all__ = ["PART_NBYTES", "named_parts"]

#: Enough to tell parts from one another; nothing is found by these digests.
PART_NBYTES: Final = 16

_WEB: Final = "references"


def named_parts(nodes: Mapping[Hashable, Node], root: Hashable) -> dict[str, bytes]:
    """Name what a graph's root leads to, each with the digest of itself alone.

    Parameters
    ----------
    nodes : mapping
        The nodes, by key.
    root : hashable
        The key of the node to begin with.

    Returns
    -------
    dict
        Digests by label, the second of namesakes as ``label (2)``; under ``"references"``
        the digest of all that has no name: which of the parts refers to which, and what is in
        nameless nodes. Two graphs whose colors differ differ in at least one part.
    """
    reached = _reached(nodes, root)
    by_label: dict[str, set[bytes]] = {}
    for key in reached:
        by_label.setdefault(nodes[key].label, set()).add(nodes[key].digest())
    by_label.pop("", None)
    names = {
        (label, digest): label if count == 1 else f"{label} ({count})"
        for label, digests in sorted(by_label.items())
        for count, digest in enumerate(sorted(digests), start=1)
    }
    # Each named node with its name for its own bytes: what an edit changes within it isn't here.
    web: dict[Hashable, Node] = {}
    for key in reached:
        node = web[key] = Node("", None)
        name = names.get((nodes[key].label, nodes[key].digest()))
        node.own = bytearray(nodes[key].own if name is None else b"=" + name.encode("utf-8", "replace"))
        node.references = nodes[key].references
    parts = {name: digest[:PART_NBYTES] for (_, digest), name in names.items()}
    return parts | {_WEB: color(web, root)[:PART_NBYTES]}


def _reached(nodes: Mapping[Hashable, Node], root: Hashable) -> list[Hashable]:
    # What was taken for a constant, and then turned out to be state, leads nowhere any more.
    found, pending = {root: None}, [root]
    while pending:
        for _, target in nodes[pending.pop()].references:
            if target not in found:
                found[target] = None
                pending.append(target)
    return list(found)
