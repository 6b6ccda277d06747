"""A SpillDict leaves nothing behind: no descriptors, no maps, no files, however it ends."""

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from persicache import BackendError, PersiDict, SpillDict
from persicache.mappings.spill_directory import sweep

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")

#: So large that it is mapped when it comes back.
N = 65_536


@pytest.fixture(autouse=True)
def temp(monkeypatch, tmp_path):  # pytest has made its own by then
    """Yield the place for temporary files, of this test and its children alone."""
    # Not in tmp_path, which can be too long for the socket of a fork server.
    place = Path(tempfile.mkdtemp()) / "temp"
    place.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))
        patch.setenv("TMPDIR", str(place))
        yield place
    with contextlib.suppress(OSError):  # a fork server's is there until the process ends
        place.rmdir()
        place.parent.rmdir()


def held():
    """Return how many descriptors are open, and which spilled files are mapped or open."""
    gc.collect()
    fds, n_fds = [], 0
    for fd in Path("/proc/self/fd").iterdir():
        try:
            fds.append(str(fd.readlink()))
            n_fds += 1
        except FileNotFoundError:  # that of the listing
            continue
    maps = Path("/proc/self/maps").read_text()
    return n_fds, [line for line in [*maps.splitlines(), *fds] if "/temp/" in line]


@pytest.fixture
def no_leak(temp):
    SpillDict({0: 0}, available_memory=1).close()  # what is made once a process
    n_before, _ = held()
    yield
    n_after, ours = held()
    assert (n_after, ours, list(temp.iterdir())) == (n_before, [], [])


def filled(**options):
    """Return a SpillDict of arrays that are on disk but for one, some of them mapped."""
    c = SpillDict({i: np.full(N, i) for i in range(6)}, available_memory=N * 10, **options)
    for i in range(6):
        assert c[i][7] == i
    assert len(held()[1]) > 0 or options
    return c


@pytest.mark.usefixtures("no_leak")
@pytest.mark.parametrize("end", ["close", "drop", "clear", "with", "raise", "del", "cycle"])
def test_nothing_is_left_however_a_dictionary_ends(end):
    c = filled()
    if end in {"close", "drop"}:
        getattr(c, end)()
    elif end == "clear":
        c.clear()
        assert held()[1] == []
        c.close()
    elif end == "with":
        with c:
            pass
    elif end == "raise":
        with pytest.raises(ZeroDivisionError), c:
            1 / 0  # noqa: B018 - the exception is the test
    elif end == "cycle":
        itself = [c]
        itself.append(itself)
        del itself
    del c
    gc.collect()


@pytest.mark.usefixtures("no_leak")
def test_nothing_is_left_of_writes_that_failed(monkeypatch):
    with SpillDict(available_memory=N * 10) as c:
        monkeypatch.setattr(os, "writev", full_disk)
        with pytest.raises(BackendError):
            c.update({i: np.full(N, i) for i in range(6)})
        monkeypatch.undo()
        assert len(list(c)) == 1


def full_disk(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.usefixtures("no_leak")
def test_a_given_place_is_all_that_is_left(tmp_path):
    c = filled(spill_to=tmp_path / "d")
    c.close()
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if "/d/" in line]
    assert len(PersiDict(tmp_path / "d")) == 6


def state_of(temp):
    """Return what is held open, and which copies there are, but not which locks were used last."""
    n_fds, ours = held()
    return n_fds, [line for line in ours if "/locks/" not in line], sorted(temp.rglob("*.pc"))


@pytest.mark.usefixtures("no_leak")
def test_a_thousand_rounds_keep_descriptors_maps_and_files_flat(temp):
    def round_of(i):
        c[i] = np.full(4096, i)  # 32 KiB, twice the budget with the one before
        c[i + 1] = np.full(4096, i)
        assert c[i][5] == i
        c[i] = "small"
        del c[i], c[i + 1]

    with SpillDict(available_memory=50_000) as c:
        round_of(0)
        before = state_of(temp)
        for i in range(1, 1000):
            round_of(i)
        assert state_of(temp) == before
        assert c.stats.spilled_nbytes > 1000 * 32_768
        assert c.memory_usage == 0


@pytest.mark.usefixtures("no_leak")
@pytest.mark.parametrize("verb", ["delete", "replace", "close"])
def test_an_array_in_use_outlives_its_key(verb):
    c = filled()
    c.available_memory = 4 * N * 10
    mine = c[0]
    if verb == "delete":
        del c[0]
    elif verb == "replace":
        c[0] = "other"
    else:
        c.close()
    assert (mine == 0).all()
    mine += 1  # it is the caller's own now
    assert (mine == 1).all()
    # Its file has no name any more, so that its space is free once it isn't mapped.
    assert any("(deleted)" in line for line in held()[1])
    del mine
    assert not any("(deleted)" in line for line in held()[1])
    c.close()


# Processes

SPILLED = (
    "import persicache, sys, os, threading; c = persicache.SpillDict({1: 2, 3: 4}, available_memory=1); "
)


def exit_code(end):
    """Return how a process ends that has spilled, and goes on with some code."""
    return subprocess.run(
        [sys.executable, "-c", SPILLED + end], check=False, capture_output=True
    ).returncode


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("1 / 0", 1),
        ("t = threading.Thread(target=lambda: (c[1], sys.exit(3))); t.start(); t.join()", 0),
        ("threading.Thread(target=lambda: [c.get(i % 4) for i in range(2000)]).start()", 0),
        ("a = [c]; a.append(a); del c; sys.exit(3)", 3),
    ],
)
def test_nothing_is_left_however_a_process_exits(temp, end, code):
    assert exit_code(end) == code
    assert list(temp.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_that_spills(temp):
    assert exit_code("os.kill(os.getpid(), 9)") == -signal.SIGKILL
    (left,) = temp.iterdir()
    assert (left / ".pile").stat().st_size > 0
    assert sweep() == 1
    assert list(temp.iterdir()) == []


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("end", [sys.exit, lambda: os._exit(0)], ids=["exit", "_exit"])
@pytest.mark.parametrize("is_spilling", [False, True])
def test_a_forked_child_takes_nothing_along_and_leaves_nothing(temp, end, is_spilling):
    def run():
        assert c[0] == 0
        if is_spilling:
            c.update({i: -i for i in range(6)})
        end()

    with SpillDict({i: i for i in range(6)}, available_memory=1, weigh=lambda _: 1) as c:
        c.flush()
        before = set(temp.iterdir())
        child = multiprocessing.get_context("fork").Process(target=run)
        child.start()
        child.join(30)
        assert child.exitcode == 0
        left = set(temp.iterdir()) - before
        # Only who ends without a word leaves something, and that until the next sweep.
        assert len(left) == (is_spilling and end is not sys.exit)
        assert dict(c) == {i: i for i in range(6)}
    assert set(temp.iterdir()) == left


def spill_much(_):
    global kept  # noqa: PLW0603 - as in a worker that never ends what it holds
    kept = SpillDict({i: i for i in range(6)}, available_memory=1, weigh=lambda _: 1)
    return sum(kept.values()), threading.active_count()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_of_another_process_leaves_nothing(temp, method):
    context = multiprocessing.get_context(method)
    child = context.Process(target=spill_much, args=(0,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert [path for path in temp.iterdir() if path.name.startswith("persicache")] == []
