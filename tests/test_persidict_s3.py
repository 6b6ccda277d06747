"""What a dictionary on S3 costs: requests, waiting, memory."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from persicache import ETAG_IS_THE_SAME, NEVER_RETRIEVE, PersiDict
from persicache.mappings import persidict as persidict_module

MIB = 1 << 20


@pytest.fixture
def d(s3):
    return PersiDict(s3.url, storage_options=s3.storage_options)


def test_many_gets_wait_for_one_another_hardly_ever(s3, d):
    n = 200
    d.set_many((i, "x" * 100) for i in range(n))
    s3.server.fault("meet", method="GET", times=n, parties=10)
    assert len(d.get_many(range(n))) == n
    assert s3.server.requests().count("met") == n  # at least ten were under way all the time


@pytest.mark.parametrize(
    "going_through", [len, set, PersiDict.newest_keys, PersiDict.random_key, dict.fromkeys]
)
def test_all_keys_cost_one_listing(s3, d, going_through):
    d.set_many((i, i) for i in range(50))
    s3.server.clear()
    going_through(d)
    assert len(s3.server.requests()) == 1


def test_values_stream_in_bounded_memory(d, monkeypatch):
    monkeypatch.setattr(persidict_module, "BATCH_NBYTES", 4 * MIB)
    n = 32
    for i in range(n):
        d[i] = np.full(MIB // 8, float(i))
    tracemalloc.start()
    try:
        seen = {int(value[-1]) for value in d.values()}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == set(range(n))
    assert peak < 10 * MIB


def test_values_are_read_ahead_while_others_are_used(s3, d):
    d.set_many((i, i) for i in range(40))
    s3.server.clear()
    values = iter(d.values())
    next(values)
    end = time.monotonic() + 30
    while len(s3.server.requests()) - 2 <= 10:
        assert time.monotonic() < end, "nothing is read ahead"
        time.sleep(0.02)
    assert len(set(values)) == 39


def test_conditions_hold_for_more_than_s3fs_writes_at_once(s3, d):
    large = np.zeros(13_500_000)  # 108 MB; s3fs would cut it into parts, which take no condition
    d["a"] = large
    before = d.etag("a")
    d["a"] = large
    s3.server.clear()
    stale = d.set_item_if(
        "a", value=large, condition=ETAG_IS_THE_SAME, expected_etag=before, retrieve_value=NEVER_RETRIEVE
    )
    assert not stale.condition_was_satisfied
    assert [request.partition(" ")[0] for request in s3.server.requests()].count("POST") == 0
