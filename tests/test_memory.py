"""Buffers are written and mapped, not copied: measured in a process of its own."""

import subprocess
import sys

import pytest

PROLOGUE = """
import re, sys
from pathlib import Path
import numpy as np
from persicache import PersiDict
def nbytes(what):
    return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
d = PersiDict(sys.argv[1], durable=False, **eval(sys.argv[2]))
"""
WRITE = """
array = np.zeros((1 << 27,))
array[:] = 1.5
value = {value}
start = nbytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
d["k"] = value
print(nbytes("VmHWM") - start)
assert float(d["k"]{index}[-1]) == 1.5
"""
READ = """
start = nbytes("VmRSS")
array = d["k"]
print(nbytes("VmRSS") - start)
array[5] = 7
assert PersiDict(sys.argv[1])["k"][5] == 1.5
"""
MIB = 2**20


def run(script, place, options="{}"):
    command = [sys.executable, "-c", PROLOGUE + script, place, options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(
    ("value", "index"),
    [
        ("array", ""),
        ("[array, 'x']", "[0]"),
        ("{'a': array.reshape(2, -1).T}", "['a'].T.ravel()"),
        ("(array, {1, type})", "[0]"),
    ],
    ids=["array", "in a list", "F-ordered", "in a pickle"],
)
def test_writing_a_gib_takes_no_memory(tmp_path, value, index):
    assert run(WRITE.format(value=value, index=index), tmp_path) < 32 * MIB


def test_reading_a_gib_maps_it(tmp_path):
    run(WRITE.format(value="array", index=""), tmp_path)
    assert run(READ, tmp_path, "{'verify': 'header'}") < 8 * MIB
