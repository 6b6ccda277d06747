"""A child is killed before every system call that changes a file, and each such call fails once."""

from __future__ import annotations

import os
import shutil

import pytest
from faults.operations import (
    CREATE,
    DELETE,
    OVERWRITE,
    REMOVE_IF,
    SET_DEEP,
    SET_LARGE,
    SET_MANY,
    SET_NEW,
    SWAP,
    fill,
)
from faults.planted import write_in_place
from faults.seam import Seam
from faults.strace import Strace
from faults.survey import never_swept, survey

from persicache import PersiDict

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

FILES = {"directory": "d", "sqlite": "x.db", "lmdb": "env", "jsondoc": "x.json"}
IN_FILES = [SET_NEW, OVERWRITE, SET_LARGE, SET_DEEP, DELETE, CREATE, SWAP, REMOVE_IF]
DURABLE = [("directory", operation) for operation in IN_FILES] + [
    (kind, operation) for kind in ("sqlite", "lmdb", "jsondoc") for operation in (OVERWRITE, SET_MANY)
]


class Place:
    """A place that holds what it should before every strike."""

    def __init__(self, kind, folder, *, durable):
        self.folder = folder / "place"
        self._template = folder / "template"
        self._url = f"lmdb://{self.folder}/env" if kind == "lmdb" else self.folder / FILES[kind]
        self._durable = durable
        with self.opened() as d:
            fill(d)
        self.folder.rename(self._template)

    def restore(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._template, self.folder)

    def opened(self, *, durable=None):
        return PersiDict(self._url, durable=self._durable if durable is None else durable)

    def after(self, operation, *, acknowledged):
        """Return what is wrong in the place."""
        with self.opened(durable=False) as d:
            if wrong := survey(d, operation, acknowledged=acknowledged):
                return wrong
        with self.opened(durable=False) as d:
            return [f"{name} is never swept" for name in never_swept(self.folder, d)]


@pytest.fixture(params=[Strace(), Seam()], ids=["strace", "seam"])
def killer(request):
    if request.param.missing():
        pytest.skip(request.param.missing())
    return request.param


@pytest.fixture
def strace():
    if Strace.missing():
        pytest.skip(Strace.missing())
    return Strace()


def killed_everywhere(killer, place, operation, *, plant=None):
    """Return what is wrong after a child was killed in `operation`, by the point where it was."""

    def work():
        if plant is not None:
            os.replace = os.rename = plant
        operation.act(place.opened())

    place.restore()
    points = killer.points(work)
    assert points
    wrong = {"nowhere": place.after(operation, acknowledged=True)}
    for point in points:
        place.restore()
        ended = killer.kill(work, point)
        assert ended.is_killed, f"not at {point}: {ended.report}"
        wrong[point] = place.after(operation, acknowledged=False)
    return {point: troubles for point, troubles in wrong.items() if troubles}


@pytest.mark.parametrize(("kind", "operation"), DURABLE, ids=str)
def test_a_killed_writer_leaves_old_or_new(strace, tmp_path, kind, operation):
    place = Place(kind, tmp_path, durable=True)
    assert killed_everywhere(strace, place, operation) == {}


@pytest.mark.parametrize("operation", [OVERWRITE, SET_LARGE, SET_DEEP], ids=str)
def test_so_does_one_that_waits_for_no_disk(killer, tmp_path, operation):
    place = Place("directory", tmp_path, durable=False)
    assert killed_everywhere(killer, place, operation) == {}


@pytest.mark.parametrize("kind", ["directory", "jsondoc"])
@pytest.mark.parametrize("operation", [SET_NEW, SWAP], ids=str)
def test_so_does_one_killed_without_a_tool(tmp_path, kind, operation):
    place = Place(kind, tmp_path, durable=True)
    assert killed_everywhere(Seam(), place, operation) == {}


@pytest.mark.parametrize(("kind", "operation"), DURABLE, ids=str)
def test_a_call_that_fails_is_an_error_that_leaves_old_or_new(strace, tmp_path, kind, operation):
    place = Place(kind, tmp_path, durable=True)

    def work():
        assert operation.act(place.opened()) == operation.result

    place.restore()
    for point in strace.points(work):
        place.restore()
        ended = strace.fail(work, point, "EIO")
        assert ended.is_done or ended.is_refused, f"{point}: {ended.report}"
        assert place.after(operation, acknowledged=ended.is_done) == [], point


@pytest.mark.parametrize("kind", ["directory", "jsondoc"])
def test_a_write_in_place_is_found(killer, tmp_path, kind):
    """The kit catches what it is made for: a planted bug."""
    place = Place(kind, tmp_path, durable=True)
    wrong = killed_everywhere(killer, place, OVERWRITE, plant=write_in_place)
    said = [trouble for troubles in wrong.values() for trouble in troubles]
    assert any("is torn" in each or "nothing can be read" in each for each in said)
