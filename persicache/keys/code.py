"""The identity of a function's code: all that its result depends on besides its arguments."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any, Final

from persicache.keys.coloring import color
from persicache.keys.graph import CodeMode, Graph
from persicache.keys.parts import PART_NBYTES, named_parts
from persicache.keys.writers import seal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CodeMode", "Fingerprint", "fingerprint"]

_PYTHON: Final = f"Python {sys.version_info.major}.{sys.version_info.minor}"


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

    __slots__ = ("_mode", "_nodes", "_parts", "digest", "is_complete", "is_current")

    def __init__(self, graph: Graph, *, mode: CodeMode) -> None:
        self._nodes = graph.nodes
        self._mode = mode
        self._parts: dict[str, bytes] | None = None
        self.digest = seal(bytearray(f"{mode} {_PYTHON} ".encode() + color(graph.nodes, ())))
        self.is_complete = graph.watch.is_complete
        # The bound method itself: one call less before every call.
        self.is_current: Callable[[], bool] = graph.watch.is_current

    def __repr__(self) -> str:
        return f"<fingerprint {self.digest.hex()[:12]} of {len(self.parts)} parts>"

    @property
    def parts(self) -> Mapping[str, bytes]:
        """What the digest is made of, by name; found when it is first asked for.

        Returns
        -------
        mapping of str to bytes
            For every function and class ``"module:qualname"``, for every constant
            ``"module.name"``, for every library its name and version, each with a digest of 16
            bytes of itself alone, without what it refers to; of several that are called the same
            and differ the second is ``"... (2)"``. Then ``"Python 3.x"``, ``'code="deep"'``, and
            ``"references"``: which part uses which, and what has no name. Two fingerprints
            whose digests differ differ in one part at least; an edit of one part shows in that
            part, and in ``"references"`` only if it now uses others.

        Examples
        --------
        >>> def tax(income, rate=0.2): return rate * income
        >>> before = fingerprint(tax).parts
        >>> list(before)
        ['persicache.keys.code:tax', 'references', 'Python 3...', 'code="deep"']
        >>> def tax(income, rate=0.3): return rate * income
        >>> [name for name, digest in fingerprint(tax).parts.items() if before.get(name) != digest]
        ['persicache.keys.code:tax']
        """
        if self._parts is None:
            # Race: two threads find the same.
            always = {_PYTHON: seal(bytearray(_PYTHON.encode())), f'code="{self._mode}"': b""}
            self._parts = named_parts(self._nodes, ()) | {
                name: digest[:PART_NBYTES] for name, digest in always.items()
            }
        return types.MappingProxyType(self._parts)


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
