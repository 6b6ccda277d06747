"""A filesystem whose n-th operation goes wrong: `FaultFileSystem`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

R = TypeVar("R")

#: What can happen to an operation.
KINDS = ["error", "lost response", "truncate", "crash", "crash in between"]


class Crash(BaseException):
    """The process is gone: nothing that it still tries has an effect."""


class Faults:
    """A counter of operations, and what becomes of the n-th.

    Attributes
    ----------
    kind : str or None
        One of `KINDS`.
    at : int
        Which operation, from 1.
    fired : bool
        Whether it came to that.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Let all go well again, as in a new process."""
        self.plant(None, 0)

    def plant(self, kind: str | None, at: int) -> None:
        """Let the operation number `at`, from now on, go wrong."""
        self.kind, self.at = kind, at
        self.fired = False
        self._count = 0
        self._is_dead = False

    def run(self, whole: Callable[[], R], half: Callable[[], R] | None = None, *, tells: bool = False) -> R:
        """Do `whole`, or what the fault makes of it.

        Parameters
        ----------
        whole, half : callable
            The operation, and the half of it that is done when it breaks off.
        tells : bool, default False
            Whether it breaks off without an error: reading half of a file.
        """
        if self._is_dead:
            raise Crash
        self._count += 1
        if self.kind is None or self._count != self.at:
            return whole()
        self.fired = True
        self._is_dead = self.kind.startswith("crash")
        if self.kind == "lost response":
            whole()
        elif self.kind in {"truncate", "crash in between"} and half is not None:
            result = half()
            if not self._is_dead and tells:
                return result
        if self._is_dead:
            raise Crash
        raise OSError(errno.EIO, f"planted: {self.kind}")


class FaultFileSystem(AbstractFileSystem):
    """Files in memory, written in place: what breaks off leaves a part."""

    protocol = "faulty"
    cachable = False
    faults: ClassVar[Faults] = Faults()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._inner = MemoryFileSystem()

    @staticmethod
    def _inside(path: str) -> str:
        return f"/faulty/{path}"

    def cat_file(self, path, start=None, end=None, **options):
        data = self._inner.cat_file
        inside = self._inside(path)
        return self.faults.run(
            lambda: data(inside, start=start, end=end),
            lambda: (whole := data(inside, start=start, end=end))[: len(whole) // 2],
            tells=True,
        )

    def pipe_file(self, path, value, mode="overwrite", **options):
        put = self._inner.pipe_file
        inside = self._inside(path)
        self.faults.run(lambda: put(inside, value), lambda: put(inside, value[: len(value) // 2]))

    def rm_file(self, path):
        self.faults.run(lambda: self._inner.rm_file(self._inside(path)))

    def info(self, path, **options):
        return self._told(self.faults.run(lambda: self._inner.info(self._inside(path))))

    def ls(self, path, detail=True, **options):
        found = self.faults.run(lambda: self._inner.ls(self._inside(path), detail=True))
        return [self._told(info) for info in found]

    def makedirs(self, path, exist_ok=False):
        self.faults.run(lambda: self._inner.makedirs(self._inside(path), exist_ok=exist_ok))

    @staticmethod
    def _told(info):
        return {**info, "name": info["name"].removeprefix("/faulty/")}


class RenamingFaultFileSystem(FaultFileSystem):
    """The same, with renames: whole or not at all."""

    protocol = "faultyrenaming"

    def mv(self, path1, path2, recursive=False, maxdepth=None, **options):
        store, old, new = self._inner.store, self._inside(path1), self._inside(path2)
        self.faults.run(lambda: store.__setitem__(new, store.pop(old)))
