"""What other caches have stored is copied, value by value, and nothing of theirs changes."""

import collections
import contextlib
import datetime as dt
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import MutableMapping

import diskcache
import joblib
import lmdb
import numpy as np
import pytest
import s3fs

import persicache
from persicache.compat.chest import Chest
from persicache.compat.persidict import FileDirDict
from persicache.compat.stones import LmdbStore, stone

ARRAY = np.arange(12.0).reshape(3, 4)


class Owned:
    """What only a pickle can hold."""

    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return type(other) is Owned and other.n == self.n

    __hash__ = None


def double(x):
    return {"of": x, "is": 2 * x}


def zeros(shape):
    return np.zeros(shape)


def original(name):
    """Import one of the systems that this one is for, which warn of their age."""
    vars(collections).setdefault("MutableMapping", MutableMapping)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def make_chest(path):
    chest = original("chest").Chest(path=str(path))
    items = {"x": [1, 2], ("runs", 7): ARRAY, 3: Owned(3), "text": "t" * 5000}
    for key, value in items.items():
        chest[key] = value
    chest.flush()
    return items, "chest"


def make_json_chest(path):
    chest = original("chest").Chest(path=str(path), dump=json.dump, load=json.load, mode="t")
    chest["x"], chest["y"] = [1, 2], {"a": None}
    chest.flush()
    return {"x": [1, 2], "y": {"a": None}}, "chest"


def make_persidict(path, **options):
    persidict = original("persidict")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dictionary = persidict.FileDirDict(base_dir=str(path), **options)
        dictionary["one"] = 1
        dictionary["a", "b", "c_d"] = {"k": (1, [2.5, None])}
        dictionary["array"] = ARRAY
    return {"one": 1, ("a", "b", "c_d"): {"k": (1, [2.5, None])}, "array": ARRAY}, "persidict"


def make_json_persidict(path):
    return make_persidict(path, serialization_format="json", digest_len=8)


def make_unsigned_persidict(path):
    return make_persidict(path, digest_len=0)


def make_persistdict_json(path):
    items = {"name": "Alice", "scores": [95, 87.5], "none": None, "ü": {"é": True}}
    path.write_text(json.dumps({key: json.dumps(value) for key, value in items.items()}))
    return items, "persistdict"


def make_persistdict_sqlite(path):
    items = {f"key_{i}": {"index": i} for i in range(510)} | {"": "empty"}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE items (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        rows = [(key, json.dumps(value)) for key, value in items.items()]
        connection.executemany("INSERT INTO items VALUES (?, ?)", rows)
        connection.commit()
    return items, "persistdict"


def make_persistdict_tables(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table in ("a", 'b "c"'):
            name = table.replace('"', '""')
            connection.execute(f'CREATE TABLE "{name}" (key TEXT PRIMARY KEY, value TEXT NOT NULL)')
            connection.execute(f'INSERT INTO "{name}" VALUES (?, ?)', ("k", json.dumps(table)))
        connection.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
        connection.commit()
    return {("a", "k"): "a", ('b "c"', "k"): 'b "c"'}, "persistdict"


def make_stones(path):
    # As stones opens it; the pickles and texts are what it writes.
    with lmdb.open(str(path), max_dbs=9, map_size=2**24) as environment:
        table = environment.open_db(b"users")
        with environment.begin(write=True) as transaction:
            transaction.put(
                b"tu",
                b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x03Yes\x94\x8c\x02No\x94K\x03\x87\x94.",
            )
            transaction.put(b"s" * 48, b"\x80\x05\x88.")
            transaction.put(b"alice", b'["__(,)__", "x", 7]', db=table)
    return {b"tu": ("Yes", "No", 3), b"s" * 48: True, (b"users", b"alice"): (b"x", 7)}, "stones"


def make_joblib(path):
    memory = joblib.Memory(path, verbose=0)
    squeezed = joblib.Memory(path, verbose=0, compress=3)
    items = {}
    for function, argument, where in ((double, 1, memory), (double, 2, memory), (zeros, (3, 4), squeezed)):
        cached = where.cache(function)
        items[*__name__.split("."), function.__name__, cached.call_and_shelve(argument).args_id] = function(
            argument
        )
    return items, "joblib.Memory"


def make_diskcache(path, kind=diskcache.Cache, **options):
    items = {
        "text": "short",
        "long": "é" * 40_000,
        b"bytes": b"z" * 100_000,
        7: 2**40,
        2.5: float("inf"),
        ("tuple", 1): {"a": [1, ARRAY]},
        "own": Owned(5),
        "array": np.arange(50_000),
    }
    with contextlib.closing(kind(str(path), **options)) as cache:
        for key, value in items.items():
            cache[key] = value
        cache.set("gone", 1, expire=0.001)
        cache.set("later", 1, expire=1e6)
    time.sleep(0.002)
    return items | {"later": 1}, "diskcache"


def make_fanout(path):
    return make_diskcache(path, diskcache.FanoutCache, shards=3)


def make_json_diskcache(path):
    items = {"a": {"x": [1, None]}, "big": "y" * 200_000, 3: True}
    with diskcache.Cache(str(path), disk=diskcache.JSONDisk, disk_compress_level=6) as cache:
        for key, value in items.items():
            cache[key] = value
    return items, "diskcache"


MAKERS = {
    "chest": make_chest,
    "chest-json": make_json_chest,
    "persidict": make_persidict,
    "persidict-json": make_json_persidict,
    "persidict-unsigned": make_unsigned_persidict,
    "persistdict.json": make_persistdict_json,
    "persistdict.db": make_persistdict_sqlite,
    "tables.db": make_persistdict_tables,
    "stones": make_stones,
    "joblib": make_joblib,
    "diskcache": make_diskcache,
    "fanout": make_fanout,
    "diskcache-json": make_json_diskcache,
}


def tree(path):
    """Return what there is, byte by byte, and when it was written."""
    found = {}
    for each in (path, *sorted(path.rglob("*")), *path.parent.glob(f"{path.name}-*")):
        status = each.lstat()
        data = hashlib.sha256(each.read_bytes()).hexdigest() if each.is_file() else None
        found[str(each)] = (data, status.st_mtime_ns, status.st_size, status.st_mode)
    return found


def same(items, expected):
    assert sorted(items, key=repr) == sorted(expected, key=repr)
    for key, value in expected.items():
        assert persicache.digest(items[key]) == persicache.digest(value), key


@pytest.mark.parametrize("name", MAKERS)
def test_all_is_copied_and_nothing_of_it_changes(tmp_path, name):
    source = tmp_path / "source" / name
    source.parent.mkdir()
    items, kind = MAKERS[name](source)
    before = tree(source)
    done = persicache.convert(source, tmp_path / "target")
    assert done == (kind, len(items), 0)
    same(dict(persicache.open(tmp_path / "target").items()), items)
    assert persicache.convert(str(source), persicache.open(tmp_path / "target")) == (kind, 0, len(items))
    assert tree(source) == before


def test_what_a_cache_in_use_has_not_checkpointed_is_copied_too(tmp_path):
    with diskcache.Cache(str(tmp_path / "cache")) as cache:
        cache["a"] = 1
        assert (tmp_path / "cache" / "cache.db-wal").stat().st_size
        before = tree(tmp_path / "cache")
        persicache.convert(tmp_path / "cache", tmp_path / "target")
        assert tree(tmp_path / "cache") == before
    assert dict(persicache.open(tmp_path / "target").items()) == {"a": 1}


@pytest.mark.parametrize("url", ["x.db", "x.json", "lmdb://{}/env", "memory://test-convert/{}"])
def test_the_target_can_be_any_place(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    items, _ = make_chest(tmp_path / "old")
    persicache.convert("old", url.format(tmp_path))
    with persicache.open(url.format(tmp_path)) as store:
        same(dict(store.items()), items)


def test_a_bucket_of_persidict(tmp_path, s3):
    items, _ = make_persidict(tmp_path / "local")
    files = s3fs.S3FileSystem(**s3.storage_options, skip_instance_cache=True)
    files.put(str(tmp_path / "local"), f"{s3.bucket}/old", recursive=True)
    done = persicache.convert(f"s3://{s3.bucket}/old", tmp_path / "new", storage_options=s3.storage_options)
    assert done == ("persidict", 3, 0)
    same(dict(persicache.open(tmp_path / "new").items()), items)


@pytest.mark.parametrize("make", [make_chest, make_joblib, make_diskcache, make_stones])
def test_pickles_that_others_could_have_written_need_a_word(tmp_path, make):
    items, _ = make(tmp_path / "old")
    for each in (tmp_path / "old", *(tmp_path / "old").rglob("*")):
        each.chmod(0o777 if each.is_dir() else 0o666)
    if make is not make_joblib:  # whose pickles of builtins and arrays need no code
        with pytest.raises(persicache.UntrustedPickle, match="allow_pickle=True"):
            persicache.convert(tmp_path / "old", tmp_path / "new")
    if make is make_stones:  # the table that is JSON
        assert list(persicache.open(tmp_path / "new")) == [(b"users", b"alice")]
    persicache.convert(tmp_path / "old", tmp_path / "new", allow_pickle=True)
    same(dict(persicache.open(tmp_path / "new").items()), items)


def test_one_that_cannot_be_read_hides_no_other(tmp_path):
    make_chest(tmp_path / "old")
    (tmp_path / "old" / "x").write_bytes(b"\x80\x04damaged")
    (tmp_path / "old" / "text").unlink()
    with pytest.raises(persicache.CorruptEntry, match="'x'") as caught:
        persicache.convert(tmp_path / "old", tmp_path / "new")
    assert "2 were not copied ('x', 'text'), 2 others are" in caught.value.__notes__
    assert sorted(persicache.open(tmp_path / "new"), key=str) == [("runs", 7), 3]


def test_keys_that_cannot_be_are_told(tmp_path):
    with diskcache.Cache(str(tmp_path / "old")) as cache:
        cache[frozenset([1])], cache["b"] = 1, 2
    with pytest.raises(persicache.UnencodableKey, match="frozenset"):
        persicache.convert(tmp_path / "old", tmp_path / "new")
    assert dict(persicache.open(tmp_path / "new").items()) == {"b": 2}


def test_what_the_target_holds_is_not_overwritten(tmp_path):
    (tmp_path / "old.json").write_text('{"a": "1", "b": "2"}')
    new = persicache.open(tmp_path / "new")
    new["a"] = "newer"
    with pytest.raises(persicache.ConversionConflict, match="'a'"):
        persicache.convert(tmp_path / "old.json", new)
    assert dict(new.items()) == {"a": "newer", "b": 2}


def test_an_open_dictionary_of_any_kind(tmp_path):
    store = stone(tmp_path / "old", LmdbStore, serialize="noop", options={"iterable": {b"a": b"5"}})
    assert persicache.convert(store, tmp_path / "new") == ("LmdbStore", 1, 0)
    store.close()
    with pytest.raises(ValueError, match="json or msgpack or cbor"):
        persicache.convert(tmp_path / "old", tmp_path / "new")
    persidict = original("persidict").FileDirDict(base_dir=str(tmp_path / "short"), digest_len=1)
    persidict["a", "b"], persidict["c"] = 1, 2
    persicache.convert(persidict, tmp_path / "new")
    with diskcache.Cache(str(tmp_path / "cache")) as cache:
        cache["d"] = 3
        persicache.convert(cache, tmp_path / "new")
    new = dict(persicache.open(tmp_path / "new").items())
    assert new == {b"a": b"5", ("a", "b"): 1, "c": 2, "d": 3}
    with pytest.raises(TypeError, match="a path, a URL or a dictionary, not 7"):
        persicache.convert(7, tmp_path / "new")


def test_what_is_no_cache_is_refused(tmp_path):
    def refused(path, match, target=tmp_path / "new"):
        with pytest.raises(ValueError, match=match):
            persicache.convert(path, target)

    with pytest.raises(FileNotFoundError, match="nothing to convert"):
        persicache.convert(tmp_path / "nowhere", tmp_path / "new")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "is not a cache of chest, .*it holds nothing .*FileDirDict")
    empty = FileDirDict(base_dir=str(tmp_path / "empty"))
    assert persicache.convert(empty, tmp_path / "new") == ("FileDirDict", 0, 0)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text("print()")
    refused(tmp_path / "code", "main.py")
    refused(tmp_path / "code" / "main.py", "neither a JSON object of texts nor an SQLite file")
    (tmp_path / "package.json").write_text('{"name": "persicache", "main": "index.js"}')
    refused(tmp_path / "package.json", "neither")
    with contextlib.closing(sqlite3.connect(tmp_path / "foreign.db")) as connection:
        connection.execute("CREATE TABLE t (n)")
    refused(tmp_path / "foreign.db", "SQLite file of another program")
    for url in (tmp_path / "own", tmp_path / "own.db", f"lmdb://{tmp_path}/own-lmdb"):
        with persicache.open(url) as own:
            own["a"] = 1
        refused(str(url).removeprefix("lmdb://"), "a store of persicache already")
    (tmp_path / "old.json").write_text('{"a": "1"}')
    refused(tmp_path / "old.json", "lies in the other", target=tmp_path / "old.json")
    refused(tmp_path / "code", "lies in the other", target=tmp_path / "code" / "new")
    refused(tmp_path / "code", "lies in the other", target=tmp_path)


def test_a_writer_in_the_middle_is_noticed(tmp_path):
    # More than what is read at once; and in one, room within the file for what the writer adds.
    for name, n_rows in (("lmdb", 1100), ("roomy lmdb", 9000)):
        with lmdb.open(str(tmp_path / name), map_size=2**24) as env:
            with env.begin(write=True) as transaction:
                for i in range(n_rows):
                    transaction.put(b"%d" % i, b"\x80\x05\x88.")
            with env.begin(write=True) as transaction:
                for i in range(1100, n_rows):
                    transaction.delete(b"%d" % i)
            for _ in range(3):  # LMDB gives pages another use when two states no longer have them
                with env.begin(write=True) as transaction:
                    transaction.put(b"n", b"\x80\x05\x88.")
    make_persistdict_sqlite(tmp_path / "sqlite")
    code = """
import lmdb, sqlite3, sys
if sys.argv[1].endswith("lmdb"):
    with lmdb.open(sys.argv[1]).begin(write=True) as transaction:
        transaction.put(b"n", b"1")
else:
    with sqlite3.connect(sys.argv[1]) as connection:
        connection.execute("DELETE FROM items")
"""
    for name in ("lmdb", "roomy lmdb", "sqlite"):
        calls = iter([tmp_path / name])

        def write(_done, _total, calls=calls):
            for path in calls:
                subprocess.run([sys.executable, "-c", code, path], check=True)

        with pytest.raises(persicache.BackendError, match="written meanwhile"):
            persicache.convert(tmp_path / name, f"memory://test-written-meanwhile/{name}", progress=write)
        persicache.open(f"memory://test-written-meanwhile/{name}").clear()


def test_progress_is_told_in_bytes(tmp_path):
    make_diskcache(tmp_path / "old")
    told = []
    persicache.convert(tmp_path / "old", tmp_path / "new", progress=lambda *each: told.append(each))
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_conversion_that_was_killed_goes_on(tmp_path):
    items, _ = make_persistdict_sqlite(tmp_path / "old.db")
    before = tree(tmp_path / "old.db")
    code = textwrap.dedent(
        """
        import os, signal, sys, persicache
        calls = iter(range(50))
        def die(done, total):
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
        persicache.convert(sys.argv[1], sys.argv[2], progress=die)
        """
    )
    command = [sys.executable, "-c", code, str(tmp_path / "old.db"), str(tmp_path / "new.db")]
    for _ in range(2):
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with persicache.open(tmp_path / "new.db") as store:
        there = len(store)
        assert 50 <= there < len(items)
        done = persicache.convert(tmp_path / "old.db", store)
        assert (done.copied, done.present) == (len(items) - there, there)
        assert dict(store.items()) == items
    assert tree(tmp_path / "old.db") == before


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        lambda x: x,
        Owned([Owned(1)]),
        (shared := [1], shared),
        range(5),
        np.array(["a", None], dtype=object),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_any_kind_are_compared(tmp_path, value):
    assert persicache.convert({"k": value}, tmp_path / "new").copied == 1
    assert persicache.convert({"k": value}, tmp_path / "new").present == 1


def test_what_persicache_wrote_by_their_names_is_copied_too(tmp_path):
    with Chest(path=str(tmp_path / "chest")) as chest:
        chest["runs", 7] = ARRAY
        chest.flush()
    FileDirDict(base_dir=str(tmp_path / "persidict"))["a", "b"] = 1
    LmdbStore(tmp_path / "stones", serialize="json", iterable={b"k": [1, 2]}).close()
    for name in ("chest", "persidict", "stones"):
        assert persicache.convert(tmp_path / name, tmp_path / "new") == (name, 1, 0)
    same(dict(persicache.open(tmp_path / "new").items()), {("runs", 7): ARRAY, ("a", "b"): 1, b"k": [1, 2]})


def test_what_comes_back_as_something_else_is_not_kept(tmp_path):
    new = persicache.open(tmp_path / "new", format="json")
    with pytest.raises(persicache.UnencodableValue, match=r"'tuple'.*something else"):
        persicache.convert({"tuple": (1, 2), "list": [1, 2]}, new)
    assert dict(new.items()) == {"list": [1, 2]}


def test_what_persidict_did_not_finish_and_its_other_formats(tmp_path):
    make_unsigned_persidict(tmp_path / "old")
    make_persidict(tmp_path / "old", serialization_format="json", digest_len=0)
    (tmp_path / "old" / ".__tmp__x8k2").write_bytes(b"half")
    assert persicache.convert(tmp_path / "old", tmp_path / "new") == ("persidict", 6, 0)
    new = persicache.open(tmp_path / "new")
    assert new["json", "one"] == new["pkl", "one"] == 1
    assert new["json", "a", "b", "c_d"] == new["pkl", "a", "b", "c_d"]


def test_a_source_that_fails_in_the_middle_leaves_nothing_open(tmp_path):
    make_stones(tmp_path / "old")

    def stop(_done, _total):
        raise InterruptedError

    for _ in range(2):
        with pytest.raises(InterruptedError):
            persicache.convert(tmp_path / "old", tmp_path / "new", progress=stop)
    assert sum(persicache.convert(tmp_path / "old", tmp_path / "new")[1:]) == 3


def test_frames_and_what_contains_itself(tmp_path):
    pandas = pytest.importorskip("pandas")
    loop = [1]
    loop.append(loop)
    items = {"frame": pandas.DataFrame({"a": [1, 2], "b": ["x", None]}), "loop": loop}
    assert persicache.convert(items, tmp_path / "new").copied == 2
    assert persicache.convert(items, tmp_path / "new").present == 2


def test_only_a_path_a_url_or_a_dictionary_is_a_source(tmp_path):
    deque = diskcache.Deque([0, 1], directory=str(tmp_path / "deque"))  # of which `in` asks for values
    for source in (b"old", [0, 1], (0,), range(2), deque, None):
        with pytest.raises(TypeError, match="a path, a URL or a dictionary, not"):
            persicache.convert(source, tmp_path / "new")
    with pytest.raises(ValueError, match="'' names no place"):
        persicache.convert("", tmp_path / "new")  # and not the working directory
    assert not (tmp_path / "new").exists()


def test_what_an_open_dictionary_or_the_target_refuses_hides_no_other(tmp_path):
    class Failing(dict):
        def __getitem__(self, key):
            if key == "lost":
                raise KeyError(key)
            if key == "broken":
                raise EOFError("ran out of input")
            return super().__getitem__(key)

    source = Failing(lost=1, broken=2, text="t", last=4)
    new = persicache.open(tmp_path / "new", base_class_for_values=int)
    with pytest.raises(persicache.UnloadableValue, match=r"'lost'.*KeyError") as caught:
        persicache.convert(source, new)
    assert "3 were not copied ('lost', 'broken', 'text'), 1 others are" in caught.value.__notes__
    assert dict(new.items()) == {"last": 4}


@pytest.mark.parametrize("scheme", ["file", "local", "sqlite", "lmdb", "jsondoc"])
def test_a_url_of_a_local_place_is_its_path(tmp_path, scheme):
    makers = {"sqlite": make_persistdict_sqlite, "lmdb": make_stones, "jsondoc": make_persistdict_json}
    items, kind = makers.get(scheme, make_chest)(tmp_path / "old")
    before = tree(tmp_path)
    done = persicache.convert(f"{scheme}://{tmp_path}/old", f"memory://test-convert-url/{tmp_path}")
    assert done == (kind, len(items), 0)
    with pytest.raises(FileNotFoundError):
        persicache.convert(f"{scheme}://{tmp_path}/nowhere", "memory://test-convert-url/nowhere")
    assert tree(tmp_path) == before


def test_links_are_followed_and_what_is_no_file_is_not_waited_for(tmp_path):
    items, kind = make_joblib(tmp_path / "old")
    package = next(path for path in (tmp_path / "old").iterdir() if path.is_dir())
    package.rename(tmp_path / "elsewhere")
    package.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "old")
    (tmp_path / "old" / "lock").symlink_to("nowhere")
    assert persicache.convert(tmp_path / "old", tmp_path / "new") == (kind, len(items), 0)
    same(dict(persicache.open(tmp_path / "new").items()), items)
    make_chest(tmp_path / "chest")
    (tmp_path / "chest" / "x").unlink()
    (tmp_path / "chest" / "text").unlink()
    os.mkfifo(tmp_path / "chest" / "x")
    (tmp_path / "chest" / "text").symlink_to("nowhere")
    with pytest.raises(persicache.BackendError, match="no file") as caught:
        persicache.convert(tmp_path / "chest", tmp_path / "new")
    assert "2 were not copied ('x', 'text'), 2 others are" in caught.value.__notes__


def test_texts_that_are_not_unicode(tmp_path):
    (tmp_path / "old.json").write_text(r'{"half": "\"\ud800\"", "b": "2"}')
    assert persicache.convert(tmp_path / "old.json", tmp_path / "json").copied == 2
    assert dict(persicache.open(tmp_path / "json").items()) == {"half": "\ud800", "b": 2}
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("CREATE TABLE items (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.execute(
            "INSERT INTO items VALUES ('a', CAST(x'ff22' AS TEXT)), ('b', x'5b5d'), ('c', 7)"
        )
        connection.commit()
    with pytest.raises(persicache.CorruptEntry, match="'a'"):
        persicache.convert(tmp_path / "old.db", tmp_path / "sqlite")
    assert dict(persicache.open(tmp_path / "sqlite").items()) == {"b": [], "c": 7}


def test_databases_that_are_damaged_or_of_others_are_told(tmp_path):
    make_persistdict_sqlite(tmp_path / "old.db")
    data = (tmp_path / "old.db").read_bytes()
    (tmp_path / "old.db").write_bytes(data[: len(data) // 2])
    with pytest.raises(persicache.BackendError, match=r"old\.db.*malformed"):
        persicache.convert(tmp_path / "old.db", tmp_path / "new")
    make_stones(tmp_path / "stones")
    os.truncate(tmp_path / "stones" / "data.mdb", 2 * 4096)
    with pytest.raises(persicache.BackendError, match="cut short"):  # to read on would kill the process
        persicache.convert(tmp_path / "stones", tmp_path / "new")
    (tmp_path / "cache").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "cache" / "cache.db")) as connection:
        connection.execute("CREATE TABLE other (n)")
    with pytest.raises(ValueError, match="an SQLite file of another program"):
        persicache.convert(tmp_path / "cache", tmp_path / "new")
    (tmp_path / "cache" / "cache.db").write_bytes(b"no database" * 100)
    with pytest.raises(persicache.BackendError, match="not a database"):
        persicache.convert(tmp_path / "cache", tmp_path / "new")


def test_a_log_that_others_could_have_written_is_a_part_of_a_database(tmp_path):
    with diskcache.Cache(str(tmp_path / "cache")) as cache:
        cache["own"] = Owned(5)
        (tmp_path / "cache" / "cache.db-wal").chmod(0o666)
        with pytest.raises(persicache.UntrustedPickle, match="'own'"):
            persicache.convert(tmp_path / "cache", tmp_path / "new")


def test_nonsense_in_one_place_hides_no_other(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps({"deep": "[" * 100_000, "b": "2"}))
    with pytest.raises(persicache.CorruptEntry, match="'deep'"):
        persicache.convert(tmp_path / "old.json", tmp_path / "new")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="neither a JSON object of texts"):
        persicache.convert(tmp_path / "deep.json", tmp_path / "new")
    diskcache.Cache(str(tmp_path / "cache")).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "cache" / "cache.db")) as connection:
        insert = "INSERT INTO Cache (key, raw, mode, value, size) VALUES (?, 1, 1, 'x', ?)"
        connection.executemany(insert, [("c", None), ("d", "long")])
        connection.commit()
    assert persicache.convert(tmp_path / "cache", tmp_path / "new") == ("diskcache", 2, 0)
    assert dict(persicache.open(tmp_path / "new").items()) == {"b": 2, "c": "x", "d": "x"}


def test_which_directories_are_joblibs(tmp_path):
    make_joblib(tmp_path / "old")
    result = next((tmp_path / "old").rglob("output.pkl")).parent
    for part in (result, result.parent):
        with pytest.raises(ValueError, match=r"is a part of a joblib\.Memory"):
            persicache.convert(part, tmp_path / "new")
    FileDirDict(base_dir=str(tmp_path / "persidict"), digest_len=0)["a", "b", "output"] = 1
    assert persicache.convert(tmp_path / "persidict", tmp_path / "new") == ("persidict", 1, 0)
    assert persicache.open(tmp_path / "new")["a", "b", "output"] == 1


@pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "lzma", "xz", "lz4"])
def test_compressed_results_of_others_run_no_code(tmp_path, compress):
    folder = tmp_path / "old" / "module" / "function"
    for name, value in {"plain": {"a": ARRAY}, "own": Owned(1), "objects": np.array([Owned(1)])}.items():
        (folder / name).mkdir(parents=True)
        joblib.dump(value, folder / name / "output.pkl", compress=(compress, 3))
        (folder / name).chmod(0o777)
    (folder / "func_code.py").touch()
    with pytest.raises(persicache.UntrustedPickle) as caught:
        persicache.convert(tmp_path / "old", tmp_path / "new")
    assert "2 were not copied" in caught.value.__notes__[0]
    same(dict(persicache.open(tmp_path / "new").items()), {("module", "function", "plain"): {"a": ARRAY}})


@pytest.mark.parametrize("name", ["cache.db", "data.mdb"])
def test_a_database_that_is_no_file_is_told_and_not_waited_for(tmp_path, name):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / name).symlink_to("nowhere")
    with pytest.raises(persicache.BackendError, match=rf"{name}.*No such file"):
        persicache.convert(tmp_path / "old", tmp_path / "new")
    (tmp_path / "old" / name).unlink()
    os.mkfifo(tmp_path / "old" / name)
    with pytest.raises(persicache.BackendError, match=rf"{name}.*it is no file"):
        persicache.convert(tmp_path / "old", tmp_path / "new")


@pytest.mark.parametrize("allow_pickle", [True, False])
def test_a_missing_decompressor_is_no_damage(tmp_path, monkeypatch, allow_pickle):
    (folder := tmp_path / "old" / "module" / "function" / "result").mkdir(parents=True)
    joblib.dump([1], folder / "output.pkl", compress=("lz4", 3))
    (folder / "metadata.json").touch()
    folder.chmod(0o777)
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    with pytest.raises(persicache.MissingDependency, match=r"persicache\[compression\]"):
        persicache.convert(tmp_path / "old", tmp_path / "new", allow_pickle=allow_pickle)


@pytest.mark.parametrize("digest_len", [1, 2, 3])
def test_short_digests_are_no_part_of_the_keys(tmp_path, digest_len):
    items, kind = make_persidict(tmp_path / "old", digest_len=digest_len)
    (tmp_path / "old" / ".DS_Store").write_bytes(b"of a desktop")
    assert persicache.convert(tmp_path / "old", tmp_path / "new") == (kind, len(items), 0)
    same(dict(persicache.open(tmp_path / "new").items()), items)


def test_texts_of_persidict_by_any_extension(tmp_path):
    FileDirDict(base_dir=str(tmp_path / "old"), serialization_format="csv", base_class_for_values=str)[
        "a", "b"
    ] = "1,é\r\n"
    assert persicache.convert(tmp_path / "old", tmp_path / "new") == ("persidict", 1, 0)
    assert dict(persicache.open(tmp_path / "new").items()) == {("a", "b"): "1,é\r\n"}
    (tmp_path / "old" / "zzz.py").touch()
    with pytest.raises(ValueError, match=r"it holds 'a_.*zzz\.py'"):
        persicache.convert(tmp_path / "old", tmp_path / "new")
