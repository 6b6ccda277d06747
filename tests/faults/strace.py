"""Faults at the n-th system call of a child, by strace: `Strace`."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from faults.child import Child, Ended

# What changes a file, its name or its length, or brings that to the disk. The question mark: not
# every architecture has all of them.
# fmt: off
_CHANGING = (
    "open", "openat", "creat", "mkdir", "mkdirat", "rmdir", "write", "writev", "pwrite64", "pwritev",
    "pwritev2", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "symlink",
    "symlinkat", "chmod", "fchmod", "fchmodat", "utimensat", "truncate", "ftruncate", "fallocate",
    "fsync", "fdatasync", "sync_file_range", "msync", "flock",
)
# fmt: on
_TRACED = "trace=" + ",".join(f"?{name}" for name in _CHANGING)
_LINE = re.compile(r"\d+ +(\w+)\((.*)")


class Point(NamedTuple):
    """The n-th call of a system call; strace counts each name by itself."""

    name: str
    at: int

    def __str__(self) -> str:
        return f"{self.name} {self.at}"


class Strace:
    """Strikes a child before a system call. Counting begins with its work."""

    @staticmethod
    @functools.cache
    def missing() -> str | None:
        """Return what this machine lacks for it."""
        if shutil.which("strace") is None:
            return "strace is not installed"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "made")
            ended = Strace().kill(path.mkdir, Point("mkdir", 1))
            if not ended.is_killed or path.exists():
                return f"strace can't strike processes here: {ended.report}"
        return None

    def points(self, work: Callable[[], Any]) -> list[Point]:
        """Do the work, and return every call in it that changes something."""
        with tempfile.NamedTemporaryFile("r") as log:
            ended = _traced(work, "-o", log.name)
            assert ended.is_done, ended.report
            return list(_changes(log))

    def kill(self, work: Callable[[], Any], point: Point) -> Ended:
        """Do the work, up to a call that is not made any more."""
        return _traced(work, "-o", os.devnull, "-e", f"inject={point.name}:signal=SIGKILL:when={point.at}")

    def fail(self, work: Callable[[], Any], point: Point, error: str) -> Ended:
        """Do the work, while one call is not made, and reports an error such as "EIO"."""
        return _traced(work, "-o", os.devnull, "-e", f"inject={point.name}:error={error}:when={point.at}")


def _traced(work: Callable[[], Any], *options: str) -> Ended:
    child = Child(work)
    command = ["strace", "-f", "-e", _TRACED, *options, "-p", str(child.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        line = strace.stderr.readline()
        ended = child.run()
        strace.stderr.read()
    if "attached" not in line:
        return Ended(is_killed=False, is_refused=False, report=line)
    return ended


def _changes(log: Any) -> Iterator[Point]:
    counts: Counter[str] = Counter()
    for line in log:
        match = _LINE.match(line)
        if match is None:
            continue
        name, arguments = match.groups()
        counts[name] += 1
        if "open" not in name or "O_CREAT" in arguments or "O_TRUNC" in arguments:
            yield Point(name, counts[name])
