"""Every request to S3 goes wrong once, under every operation of a dictionary."""

from __future__ import annotations

import uuid
from itertools import count

import pytest
from faults.operations import (
    CREATE,
    DISCARD_MANY,
    OVERWRITE,
    POP,
    READING,
    REMOVE_IF,
    SET_MANY,
    TRANSFORM,
    fill,
)
from faults.survey import survey

from persicache import BackendError, PersiDict

# One of each kind of request.
CHANGES = [OVERWRITE, CREATE, TRANSFORM, REMOVE_IF, SET_MANY, DISCARD_MANY, POP]
READS = [operation for operation in READING if operation.name in {"get", "items"}]
FAULTS = [(operation, kind) for operation in CHANGES + READS for kind in ("denied", "lost-response")] + [
    *((operation, "broken-body") for operation in READS),
]


@pytest.fixture(scope="module")
def whole(s3_server):
    """Yield a dictionary that has found out what its bucket can do."""
    bucket = f"faults-{uuid.uuid4().hex[:12]}"
    s3_server.make_bucket(bucket)
    with PersiDict(f"s3://{bucket}/faults", storage_options=s3_server.storage_options) as d:
        d["a"] = "old"
        TRANSFORM.act(d)
        yield d
    s3_server.clear()


def attempt(d, server, operation, kind, at):
    """Let one request go wrong; return whether it came to that, and what is wrong then."""
    fill(d)
    server.clear()
    if at > 1:
        server.fault("none", times=at - 1)
    server.fault(kind)
    acknowledged = False
    try:
        assert operation.act(d) == operation.result
        acknowledged = True
    except BackendError:
        pass
    fired = len(server.requests()) >= at
    server.clear()
    assert fired or acknowledged
    return fired, survey(d, operation, acknowledged=acknowledged)


@pytest.mark.parametrize(("operation", "kind"), FAULTS, ids=str)
def test_after_any_fault_each_key_is_old_or_new(whole, s3_server, operation, kind):
    for at in count(1):
        fresh = whole.get_subdict(uuid.uuid4().hex)
        fired, wrong = attempt(fresh, s3_server, operation, kind, at)
        assert wrong == [], f"{kind} at request {at}"
        if not fired:
            break
    assert at > 1
