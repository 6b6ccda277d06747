"""The magics ``%%persist`` and ``%persicache``: `PersistMagics`."""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Dict, Unicode

from persicache import BackendError, PersicacheError, UnencodableValue, UntrustedPickle
from persicache_ipython.cell import Cell, CellNotSupported
from persicache_ipython.made import Made, without
from persicache_ipython.outputs import Outputs
from persicache_ipython.run import NotKept, Run
from persicache_ipython.shelf import Shelf

__all__ = ["PersistMagics"]


@magics_class
class PersistMagics(Magics):
    """Cells that are run once.

    Set ``%config PersistMagics.store = "s3://team/cells"`` for a place of all cells, and
    ``%config PersistMagics.options = {"signing_key": ...}`` for options of `persistent_memoize`.
    """

    store = Unicode("", help="Where variables are kept; by default in the user's cache.").tag(config=True)
    options = Dict(help="Options of persicache.persistent_memoize.").tag(config=True)

    def __init__(self, shell: Any, **kwargs: Any) -> None:
        super().__init__(shell=shell, **kwargs)
        self._persisted: dict[str, tuple[Any, str]] = {}

    @magic_arguments()
    @argument("names", nargs="*", help="Variables to keep; by default all that the cell makes.")
    @argument("--store", help="Where: a directory, s3://bucket/prefix, any fsspec URL.")
    @argument("--version", help="Part of the key: change it to run the cell anew.")
    @argument("--depends", action="append", default=[], metavar="FILE", help="A file that the cell reads.")
    @argument(
        "--ignore", action="append", default=[], metavar="NAME", help="A variable that doesn't count."
    )
    @cell_magic
    def persist(self, line: str, cell: str) -> Any:
        """Run a cell once, and from then on restore the variables that it makes.

        They are found by the cell's code, comments and layout aside, and by what it reads: the values
        of variables, the code of functions, the versions of libraries. What is printed and displayed
        is shown again. Imports, functions and classes of the cell are run each time.

        What it does besides, as writing a file or seeding a generator of random numbers, is not
        repeated. What it finds outside of variables, as a file, an address or the time, doesn't count:
        name files after ``--depends``, and change ``--version`` for all else. What two variables have in
        common may be two equal copies when they come back.
        """
        __tracebackhide__ = True
        return self._persist(parse_argstring(self.persist, line), cell)

    @magic_arguments()
    @argument("verb", nargs="?", default="list", choices=["list", "explain", "forget"])
    @argument("names", nargs="*", help="Variables.")
    @argument("--store", help="Where, as for %%%%persist.")
    @argument("--all", action="store_true", help="Forget all that is kept there.")
    @line_magic
    def persicache(self, line: str) -> None:
        """List the cells that are kept, explain why one is run again, or forget some.

        ``%persicache`` lists; ``%persicache explain scores`` tells of the last cell of this session
        that makes ``scores``; ``%persicache forget scores`` removes what any cell has kept of it.
        Without ``--store`` that is where cells of this session keep theirs.
        """
        arguments = parse_argstring(self.persicache, line)
        try:
            getattr(self, f"_{arguments.verb}")(arguments)
        except PersicacheError as error:
            raise UsageError(str(error)) from error

    # What a cell does

    def _persist(self, arguments: Any, source: str) -> Any:
        __tracebackhide__ = True  # what the cell raises is shown as of the cell
        run = self._run(arguments, source)
        shelf = self._shelf(arguments, run)
        self._persisted |= dict.fromkeys(run.keeps, (arguments, source))
        trouble = None
        try:
            self._restore_or_keep(run, shelf)
        except BaseException as error:
            if error is run.error:
                raise error.with_traceback(_within(error, run.cell.filename))  # noqa: B904 - it is the same
            if not isinstance(error, (NotKept, PersicacheError)):
                raise
            trouble = error
        if trouble is not None:
            self._go_on(run, shelf, trouble)
        self._persisted |= dict.fromkeys(run.made_names, (arguments, source))
        return None if run.cell.is_quiet else run.result

    @staticmethod
    def _restore_or_keep(run: Run, shelf: Shelf) -> None:
        call, is_hit = shelf.find()
        kept = shelf.fetch(call, is_hit=is_hit)
        if run.is_done:
            if not shelf.holds(call):
                raise NotKept("a file that it depends on was changed meanwhile")
            _tell(kept, is_restored=False)
            return
        run.check_alone(kept["changed"])
        run.restore(kept)
        _tell(kept, is_restored=True)
        Outputs(kept["outputs"]).show(run.shell)

    @staticmethod
    def _go_on(run: Run, shelf: Shelf, trouble: BaseException) -> None:
        """Let the cell have run, and keep what can be kept, after trouble."""
        __tracebackhide__ = True
        if isinstance(trouble, (UnencodableValue, UntrustedPickle)) and run.made is not None:
            try:
                kept = without(run.made, shelf.refusals(run.made["values"]))
                shelf.put(kept)
            except (UnencodableValue, UntrustedPickle, BackendError) as error:
                trouble = error
            else:
                _tell(kept, is_restored=False)
                return
        elif not isinstance(trouble, (NotKept, BackendError, UntrustedPickle)):
            raise UsageError(str(trouble)) from trouble
        _say(f"nothing is {'kept' if run.is_done else 'restored'}: {trouble}")
        if not run.is_done:
            with contextlib.suppress(NotKept):
                run.execute()

    def _run(self, arguments: Any, source: str) -> Run:
        shell: Any = self.shell
        text = shell.transform_cell(source)
        filename = shell.compile.cache(text, shell.execution_count, raw_code=source)
        tree = shell.transform_ast(shell.compile.ast_parse(text, filename))
        try:
            cell = Cell(text, tree=tree, filename=filename)
            names = tuple(_split(arguments.names))
            unknown = sorted(set(names) - cell.binds - cell.reads)
            if unknown:
                raise CellNotSupported(f"it makes no {', '.join(unknown)}")
            return Run(cell, shell, names=names, ignored=frozenset(_split(arguments.ignore)))
        except CellNotSupported as error:
            raise UsageError(f"this cell can't be persisted: {error}") from error

    def _shelf(self, arguments: Any, run: Run | None = None) -> Shelf:
        options = dict(self.options)
        if run is not None:
            options["version"] = arguments.version
            options["depends_on"] = [Path(each).expanduser() for each in arguments.depends]
        try:
            return Shelf(arguments.store or self.store or None, options, run)
        except (PersicacheError, TypeError, ValueError) as error:  # of what a person has set
            raise UsageError(str(error)) from error

    # What is kept

    def _shelves(self, arguments: Any, of_cells: Iterable[Any]) -> list[Shelf]:
        """Return the place that is named; if none is, those of some cells."""
        stores = [arguments.store or each.store or self.store for each in of_cells]
        return [self._shelf(types.SimpleNamespace(store=store)) for store in dict.fromkeys(stores)]

    def _list(self, arguments: Any) -> None:
        for shelf in self._shelves(arguments, [arguments, *(cell for cell, _ in self._persisted.values())]):
            self._list_one(shelf, frozenset(arguments.names))

    @staticmethod
    def _list_one(shelf: Shelf, wanted: frozenset[str]) -> None:
        found = sorted(shelf.entries(), key=lambda each: each[2].created)
        rows = [
            (
                ", ".join(names),
                datetime.fromtimestamp(entry.created).astimezone().isoformat(" ", "minutes")[:16],
                "" if math.isnan(entry.cost_seconds) else _seconds(entry.cost_seconds),
                f"{entry.nbytes:,}",
                code.strip("'\"").replace("\\n", "; "),
            )
            for names, code, entry in found
            if not wanted or wanted & set(names)
        ]
        _say(f"{_counted(len(rows))} kept in {shelf.url}")
        if rows:
            _say(_table(("variables", "computed", "took", "bytes", "cell"), rows))

    def _explain(self, arguments: Any) -> None:
        if not arguments.names:
            raise UsageError("name a variable: %persicache explain NAME")
        for name in arguments.names:
            if name not in self._persisted:
                raise UsageError(f"no %%persist cell of this session makes {name}")
            of_cell, source = self._persisted[name]
            shelf = self._shelf(of_cell, self._run(of_cell, source))
            verb = "restored" if shelf.find()[1] else "run"
            _say("\n  ".join([f"the cell that makes {name} would be {verb}", *shelf.explain()]))

    def _forget(self, arguments: Any) -> None:
        if not arguments.names and not arguments.all:
            raise UsageError("name variables, or give --all: %persicache forget NAME...")
        wanted = set(arguments.names)
        of_cells = [cell for name, (cell, _) in self._persisted.items() if name in wanted]
        for shelf in self._shelves(arguments, of_cells if of_cells and not arguments.all else [arguments]):
            if arguments.all:
                number = shelf.clear()
            else:
                number = sum(entry.forget() for names, _, entry in shelf.entries() if wanted & set(names))
            _say(f"{_counted(number)} forgotten in {shelf.url}")


def _split(names: list[str]) -> list[str]:
    return [name for each in names for name in each.split(",") if name]


def _tell(kept: Made, *, is_restored: bool) -> None:
    names = ", ".join(sorted([*kept["values"], *kept["same"]])) or "no variables"
    took = _seconds(kept["seconds"])
    _say(f"restored {names}: {took} saved" if is_restored else f"kept {names}: {took} to compute")
    for name, reason in kept["not_kept"].items():
        _say(f"not kept: {name}, {reason}")
    if is_restored and not kept["shows_all"]:
        _say("some of what the cell displayed is not shown again")


def _say(text: str) -> None:
    print(text)  # noqa: T201 - a notebook is where people read


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 60 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - a minute


def _counted(number: int) -> str:
    return "1 cell is" if number == 1 else f"{number:,} cells are"


def _within(error: BaseException, filename: str) -> types.TracebackType | None:
    """Return the traceback from where the cell's own code begins."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != filename:
        trace = trace.tb_next
    return trace or error.__traceback__


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in [head, *rows]
    )
    return "\n".join(map(str.rstrip, lines))
