"""The code of a cell: what it reads and makes, what of it is run again, how it runs: `Cell`."""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
import re
import types
from collections.abc import Mapping
from typing import Any, Final

from persicache import digest
from persicache_ipython.names import Names, reads_now

__all__ = ["Cell", "CellNotSupported"]

_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
#: Through these code reads variables whose names nobody can see.
_LOOK_AROUND: Final = frozenset({"dir", "eval", "exec", "globals", "locals", "vars"})
#: And through these what a text names: a formula, a query.
_READ_TEXTS: Final = frozenset({"eval", "evaluate", "execute", "query", "sql", "sqldf"})
_WORD: Final = re.compile(r"[^\W\d]\w*")
_CATCH_UNBOUND: Final = frozenset({"NameError", "Exception", "BaseException", "suppress"})


class CellNotSupported(Exception):
    """What a cell depends on, or makes, can't be told from its code."""


class Cell:
    r"""The code of a cell, taken apart.

    Parameters
    ----------
    source : str
        The code.
    tree : ast.Module, optional
        The same, as the shell has parsed and transformed it.
    filename : str
        Under which tracebacks find it.

    Attributes
    ----------
    text : str
        The code without comments and layout.
    reads, binds, always : set of str
        As of `Names`.
    definitions : list of ast.stmt
        Imports, functions and classes that are run again where the values are restored: what is in
        them looks up the notebook's names as ever, and costs nothing.
    values : set of str
        Names bound by anything else.
    sees_unbound : bool
        Whether it may notice that a name is not bound, and go on.

    Raises
    ------
    CellNotSupported
        Naming what can't be seen through.

    Examples
    --------
    >>> cell = Cell("import math; y = math.sqrt(x)  # the root")
    >>> cell.text, sorted(cell.reads), sorted(cell.values)
    ('import math\ny = math.sqrt(x)', ['x'], ['y'])
    """

    def __init__(self, source: str, *, tree: ast.Module | None = None, filename: str = "<cell>") -> None:
        self.source = source
        self.tree = tree = ast.parse(source) if tree is None else tree
        self.filename = filename
        names = Names(tree.body)
        self.text = ast.unparse(tree)
        self.reads, self.binds, self.always = names.reads, names.binds, names.always
        self._check()
        self.reads |= _named_in_texts(tree)
        self.sees_unbound = any(map(_catches_unbound, ast.walk(tree)))
        self.definitions, self.values = _definitions(tree.body)

    def _check(self) -> None:
        if "get_ipython" in self.reads:
            raise CellNotSupported(
                "what magics and ! commands read and change can't be seen: give them a cell of their "
                "own; those that take a whole cell, as %%time, go above %%persist"
            )
        hidden = sorted(_LOOK_AROUND & self.reads)
        if hidden:
            raise CellNotSupported(f"what {hidden[0]}() looks at can't be seen: name the variables instead")
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                raise CellNotSupported(f"import the names that you need, not * from {node.module}")
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(self.tree, "<cell>", "exec", flags=flags, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            raise CellNotSupported(
                "it awaits, which a magic can't: decorate the coroutine function with "
                "persicache.persistent_memoize, and await that without %%persist"
            )

    def inputs(self, namespace: Mapping[str, Any]) -> set[str]:
        """Return the names of variables that count with their value; modules count with the code."""
        return {
            name
            for name in self.reads
            if not isinstance(namespace.get(name), types.ModuleType)
            and (name in namespace or name in self.binds or not hasattr(builtins, name))
        }

    @property
    def is_quiet(self) -> bool:
        """Whether its last line ends in a semicolon, so that its value isn't displayed."""
        return self.source.rstrip().endswith(";")

    @property
    def changes(self) -> set[str]:
        """The variables of which it sets an item or an attribute, as in ``df["a"] = 1``."""
        found = set()
        for node in ast.walk(self.tree):
            part: Any = node
            if isinstance(part, (ast.Attribute, ast.Subscript)) and not isinstance(part.ctx, ast.Load):
                while isinstance(part, (ast.Attribute, ast.Subscript)):
                    part = part.value
                found |= {part.id} if isinstance(part, ast.Name) else set()
        return found

    @property
    def deletes(self) -> set[str]:
        """The names that the cell deletes, whichever way it takes."""
        targets = (each.targets for each in self.tree.body if isinstance(each, ast.Delete))
        return {target.id for each in targets for target in each if isinstance(target, ast.Name)}

    def code_digest(self, namespace: dict[str, Any], inputs: set[str]) -> bytes:
        """Return the digest of the code, and of what it uses of modules: libraries by their version.

        Parameters
        ----------
        namespace : dict
            The notebook's variables.
        inputs : set of str
            Names that are left out.
        """
        # As a function of its inputs: then only the names of modules are left to be looked up.
        body = [each for each in self.tree.body if not _is_module_only(each)]
        arguments = ast.arguments([], [], None, [ast.arg(name) for name in sorted(inputs)], [], None, [])
        arguments.kw_defaults = [None] * len(inputs)
        function = ast.FunctionDef("cell", arguments, body or [ast.Pass()], [], None)
        function.type_params = []  # type: ignore[attr-defined]  # from Python 3.12 on
        module = ast.fix_missing_locations(ast.Module([function], []))
        flags = _future_flags(self.tree)
        code = compile(module, "<cell>", "exec", flags=flags, dont_inherit=True)
        inner = next(each for each in code.co_consts if isinstance(each, types.CodeType))
        return digest(types.FunctionType(inner, namespace), path="the code of the cell")


def _named_in_texts(tree: ast.Module) -> set[str]:
    """Return what the texts of a cell may name, if it has them read: ``df.query("a > @limit")``."""
    nodes = list(ast.walk(tree))
    called = [_words(node.func) for node in nodes if isinstance(node, ast.Call)]
    if _READ_TEXTS.isdisjoint(word for words in called for word in words):
        return set()
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    words = {word for text in texts for word in _WORD.findall(text)}
    return {word for word in words if not keyword.iskeyword(word)}


def _is_module_only(node: ast.stmt) -> bool:
    is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    return is_future or isinstance(node, ast.Global)


def _future_flags(tree: ast.Module) -> int:
    import __future__  # noqa: PLC0415 - its name reads like a directive

    names = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for alias in node.names
    ]
    return sum(getattr(__future__, name).compiler_flag for name in names)


def _catches_unbound(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        named = set[str]() if node.type is None else _words(node.type)
        return node.type is None or bool(named & _CATCH_UNBOUND)
    return isinstance(node, (ast.Name, ast.Attribute)) and bool(_words(node) & {"suppress"})


def _words(node: ast.AST) -> set[str]:
    """Return all names and attributes in an expression."""
    words = ((getattr(part, "id", None), getattr(part, "attr", None)) for part in ast.walk(node))
    return {word for pair in words for word in pair if word}


def _definitions(body: list[ast.stmt]) -> tuple[list[ast.stmt], set[str]]:
    """Return the definitions that need no value of the cell, and the names of the values."""
    definitions: list[ast.stmt] = [
        each
        for each in body
        if isinstance(each, _DEFINITIONS)
        or (isinstance(each, ast.Assign) and isinstance(each.value, ast.Lambda))
    ]
    values = Names([each for each in body if each not in definitions]).binds
    while needy := [each for each in definitions if reads_now(each) & values]:
        values |= Names(needy).binds
        definitions = [each for each in definitions if each not in needy]
    return definitions, values
