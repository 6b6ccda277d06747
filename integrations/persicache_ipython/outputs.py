"""What a cell shows while it runs, to be shown again: `Outputs`."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, TextIO

__all__ = ["Outputs"]

#: What is shown after so many characters isn't kept: an endless progress bar, a video.
MOST_CHARACTERS: Final = 4_000_000
#: A view of a widget is nothing without the widget, which lives in the kernel.
_LIVE: Final = "application/vnd.jupyter.widget-view+json"


class Outputs:
    """The prints and displays of a cell, which are shown as ever, and noted.

    Parameters
    ----------
    noted : iterable of tuple, optional
        What was noted before.

    Attributes
    ----------
    is_complete : bool
        Whether all was noted.
    """

    def __init__(self, noted: Iterable[tuple[Any, ...]] = ()) -> None:
        self._noted = [list(each) for each in noted]
        self.is_complete = True
        self._room = MOST_CHARACTERS
        self._is_publishing = False

    @property
    def noted(self) -> list[tuple[Any, ...]]:
        """What was noted: ``("stdout", text)``, ``("stderr", text)``, ``("display", data, metadata)``."""
        return [
            tuple(each) if each[0] == "display" else (each[0], "".join(each[1:])) for each in self._noted
        ]

    @contextlib.contextmanager
    def noting(self, shell: Any) -> Iterator[None]:
        """Note what is printed and displayed in the block."""
        publisher = shell.display_pub
        publish, clear = publisher.publish, publisher.clear_output

        def publish_noted(data: Any, metadata: Any = None, *args: Any, **kwargs: Any) -> None:
            self.display(data, metadata, is_live=bool(kwargs.get("update") or kwargs.get("transient")))
            self._is_publishing = True  # a terminal prints what is displayed
            try:
                publish(data, metadata, *args, **kwargs)
            finally:
                self._is_publishing = False

        def clear_noted(*args: Any, **kwargs: Any) -> None:
            self._noted.clear()
            clear(*args, **kwargs)

        # The publisher itself stays in its place: the kernel tells it whose output this is.
        publisher.publish, publisher.clear_output = publish_noted, clear_noted
        try:
            with (
                contextlib.redirect_stdout(_Noting(sys.stdout, self, "stdout")),
                contextlib.redirect_stderr(_Noting(sys.stderr, self, "stderr")),
            ):
                yield
                _flush_figures()
        finally:
            del publisher.publish, publisher.clear_output

    def text(self, name: str, text: str) -> None:
        """Note a text, printed to the stream `name`."""
        if not self._is_publishing and self._fits(len(text)):
            if not self._noted or self._noted[-1][0] != name:
                self._noted.append([name])
            self._noted[-1].append(text)

    def display(self, data: Any, metadata: Any, *, is_live: bool = False) -> None:
        """Note what is displayed, unless it is something that goes on changing."""
        if is_live or _LIVE in data:
            self.is_complete = False
        elif self._fits(sum(len(each) for each in data.values() if isinstance(each, (str, bytes)))):
            self._noted.append(["display", dict(data), dict(metadata or {})])

    def show(self, shell: Any) -> None:
        """Show again what was noted."""
        for kind, *what in self.noted:
            if kind == "display":
                shell.display_pub.publish(*what)
            else:
                print(what[0], end="", file=getattr(sys, kind))

    def _fits(self, nbytes: int) -> bool:
        self._room -= nbytes
        if self._room < 0:
            self.is_complete = False
        return self._room >= 0


class _Noting(io.TextIOBase):
    """A stream that notes what is written to another."""

    def __init__(self, stream: TextIO, outputs: Outputs, name: str) -> None:
        self._stream = stream
        self._outputs = outputs
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._outputs.text(self._name, text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the stream's
        return self._stream.encoding


def _flush_figures() -> None:
    """Display the figures of matplotlib that a notebook would display after the cell."""
    backend = sys.modules.get("matplotlib_inline.backend_inline")
    if backend is not None:
        backend.flush_figures()
