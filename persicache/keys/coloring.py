"""The digest of a graph as seen from its root: equal exactly for graphs that unfold alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from persicache.keys.writers import seal, write_text

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from persicache.keys.node import Node

__all__ = ["color"]

# Refining is quadratic in the length of a chain.
_MANY: Final = 64


def color(nodes: Mapping[Hashable, Node], root: Hashable) -> bytes:
    """Digest a node with all that it leads to.

    Parameters
    ----------
    nodes : mapping
        The nodes, by key.
    root : hashable
        The key of the node to begin with.

    Notes
    -----
    From the leaves up, every node is mixed with what it refers to. Nodes on cycles are refined
    together until no further round tells more of them apart.

    References
    ----------
    Tarjan, "Depth-first search and linear graph algorithms", 1972; Weisfeiler & Leman, 1968.
    """
    done: dict[Hashable, bytes] = {}
    for group in _components(nodes, root):
        node = nodes[group[0]]
        if len(group) == 1 and all(target != group[0] for _, target in node.references):
            done[group[0]] = _mixed(node.digest(), node, done)
        elif len(group) <= _MANY:
            _refine(group, nodes, done)
        else:
            _number(group, nodes, done)
    return done[root]


def _refine(group: list[Hashable], nodes: Mapping[Hashable, Node], done: dict[Hashable, bytes]) -> None:
    colors = {key: nodes[key].digest() for key in group}
    count = 0
    while True:
        distinct = set(colors.values())
        done.update(colors)
        colors = {key: _mixed(colors[key], nodes[key], done) for key in group}
        if len(distinct) == count:
            break
        count = len(distinct)
    # With the colours of the whole cycle: two cycles that are told apart a round later have others.
    whole = b"".join(sorted(set(colors.values())))
    done.update({key: seal(bytearray(colors[key] + whole)) for key in group})


def _number(group: list[Hashable], nodes: Mapping[Hashable, Node], done: dict[Hashable, bytes]) -> None:
    # In the order in which they were found. Two nodes that unfold alike are told apart, but a tree
    # with a thousand links to parents takes no thousand rounds.
    places = {key: place for place, key in enumerate(group)}
    out = bytearray()
    for key in group:
        out += nodes[key].digest()
        for name, target in nodes[key].references:
            write_text(out, b"r", name)
            out += b"%x;" % places[target] if target in places else done[target]
        out += b";"
    whole = seal(out)
    done.update({key: seal(bytearray(b"%b%x" % (whole, place))) for key, place in places.items()})


def _mixed(color: bytes, node: Node, colors: Mapping[Hashable, bytes]) -> bytes:
    out = bytearray(color)
    for name, other in sorted((name, colors[target]) for name, target in node.references):
        write_text(out, b"r", name)
        out += other
    return seal(out)


def _components(nodes: Mapping[Hashable, Node], root: Hashable) -> Iterator[list[Hashable]]:
    """Yield the strongly connected components, each after those that it leads to."""
    numbers: dict[Hashable, int] = {root: 0}
    lowest = {root: 0}
    path, is_open = [root], {root}
    # A stack of our own: chains of calls are longer than Python's.
    walk = [(root, iter(nodes[root].references))]
    while walk:
        key, references = walk[-1]
        for _, target in references:
            if target not in numbers:
                numbers[target] = lowest[target] = len(numbers)
                path.append(target)
                is_open.add(target)
                walk.append((target, iter(nodes[target].references)))
                break
            if target in is_open:
                lowest[key] = min(lowest[key], numbers[target])
        else:
            walk.pop()
            if walk:
                lowest[walk[-1][0]] = min(lowest[walk[-1][0]], lowest[key])
            if lowest[key] == numbers[key]:
                group = path[_place(path, key) :]
                del path[len(path) - len(group) :]
                is_open.difference_update(group)
                yield group


def _place(path: list[Hashable], key: Hashable) -> int:
    place = len(path) - 1
    while path[place] != key:
        place -= 1
    return place
