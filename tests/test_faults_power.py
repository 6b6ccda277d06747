"""The power fails: the disk holds what was synced, and nothing else."""

from __future__ import annotations

import os

import pytest
from faults.disk import Image, no_image
from faults.operations import BEFORE, DELETE, OVERWRITE, SET_DEEP, SET_LARGE, SET_MANY, SET_NEW, SWAP, fill
from faults.planted import forget_files, forget_folders

from persicache import BackendError, CorruptEntry, PersiDict

KINDS = ["directory", "sqlite", "lmdb", "jsondoc"]
STEPS = [SET_NEW, OVERWRITE, SET_DEEP, SET_LARGE, SWAP, SET_MANY, DELETE]


@pytest.fixture
def image(tmp_path):
    if no_image():
        pytest.skip(no_image())
    return Image(tmp_path)


def opened(kind, disk, **options):
    files = {"sqlite": "x.db", "jsondoc": "x.json"}
    url = f"lmdb://{disk}/new/env" if kind == "lmdb" else disk / "new" / files.get(kind, "d")
    return PersiDict(url, **options)


def cut_after_each_step(image, kind, steps):
    """Return what a power cut would have cost after each step was acknowledged."""
    wrong = {}
    model = dict(BEFORE)
    with image.powered() as disk, opened(kind, disk) as d:
        fill(d)
        for step in steps:
            step.act(d)
            model = {key: value for key, value in model.items() if key not in step.touched}
            model |= {key: step.after[key] for key in step.touched if key in step.after}
            with image.after_power_cut() as left, opened(kind, left) as survivor:
                try:
                    found = dict(survivor.items())
                except (BackendError, CorruptEntry) as error:
                    found = error
            if found != model:
                wrong[step.name] = found
    return wrong


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_acknowledged_survives(image, kind):
    assert cut_after_each_step(image, kind, STEPS) == {}


@pytest.mark.parametrize("kind", ["directory", "jsondoc"])
def test_a_folder_that_is_not_synced_is_found(image, kind, monkeypatch):
    """The kit catches what it is made for: a planted bug."""
    monkeypatch.setattr(os, "fsync", forget_folders)
    assert {"set new", "overwrite"} <= cut_after_each_step(image, kind, [SET_NEW, OVERWRITE]).keys()


def test_a_file_that_is_not_synced_is_found(image, monkeypatch):
    monkeypatch.setattr(os, "fsync", forget_files)
    assert "set new" in cut_after_each_step(image, "directory", [SET_NEW])


@pytest.mark.parametrize("commits", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_waited_for_no_disk_is_old_or_new_or_lost(image, kind, commits):
    """Whether or not the journal, but not the bytes, was written in between for somebody else."""
    with image.powered() as disk:
        with opened(kind, disk) as d:
            fill(d)
        with opened(kind, disk, durable=False) as d:
            for step in (SET_NEW, OVERWRITE, SET_MANY):
                step.act(d)
            if commits:
                with (disk / "other").open("wb") as other:
                    os.fsync(other.fileno())
            with image.after_power_cut() as left, opened(kind, left) as survivor:
                for key in BEFORE.keys() | SET_MANY.after.keys() | {"new"}:
                    try:
                        found = survivor[key]
                    except (KeyError, CorruptEntry):
                        continue
                    known = [
                        BEFORE.get(key),
                        *(step.after.get(key) for step in (SET_NEW, OVERWRITE, SET_MANY)),
                    ]
                    assert found in known
                survivor["next"] = "writer"
                assert survivor["next"] == "writer"
