"""Every operation of a filesystem goes wrong once, under every operation of a dictionary."""

from __future__ import annotations

import uuid
from itertools import count

import fsspec
import pytest
from faults.filesystem import KINDS, Crash, FaultFileSystem, RenamingFaultFileSystem
from faults.operations import CHANGING, OVERWRITE, READING, fill
from faults.survey import survey

from persicache import BackendError, CorruptEntry, PersiDict
from persicache.storage import generic

FAULTS = FaultFileSystem.faults
UNCONDITIONAL = [operation for operation in CHANGING + READING if not operation.is_conditional]


@pytest.fixture(params=[FaultFileSystem, RenamingFaultFileSystem], ids=["in place", "renaming"])
def kind_of_place(request):
    fsspec.register_implementation(request.param.protocol, request.param, clobber=True)
    yield request.param
    FAULTS.clear()
    memory = fsspec.filesystem("memory")
    if memory.exists("/faulty"):
        memory.rm("/faulty", recursive=True)


def attempt(url, operation, kind, at):
    """Let one operation of the filesystem go wrong; return whether it fired, and what is wrong then."""
    FAULTS.clear()
    fill(PersiDict(url))
    FAULTS.plant(kind, at)
    acknowledged = False
    try:
        result = operation.act(PersiDict(url))
    except (BackendError, CorruptEntry, Crash) as error:
        fired = FAULTS.fired
        assert fired
        if isinstance(error, CorruptEntry):
            assert kind == "truncate"  # of what is read
    else:
        assert result == operation.result
        acknowledged = True
        fired = FAULTS.fired
    FAULTS.clear()
    may_tear = "renaming" not in url
    return fired, survey(PersiDict(url), operation, acknowledged=acknowledged, may_tear=may_tear)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", UNCONDITIONAL, ids=str)
def test_after_any_fault_each_key_is_old_or_new(kind_of_place, operation, kind):
    for at in count(1):
        url = f"{kind_of_place.protocol}://{uuid.uuid4().hex}"
        fired, wrong = attempt(url, operation, kind, at)
        assert wrong == [], f"{kind} at operation {at}"
        if not fired:
            break
    assert at > 1


@pytest.mark.parametrize("kind", ["truncate", "crash in between"])
def test_a_write_in_place_is_found(kind, monkeypatch):
    """The kit catches what it is made for: a planted bug, in a place that should never tear."""
    fsspec.register_implementation("faultyrenaming", RenamingFaultFileSystem, clobber=True)
    monkeypatch.setattr(generic, "renames", lambda filesystem: False)
    url = f"faultyrenaming://{uuid.uuid4().hex}"
    found = [attempt(url, OVERWRITE, kind, at) for at in range(1, 5)]
    FAULTS.clear()
    assert any("torn" in trouble for _, wrong in found for trouble in wrong)


def test_a_batch_that_failed_is_not_written_again(kind_of_place):
    """What others have set meanwhile would be lost."""
    d = PersiDict(f"{kind_of_place.protocol}://{uuid.uuid4().hex}")
    FAULTS.plant("error", 1)
    with pytest.raises(BackendError):
        d.set_many((key, bytes(1 << 20)) for key in "a")  # a generator's large items go at once
    assert FAULTS.fired
    FAULTS.clear()
    assert list(d) == []
