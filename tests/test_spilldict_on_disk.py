"""What a SpillDict has on disk: where, how many values, and their bytes."""

from __future__ import annotations

import numpy as np
import pytest

from persicache import SpillDict

KIB = 1024


def test_the_private_directory_is_made_where_it_is_wanted_and_goes_with_the_dictionary(tmp_path):
    place = tmp_path / "scratch" / "deep"
    with SpillDict(
        {i: np.full(128 * KIB, i, "u1") for i in range(4)}, available_memory=1, private_in=place
    ) as c:
        (made,) = place.iterdir()
        assert made.stat().st_mode & 0o777 == 0o700
        assert sum(path.stat().st_size for path in made.rglob("*") if path.is_file()) >= 512 * KIB
        assert [int(c[i][0]) for i in range(4)] == [0, 1, 2, 3]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"private_in": "s3://bucket/x"}, ValueError, "s3://bucket/x"),
        ({"private_in": 3}, TypeError, "not 3"),
        ({"private_in": "a", "spill_to": "b"}, TypeError, "spill_to or private_in"),
    ],
)
def test_a_private_directory_that_makes_no_sense_is_refused_by_name(options, kind, message):
    with pytest.raises(kind, match=message):
        SpillDict(**options)


@pytest.mark.parametrize("nbytes", [KIB, 128 * KIB], ids=["small", "large"])
def test_what_is_on_disk_only_is_counted(nbytes):
    with SpillDict(available_memory=2 * nbytes, weigh=len) as c:
        for i in range(5):
            c[i] = bytes(nbytes)
        assert c.on_disk[:2] == (3, 3 * nbytes)
        assert 3 * nbytes < c.on_disk.disk_nbytes < 3 * nbytes * 1.5
        assert c.stats.spills == 3
        c[0]  # comes back, and another one leaves
        assert c.on_disk[:2] == (3, 3 * nbytes)
        for i in (0, 1, 2):
            del c[i]
        c[3], c[4] = b"", b""
        assert c.on_disk == (0, 0, 0)


def test_in_a_given_place_values_take_what_they_weigh(tmp_path):
    with SpillDict(available_memory=1, spill_to=tmp_path / "given", weigh=len) as c:
        c["a"] = bytes(100)
        assert c.on_disk == (1, 100, 100)
