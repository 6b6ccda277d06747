"""What a notebook shows of a dictionary."""

from __future__ import annotations

import os
import pickle
import xml.etree.ElementTree as ET

from persicache import EmptyDict, PersiDict


def rows(d):
    """Return the cells of the table, which must be well-formed."""
    table = ET.fromstring(d._repr_html_())
    return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def caption(d):
    return "".join(ET.fromstring(d._repr_html_()).find("caption").itertext())


def test_a_notebook_shows_place_count_and_some_keys(tmp_path):
    d = PersiDict(tmp_path / "d", append_only=True)
    for i in range(25):
        d["run", i] = "x" * 2000
    assert str(tmp_path / "d") in caption(d)
    assert "entries: 25, format: auto, append-only: True, durable: True" in caption(d)
    head, *shown = rows(d)
    assert head == ["key", "stored", "written"]
    assert len(shown) == 11
    key, stored, written = shown[0]
    assert eval(key) in d
    assert stored == "2.2 KiB"
    assert written.startswith("20")
    assert rows(d.get_subdict(("run", 7))) == rows(EmptyDict()) == []


def test_what_a_key_holds_is_text(tmp_path):
    d = PersiDict(tmp_path)
    d["<script>alert('&')</script>"] = 1
    assert rows(d)[1][0] == "\"<script>alert('&')</script>\""
    assert "<script>" not in d._repr_html_()


def test_what_has_no_encoding_is_shown():
    d = PersiDict(f"memory://{os.fsdecode(bytes([255]))}")
    d["\ud800"] = 1
    assert rows(d)[1][0] == repr("\ud800")
    d.clear()


def test_a_format_of_ones_own_is_not_called_another(tmp_path):
    d = PersiDict(tmp_path, dump=pickle.dump, load=pickle.load, extension=".own")
    assert "format: .own" in caption(d)


def test_a_notebook_counts_no_more_than_it_shows_soon():
    d = PersiDict("memory://notebook-many")
    d.set_many((i, None) for i in range(1001))
    assert "more than 1,000" in caption(d)
    d.clear()


def test_a_place_that_can_not_be_reached_is_shown_as_such_without_its_secrets():
    options = {"key": "id", "secret": "hush", "endpoint_url": "http://127.0.0.1:9"}
    d = PersiDict(
        "s3://bucket/x", storage_options={**options, "config_kwargs": {"retries": {"max_attempts": 1}}}
    )
    assert "can't be listed" in caption(d)
    assert "hush" not in d._repr_html_()
