"""What the storage tests run in other processes; a module that spawned children can import."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from typing import Any

from persicache.errors import VersionConflict
from persicache.storage import ABSENT, Storage, open_storage


def in_fork(work: Callable[[], Any]) -> None:
    """Run `work` in a forked child, and fail with its traceback if it fails."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
            os.write(writing, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        report = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, report


def in_spawned(work: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Run `work` in a spawned process for each of `arguments`, all at once; return the results."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(len(arguments)) as pool:
        results = pool.starmap(work, arguments, chunksize=1)
        pool.close()
        pool.join()
    return results


def echo(storage: Storage) -> bytes:
    """Read "parent", write "child"."""
    storage.write("child", [b"from the child"])
    return bytes(storage.read("parent").buffer)


def create(url: str, options: dict[str, Any], text: str, names: list[str]) -> int:
    """Try to be the one who creates each of `names`; return how many were won."""
    storage = open_storage(url, storage_options=options, durable=False)
    won = 0
    for name in names:
        try:
            storage.write(name, [text.encode()], expect=ABSENT)
        except VersionConflict:
            continue
        won += 1
    return won


def write_all(url: str, data: bytes, n: int) -> None:
    """Write `data` under each of `n` names."""
    storage = open_storage(url, durable=False)
    storage.write_many({f"n{i}": [data] for i in range(n)})
    storage.close()


def count_up(url: str, options: dict[str, Any], times: int) -> None:
    """Add one to the number in "counter", `times` times."""
    storage = open_storage(url, storage_options=options, durable=False)
    for _ in range(times):
        while True:
            blob = storage.read("counter")
            number = int(bytes(blob.buffer)) + 1
            try:
                storage.write("counter", [str(number).encode()], expect=blob.version)
                break
            except VersionConflict:
                continue
