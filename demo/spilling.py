"""One GiB of arrays derived from the flights, through 128 MiB of memory.

`main` prints a line of JSON an array, and at the end what memory it took.
"""

from __future__ import annotations

import json
import time
import zlib

import numpy as np
from memory import peak_nbytes, reset_peak, resident_nbytes
from pipeline import load

from persicache import SpillDict, nbytes

N_ARRAYS = 128
N_ITEMS = 1 << 20  # of 8 bytes: 8 MiB


def derived(column: np.ndarray, i: int) -> np.ndarray:
    """Return the i-th array: the column, scaled, over and over."""
    array = np.empty(N_ITEMS)
    for start in range(0, N_ITEMS, len(column)):
        part = array[start : start + len(column)]
        np.multiply(column[: len(part)], 1 + i / N_ARRAYS, out=part)
    return array


def main() -> None:
    """Fill the dictionary, read everything back, and tell how it went."""
    column = load()["distance"].to_numpy(float)
    start_nbytes = resident_nbytes()
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
            "weight": N_ARRAYS * nbytes(arrays[0]),
            "peak_nbytes": peak_nbytes() - start_nbytes,
            "wrong": int(wrong),
            "written_nbytes": arrays.stats.spilled_nbytes,
        }
    print(json.dumps(report), flush=True)
