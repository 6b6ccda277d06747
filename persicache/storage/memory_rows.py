"""Rows as `LmdbRows` keeps them, in memory: `MemoryRows`."""

# ruff: noqa: D102 - as in LmdbRows

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["MemoryRows"]


class MemoryRows:
    """What `LmdbRows` is, in this process's memory, of whatever there is to keep.

    Examples
    --------
    >>> rows = MemoryRows()
    >>> rows.change(b"n", lambda old: 1 if old is None else old + 1)
    >>> rows.get(b"n")
    1
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, Any] = {}
        self._changing = threading.RLock()
        self.get = self._rows.get
        self.keys = self._rows.copy  # which nobody changes while it is gone through
        self.clear = self.destroy = self._rows.clear

    def __repr__(self) -> str:
        return "memory"

    def items(self) -> Iterable[tuple[bytes, Any]]:
        return self._rows.copy().items()

    def change(self, key: bytes, change: Callable[[Any], Any]) -> None:
        with self._changing:
            new = change(self._rows.get(key))
            if new is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = new

    def update(self, rows: list[tuple[bytes, Any]]) -> None:
        with self._changing:
            self._rows.update(rows)

    def is_private(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is open."""
