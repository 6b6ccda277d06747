"""Which variables code reads that it hasn't set itself, and which it sets: `Names`."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterable, Iterator
from typing import Any, Final

__all__ = ["Names", "reads_now"]

#: What runs where it stands, though it is a function to the compiler.
_COMPREHENSIONS: Final = frozenset({"listcomp", "setcomp", "dictcomp", "genexpr"})


class Names:
    """What the statements of a cell read and bind, in the order in which they run.

    What is bound only on some of the ways through the cell counts as read, if it is read
    afterwards: on the other ways it is somebody else's.

    Parameters
    ----------
    statements : list of ast.stmt
        The cell.

    Attributes
    ----------
    reads : set of str
        Names, builtins included, that may be looked up before the cell has bound them.
    binds : set of str
        Names that it may bind.
    always : set of str
        Names that it has bound when it ends, whichever way it took.

    Examples
    --------
    >>> names = Names(ast.parse("y = x + 1; x = len(y)").body)
    >>> sorted(names.reads), sorted(names.binds)
    (['len', 'x'], ['x', 'y'])
    """

    def __init__(self, statements: list[ast.stmt]) -> None:
        self.reads: set[str] = set()
        self.binds: set[str] = set()
        self.always = self._block(statements, set())

    def _block(self, statements: Iterable[ast.stmt], bound: set[str]) -> set[str]:
        """Go through statements, given the names that are bound for sure; return those after them."""
        for statement in statements:
            bound = self._statement(statement, bound)
        return bound

    def _statement(self, node: Any, bound: set[str]) -> set[str]:
        match node:
            case ast.If():
                bound = self._simple(ast.Expr(node.test), bound)
                return self._block(node.body, bound) & self._block(node.orelse, bound)
            case ast.For() | ast.AsyncFor():
                bound = self._simple(ast.Expr(node.iter), bound)
                inside = self._simple(ast.Assign([node.target], ast.Constant(None)), bound)
                self._block(node.body, inside)
                self._block(node.orelse, bound)
                return bound  # there may have been no round
            case ast.While():
                bound = self._simple(ast.Expr(node.test), bound)
                self._block(node.body, bound)
                self._block(node.orelse, bound)
                return bound
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    bound = self._simple(ast.Expr(item.context_expr), bound)
                    if item.optional_vars is not None:
                        bound = self._simple(ast.Assign([item.optional_vars], ast.Constant(None)), bound)
                self._block(node.body, bound)
                return bound  # it may swallow an exception
            case ast.Try() | ast.TryStar():
                return self._try(node, bound)
            case ast.Match():
                bound = self._simple(ast.Expr(node.subject), bound)
                for case in node.cases:
                    self._case(case, bound)
                return bound
            case _:
                return self._simple(node, bound)

    def _try(self, node: Any, bound: set[str]) -> set[str]:
        ends = [self._block(node.orelse, self._block(node.body, bound))]
        for handler in node.handlers:
            inside = bound
            if handler.type is not None:
                inside = self._simple(ast.Expr(handler.type), inside)
            if handler.name is not None:  # which Python unbinds in the end
                self.binds.add(handler.name)
                inside = self._block(handler.body, inside | {handler.name}) - {handler.name}
            else:
                inside = self._block(handler.body, inside)
            ends.append(inside)
        return set.intersection(*ends) | self._block(node.finalbody, bound)

    def _case(self, case: ast.match_case, bound: set[str]) -> None:
        captured = {
            name
            for part in ast.walk(case.pattern)
            for name in (getattr(part, "name", None), getattr(part, "rest", None))
            if isinstance(name, str)
        }
        self.binds |= captured
        named = {part.id for part in ast.walk(case.pattern) if isinstance(part, ast.Name)}
        self.reads |= named - bound
        if case.guard is not None:
            self._simple(ast.Expr(case.guard), bound | captured)
        self._block(case.body, bound | captured)

    def _simple(self, node: ast.stmt, bound: set[str]) -> set[str]:
        reads, binds = _scope(node)
        # `a and (b := 1)` may leave b alone.
        unsure = {each.target.id for each in ast.walk(node) if isinstance(each, ast.NamedExpr)}
        binds |= unsure
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            reads.add(node.target.id)
        self.reads |= reads - bound
        self.binds |= binds
        if isinstance(node, ast.Delete):
            return bound - binds
        return bound | (binds - unsure - _declared_only(node))


def reads_now(node: ast.stmt) -> set[str]:
    """Return what a definition reads when it runs, without what its functions read when called.

    Examples
    --------
    >>> sorted(reads_now(ast.parse("def f(x=default): return x + later").body[0]))
    ['default']
    """
    return _scope(node, is_deep=False)[0]


def _declared_only(node: ast.stmt) -> set[str]:
    """Return names that functions within may set, when they are called."""
    return {name for scope in ast.walk(node) if isinstance(scope, ast.Global) for name in scope.names} | (
        {node.target.id}
        if isinstance(node, ast.AnnAssign) and node.value is None and isinstance(node.target, ast.Name)
        else set()
    )


def _scope(node: ast.stmt, *, is_deep: bool = True) -> tuple[set[str], set[str]]:
    """Return the names that a statement looks up in the module, and those that it binds there."""
    table = symtable.symtable(ast.unparse(ast.fix_missing_locations(node)), "<cell>", "exec")
    reads, binds = set[str](), set[str]()
    own = _comprehended(node)
    for symbol in table.get_symbols():
        if symbol.get_name() in own:
            continue
        if symbol.is_referenced():
            reads.add(symbol.get_name())
        if symbol.is_assigned() or symbol.is_imported():
            binds.add(symbol.get_name())
    for inner in _inner(table, is_deep=is_deep):
        for symbol in inner.get_symbols():
            is_class = inner.get_type() == "class"
            # A class looks for what it is going to set outside first: `class A: x = x`.
            if symbol.is_referenced() and (symbol.is_global() or (is_class and not symbol.is_free())):
                reads.add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                binds.add(symbol.get_name())
    return reads, binds


def _comprehended(node: ast.AST) -> set[str]:
    """Return the names that are variables of comprehensions only.

    From Python 3.12 on, where comprehensions are a part of the code around them, the compiler
    counts them among the module's.
    """
    inside, outside = set[str](), set[str]()
    todo = [node]
    while todo:
        each = todo.pop()
        if isinstance(each, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            targets = [part.target for part in ast.walk(each) if isinstance(part, ast.comprehension)]
            names = (part for target in targets for part in ast.walk(target))
            inside |= {part.id for part in names if isinstance(part, ast.Name)}
            todo.append(each.generators[0].iter)
        else:
            outside |= {each.id} if isinstance(each, ast.Name) else set()
            todo += ast.iter_child_nodes(each)
    return inside - outside


def _inner(table: symtable.SymbolTable, *, is_deep: bool) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        # Comprehensions run at once, and are called "listcomp" and the like.
        runs_later = child.get_type() == "function" and child.get_name() not in _COMPREHENSIONS
        if is_deep or not runs_later:
            yield child
            yield from _inner(child, is_deep=is_deep)
