"""One GiB of arrays derived from the flights, through 128 MiB of memory.

Run by itself it prints a line of JSON an array, and at the end what memory it took.
"""

from __future__ import annotations

import json
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
from pipeline import load

from persicache import SpillDict

N_ARRAYS = 128
N_ITEMS = 1 << 20  # of 8 bytes: 8 MiB


def derived(column: np.ndarray, i: int) -> np.ndarray:
    """Return the i-th array: the column, scaled, over and over."""
    array = np.empty(N_ITEMS)
    for start in range(0, N_ITEMS, len(column)):
        part = array[start : start + len(column)]
        np.multiply(column[: len(part)], 1 + i / N_ARRAYS, out=part)
    return array


def reset_peak() -> None:
    """Make the kernel forget the peak so far."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_nbytes() -> int:
    """Return the most memory that was resident since `reset_peak`, mapped pages included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no peak")


def main() -> None:
    """Fill the dictionary, read everything back, and tell how it went."""
    column = load()["distance"].to_numpy(float)
    start_nbytes = psutil.Process().memory_info().rss
    reset_peak()
    start = time.perf_counter()
    checksums = {}
    with SpillDict(available_memory="128 MiB") as arrays:
        for i in range(N_ARRAYS):
            array = derived(column, i)
            checksums[i] = zlib.crc32(array)
            arrays[i] = array
            del array
            print(json.dumps({"done": i + 1}), flush=True)
        in_seconds = time.perf_counter() - start
        start = time.perf_counter()
        wrong = 0
        for i in range(N_ARRAYS):
            wrong += zlib.crc32(arrays[i]) != checksums[i]
            print(json.dumps({"done": N_ARRAYS + i + 1}), flush=True)
        report = {
            "in_seconds": in_seconds,
            "out_seconds": time.perf_counter() - start,
            "nbytes": N_ARRAYS * N_ITEMS * 8,
            "peak_nbytes": peak_nbytes() - start_nbytes,
            "wrong": int(wrong),
        }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
