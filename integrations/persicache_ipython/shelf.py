"""Where what cells made is kept, and by what it is found again: `Shelf`."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from persicache import UnencodableValue, UntrustedPickle, persistent_memoize
from persicache_ipython.made import Made
from persicache_ipython.run import Run

__all__ = ["Shelf"]

#: Parameters beside those that are called like the cell's variables.
_OURS: Final = "persicache_"
_CELL: Final = f"{_OURS}cell"
_CODE: Final = f"{_OURS}code"
_ALL: Final = f"{_OURS}all"
_KEEPS: Final = f"{_OURS}keeps_"
#: What a variable is that isn't bound; no value is told so.
_ABSENT: Final = "<absent>"


class Shelf:
    """What cells made, as the stored results of one memoized function.

    Its calls are the runs of cells: the arguments are the code, the names of what is kept, and
    what the cell reads.

    Parameters
    ----------
    store : str or None
        The place; None for the user's cache.
    options : mapping
        Options of `persistent_memoize`.
    run : Run, optional
        The run of a cell that is to be found or kept.
    """

    def __init__(self, store: str | None, options: Mapping[str, Any], run: Run | None = None) -> None:
        options = {"memory": None, "on_error": "raise", **options}
        names = [] if run is None else [*_marks(run), *run.counting]
        # By these it is kept; what the run changes in place is another value afterwards.
        self._call = {} if run is None else _marks(run) | run.inputs
        self._run = run
        self._memoized = persistent_memoize(store, ignore="run_", code="off", **options)(_function(names))

    @property
    def url(self) -> str:
        """The place, without secrets."""
        return self._memoized.url

    def find(self) -> tuple[dict[str, Any], bool]:
        """Return the arguments by which the cell is found, or will be; and whether it is there."""
        assert self._run is not None
        call = self._call
        # A run that went well without a name, which it would have stumbled over if it had looked it
        # up before it bound it, doesn't depend on what the name is now: likely that run's own doing.
        unbound = {name: value for name, value in call.items() if name not in self._run.cell.binds}
        is_other = len(unbound) < len(call) and not self._run.cell.sees_unbound
        if is_other and self._memoized.contains(run_=None, **unbound):
            return unbound, True
        return call, self._memoized.contains(run_=None, **call)

    def fetch(self, call: Mapping[str, Any], *, is_hit: bool) -> Made:
        """Return what is kept, once the definitions that it may need are there; or run the cell."""
        run = self._run
        assert run is not None
        if is_hit:
            run.prepare()
            return self._called(run.execute, call)

        def execute() -> Made:
            if self.holds(call):
                raise _MadeElsewhere
            return run.execute()

        try:
            kept = self._called(execute, call)
        except _MadeElsewhere:
            # Another process was just running the cell, and what it made needs the definitions.
            run.prepare()
            return self._called(run.execute, call)
        if not run.is_done:
            run.prepare()
        return kept

    def _called(self, execute: Callable[[], Made], call: Mapping[str, Any]) -> Made:
        kept: Made = self._memoized(run_=execute, **call)
        return kept

    def holds(self, call: Mapping[str, Any]) -> bool:
        """Return whether the run is kept: not if a file that it depends on was changed meanwhile."""
        return self._memoized.contains(run_=None, **call)

    def refusals(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return which values can't be kept here, and why."""
        found = {}
        trial = {**self._call, _CELL: "trial", "run_": None}
        for name, value in values.items():
            try:
                self._memoized.put(value, **trial)
            except UntrustedPickle as error:
                found[name] = (
                    f'{error.reason}: set %config PersistMagics.options = {{"signing_key": ...}}, or '
                    '{"allow_pickle": True} if you trust everybody who can write there'
                )
            except UnencodableValue as error:
                found[name] = error.reason
        self._memoized.forget(**trial)
        return found

    def put(self, kept: Made) -> None:
        """Keep what the run has made."""
        self._memoized.put(kept, run_=None, **self._call)

    def explain(self) -> Iterator[str]:
        """Say why the cell would be run or restored, line by line."""
        explanation = self._memoized.explain(run_=None, **self.find()[0])
        changed = {each.name for each in explanation.differences if each.kind == "argument"}
        is_other_choice = _ALL in changed or any(name.startswith(_KEEPS) for name in changed)
        if _CELL in changed and is_other_choice:
            yield "nothing is kept that is like it"
            return
        if _CELL in changed:
            yield "its code is another"
        elif _CODE in changed:
            yield "the code that it uses of modules is another"
        if is_other_choice:
            yield "what it keeps is another choice"
        for difference in explanation.differences:
            if difference.kind != "argument":
                yield str(difference)
            elif not difference.name.startswith(_OURS):
                yield f"{difference.name} {difference.change}"
        yield from (note for note in explanation.notes if _CELL not in note)  # that is the whole call

    def entries(self) -> Iterator[tuple[list[str], str, Any]]:
        """Yield of each run that is kept the names of its variables, its code, and its `EntryInfo`."""
        for entry in self._memoized.entries():
            names = [name.removeprefix(_KEEPS) for name in entry.args if name.startswith(_KEEPS)]
            yield names, entry.args.get(_CELL, ""), entry

    def clear(self) -> int:
        """Forget all; return how many runs that were."""
        return self._memoized.clear()


class _MadeElsewhere(Exception):
    """The cell need not be run: it has been, by another process, for which this one waited."""


def _cell(*, run_: Callable[[], Any], **_inputs: Any) -> Any:
    """Run a cell; what it reads are its arguments."""
    return run_()


def _function(names: Iterable[str]) -> Callable[..., Any]:
    """Return a function whose parameters have these names."""
    function = types.FunctionType(_cell.__code__, _cell.__globals__, "cell")
    function.__module__ = "persicache_ipython"  # what is kept is filed under these two
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind, default=_ABSENT) for name in ["run_", *names]]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # as inspect has it
    return function


def _marks(run: Run) -> dict[str, Any]:
    """Return the arguments that stand for the code, and for what is to be kept."""
    marks = {_CELL: run.cell.text, _CODE: run.code_digest.hex()[:32], _ALL: not run.names}
    return marks | {f"{_KEEPS}{name}": True for name in run.keeps}
