"""What the tests of leases run in other processes; spawned children import it."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persicache.storage import Lease, Leases, Storage, open_leases, open_storage


class Elsewhere:
    """A storage that doesn't say what kind it is: its leases are records."""

    def __init__(self, inner: Storage) -> None:
        self._storage = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return "elsewhere://" if name == "url" else getattr(self._storage, name)


def opened(place: dict[str, Any]) -> Storage:
    """Open the storage of a place; `records` asks for leases that are records."""
    options = {
        "storage_options": place.get("storage_options") or None,
        "durable": place.get("durable", False),
    }
    storage = open_storage(place["url"], **options)
    return Elsewhere(storage) if place.get("records") else storage


def leases_of(place: dict[str, Any], *, seconds: float = 10.0) -> Leases:
    return open_leases(opened(place), seconds=seconds)


def attempt(tries: Generator[float, None, Lease]) -> Lease | float:
    """Return the lease, or how long to wait."""
    try:
        return next(tries)
    except StopIteration as taken:
        return taken.value


def take(leases: Leases, name: str) -> Lease:
    tries = leases.tries(name)
    while isinstance(found := attempt(tries), float):
        time.sleep(found)  # as long as the lease says
    return found


@contextmanager
def holding(leases: Leases, name: str) -> Iterator[Lease]:
    lease = take(leases, name)
    try:
        yield lease
    finally:
        lease.release()


def count_up(place: dict[str, Any], counter: str, times: int) -> None:
    """Add one to the number in a file, `times` times, in two steps that a lease makes one."""
    leases = leases_of(place)
    for _ in range(times):
        with holding(leases, "f/ab/cd.pc") as lease:
            number = int(Path(counter).read_text())
            time.sleep(0.001)  # for another to come in between, if it could
            Path(counter).write_text(str(number + 1))
            assert not lease.is_lost


def hold(place: dict[str, Any], seconds: float, pipe: Any) -> None:
    """Take a lease, say so, and answer whether it is lost when asked; give it back when asked to."""
    lease = take(leases_of(place, seconds=seconds), "f/ab/cd.pc")
    pipe.send(os.getpid())
    while (asked := pipe.recv()) != "end":
        if asked == "release":
            lease.release()
        pipe.send(lease.is_lost)


def race(place: dict[str, Any], seconds: float, log: str, ready: Any) -> float:
    """Wait for a lease, note in `log` when it is had and when not; return how long it took."""
    leases = leases_of(place, seconds=seconds)
    ready.wait(60)
    started = time.monotonic()
    tries = leases.tries("f/ab/cd.pc")
    while isinstance(found := attempt(tries), float):
        time.sleep(found)  # as long as the lease says
    took = time.monotonic() - started
    with Path(log).open("a") as file:
        file.write("+")
        file.flush()
        time.sleep(0.05)  # for another to write in between, if it could
        file.write("-")
    found.release()
    return took
