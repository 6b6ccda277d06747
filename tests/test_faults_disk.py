"""A disk runs full, at every page where it can, or can't be written."""

from __future__ import annotations

import re
import subprocess
from itertools import count

import pytest
from faults.child import Child
from faults.disk import fill_up, free_nbytes, no_small_disk, small_disk
from faults.operations import BEFORE, CREATE, DELETE, OVERWRITE, SET_LARGE, SET_NEW, SWAP, Operation, fill
from faults.survey import survey

from persicache import BackendError, PersiDict, ReadOnlyPlace

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

KINDS = ["directory", "sqlite", "lmdb", "jsondoc"]
DISK_NBYTES = 2 * 1024 * 1024


@pytest.fixture
def disk(tmp_path):
    if no_small_disk():
        pytest.skip(no_small_disk())
    with small_disk(tmp_path / "disk", nbytes=DISK_NBYTES) as disk:
        yield disk


def opened(kind, disk):
    files = {"sqlite": "x.db", "jsondoc": "x.json"}
    url = f"lmdb://{disk}/place/env" if kind == "lmdb" else disk / "place" / files.get(kind, "d")
    return PersiDict(url)


def full_at_every_page(kind, disk, operation, *, is_open):
    """Try an operation while nothing, one page, two pages… are left, until it succeeds."""
    for pages in count():
        with opened(kind, disk) as d:
            d.clear()
            fill(d)
            if not is_open:
                d.close()
            ballast = fill_up(disk, but_pages=pages)
            acknowledged = attempt(d, operation)
            if not acknowledged and (is_open or kind != "sqlite"):  # to be opened, SQLite takes some pages
                assert dict(d.items()) == BEFORE
        ballast.unlink()
        with opened(kind, disk) as d:
            assert survey(d, operation, acknowledged=acknowledged) == [], pages
        if acknowledged:
            assert pages
            return


def attempt(d, operation):
    """Return whether it succeeds; it must say so if the disk is full."""
    try:
        operation.act(d)
    except BackendError as error:
        if not re.search(r"(?i)no space left|disk is full", str(error)):
            raise AssertionError from error
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_open", [False, True], ids=["opened", "open"])
def test_wherever_the_disk_is_full_the_old_value_stays(disk, kind, is_open):
    """In a child: a library that maps files can be killed by a disk that is full."""

    def work():
        for operation in (OVERWRITE, SET_LARGE):
            full_at_every_page(kind, disk, operation, is_open=is_open)

    ended = Child(work).run()
    assert ended.is_done, ended


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_large_leaves_nothing_behind(disk, kind):
    too_large = Operation("", lambda d: d.__setitem__("a", bytes(range(256)) * (DISK_NBYTES // 256)))
    with opened(kind, disk) as d:
        fill(d)
        before = free_nbytes(disk)
        for _ in range(3):
            assert not attempt(d, too_large)
            assert dict(d.items()) == BEFORE
        # The files of databases stay as long as they have become, with room for what comes next.
        assert kind in {"sqlite", "lmdb"} or free_nbytes(disk) > before - DISK_NBYTES // 8
        d["b"] = bytes(DISK_NBYTES // 8)
        d["b"] = BEFORE["b"]
        assert survey(d, OVERWRITE, acknowledged=False) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_cant_be_written_can_be_read(disk, kind):
    with opened(kind, disk) as d:
        fill(d)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with opened(kind, disk) as d:
        assert dict(d.items()) == BEFORE
        for operation in (SET_NEW, OVERWRITE, DELETE, SWAP, CREATE):
            with pytest.raises(ReadOnlyPlace, match=str(disk)):
                operation.act(d)
        assert dict(d.items()) == BEFORE
