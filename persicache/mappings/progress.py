"""How far long work has come, for people to see: `progress`."""

from __future__ import annotations

import builtins
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from persicache.mappings.html import shown

__all__ = ["ProgressOption", "progress"]

#: What is done sooner is not worth a bar.
PATIENCE_SECONDS: Final = 2.0
#: How often a bar moves, at most.
EVERY_SECONDS: Final = 0.1

ProgressOption = bool | Callable[[int, int], object] | None


@contextlib.contextmanager
def progress(
    option: ProgressOption,
    *,
    title: str,
    total_nbytes: int,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[int], None]]:
    """Give a function to be called with how many more bytes are done.

    Parameters
    ----------
    option : bool or callable, optional
        What a caller asked for: whether to show a bar, or a function to be called with the bytes
        that are done and those that are to be done in all. By default a bar is shown on a
        terminal or in a notebook, if it takes more than two seconds.
    title : str
        What is being done.
    total_nbytes : int
        How much there is to do.
    clock : callable, optional
        Says how late it is, in seconds.

    Raises
    ------
    TypeError
        If the option is nothing of these.

    Examples
    --------
    >>> def tell(done, total):
    ...     print(done, "of", total)
    >>> with progress(tell, title="flush", total_nbytes=8) as advance:
    ...     advance(3)
    ...     advance(5)
    3 of 8
    8 of 8
    """
    tell: Callable[[int, int], object] | None
    if callable(option):
        tell, patience_seconds = option, -1.0
    elif option is None:
        tell, patience_seconds = _Bar(title) if _is_seen() else None, PATIENCE_SECONDS
    elif isinstance(option, bool):
        tell, patience_seconds = _Bar(title) if option else None, -1.0
    else:  # as of those who use no type checker
        raise TypeError(f"progress must be a bool, a function or None, not {option!r}")
    done_nbytes, begun = 0, clock()

    def advance(nbytes: int) -> None:
        nonlocal done_nbytes
        done_nbytes += nbytes
        if tell is not None and clock() - begun > patience_seconds:
            tell(done_nbytes, total_nbytes)

    try:
        yield advance
    finally:
        if isinstance(tell, _Bar):
            tell.close()


def _is_seen() -> bool:
    return sys.stderr.isatty() or (hasattr(builtins, "__IPYTHON__") and "ipykernel" in sys.modules)


class _Bar:
    """A bar of rich on a terminal, if that is there; else a line that is written over and over."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rich: Any = None
        self._told = float("-inf")
        self._has_line = False
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                self._rich = _rich_bar()

    def __call__(self, done_nbytes: int, total_nbytes: int) -> None:
        now = time.monotonic()
        if now - self._told < EVERY_SECONDS and done_nbytes < total_nbytes:
            return
        self._told = now
        if self._rich is None:
            self._has_line = True
            line = f"\r{self._title}: {shown(done_nbytes)} of {shown(total_nbytes)}"
            print(f"{line:<60}", end="", file=sys.stderr, flush=True)  # noqa: T201 - that is its purpose
            return
        if not self._rich.task_ids:
            self._rich.start()
            self._rich.add_task(self._title)
        self._rich.update(self._rich.task_ids[0], completed=done_nbytes, total=total_nbytes)

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()
        elif self._has_line:
            print(file=sys.stderr)  # noqa: T201 - as above


def _rich_bar() -> Any:
    from rich import console, progress  # noqa: PLC0415 - not everybody has it

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TimeRemainingColumn(),
        console=console.Console(stderr=True),
    )
