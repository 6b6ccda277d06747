"""The exit of a worker of multiprocessing, which skips the exit handlers of Python."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["also_in_workers"]


def also_in_workers(owner: object, finalizer: Callable[[], object]) -> None:
    """Let a finalizer run when its owner lives on until the exit, in a worker too."""
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(owner, finalizer, exitpriority=0)
