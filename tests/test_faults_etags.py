"""What looks the same by size and time is not the same: no update is lost to that."""

from __future__ import annotations

import os

import pytest

from persicache import ETAG_IS_THE_SAME, PersiDict
from persicache.codecs.entry import EntryCodec
from persicache.storage import file_blob, files


def lost_updates(folder, **options):
    """Return the updates that a writer would overwrite unseen, of others that leave no trace in `stat`."""
    mine, other = (PersiDict(folder, durable=False, **options) for _ in range(2))
    mine["a"] = "value"
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("a.*")}
    etag = mine.etag("a")
    lost = []
    for turn in range(10):  # an inode's number comes again with the second or third file
        other["a"] = f"{turn:05}"
        for path, mtime_ns in times.items():
            os.utime(path, ns=(mtime_ns, mtime_ns))
        if mine.etag("a") == etag:
            lost.append(f"{turn} has the etag of the first")
    swap = {"condition": ETAG_IS_THE_SAME, "expected_etag": etag}
    if mine.set_item_if("a", value="swap!", **swap).condition_was_satisfied:
        lost.append("the last was swapped away")
    elif mine["a"] != f"{turn:05}":
        lost.append("the last is gone")
    return lost


@pytest.mark.parametrize("format", ["auto", "json", "text"])
def test_no_update_is_lost_though_size_and_time_are_the_same(tmp_path, format):
    assert lost_updates(tmp_path, format=format) == []


@pytest.mark.parametrize("format", ["auto", "json"])
def test_an_etag_of_size_and_time_is_found(tmp_path, format, monkeypatch):
    """The kit catches what it is made for: a planted bug."""
    monkeypatch.setattr(EntryCodec, "identify", staticmethod(lambda head: None))
    for module in (files, file_blob):
        monkeypatch.setattr(module, "stamp_version", lambda stamp: f"{stamp[3]:x}-{stamp[4]:x}")
    lost = lost_updates(tmp_path, format=format)
    assert "the last was swapped away" in lost
