"""The identity of a function's code: all that its result depends on besides its arguments."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from persicache.keys.graph import CodeMode, Graph
from persicache.keys.writers import seal, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from persicache.keys.graph import Node

__all__ = ["CodeMode", "Fingerprint", "fingerprint"]

# As often is the digest of each node mixed with its neighbours', to tell apart graphs of the
# same nodes that are wired differently. (The Weisfeiler-Lehman test of isomorphism.)
_ROUNDS: Final = 3


class Fingerprint:
    """What a function's result depends on besides its arguments, as it was at one moment.

    Parameters
    ----------
    graph : Graph
        What the function reaches.
    mode : {"deep", "own", "off"}
        How much of it was asked for.

    Attributes
    ----------
    digest : bytes
        Equal for equal code, in every process of one minor version of Python.
    is_current : callable
        Returns whether nothing that was looked at has been replaced since. Quick, for every
        call: names are compared by identity, and only small lists, dicts and sets that the
        code refers to are looked into.

    Examples
    --------
    >>> def area(radius): return 3.14 * radius ** 2
    >>> code = fingerprint(area)
    >>> code.is_current()
    True
    >>> def area(radius): return 3.14159 * radius ** 2
    >>> fingerprint(area).digest == code.digest
    False
    """

    __slots__ = ("_parts", "digest", "is_current")

    def __init__(self, graph: Graph, *, mode: CodeMode) -> None:
        colors = {key: node.digest() for key, node in graph.nodes.items()}
        self._parts = _named(graph.nodes, colors)
        self.digest = _digest(graph.nodes, colors, mode)
        # The bound method itself: one call less before every call.
        self.is_current: Callable[[], bool] = graph.watch.is_current

    def __repr__(self) -> str:
        return f"<fingerprint {self.digest.hex()[:12]} of {len(self._parts)} parts>"

    def describe(self) -> dict[str, str]:
        """Name what was reached, each with the digest of itself alone.

        Two descriptions tell which dependency differs.

        Examples
        --------
        >>> rate = 2
        >>> def tax(income): return rate * income
        >>> list(fingerprint(tax).describe())
        ['persicache.keys.code.rate', 'persicache.keys.code:tax']
        """
        return {name: digest.hex() for name, digest in self._parts.items()}


def fingerprint(function: Callable[..., Any], *, code: CodeMode = "deep") -> Fingerprint:
    """Find all that a function's result depends on besides its arguments.

    Its bytecode, defaults and closure, and all functions, classes and constants of the user's
    own modules that these reach, at any depth; of libraries the name and version. Comments,
    docstrings, whitespace and the place in a file don't count.

    Parameters
    ----------
    function : callable
        A function, lambda, method, partial, class, or an object that can be called.
    code : {"deep", "own", "off"}, default "deep"
        Whether everything counts that it reaches, or its own bytecode, defaults and closure
        alone, or only what is bound to it: closure, partial arguments, the method's object.

    Returns
    -------
    Fingerprint
        The digest, what it was made of, and whether that is still so.

    Raises
    ------
    ValueError
        If `code` is none of these.

    Notes
    -----
    Not seen is what a name computed at run time leads to, by ``getattr(module, name)`` or
    ``importlib``. A module-level list, dict or set counts with what is in it, so a function
    that changes one has a new fingerprint after every such call.
    """
    if code not in {"deep", "own", "off"}:
        raise ValueError(f'code must be "deep", "own" or "off", not {code!r}')
    return Fingerprint(Graph(function, mode=code), mode=code)


def _named(nodes: dict[Hashable, Node], colors: dict[Hashable, bytes]) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    for label, color in sorted((node.label, colors[key]) for key, node in nodes.items() if key != ()):
        name, count = label, 1
        while name in parts:
            count += 1
            name = f"{label} ({count})"
        parts[name] = color
    return parts


def _digest(nodes: dict[Hashable, Node], colors: dict[Hashable, bytes], mode: CodeMode) -> bytes:
    for _ in range(_ROUNDS):
        colors = {key: _mixed(colors[key], node, colors) for key, node in nodes.items()}
    out = bytearray(f"{mode} {sys.version_info.major}.{sys.version_info.minor} ".encode())
    out += colors[()]
    out += b"".join(sorted(colors.values()))
    return seal(out)


def _mixed(color: bytes, node: Node, colors: dict[Hashable, bytes]) -> bytes:
    out = bytearray(color)
    for name, other in sorted((name, colors[target]) for name, target in node.references):
        write_text(out, b"r", name)
        out += other
    return seal(out)
