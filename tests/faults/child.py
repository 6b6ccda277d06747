"""A child process that does one piece of work and may not live to its end: `Child`."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from persicache import BackendError

_REFUSED = 3


class Ended(NamedTuple):
    """How a child ended.

    Attributes
    ----------
    is_killed : bool
        Whether by a signal.
    is_refused : bool
        Whether its work raised a BackendError.
    report : str
        The traceback of any other error.
    """

    is_killed: bool
    is_refused: bool
    report: str

    @property
    def is_done(self) -> bool:
        """Whether its work returned."""
        return not (self.is_killed or self.is_refused or self.report)


class Child:
    """A forked child, which begins `work` when it is told to.

    Attributes
    ----------
    pid : int
        Its process id.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        waiting, self._start = os.pipe()
        self._reports, reporting = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._start)  # so that it ends with its parent
            _live(work, waiting, reporting)
        os.close(waiting)
        os.close(reporting)

    def run(self) -> Ended:
        """Let it work, and wait for its end."""
        os.write(self._start, b"!")
        with os.fdopen(self._reports, "rb") as pipe:
            report = pipe.read().decode()
        _, status = os.waitpid(self.pid, 0)
        os.close(self._start)
        code = os.waitstatus_to_exitcode(status)
        if code > 0 and not report and code != _REFUSED:
            report = f"exit code {code}"
        return Ended(code < 0, code == _REFUSED, report)


def _live(work: Callable[[], Any], waiting: int, reporting: int) -> None:
    status = 1
    try:
        gc.disable()  # what it would close is its parent's
        if os.read(waiting, 1):
            work()
            status = 0
    except BackendError:
        status = _REFUSED
    except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
        os.write(reporting, traceback.format_exc()[-4000:].encode())
    finally:
        os._exit(status)
