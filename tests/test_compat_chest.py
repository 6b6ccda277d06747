"""Code for chest runs on persicache, with the import line changed, and on the same directories."""

# ruff: noqa: PTH101, PTH110, PTH116, PTH121, PTH123, PTH208 - paths are what chest hands out: str

import collections
import collections.abc
import gc
import gzip
import io
import json
import os
import pickle
import random
import subprocess
import sys
import threading
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from persicache import CorruptEntry, PersicacheWarning, UntrustedPickle
from persicache.compat.chest import Chest, key_to_filename, nbytes


@pytest.fixture(scope="module")
def original():
    """The package chest, which was written for a Python that had this name."""
    collections.MutableMapping = collections.abc.MutableMapping
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its regular expression is no raw string
            return pytest.importorskip("chest.core")
    finally:
        del collections.MutableMapping


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "chest")


def files(path):
    return sorted(
        os.path.relpath(f"{folder}/{name}", path) for folder, _, names in os.walk(path) for name in names
    )


# What the page shows


def test_the_examples_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    c = Chest()
    c["x"] = [1, 2, 3]
    assert c["x"] == [1, 2, 3]

    c.flush()
    assert sorted(os.listdir(c.path)) == [".keys", "x"]

    # The page opens it as text, which pickle doesn't read.
    with open(c.key_to_filename("x"), "rb") as f:
        assert pickle.load(f) == [1, 2, 3]

    c2 = Chest(path=c.path)
    assert set(c2.keys()) == {"x"}
    assert c2["x"] == [1, 2, 3]

    c = Chest(path="my-chest", dump=json.dump, load=json.load)
    c["x"] = [1, 2, 3]
    c.flush()
    with open(c.key_to_filename("x")) as f:
        assert json.load(f) == [1, 2, 3]
    assert c.path == "my-chest"
    assert str(c) == "<chest at my-chest>"


# Beside the original

KEYS = ["x", "_y1", "not a name", "é", 1, 2.5, None, ("a", "b"), ("a", ("b", 3)), b"bytes", frozenset({1})]


@pytest.mark.parametrize("key", [*KEYS, ("x",), "1/2", "x" * 100, True])
def test_files_have_the_names_that_chest_gives(original, key):
    assert key_to_filename(key) == original.key_to_filename(key)


def test_it_reads_what_chest_wrote_and_chest_what_it_writes(original, path):
    theirs = original.Chest(path=path)
    for i, key in enumerate(KEYS):
        theirs[key] = np.full(100, i)
    theirs.flush()

    ours = Chest(path=path)
    assert set(ours) == set(KEYS)
    assert all((ours[key] == i).all() for i, key in enumerate(KEYS))
    ours["x"] = "changed"
    ours["new", "er"] = {"a": 1}
    del ours[1]
    ours.flush()

    theirs = original.Chest(path=path)
    assert set(theirs) == {*KEYS, ("new", "er")} - {1}
    assert (theirs["x"], theirs["new", "er"]) == ("changed", {"a": 1})
    assert (theirs[2.5] == 5).all()


def test_json_chests_of_both_are_the_same(original, path):
    options = {"path": path, "dump": json.dump, "load": json.load, "mode": "t"}
    theirs = original.Chest(**options)
    theirs["x"] = [1, "é"]
    theirs.flush()
    ours = Chest(**options)
    assert dict(ours) == {"x": [1, "é"]}
    ours["y"] = {"a": None}
    ours.flush()
    assert original.Chest(**options)["y"] == {"a": None}


def test_both_do_the_same(original):
    # But for hits: to chest they are no use of a value, so that it may leave although it is used most.
    told = {}

    def steps(kind, name):
        told[name] = log = []
        c = kind(
            available_memory=2500,
            on_miss=lambda key: log.append(("miss", key)),
            on_overflow=lambda key: log.append(("overflow", key)),
        )
        for key in "abcd":
            c[key] = np.full(125, ord(key))  # 1,000 bytes
        log.append((sorted(c.inmem), c.memory_usage, len(c), list(c)))
        log.append((c["a"][0], sorted(c.inmem)))
        c["a"] = np.zeros(10)
        log.append((sorted(c.inmem), c.memory_usage, os.path.exists(c.key_to_filename("b"))))
        del c["b"]
        log.append(("b" in c, os.path.exists(c.key_to_filename("b"))))
        c.move_to_disk("a")
        c.get_from_disk("a")
        c.prefetch("c")
        c.prefetch(["c", "d"])
        log.append((sorted(c.inmem), c.memory_usage <= c.available_memory))
        n = len(log)
        c.flush()
        log[n:] = sorted(log[n:])  # in which order they leave then is nobody's business
        log.append((dict(c.inmem), c.memory_usage, sorted(os.listdir(c.path))))
        c.drop()
        log.append(os.path.exists(c.path))

    steps(original.Chest, "theirs")
    steps(Chest, "ours")
    assert told["ours"] == told["theirs"]


def test_a_random_walk_ends_the_same(original):
    rng = random.Random(7)
    # No flush: after one chest looks in memory for what it has just moved out.
    ours, theirs = Chest(available_memory=2000), original.Chest(available_memory=2000)
    for step in range(400):
        key, what = rng.choice(KEYS), rng.random()
        for c in (ours, theirs):
            if what < 0.5:
                c[key] = "v" * (step + 50)
            elif what < 0.6:
                c.pop(key, None)
            else:
                c.get(key)
        assert set(ours) == set(theirs)
    assert dict(ours) == dict(theirs)
    assert ours.memory_usage <= 2000


# A dictionary that spills


def test_memory_is_bounded():
    with Chest(available_memory=5000) as c:
        c["x"], c["y"] = np.ones(1000, "i4"), np.ones(1000, "i4")
        assert (list(c.inmem), c.memory_usage, c.available_memory) == (["y"], 4000, 5000)
        c.available_memory = 3000
        assert not c.inmem
        c.shrink()
        assert (c["x"] == 1).all()
    with Chest(available_memory=0) as c:
        c["x"] = [1]
        assert (dict(c.inmem), c["x"]) == ({}, [1])
    with Chest(available_memory="1 MiB") as c:
        assert c.available_memory == 2**20


def test_a_value_weighs_with_what_is_in_it():
    assert nbytes(np.ones(1000, "i4")) == 4000
    assert nbytes(["x" * 1000] * 3) > 1000
    assert nbytes(pd.DataFrame({"a": ["text"] * 1000})) > 4000


def test_it_starts_with_data(path):
    c = Chest({"x": 1, ("y", 2): 2}, path=path)
    assert dict(c) == {"x": 1, ("y", 2): 2}
    c.flush()
    assert files(path) == [".keys", "_y/" + key_to_filename(2), "x"]


def test_to_look_at_what_is_in_memory_is_no_use_of_it():
    with Chest(available_memory=250) as c:
        c["a"], c["b"] = np.zeros(10), np.zeros(10)
        assert (list(c.inmem), "a" in c.inmem, len(c.inmem), c.inmem["a"].size) == (["a", "b"], True, 2, 10)
        c["c"], c["d"] = np.zeros(10), np.zeros(10)
        assert list(c.inmem) == ["b", "c", "d"]
        with pytest.raises(KeyError):
            c.inmem["a"]


def test_missing_keys_are_key_errors(path):
    c = Chest(path=path)
    for use in (c.__getitem__, c.__delitem__, c.move_to_disk, c.get_from_disk, c.prefetch):
        with pytest.raises(KeyError):
            use("nothing")


def test_what_can_not_be_dumped_stays_in_memory(path):
    lock = threading.Lock()
    c = Chest(path=path, available_memory=3000)
    with pytest.warns(PersicacheWarning, match="'lock' stays in memory"):
        c["lock"] = lock
        for i in range(10):
            c[i] = np.zeros(125)
    assert c["lock"] is lock
    with pytest.raises(TypeError, match="'lock' can't be stored"):
        c.move_to_disk("lock")
    c.flush()
    assert dict(c.inmem) == {"lock": lock}
    assert set(Chest(path=path)) == set(range(10))
    del c["lock"]


def test_keys_that_can_not_be_dumped_are_told_of(path):
    key = object.__new__(type("Key", (), {"__reduce__": lambda _: 1 / 0, "__hash__": lambda _: 7}))
    c = Chest(path=path)
    c[key] = "by identity"
    c["x"] = 1
    with pytest.warns(PersicacheWarning, match="won't find 1 keys"):
        c.flush()
    assert c[key] == "by identity"
    assert dict(Chest(path=path)) == {"x": 1}
    del c[key]


def test_keys_never_share_a_file(path):
    c = Chest(path=path, key_to_filename=lambda _: "same")
    c.update({key: repr(key) for key in KEYS})
    c.flush()
    assert dict(Chest(path=path)) == {key: repr(key) for key in KEYS}
    assert len(files(path)) == len(KEYS) + 1


def test_keys_whose_files_are_in_the_way(path):
    c = Chest(path=path)
    items = {
        ("a", "b"): 1,
        "_a": 2,
        "x" * 300: 3,
        (): 4,
        1: 5,
        "1": 6,
        ("_a",): 7,
        ("y", "z"): 8,
        ("y", ("z",)): 9,
    }
    c.update(items)
    c.flush()
    assert dict(Chest(path=path)) == items
    assert c.key_to_filename(("a", "b")) == f"{path}/_a/b"
    back = Chest(path=path + "2")
    back.update(dict(reversed(items.items())))
    back.flush()
    assert dict(Chest(path=path + "2")) == items


def test_a_file_is_no_chest(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        Chest(path=tmp_path / "file")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", ".keys", "a/../b", "", "nul\0"])
def test_files_lie_in_the_directory(path, name):
    c = Chest(path=path, key_to_filename=lambda _: name, available_memory=1)
    with pytest.raises(ValueError, match="can't be the name of a file"):
        c.key_to_filename("x")


# Files


def test_a_changed_value_is_stored(path):
    c = Chest(path=path, available_memory=3000)
    c["list"], c["array"] = [1], np.zeros(100)
    c.flush()
    c["list"].append(2)
    c["array"][5] = 7
    c.flush()
    again = Chest(path=path)
    assert (again["list"], again["array"][5]) == ([1, 2], 7)
    again["list"].append(3)
    again.available_memory = 1  # it leaves without a flush
    assert again["list"] == [1, 2, 3]


def test_what_is_only_read_is_not_written_again(path):
    c = Chest({"list": [1], "array": np.zeros(100)}, path=path)
    c.flush()
    before = [os.stat(f"{path}/{name}").st_mtime_ns for name in ("list", "array")]
    assert (c["list"], c["array"].sum()) == ([1], 0)
    c.flush()
    assert [os.stat(f"{path}/{name}").st_mtime_ns for name in ("list", "array")] == before


def test_text_files(path):
    options = {"path": path, "dump": json.dump, "load": lambda f: json.loads(f.read() + ""), "mode": "t"}
    Chest({"x": "é\n", ("a", 1): 2}, **options).flush()
    assert dict(Chest(**options)) == {"x": "é\n", ("a", 1): 2}
    with pytest.raises(ValueError, match="mode must be 'b' or 't'"):
        Chest(mode="rb")


def test_a_binary_file_takes_text_and_bytes(path):
    def dump(value, f):
        assert isinstance(f, io.BufferedIOBase)
        f.write(value if isinstance(value, bytes) else json.dumps(value))

    def load(f):
        return json.loads(f.read())

    c = Chest({"x": "é", "y": b"[1, 2]"}, path=path, dump=dump, load=load)
    c.flush()
    assert dict(Chest(path=path, dump=dump, load=load)) == {"x": "é", "y": [1, 2]}


def test_opening_functions_of_ones_own(path):
    opened, closed = [], []

    @contextmanager
    def open_many(names, mode):
        opened.append((names, mode))
        with ExitStack() as stack:
            yield [stack.enter_context(gzip.open(name, mode)) for name in names]
        closed.append(names)

    missed = []
    c = Chest({i: [i] for i in range(5)}, path, open=gzip.open, open_many=open_many, on_miss=missed.append)
    c.flush()
    with gzip.open(c.key_to_filename(3)) as f:
        assert pickle.load(f) == [3]
    c.prefetch([1, 2])
    assert (list(c.inmem), missed) == ([1, 2], [])
    c.prefetch([2, 3])
    assert opened == [([c.key_to_filename(1), c.key_to_filename(2)], "rb"), ([c.key_to_filename(3)], "rb")]
    assert len(closed) == 2
    assert (c[3], c[4], missed) == ([3], [4], [4])


def test_a_dump_that_needs_a_true_file(path):
    def dump(value, f):
        f.flush()
        np.asarray(value).tofile(f)

    c = Chest(path=path, dump=dump, load=lambda f: np.fromfile(f).tolist())
    with pytest.warns(PersicacheWarning):
        c["x"] = [1.0, 2.0]
        c.move_to_disk("x")
        assert c["x"] == [1.0, 2.0]
        c["x"].append(3.0)
        c.write_keys()
    c.drop()


def test_update_links_files(tmp_path):
    one, two = Chest(path=tmp_path / "1"), Chest(path=tmp_path / "2", key_to_filename=lambda key: f"f{key}")
    one.update({"a": 1, "b": 2})
    two.update({"b": [20], "c": [30]})
    one.update(two, overwrite=False)
    assert dict(one) == {"a": 1, "b": 2, "c": [30]}
    one.update(two)
    assert dict(one) == {"a": 1, "b": [20], "c": [30]}
    assert os.path.samefile(one.key_to_filename("b"), two.key_to_filename("b"))
    one.update(two)
    one.update(one)
    assert files(one.path) == [".keys", "a", "b", "c"]
    one["b"].append(21)
    one.flush()
    assert (two["b"], Chest(path=one.path)["b"]) == ([20], [20, 21])
    one.update([("d", 4)])
    assert one["d"] == 4


def test_update_from_a_chest_of_another_format_or_with_what_has_no_file(tmp_path):
    other = Chest({"x": [1]}, path=tmp_path / "1", dump=json.dump, load=json.load)
    c = Chest(path=tmp_path / "2")
    c.update(other)
    c.flush()
    with open(c.key_to_filename("x"), "rb") as f:
        assert pickle.load(f) == [1]
    lock = threading.Lock()
    with pytest.warns(PersicacheWarning, match="stays in memory"):
        c.update(Chest({"lock": lock}))
    assert c["lock"] is lock
    with pytest.warns(PersicacheWarning, match="stays in memory"):
        c.flush()
    c.update(Chest({"lock": "a text"}))
    assert c["lock"] == "a text"


def test_a_directory_can_be_moved(tmp_path):
    c = Chest({("a", "b"): 1}, path=tmp_path / "one")
    c.flush()
    (tmp_path / "one").rename(tmp_path / "two")
    del c
    gc.collect()
    assert dict(Chest(path=tmp_path / "two")) == {("a", "b"): 1}
    assert not (tmp_path / "one").exists()


def test_a_chest_goes_with_its_owner(path):
    c = Chest({"x": 1})
    c.flush()
    temporary = c.path
    del c
    assert not os.path.exists(temporary)
    with Chest({"x": 1}) as c:
        temporary = c.path
    assert not os.path.exists(temporary)
    with pytest.raises(ZeroDivisionError), Chest() as c:
        1 / 0  # noqa: B018
    c = Chest({"x": 1}, path=path)
    del c
    assert dict(Chest(path=path)) == {"x": 1}
    with Chest(path=path) as c:
        c["y"] = 2
        c.__del__()
    assert set(Chest(path=path)) == {"x", "y"}
    Chest(path=path).drop()
    assert not os.path.exists(path)


def test_a_whole_home_is_not_dropped(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    c = Chest({"x": 1}, path=tmp_path)
    with pytest.raises(ValueError, match="empty it by clear"):
        c.drop()
    c.flush()
    c.clear()
    c.flush()
    assert files(tmp_path) == [".keys"]


# Not what was stored


def test_damage_is_told_of(path):
    c = Chest({"x": [1], "y": 2}, path=path)
    c.flush()
    Path(path, "x").write_bytes(b"broken")
    with pytest.raises(CorruptEntry, match="'x'"):
        c["x"]
    Path(path, "y").unlink()
    with pytest.raises(OSError, match="removed it from there"):
        c["y"]
    Path(path, ".keys").write_bytes(b"broken")
    with pytest.raises(CorruptEntry, match="keys"):
        Chest(path=path)
    Path(path, ".keys").write_bytes(pickle.dumps([("k", "../x")]))
    with pytest.raises(CorruptEntry, match=r"\.\./x"):
        Chest(path=path)
    Path(path, ".keys").unlink()


def test_pickles_that_others_could_have_written_are_not_loaded(path):
    c = Chest({"x": [1]}, path=path)
    c.flush()
    os.chmod(path, 0o777)
    with pytest.raises(UntrustedPickle):
        Chest(path=path)
    (Path(path) / "empty").mkdir()
    os.chmod(path + "/empty", 0o777)
    with pytest.raises(UntrustedPickle):  # before anything is stored that couldn't be loaded
        Chest({"x": 1}, path=path + "/empty")
    assert Chest(path=path, allow_pickle=True)["x"] == [1]
    assert Chest(path=path, load=pickle.load)["x"] == [1]  # who brings a function trusts it
    os.chmod(path, 0o700)


# Threads, and processes


def test_threads_share_one():
    with Chest({i: i for i in range(10)}, available_memory=100) as c:

        def work(seed):
            rng = random.Random(seed)
            for _ in range(30):
                c[rng.randint(0, 9)] = c[rng.randint(0, 9)]

        threads = [threading.Thread(target=work, args=[seed]) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(c) == set(range(10))
        assert set(c.values()) <= set(range(10))


def test_processes_share_a_directory(path):
    code = (
        "import sys; from persicache.compat.chest import Chest\n"
        "c, n = Chest(path=sys.argv[1]), sys.argv[2]\n"
        "for i in range(15):\n"
        "    c[n, i] = [n] * 100\n"
        "    c['both'] = [n] * 1000\n"
        "    c[str(i) if n == '0' else i] = n\n"  # whose files chest gives the same names
        "    c.flush()\n"
        "    assert c['both'] in ([m] * 1000 for m in '012')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, path, str(n)]) for n in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    c = Chest(path=path)
    assert set(c) == {"both"} | {(str(n), i) for n in range(3) for i in range(15)} | {*range(15)} | set(
        map(str, range(15))
    )
    assert all(c[n, i] == [n] * 100 for n in "012" for i in range(15))
    assert {c[str(i)] for i in range(15)} == {"0"}
    assert {c[i] for i in range(15)} <= {"1", "2"}
    assert len(files(path)) == len(c) + 1


def test_what_another_has_flushed_is_seen(path):
    one, two = Chest(path=path), Chest(path=path)
    one["x"] = 1
    assert "x" not in two
    one.flush()
    assert ("x" in two, len(two), two["x"]) == (True, 1, 1)
    one["y"] = 2
    one.flush()
    assert two["y"] == 2
    one["x"] = "new"
    one.flush()
    two.flush()
    assert two["x"] == "new"
    del one["x"]
    one.flush()
    assert set(two) == {"y"}
    two["z"] = 3
    two.flush()
    assert set(one) == {"y", "z"}


def test_to_read_is_not_to_overwrite_what_another_stored(path):
    one, two = Chest({"x": [1]}, path=path), Chest(path=path)
    one.flush()
    assert two["x"] == [1]
    one["x"] = [2]
    one.flush()
    two.flush()
    assert (one["x"], two["x"]) == ([2], [2])
    two["x"] = [2]  # the same again, but set
    one["x"] = [3]
    one.flush()
    two.flush()
    one.flush()
    assert (one["x"], two["x"]) == ([2], [2])


def test_a_killed_writer_leaves_the_old_value(path):
    Chest({"x": "old" * 10_000}, path=path).flush()
    code = (
        "import os, sys; from persicache.compat.chest import Chest\n"
        "def dump(value, f):\n"
        "    f.write(b'half'); f.flush(); os._exit(9)\n"
        "c = Chest(path=sys.argv[1], dump=dump)\n"
        "c['x'] = 'new'; c.flush()"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9
    assert Chest(path=path)["x"] == "old" * 10_000


def test_an_exit_stores_what_a_given_directory_lacks(path):
    code = "import sys; from persicache.compat.chest import Chest\nc = Chest({'x': 1}, path=sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert dict(Chest(path=path)) == {"x": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_removes_nothing_of_its_parents():
    with Chest({"x": 1}) as c:
        c.flush()
        child = os.fork()
        if child == 0:
            ok = c["x"] == 1
            del c
            gc.collect()
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert c["x"] == 1
