"""What the tests of computing together run in other processes; spawned children import it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from persicache import persistent_memoize


def memoized(place: dict[str, Any], log: Path) -> Any:
    """Return a function that takes a while, and writes down that it was computed."""

    @persistent_memoize(
        place["url"],
        storage_options=place["storage_options"] or None,
        durable=place["durable"],
        lease=1,
        memory=None,
        code="off",
        ignore="seconds",
    )
    def slow(x: int, seconds: float) -> list[int]:
        with log.open("a") as file:
            file.write(f"{x} {os.getpid()}\n")
        time.sleep(seconds)  # the work, during which the others come
        return [x, os.getpid()]

    return slow


def call(place: dict[str, Any], log: Path, x: int, seconds: float) -> tuple[list[int], float]:
    """Call it; return the result, and how long that took."""
    f = memoized(place, log)
    start = time.monotonic()
    return f(x, seconds), time.monotonic() - start
