"""What the tests of computing together run in other processes; spawned children import it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from persicache import persistent_memoize


def memoized(place: dict[str, Any], log: Path, *, lease: float) -> Any:
    """Return a function that takes a while, and writes down that it was computed.

    It ends when `go` is there, if that is given, or after some time.
    """

    @persistent_memoize(
        place["url"],
        storage_options=place["storage_options"] or None,
        durable=place["durable"],
        lease=lease,
        memory=None,
        code="off",
        ignore=["seconds", "go"],
    )
    def slow(x: int, seconds: float, go: Path | None) -> list[int]:
        with log.open("a") as file:
            file.write(f"{x} {os.getpid()}\n")
        time.sleep(seconds)  # the work, during which the others come
        while go is not None and not go.exists():
            time.sleep(0.01)  # between two looks for the file
        return [x, os.getpid()]

    return slow


def call(
    place: dict[str, Any], log: Path, x: int, seconds: float, *, lease: float = 10, go: Path | None = None
) -> list[int]:
    """Call it."""
    return memoized(place, log, lease=lease)(x, seconds, go)
