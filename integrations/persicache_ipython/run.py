"""One run of a cell: what it read, what it made, and how that comes back: `Run`."""

from __future__ import annotations

import ast
import time
import types
from collections.abc import Iterable, Mapping
from typing import Any, Final

from persicache import OverlappingMultiDict, PersiDict, UndigestibleValue, WriteOnceDict, digest
from persicache_ipython.cell import Cell, CellNotSupported
from persicache_ipython.made import Made
from persicache_ipython.outputs import Outputs
from persicache_ipython.parts import Parts

__all__ = ["NotKept", "Run"]

#: Values that are told by themselves; of all others the digest counts.
_ATOMS: Final = (bool, int, float, type(None))
_MOST_CHARACTERS: Final = 100
#: As values they are where they lie, not what is in them.
_STORES: Final = (PersiDict, WriteOnceDict, OverlappingMultiDict)
_CODE: Final = (types.FunctionType, type, types.ModuleType)


class NotKept(Exception):
    """The cell ran, and nothing of it can be kept."""


class Run:
    """A run of a cell in a shell.

    Parameters
    ----------
    cell : Cell
        The cell.
    shell : IPython.core.interactiveshell.InteractiveShell
        Where it runs.
    names : tuple of str
        The variables to keep; all that it makes if there are none.
    ignored : frozenset of str
        What it reads, and doesn't count.

    Attributes
    ----------
    names : tuple of str
        As given.
    counting : list of str
        The names of the variables that it reads, whether they are bound or not.
    inputs : dict of str to object
        What these are, each as a value that is told in a line.
    result : object
        The value of the last line.
    made : Made or None
        What the cell made, None before it ran.
    error : BaseException or None
        What the cell raised.
    is_done : bool
        Whether the cell has been run, or begun.

    Raises
    ------
    CellNotSupported
        If something that it reads has no digest.
    """

    def __init__(self, cell: Cell, shell: Any, *, names: tuple[str, ...], ignored: frozenset[str]) -> None:
        self.cell = cell
        self.shell = shell
        self.space: dict[str, Any] = shell.user_ns
        self.outputs = Outputs()
        self.result: Any = None
        self.made: Made | None = None
        self.error: BaseException | None = None
        self.is_done = False
        self._bound = _Bound(self.space)
        self.names = names
        self._check_changes()
        # IPython has an `open` of its own.
        ignored |= {name for name in cell.reads & self.space.keys() if _is_of_shell(self.space[name])}
        counting = cell.inputs(self.space) - ignored
        self.counting = sorted(counting)
        self._read = {name: self.space[name] for name in self.counting if name in self.space}
        self.inputs = {name: _told(value, name) for name, value in self._read.items()}
        self.code_digest = cell.code_digest(self.space, counting | (ignored & cell.reads))

    @property
    def keeps(self) -> list[str]:
        """The variables that will be kept, as far as the code tells."""
        return sorted(self.names or self.cell.values | (self.cell.changes & self.cell.reads))

    @property
    def made_names(self) -> list[str]:
        """The variables that were kept."""
        return [] if self.made is None else [*self.made["values"], *self.made["same"]]

    def _check_changes(self) -> None:
        imported = {name for each in self.cell.definitions for name in _imported(each)}
        for name in sorted(self.cell.changes):
            if name in imported or isinstance(self.space.get(name), types.ModuleType):
                raise CellNotSupported(
                    f"it changes something of {name}, which no variable holds: give that a cell of its own"
                )

    def execute(self) -> Made:
        """Run the code, and look at what came of it.

        Raises
        ------
        NotKept
            If it can't be kept.
        BaseException
            What the cell raises.
        """
        before = dict(self.space)
        changeable = {
            name: Parts(value, self.space)
            for name, value in self._read.items()
            if type(value) not in _ATOMS
        }
        self.is_done = True
        start = time.perf_counter()
        try:
            with self.outputs.noting(self.shell):
                self._execute()
        except BaseException as error:
            self.error = error
            raise
        seconds = time.perf_counter() - start
        self._note_result()
        self.made = self._look(before, changeable, seconds)
        return self.made

    def _note_result(self) -> None:
        """Note the value of the last line, which the shell is going to display."""
        if self.result is None or self.cell.is_quiet:
            return
        is_live = hasattr(type(self.result), "_ipython_display_")
        data, metadata = ({}, {}) if is_live else self.shell.display_formatter.format(self.result)
        self.outputs.display(data, metadata, is_live=is_live)

    def _execute(self) -> None:
        compiled, filename = self.shell.compile, self.cell.filename
        *body, end = self.cell.tree.body or [ast.Pass()]
        last = ast.Expression(end.value) if isinstance(end, ast.Expr) else None
        if last is None:
            body = self.cell.tree.body
        unsure = self.cell.values - self.cell.always - self._read.keys()
        # Only where it matters: what a loop of the cell assigns takes longer.
        local = self._bound if unsure & self.space.keys() else self.space
        code = compiled(ast.Module(body, []), filename, "exec")
        exec(code, self.space, local)  # noqa: S102 - a person's own cell
        if last is not None:
            code = compiled(last, filename, "eval")
            self.result = eval(code, self.space, local)  # noqa: S307 - the same

    def _look(self, before: Mapping[str, Any], changeable: Mapping[str, Parts], seconds: float) -> Made:
        space, cell = self.space, self.cell
        changed = self._changed_in_place()
        sure = cell.always | self._bound.names | self._read.keys()
        made = changed | {
            name for name in cell.values & space.keys() if name in sure or _is_new(name, space, before)
        }
        # What functions have set by `global` is not in the code of the cell.
        made |= {
            name
            for name in space.keys() - cell.binds
            if not name.startswith("_") and _is_new(name, space, before)
        }
        not_kept = {}
        if self.names:
            not_kept = {name: "the cell hasn't made it" for name in self.names if name not in space}
            made &= set(self.names)
        self._check(changed, made, before, changeable)
        values, same = dict[str, Any](), dict[str, str]()
        known = {id(value): name for name, value in self._read.items() if space.get(name) is value}
        for name in sorted(made):
            value = space[name]
            other = known.setdefault(id(value), name)
            if other != name:
                same[name] = other
            elif self._is_own_code(value):
                not_kept[name] = (
                    "its code is of this notebook: define it by def or class, by nothing else here"
                )
            else:
                values[name] = value
        reasons = {name: not_kept[other] for name, other in same.items() if other in not_kept}
        gone = {name for name in cell.binds - space.keys() if name in before or name in cell.deletes}
        return Made(
            values=values,
            same={name: other for name, other in same.items() if name not in reasons},
            changed=sorted(changed),
            deleted=sorted(gone),
            not_kept=not_kept | reasons,
            seconds=seconds,
            outputs=self.outputs.noted,
            shows_all=self.outputs.is_complete,
        )

    def _is_own_code(self, value: Any) -> bool:
        """Return whether this is a function or class whose code looks up the notebook's variables."""
        if isinstance(value, types.FunctionType):
            return value.__globals__ is self.space
        return isinstance(value, type) and value.__module__ == self.space.get("__name__")

    def _changed_in_place(self) -> set[str]:
        """Return the variables that the cell has read, not set, and changed all the same."""
        return {
            name
            for name, value in self._read.items()
            if self.space.get(name) is value
            and type(value) not in _ATOMS
            and not _is_told(self.inputs[name], value)
        }

    def _check(
        self,
        changed: set[str],
        kept: set[str],
        before: Mapping[str, Any],
        changeable: Mapping[str, Parts],
    ) -> None:
        for name in sorted(changed):
            if isinstance(before[name], _CODE):
                raise NotKept(f"it changes what {name} uses")
            if name not in kept:
                raise NotKept(f"it changes {name} in place: keep that too, or change a copy")
        self.check_alone(changed, before, changeable)

    def check_alone(
        self,
        changed: Iterable[str],
        before: Mapping[str, Any] | None = None,
        changeable: Mapping[str, Parts] | None = None,
    ) -> None:
        """Raise NotKept if another variable has a part of what the cell changes in place.

        Parameters
        ----------
        changed : iterable of str
            Variables that the cell changes.
        before : mapping of str to object, optional
            The variables before the cell ran; by default as they are.
        changeable : mapping of str to Parts, optional
            What it read had these parts, before it ran.
        """
        space = self.space if before is None else before
        changed = sorted(changed)
        for name in changed:
            others = [other for other, each in space.items() if each is space[name] and other != name]
            others = [other for other in others if not other.startswith("_")]
            if others:
                raise NotKept(
                    f"it changes {name} in place, which is also {', '.join(others)}: change a copy"
                )
        if not changed:
            return
        parts = {
            name: changeable[name] if changeable else Parts(space[name], self.space) for name in changed
        }
        hidden = self.shell.user_ns_hidden
        for other, value in space.items():
            if other in parts or other in hidden or other.startswith("_") or type(value) in _ATOMS:
                continue
            theirs = Parts(value, self.space)
            sharing = [name for name in changed if parts[name].shares_with(theirs)]
            if sharing:
                raise NotKept(
                    f"it changes {sharing[0]} in place, which {other} has something in common with: "
                    "change a copy"
                )

    def prepare(self) -> None:
        """Run the definitions again, which the values may need."""
        code = self.shell.compile(ast.Module(self.cell.definitions, []), self.cell.filename, "exec")
        exec(code, self.space)  # noqa: S102 - a person's own cell

    def restore(self, made: Made) -> None:
        """Give the variables the values that they had after the cell."""
        self.space.update(made["values"])
        for name, other in made["same"].items():
            self.space[name] = self.space[other]
        for name in made["deleted"]:
            self.space.pop(name, None)


class _Bound(dict[str, Any]):
    """The variables of the shell, as a cell's code sees them, that note which it binds."""

    def __init__(self, space: dict[str, Any]) -> None:
        super().__init__()
        self._space = space
        self.names: set[str] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        self.names.add(name)
        self._space[name] = value

    def __delitem__(self, name: str) -> None:
        del self._space[name]


def _imported(node: ast.stmt) -> set[str]:
    if not isinstance(node, (ast.Import, ast.ImportFrom)):
        return set()
    return {alias.asname or alias.name.partition(".")[0] for alias in node.names}


def _is_of_shell(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and value.__module__.startswith("IPython.")


def _is_new(name: str, space: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return name not in before or space[name] is not before[name]


def _told(value: Any, name: str) -> Any:
    """Return what stands for a value in a key, in a line."""
    if type(value) in _ATOMS:
        return value
    if type(value) is str and len(value) < _MOST_CHARACTERS and not value.startswith("<"):
        return value
    if isinstance(value, _STORES) or type(value).__module__.partition(".")[0] == "zarr":
        raise CellNotSupported(
            f"it reads {name}, a {type(value).__name__}: what is in a store can change at any time. "
            f"Take what you need of it in a cell before; or, if it never changes, give --ignore {name}"
        )
    try:
        found = digest(value, path=name)
    except UndigestibleValue as error:
        raise CellNotSupported(
            f"it reads {error.path}, a {error.kind}, which can't be digested: {error.reason}; if the "
            f"results don't depend on it, give --ignore {name}"
        ) from error
    return f"<{type(value).__name__} {found.hex()[:32]}>"


def _is_told(told: Any, value: Any) -> bool:
    try:
        return bool(_told(value, "value") == told)
    except CellNotSupported:
        return False
