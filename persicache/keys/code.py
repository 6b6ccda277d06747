"""The identity of a function's code: all that its result depends on besides its arguments."""

from __future__ import annotations

import itertools
import operator
import sys
from typing import TYPE_CHECKING, Any

from persicache.keys.coloring import color
from persicache.keys.graph import CodeMode, Graph
from persicache.keys.writers import seal

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from persicache.keys.node import Node

__all__ = ["CodeMode", "Fingerprint", "fingerprint"]


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
        call. Compared by identity are globals, closures, defaults, the attributes of
        functions, classes and the user's own objects, and the items of lists, dicts, sets and
        tuples that hold at most 256 with what lies in them. Not seen, before anything else is
        replaced, is what changes inside larger containers, arrays, tables and other objects of
        libraries.
    is_complete : bool
        Whether there is nothing whose change `is_current` could miss.

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

    __slots__ = ("_parts", "digest", "is_complete", "is_current")

    def __init__(self, graph: Graph, *, mode: CodeMode) -> None:
        self._parts = _named(graph.nodes)
        version = f"{mode} {sys.version_info.major}.{sys.version_info.minor} ".encode()
        self.digest = seal(bytearray(version + color(graph.nodes, ())))
        self.is_complete = graph.watch.is_complete
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
    ``importlib``; how a module is used that is passed around as a value, so of such a module all
    names count that occur anywhere in the code. A module-level list, dict or set counts with what
    is in it, so a function that changes one has a new fingerprint after every such call. Names
    and attributes that the code itself rebinds, and dicts with "cache" or "memo" in their names
    whose items it sets, are its state and don't count. What can't be digested counts by its type.
    """
    if code not in {"deep", "own", "off"}:
        raise ValueError(f'code must be "deep", "own" or "off", not {code!r}')
    return Fingerprint(Graph(function, mode=code), mode=code)


def _named(nodes: dict[Hashable, Node]) -> dict[str, bytes]:
    named = sorted((node.label, node.digest()) for node in nodes.values() if node.label)
    parts: dict[str, bytes] = {}
    for label, namesakes in itertools.groupby(named, key=operator.itemgetter(0)):
        for count, (_, digest) in enumerate(namesakes, start=1):
            parts[label if count == 1 else f"{label} ({count})"] = digest
    return parts
