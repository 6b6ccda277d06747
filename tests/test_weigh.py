"""What `nbytes` says is what values take, whatever they say of themselves."""

import functools
import json
import mmap
import pickle
import re
import subprocess
import sys
import threading
import unittest.mock
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import weighed

from persicache import SpillDict, nbytes

MIB = 2**20
ARRAY = np.ones(MIB // 8)


@pytest.fixture(scope="module")
def measured():
    command = [sys.executable, "-W", "ignore", weighed.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, done.stdout.splitlines())
    return {name: (weight, taken) for name, weight, taken in lines}


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("name", weighed.BLOCKS)
def test_blocks_of_memory_weigh_what_they_take(measured, name):
    weight, taken = measured[name]
    assert weight == pytest.approx(taken, rel=0.1, abs=MIB)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("name", weighed.OBJECTS)
def test_objects_weigh_what_they_take(measured, name):
    weight, taken = measured[name]
    assert weight == pytest.approx(taken, rel=0.3, abs=MIB)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (ARRAY[: MIB // 80], 0.1),  # others hold the array
        ([ARRAY[:1000], ARRAY[1000:]], 1),
        ([ARRAY, memoryview(ARRAY), ARRAY.view(np.uint8)[::3]], 1),
        (pa.py_buffer(bytes(MIB)), 1),
        (pa.chunked_array([pa.array(ARRAY)] * 5000), 1),
        (pa.record_batch({"a": ARRAY}), 1),
        (pa.array(["x" * 1024 + str(i) for i in range(1024)]).dictionary_encode(), 1),
        (np.array(["x" * 1024] * 1024, dtype=np.dtypes.StringDType()), 1),
        (functools.partial(print, ARRAY, end=ARRAY.copy()), 2),
        (dict.fromkeys(range(3000), 0) | {"x": ARRAY} | {-i: 0 for i in range(3000)}, 1.5),
        (pd.DataFrame({f"c{i}": np.ones(100) for i in range(1000)} | {"t": ["x" * 10_000] * 100}), 1.85),
        (pd.period_range("1900", periods=MIB // 8, freq="h"), 1),
    ],
)
def test_what_is_shared_or_rare_counts_once(value, wanted):
    assert nbytes(value) / MIB == pytest.approx(wanted, rel=0.1, abs=0.1)


def gone():
    return weakref.proxy(weighed.Point(1, 2))


class NoClass:
    @property
    def __class__(self):
        raise RuntimeError("asked")


class NoAttribute:
    def __getattribute__(self, name):
        raise RuntimeError(name)


class NoDict:
    @property
    def __dict__(self):
        raise ValueError("asked")


class NegativeSize:
    def __sizeof__(self):
        return -1


class NoSize:
    def __sizeof__(self):
        return "much"


class Huge:
    nbytes = 10**18
    itemsize, size, dtype, base = 8, 10**17, np.dtype(float), None


class NoNbytes(np.ndarray):
    @property
    def nbytes(self):
        raise ValueError("asked")

    @property
    def base(self):
        raise ValueError("asked")


class NoItems(list):
    def __iter__(self):
        raise ValueError("asked")

    __len__ = __getitem__ = __iter__


class NoKeys(dict):
    def __iter__(self):
        raise ValueError("asked")

    __len__ = keys = values = items = __iter__


class Meta(type):
    @property
    def __mro__(cls):
        raise ValueError("asked")

    __module__ = __mro__


def released():
    view = memoryview(b"text")
    view.release()
    return view


def endless():
    rows = []
    rows.append(rows)
    rows.append({"rows": rows})
    return rows


def deep():
    row = []
    for _ in range(100_000):
        row = [row]
    return row


@pytest.mark.parametrize(
    "make",
    [
        gone,
        NoClass,
        NoAttribute,
        NoDict,
        NegativeSize,
        NoSize,
        Huge,
        lambda: np.zeros(8).view(NoNbytes),
        lambda: NoItems([1, 2]),
        lambda: NoKeys(a=1),
        Meta("NoOrder", (), {}),  # made here: pytest asks classes that it finds
        released,
        endless,
        deep,
        threading.Lock,
        lambda: sys,
        lambda: (i for i in range(5)),
        lambda: unittest.mock.Mock(spec=pd.DataFrame),
        lambda: unittest.mock.MagicMock(spec=np.ndarray),
        lambda: np.zeros(3, dtype="V0"),
        lambda: np.float64(3),
        pd.DataFrame,
        lambda: pa.table({}),
    ],
)
def test_odd_objects_are_weighed_without_asking_them_much(make):
    value = make()
    assert 0 < nbytes(value) < 200_000
    assert nbytes([value, ARRAY]) > MIB


def test_what_a_subclass_hides_is_weighed():
    assert nbytes(NoItems([ARRAY])) > MIB
    assert nbytes(NoKeys(a=ARRAY)) > MIB
    assert nbytes(ARRAY.view(NoNbytes)) > MIB


class Counting:
    n_asked = 0

    def __sizeof__(self):
        Counting.n_asked += 1
        return 48


@pytest.mark.parametrize(
    "value",
    [
        [Counting() for _ in range(200_000)],
        {i: [Counting() for _ in range(100)] for i in range(1000)},
        [[[Counting()] for _ in range(100)] for _ in range(1000)],
    ],
    ids=["one list", "lists in a dict", "lists in lists"],
)
def test_of_many_objects_few_are_looked_at(value):
    Counting.n_asked = 0
    assert nbytes(value) > 100_000 * 48
    assert 100 < Counting.n_asked < 10_000


def resident_of_maps(place):
    """Return how much of the files in a directory is resident in this process."""
    maps = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    resident = [re.search(r"^Rss:\s+(\d+)", text, re.MULTILINE) for text in maps if str(place) in text]
    return sum(1024 * int(found[1]) for found in resident)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize(
    "value",
    [
        np.ones(MIB // 8),
        np.ones(8200),  # hardly large enough to be mapped
        np.ones((300, 300)).T,
        [np.ones(8200), np.ones(8200)],
        {"a": np.ones(10_000), "b": np.ones((100, 100), "f4")},
        pd.DataFrame({"a": np.ones(20_000), "s": pd.Series(["text"] * 20_000, dtype="str")}),
        pd.DataFrame(np.ones((300, 300))),
    ],
    ids=["1 MiB", "66 kB", "F order", "list", "dict", "frame with text", "frame"],
)
def test_what_is_mapped_weighs_the_pages_that_can_be_resident(tmp_path, value):
    with SpillDict({"k": value}, available_memory="64 MiB", spill_to=tmp_path) as c:
        assert c.spill("k")
        assert c.memory_usage == 0
        restored = c["k"]
        assert pickle.dumps(restored)  # touches all of it
        resident = resident_of_maps(tmp_path)
        assert resident >= 65_536
        # The entry's head, and what pads it, are on pages of their own at most.
        assert resident - 3 * mmap.PAGESIZE <= c.memory_usage <= resident + 64 * 1024


def test_of_a_large_map_a_part_weighs_the_pages_that_it_touches(tmp_path):
    with SpillDict({"k": np.ones(MIB)}, available_memory="64 MiB", spill_to=tmp_path) as c:
        c.spill("k")
        mapped, page = c["k"], mmap.PAGESIZE
        assert 8 * MIB <= nbytes(mapped) < 8 * MIB + 3 * page
        assert page <= nbytes(mapped[:10]) < 3 * page
        assert page <= nbytes(mapped[-1:]) < 3 * page
        assert page <= nbytes(mapped[10::-1]) < 3 * page
        assert 100 * page < nbytes(mapped[:: MIB // 100]) < 210 * page
        assert 8 * MIB <= nbytes(mapped[::2]) < 8 * MIB + 3 * page
        assert nbytes(mapped[:0]) < page
        assert nbytes([mapped[:10], mapped[20:30], mapped]) < 8 * MIB + 6 * page
