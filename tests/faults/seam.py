"""Faults at the n-th call of a function of `os`, without any tool: `Seam`."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from faults.child import Child, Ended

# fmt: off
_CHANGING = {
    os: (
        "open", "mkdir", "rmdir", "write", "writev", "pwrite", "pwritev", "rename", "replace", "link",
        "symlink", "unlink", "remove", "chmod", "fchmod", "utime", "truncate", "ftruncate",
        "posix_fallocate", "fsync", "fdatasync",
    ),
    fcntl: ("flock",),
}
# fmt: on


class Point(NamedTuple):
    """Before or after the n-th call."""

    at: int
    is_after: bool


class Seam:
    """Strikes a child at the functions that change files, where they are called through their module.

    What a library does in C passes it by.
    """

    @staticmethod
    def missing() -> None:
        """Say that it needs nothing."""

    def points(self, work: Callable[[], Any]) -> list[Point]:
        """Do the work, and return the moments before and after every change in it."""
        reading, writing = os.pipe()

        def counting() -> None:
            count = _strike_at(None)
            work()
            _real["write"](writing, b"%d" % count[0])

        ended = Child(counting).run()
        os.close(writing)
        with os.fdopen(reading) as pipe:
            counted = pipe.read()
        assert ended.is_done, ended.report
        return [Point(at, is_after) for at in range(1, int(counted) + 1) for is_after in (False, True)]

    def kill(self, work: Callable[[], Any], point: Point) -> Ended:
        """Do the work up to a moment."""

        def striking() -> None:
            _strike_at(point)
            work()

        return Child(striking).run()


_real = {name: getattr(module, name) for module, names in _CHANGING.items() for name in names}


def _strike_at(point: Point | None) -> list[int]:
    """Kill this process at `point`; return the count of calls, which goes on. For children only."""
    count = [0]

    def struck(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if real is _real["open"] and not args[1] & (os.O_CREAT | os.O_TRUNC):
                return real(*args, **options)
            count[0] += 1
            if point == (count[0], False):
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*args, **options)
            finally:
                if point == (count[0], True):
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for module, names in _CHANGING.items():
        for name in names:
            setattr(module, name, struck(_real[name]))
    return count
