"""A given place gets what is in memory only, however a SpillDict ends."""

import gc
import subprocess
import sys
import threading

import pytest

from persicache import BackendError, PersicacheWarning, PersiDict, SpillDict

PLACES = ["directory", "table.db", "document.json", "lmdb://{}/environment"]

SCRIPT = """
import os, sys, threading
import persicache

def made(place):
    c = persicache.SpillDict({"k": "old"}, spill_to=place)
    c.flush()
    c.update({"k": "new", "l": [1, 2]})
    return c

def worker():
    global kept
    kept = [made(place) for place in sys.argv[2:]]

{how}
"""

WAYS = {
    "end": "worker()",
    "an error": "worker(); 1 / 0",
    "in a cycle": "worker(); kept.append(kept)",
    "a batch": """
places = [persicache.PersiDict(place, storage_options={"commit_every": 1000}) for place in sys.argv[3:]]
kept = [made(place) for place in [sys.argv[2], *places]]
""",
    "a worker": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=worker)
process.start()
process.join()
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_nobody_flushed_is_stored_when_the_interpreter_exits(tmp_path, way):
    places = [place.format(tmp_path) if "{" in place else str(tmp_path / place) for place in PLACES]
    command = [sys.executable, "-c", SCRIPT.replace("{how}", WAYS[way]), "script", *places]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stderr.count("Error") == (way == "an error"), done.stderr
    for place in places:
        with PersiDict(place) as stored:
            assert dict(stored) == {"k": "new", "l": [1, 2]}


@pytest.mark.parametrize("is_cycle", [True, False])
def test_what_nobody_flushed_is_stored_when_a_dictionary_is_collected(tmp_path, is_cycle):
    c = SpillDict({"a": 1, "b": 2}, spill_to=tmp_path)
    c.flush()
    c["b"] = 3
    if is_cycle:
        c.itself = c
    del c
    gc.collect()
    assert dict(PersiDict(tmp_path)) == {"a": 1, "b": 3}


def test_what_was_removed_or_closed_is_not_stored_in_the_end():
    place = {}
    c = SpillDict({"a": 1, "b": 2, "c": 3}, spill_to=place)
    del c["a"]
    c.flush()
    place["b"] = "somebody else's"
    del c
    gc.collect()
    assert place == {"b": "somebody else's", "c": 3}
    c = SpillDict({"d": 4}, spill_to=place)
    c.close()
    place.clear()
    del c
    gc.collect()
    assert place == {}


def test_what_can_not_be_stored_in_the_end_is_told_of(tmp_path):
    c = SpillDict({"a": 1, "k": "old"}, spill_to=tmp_path)
    c.flush()
    c.update({"b": 2, "k": threading.Lock()})
    with pytest.warns(PersicacheWarning, match="1 value is lost with a SpillDict, as .* store it: 'k'"):
        del c
        gc.collect()
    assert dict(PersiDict(tmp_path)) == {"a": 1, "b": 2}


class Disk(dict):
    """A mapping with room for a few bytes."""

    n_writes = 0

    def __setitem__(self, key, value):
        self.n_writes += 1
        if sum(map(len, self.values())) + len(value) > 10:
            raise BackendError(place="disk", action="write", cause="it is full")
        super().__setitem__(key, value)


def test_of_what_a_full_place_has_no_room_for_it_gets_the_smallest():
    disk = Disk()
    c = SpillDict({n: "x" * n for n in (100, 3, 50, 1, 2, *range(60, 70))}, spill_to=disk, weigh=len)
    with pytest.warns(
        PersicacheWarning,
        match=r"12 values are lost .* Disk .*: 100, 50, 60, 61, 62, \.\.\.; .* it is full",
    ):
        del c
        gc.collect()
    assert sorted(disk) == [1, 2, 3]
    assert disk.n_writes == 4


def test_a_collection_inside_a_place_does_not_hang(monkeypatch):
    monkeypatch.setattr("persicache.mappings.spill_rest.PATIENCE_SECONDS", 0.1)

    class Locked(dict):
        lock = threading.Lock()

        def __setitem__(self, key, value):
            with self.lock:
                gc.collect()
                super().__setitem__(key, value)

    place = Locked()
    c = SpillDict({"a": 1}, spill_to=place)
    c.itself = c
    del c
    with SpillDict({"b": 2}, spill_to=place) as c:
        c.flush()
    for thread in threading.enumerate():
        if thread.name == "persicache-spill-rest":
            thread.join()
    assert place == {"a": 1, "b": 2}


def test_a_forked_child_stores_nothing_of_its_parents_in_the_end():
    script = """
import os, persicache

class Telling(dict):
    def __setitem__(self, key, value):
        os.write(1, b"parent" if os.getpid() == parent else b"child")

parent = os.getpid()
c = persicache.SpillDict({"a": 1}, spill_to=Telling())
child = os.fork()
if child:
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "parent"
