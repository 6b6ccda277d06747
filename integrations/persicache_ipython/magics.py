"""The magics ``%%persist`` and ``%persicache``: `PersistMagics`."""

from __future__ import annotations

import contextlib
import inspect
import math
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Dict, Unicode

from persicache import (
    BackendError,
    MemoizedFunction,
    PersicacheError,
    UnencodableValue,
    UntrustedPickle,
    persistent_memoize,
)
from persicache_ipython.cell import Cell, CellNotSupported
from persicache_ipython.outputs import Outputs
from persicache_ipython.run import Made, NotKept, Run

__all__ = ["PersistMagics"]

#: Parameters beside those that are called like the cell's variables.
_CELL: Final = "persicache_cell"
_CODE: Final = "persicache_code"
_KEEPS: Final = "persicache_keeps_"
#: What a variable is that isn't bound; no value is told so.
_ABSENT: Final = "<absent>"


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
        memoized = self._memoized(arguments, run)
        for name in run.keeps:
            self._persisted[name] = arguments, source
        try:
            call, is_hit = _find(memoized, run)
            if is_hit:
                run.prepare()
            kept = memoized(run_=lambda: _kept(run, run.execute()), **call)
        except NotKept as error:
            _say(f"nothing is kept: {error}")
        except (UnencodableValue, UntrustedPickle) as error:
            if run.made is None:
                raise
            _keep_some(memoized, call, run, error)
        except BackendError as error:
            _say(f"nothing is kept: {error}")
            if run.made is None and run.error is None:
                with contextlib.suppress(NotKept):
                    run.execute()
        except BaseException as error:
            if error is not run.error:
                raise
            raise error.with_traceback(_within(error, run.cell.filename))  # noqa: B904 - it is the same
        else:
            if run.made is None:
                _restore(run, kept, is_prepared=is_hit)
            else:
                _say(
                    f"kept {_listed(kept['values'], kept['same'])}: {_seconds(kept['seconds'])} to compute"
                )
                _tell_not_kept(kept)
        return run.result

    def _run(self, arguments: Any, source: str) -> Run:
        shell: Any = self.shell
        text = shell.transform_cell(source)
        filename = shell.compile.cache(text, shell.execution_count, raw_code=source)
        tree = shell.transform_ast(shell.compile.ast_parse(text, filename))
        try:
            cell = Cell(text, tree=tree, filename=filename)
            unknown = sorted(set(arguments.names) - cell.binds - cell.reads)
            if unknown:
                raise CellNotSupported(f"it makes no {', '.join(unknown)}")
            ignored = frozenset(arguments.ignore)
            return Run(cell, shell, names=tuple(arguments.names), ignored=ignored)
        except CellNotSupported as error:
            raise UsageError(f"this cell can't be persisted: {error}") from error

    def _memoized(self, arguments: Any, run: Run | None = None) -> MemoizedFunction[..., Any]:
        options = {"memory": None, "on_error": "raise", **self.options}
        if run is not None:
            options["version"] = arguments.version
            options["depends_on"] = [Path(each) for each in arguments.depends]
        store = arguments.store or self.store or None
        names = [] if run is None else [*_marks(run), *run.counting]
        return persistent_memoize(store, ignore="run_", code="off", **options)(_function(names))

    # What is kept

    def _list(self, arguments: Any) -> None:
        memoized = self._memoized(arguments)
        rows = [
            (
                ", ".join(_names(entry)),
                datetime.fromtimestamp(entry.created).astimezone().isoformat(" ", "seconds")[:16],
                "" if math.isnan(entry.cost_seconds) else _seconds(entry.cost_seconds),
                f"{entry.nbytes:,}",
                entry.args.get(_CELL, "").strip("'\"").replace("\\n", "; "),
            )
            for entry in sorted(memoized.entries(), key=lambda entry: entry.created)
            if not arguments.names or set(arguments.names) & set(_names(entry))
        ]
        _say(f"{_counted(len(rows))} kept in {memoized.url}")
        if rows:
            _say(_table(("variables", "computed", "took", "bytes", "cell"), rows))

    def _explain(self, arguments: Any) -> None:
        if not arguments.names:
            raise UsageError("name a variable: %persicache explain NAME")
        for name in arguments.names:
            if name not in self._persisted:
                raise UsageError(f"no %%persist cell of this session makes {name}")
            of_cell, source = self._persisted[name]
            run = self._run(of_cell, source)
            memoized = self._memoized(of_cell, run)
            call, is_hit = _find(memoized, run)
            _say(f"the cell that makes {name} would be {'restored' if is_hit else 'run'}")
            explanation = memoized.explain(run_=None, **call)
            for line in _explained(explanation):
                _say(f"  {line}")

    def _forget(self, arguments: Any) -> None:
        if not arguments.names and not arguments.all:
            raise UsageError("name variables, or give --all: %persicache forget NAME...")
        memoized = self._memoized(arguments)
        if arguments.all:
            number = memoized.clear()
        else:
            wanted = set(arguments.names)
            number = sum(entry.forget() for entry in memoized.entries() if wanted & set(_names(entry)))
        _say(f"{_counted(number)} forgotten in {memoized.url}")


def _cell(*, run_: Callable[[], Any], **_inputs: Any) -> Any:
    """Run a cell; what it reads are its arguments."""
    return run_()


def _function(names: Iterable[str]) -> Callable[..., Any]:
    """Return the function whose calls are the runs of a cell: each name is a parameter."""
    function = types.FunctionType(_cell.__code__, _cell.__globals__, "cell")
    function.__module__ = "persicache_ipython"  # what is kept is filed under these two
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind, default=_ABSENT) for name in ["run_", *names]]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # as inspect has it
    return function


def _marks(run: Run) -> dict[str, Any]:
    """Return the arguments that stand for the code, and for what is to be kept."""
    marks = {_CELL: run.cell.text, _CODE: run.code_digest.hex()[:32]}
    return marks | {f"{_KEEPS}{name}": True for name in run.keeps}


def _find(memoized: MemoizedFunction[..., Any], run: Run) -> tuple[dict[str, Any], bool]:
    """Return the arguments by which the cell is found, or will be; and whether it is there."""
    call = {**_marks(run), **run.inputs}
    # A run that went well without a name, which it would have stumbled over if it had looked it
    # up before it bound it, doesn't depend on what the name is now: likely that run's own doing.
    unbound = {name: value for name, value in call.items() if name not in run.cell.binds}
    if len(unbound) < len(call) and not run.cell.sees_unbound and memoized.contains(run_=None, **unbound):
        return unbound, True
    return call, memoized.contains(run_=None, **call)


def _kept(run: Run, made: Made) -> dict[str, Any]:
    outputs = {"outputs": run.outputs.noted, "shows_all": run.outputs.is_complete}
    return {**made._asdict(), **outputs}


def _keep_some(
    memoized: MemoizedFunction[..., Any], call: dict[str, Any], run: Run, error: PersicacheError
) -> None:
    """Keep what can be kept, one variable not being so."""
    assert run.made is not None
    made, trial = run.made, {**call, _CELL: "trial", "run_": None}
    for name, value in list(made.values.items()):
        try:
            memoized.put(value, **trial)
        except (UnencodableValue, UntrustedPickle) as trouble:
            error = trouble
            for each in [name, *(each for each, other in made.same.items() if other == name)]:
                made.values.pop(each, None)
                made.same.pop(each, None)
                made.not_kept[each] = _reason(trouble)
    memoized.forget(**trial)
    kept = _kept(run, made)
    try:
        memoized.put(kept, run_=None, **call)
    except (UnencodableValue, UntrustedPickle, BackendError):
        _say(f"nothing is kept: {error}")
        return
    _say(f"kept {_listed(kept['values'], kept['same'])}: {_seconds(kept['seconds'])} to compute")
    _tell_not_kept(kept)


def _reason(trouble: Any) -> str:
    if isinstance(trouble, UntrustedPickle):
        return (
            f'{trouble.reason}: set %config PersistMagics.options = {{"signing_key": ...}}, or '
            '{"allow_pickle": True} if you trust everybody who can write there'
        )
    return str(trouble.reason)


def _restore(run: Run, kept: dict[str, Any], *, is_prepared: bool) -> None:
    if not is_prepared:  # another process was about to compute the same
        run.prepare()
    made = Made(*(kept[field] for field in Made._fields))
    run.restore(made)
    _say(f"restored {_listed(made.values, made.same)}: {_seconds(made.seconds)} saved")
    _tell_not_kept(kept)
    if not kept["shows_all"]:
        _say("some of what the cell displayed is not shown again")
    Outputs(kept["outputs"]).show(run.shell)


def _say(text: str) -> None:
    print(text)  # noqa: T201 - a notebook is where people read


def _tell_not_kept(kept: dict[str, Any]) -> None:
    for name, reason in kept["not_kept"].items():
        _say(f"not kept: {name}, {reason}")


def _listed(values: Iterable[str], same: Iterable[str]) -> str:
    return ", ".join(sorted([*values, *same])) or "no variables"


def _counted(number: int) -> str:
    return "1 cell is" if number == 1 else f"{number:,} cells are"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 60 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - a minute


def _names(entry: Any) -> list[str]:
    return [name.removeprefix(_KEEPS) for name in entry.args if name.startswith(_KEEPS)]


def _explained(explanation: Any) -> Iterator[str]:
    for _, name, change in explanation.differences:
        if name == _CELL:
            yield "its code has changed"
        elif name == _CODE:
            yield "the code that it uses of modules is another, or all of its own"
        elif name.startswith(_KEEPS):
            yield f"it keeps {name.removeprefix(_KEEPS)}: {change}"
        else:
            yield f"{name} {change}"
    yield from (note for note in explanation.notes if _CELL not in note)


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
