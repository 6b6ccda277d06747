"""An amount of memory, as people write it and as a machine has it."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import psutil
import pytest

from persicache import SpillDict
from persicache.mappings.budget import available_nbytes

TOTAL = psutil.virtual_memory().total


def budget(amount):
    with SpillDict(available_memory=amount) as c:
        return c.available_memory


@pytest.mark.parametrize(
    ("amount", "nbytes"),
    [
        (4096, 4096),
        (np.int64(4096), 4096),
        (1e9, 10**9),
        (1500.7, 1500),
        (10**30, 10**30),
        ("4096", 4096),
        ("2 GiB", 2 << 30),
        (" 2gib ", 2 << 30),
        ("1.5 kB", 1500),
        (".5 KiB", 512),
        ("1 TB", 10**12),
        ("1e3 b", 1000),
    ],
)
def test_bytes_and_texts(amount, nbytes):
    assert budget(amount) == nbytes


@pytest.mark.parametrize("share", [0.25, np.float32(0.25), Fraction(1, 4)])
def test_a_share_is_of_what_there_is(share):
    assert budget(share) == int(available_nbytes() * 0.25)
    assert budget(1.0) == available_nbytes() <= TOTAL
    assert budget("auto") == budget(" Auto") == int(0.3 * available_nbytes())


@pytest.mark.parametrize(
    "amount",
    [0, -1, -0.5, 1.5, float("nan"), float("inf"), "", "0", "0.25", "-1 GiB", "2 GX", "two", "50%"],
)
def test_what_is_no_amount_is_refused_by_name(amount):
    with pytest.raises(ValueError, match="'2 GiB'") as caught:
        budget(amount)
    assert str(caught.value).startswith(f"available_memory: {amount!r}")


@pytest.mark.parametrize("amount", [True, np.True_, None, b"2 GiB", [1], 1j, Decimal(5), np.ones(2)])
def test_what_is_neither_number_nor_text_is_refused_by_name(amount):
    with pytest.raises(TypeError, match="'2 GiB'") as caught:
        budget(amount)
    assert str(caught.value).startswith(f"available_memory: {amount!r}")


V2 = "sys/fs/cgroup/{}memory.max"
V1 = "sys/fs/cgroup/memory/{}memory.limit_in_bytes"


@pytest.mark.parametrize(
    ("groups", "limits", "wanted"),
    [
        ("0::/", {V2.format(""): "5000000"}, 5_000_000),
        ("0::/", {V2.format(""): "max"}, TOTAL),
        ("0::/", {V2.format(""): str(2 * TOTAL)}, TOTAL),
        (
            "0::/a/b",
            {V2.format("a/b/"): "max", V2.format("a/"): "7000000", V2.format(""): "max"},
            7_000_000,
        ),
        ("0::/a/b", {V2.format("a/b/"): "6000000", V2.format("a/"): "7000000"}, 6_000_000),
        ("0::/c", {V2.format("d/"): "6000000"}, TOTAL),
        ("0::/../../e", {V2.format("e/"): "6000000"}, 6_000_000),
        ("4:memory:/docker/x\n3:cpu:/\n0::/", {V1.format(""): "8000000"}, 8_000_000),
        ("4:cpu,memory:/x:y", {V1.format("x:y/"): "8000000"}, 8_000_000),
        ("4:memory:/x", {V1.format("x/"): "9223372036854771712"}, TOTAL),
        ("", {}, TOTAL),
        (None, {V2.format(""): "5000000"}, TOTAL),
    ],
)
def test_the_least_limit_of_the_groups_around_counts(tmp_path, groups, limits, wanted):
    files = limits if groups is None else {"proc/self/cgroup": groups, **limits}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert available_nbytes(tmp_path) == wanted
