"""Values beside the memory that they take: run as a script, it measures each in a fork of its own."""

import ctypes
import dataclasses
import gc
import json
import os
import re
import sys
from collections import OrderedDict, defaultdict, deque
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse

from persicache import nbytes

N = 300_000
rng = np.random.default_rng(0)


@dataclasses.dataclass
class Point:
    x: float
    y: float


@dataclasses.dataclass(slots=True)
class SlottedPoint:
    x: float
    y: float


def texts(n=N):
    return [f"text number {i}" for i in range(n)]


def frame(column):
    return pd.DataFrame({"a": column})


def grouped():
    lists = defaultdict(list)
    for i in range(N // 2):
        lists[i].append(i / 7)
    return lists


def looked_up():
    found = pd.DataFrame({"a": np.ones(N)}, index=np.arange(N)[::-1].copy())
    found.loc[5]
    return found


def shared_columns():
    column = pd.Series(texts(), dtype="string[pyarrow]")
    return pd.DataFrame({"a": column, "b": column, "c": column})


def arrow_slices():
    table = pa.table({"a": np.ones(4 * N), "s": texts(4 * N)})
    return [table, table.slice(10, 1000), table["a"], table.slice(0, N)]


def text_slices():
    column = pd.Series(texts(), dtype="str")
    return [column, column.iloc[: N // 2], column.iloc[N // 4 :]]


#: Of what is a few large blocks of memory.
BLOCKS = {
    "array": lambda: np.ones(4 * N),
    "view that alone keeps an array": lambda: np.ones(8 * N)[: 4 * N],
    "views of one array": lambda: list(np.ones((N // 4, 32))),
    "broadcast": lambda: np.broadcast_to(np.ones(4000)[:, None], (4000, 4000)),
    "structured": lambda: np.ones(N, dtype=[("a", "f8"), ("b", "i4")]),
    "masked": lambda: np.ma.masked_array(np.ones(4 * N), np.arange(4 * N) % 2 == 0),
    "fixed-width text": lambda: np.array(texts()),
    "bytes": lambda: b"x" * 10_000_000,
    "bytearray": lambda: bytearray(10_000_000),
    "frame": lambda: pd.DataFrame({name: np.ones(N) for name in "abcdef"}),
    "frame of one block": lambda: pd.DataFrame(np.ones((N, 6))),
    "wide frame": lambda: pd.DataFrame({f"c{i}": np.ones(2000) for i in range(1000)}),
    "frame of text": lambda: frame(pd.Series(texts(), dtype="str")),
    "frame of string[pyarrow]": lambda: frame(pd.Series(texts(), dtype="string[pyarrow]")),
    "frame with one column thrice": shared_columns,
    "slices of a column of text": text_slices,
    "categories": lambda: frame(pd.Categorical.from_codes(np.arange(8 * N) % 300, list(range(300)))),
    "times with a zone": lambda: frame(pd.date_range("2020", periods=4 * N, freq="s", tz="Europe/Berlin")),
    "Int64": lambda: frame(pd.array(np.ones(4 * N, dtype=int), dtype="Int64")),
    "int64[pyarrow]": lambda: frame(pd.Series(np.ones(4 * N, dtype=int), dtype="int64[pyarrow]")),
    "lists in Arrow": lambda: frame(
        pd.arrays.ArrowExtensionArray(pa.ListArray.from_arrays(np.arange(N) * 4, np.ones(4 * N)))
    ),
    "index of two levels": lambda: frame(np.ones(N)).set_index(
        pd.MultiIndex.from_product([range(1000), range(N // 1000)])
    ),
    "index with its table": looked_up,
    "attrs of a frame": lambda: frame([1]).pipe(lambda f: f.attrs.update(x=np.ones(4 * N)) or f),
    "table of Arrow": lambda: pa.table({"a": np.ones(4 * N), "s": texts(4 * N)}),
    "slices of a table of Arrow": arrow_slices,
    "csr": lambda: scipy.sparse.random(10_000, 1000, density=0.1, format="csr", rng=rng),
    "coo": lambda: scipy.sparse.random(10_000, 1000, density=0.1, format="coo", rng=rng),
}
#: Of what is many objects of Python.
OBJECTS = {
    "array of texts": lambda: np.array(texts(), dtype=object),
    "frame of texts as objects": lambda: frame(pd.Series(texts(), dtype=object)),
    "frame of string[python]": lambda: frame(pd.Series(texts(), dtype="string[python]")),
    "objects in a frame": lambda: frame([[i, i + 1] for i in range(N // 2)]),
    "dok": lambda: scipy.sparse.random(2000, 1000, density=0.05, format="dok", rng=rng),
    "lil": lambda: scipy.sparse.random(2000, 1000, density=0.1, format="lil", rng=rng),
    "lists of floats in a dict": lambda: {i: [j / 7 for j in range(1000)] for i in range(800)},
    "a million ints": lambda: list(range(10**6, 2 * 10**6)),
    "a million short texts": lambda: [f"s{i}" for i in range(10**6)],
    "large ints": lambda: [2**70 + i for i in range(N)],
    "texts beyond ASCII": lambda: [f"sä€{i}" for i in range(N)],
    "short bytes": lambda: [b"%d" % i for i in range(N)],
    "set": lambda: set(range(10**6, 2 * 10**6)),
    "frozenset": lambda: frozenset(texts()),
    "deque": lambda: deque(i / 7 for i in range(3 * N)),
    "dataclass": lambda: [Point(i / 7, i / 9) for i in range(N // 2)],
    "dataclass with slots": lambda: [SlottedPoint(i / 7, i / 9) for i in range(N // 2)],
    "tuples": lambda: [(i / 7, i / 9) for i in range(N)],
    "dict": lambda: {f"k{i}": i / 7 for i in range(N)},
    "dicts": lambda: [{"a": i / 7, "b": i / 9} for i in range(N // 4)],
    "lists": lambda: [[i / 7] for i in range(N)],
    "defaultdict": grouped,
    "OrderedDict": lambda: OrderedDict((i, i / 7) for i in range(N)),
    "datetimes": lambda: [datetime(2020, 1, 1) + timedelta(seconds=i) for i in range(N)],  # noqa: DTZ001
    "decimals": lambda: [Decimal(i) for i in range(N)],
    "small arrays": lambda: [np.ones(4) for _ in range(N // 4)],
    "small frames": lambda: [pd.DataFrame({"a": np.ones(100)}) for _ in range(4000)],
    "one array among small ints": lambda: [*range(2500), np.ones(4 * N), *range(2500)],
    "one text among short ones": lambda: {i: "x" * (1 + (i == 1234) * 10_000_000) for i in range(5000)},
    "few arrays among many": lambda: [np.ones(N if i % 1000 == 7 else 1) for i in range(8000)],
}


def resident_nbytes():
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    return 1024 * int(re.search(r"Rss:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())[1])


def measured(make):
    """Return what a value weighs, and takes: what is resident more since, and less once it is gone."""
    start = resident_nbytes()
    value = make()
    with_it = resident_nbytes()
    weight = nbytes(value)
    before_it_goes = resident_nbytes()
    del value
    # Libraries make things for themselves on the way: those come, but they don't go.
    return weight, min(with_it - start, before_it_goes - resident_nbytes())


if __name__ == "__main__":
    gc.freeze()  # what was imported is not looked through again
    for name, make in (BLOCKS | OBJECTS).items():
        if (child := os.fork()) == 0:
            print(json.dumps([name, *measured(make)]), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{name}: {status}")
