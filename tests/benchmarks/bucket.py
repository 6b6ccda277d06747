"""Many values of a bucket that answers after 30 ms, one by one and at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from persicache import PersiDict
from tests.benchmarks.timing import Result
from tests.s3server import serving

LATENCY_SECONDS = 0.030
N = 200


def results(place: Path) -> Iterator[Result]:
    """Yield what a get takes, by `get_many` and by itself."""
    with serving() as server:
        server.make_bucket("bucket")
        d = PersiDict("s3://bucket/bench", storage_options=server.storage_options)
        d.set_many((i, "x" * 100) for i in range(N))
        server.fault("slow", times=-1, seconds=LATENCY_SECONDS)
        seconds = {}
        for name, get in (
            ("persicache", d.get_many),
            ("one by one", lambda keys: [d[key] for key in keys]),
        ):
            start = time.perf_counter()
            get(range(N))
            seconds[name] = (time.perf_counter() - start) / N
        yield Result(f"S3 at 30 ms: each of {N} gets, by get_many", seconds)
