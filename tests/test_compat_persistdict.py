"""Code for persistdict runs on persicache, with the import line changed, and on the same files."""

import copy
import gc
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from persicache import CorruptEntry
from persicache.compat import persistdict
from persicache.compat.persistdict import (
    Backend,
    JsonFileBackend,
    JsonSerializer,
    PersistDict,
    Serializer,
    SqliteBackend,
)

PAGE = """
from persicache.compat.persistdict import open

with open("data.json") as d:
    d["name"] = "Alice"
    d["scores"] = [95, 87, 92]

with open("data.json") as d:
    print(d["name"])
    print(len(d))

with open("data.db") as d:
    for i in range(10000):
        d[f"key_{i}"] = {"index": i}

with open("app.db", backend="sqlite", table="users") as users:
    users["alice"] = {"email": "alice@example.com"}

from persicache.compat.persistdict import PersistDict, SqliteBackend
backend = SqliteBackend("mydata.db", table="config")
d = PersistDict(backend)
d["debug"] = True
d.close()
"""


def written_by_persistdict(path, items):
    """Write a file as persistdict does, by the code on its page."""
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in items.items()}
    if path.suffix == ".json":
        path.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
        return
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS items (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.executemany("INSERT OR REPLACE INTO items (key, value) VALUES (?, ?)", texts.items())
        connection.commit()


def read_by_persistdict(path, table="items"):
    """Read a file as persistdict does."""
    if path.suffix == ".json":
        texts = json.loads(path.read_bytes().strip())
    else:
        with closing(sqlite3.connect(path)) as connection:
            texts = dict(connection.execute(f"SELECT key, value FROM {table}"))
    assert all(type(text) is str for text in texts.values())
    return {key: json.loads(text) for key, text in texts.items()}


@pytest.fixture(params=[".json", ".db"])
def path(request, tmp_path):
    return tmp_path / f"file{request.param}"


@pytest.fixture
def d(path):
    with persistdict.open(path) as d:
        yield d


VALUES = {
    "name": "Älice ☃",
    "list": [1, 2.5, None, True, {"nested": ["x"]}],
    "": "the empty key",
    "a/b\0c": 'quoted "text"',
    "None": None,
}


def test_the_examples_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(PAGE, "page", "exec"), {})
    assert capsys.readouterr().out == "Alice\n2\n"
    assert len(read_by_persistdict(tmp_path / "data.db")) == 10_000
    assert read_by_persistdict(tmp_path / "app.db", "users") == {"alice": {"email": "alice@example.com"}}
    assert read_by_persistdict(tmp_path / "mydata.db", "config") == {"debug": True}


def test_it_reads_and_changes_what_persistdict_wrote(path):
    written_by_persistdict(path, VALUES)
    with persistdict.open(path) as d:
        assert dict(d) == VALUES
        d["new"] = {"a": 1}
        del d["list"]
    expected = {key: value for key, value in VALUES.items() if key != "list"} | {"new": {"a": 1}}
    assert read_by_persistdict(path) == expected


def test_it_behaves_as_a_dict(d):
    expected = {}
    for each in (d, expected):
        each["a"] = 1
        each.update(b=2, c=[3])
        each["a"] = {"x": None}
        assert each.setdefault("b", 9) == 2
        assert each.setdefault("e", 5) == 5
        assert each.pop("e") == 5
        assert each.pop("e", "default") == "default"
        assert each.get("none") is None
        with pytest.raises(KeyError, match="nothing"):
            each["nothing"]
        with pytest.raises(KeyError, match="nothing"):
            del each["nothing"]
    assert d == expected
    assert sorted(d) == sorted(expected)
    assert len(d) == 3
    key, value = d.popitem()
    assert expected[key] == value
    assert key not in d
    d.clear()
    assert len(d) == 0


def test_keys_are_str(d):
    assert 42 not in d
    for use in (d.__getitem__, d.__delitem__, lambda key: d.__setitem__(key, 1)):
        with pytest.raises(TypeError, match="keys must be str, got int"):
            use(42)


def test_what_can_not_be_serialized_changes_nothing(d):
    d["k"] = "old"
    with pytest.raises(TypeError):
        d["k"] = object()
    with pytest.raises(UnicodeEncodeError):
        d["\ud800"] = 1
    assert dict(d) == {"k": "old"}


def test_a_changed_value_is_changed_when_it_is_set(d):
    d["list"] = [1]
    d["list"].append(2)
    assert d["list"] == [1]


def test_a_json_file_is_written_at_flush_and_close(tmp_path):
    path = tmp_path / "sub" / "d.json"
    d = persistdict.open(path)
    d["k"] = 1
    assert (len(d), list(d), path.exists()) == (1, ["k"], False)
    d.flush()
    assert read_by_persistdict(path) == {"k": 1}
    d["k"] = 2
    d.close()
    d.close()
    assert read_by_persistdict(path) == {"k": 2}


def test_a_sqlite_file_is_written_every_so_often(tmp_path):
    path = tmp_path / "sub" / "d.sqlite3"
    with persistdict.open(path, commit_every=3) as d, persistdict.open(path) as other:
        for i in range(4):
            d[str(i)] = i
        assert len(d) == 4
        assert dict(other) == {"0": 0, "1": 1, "2": 2}
        d.flush()
        assert len(other) == 4
        other["now"] = 1
        assert d["now"] == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_nobody_closes_is_stored(path):
    d = persistdict.open(path)
    d["k"] = 1
    del d
    gc.collect()
    assert read_by_persistdict(path) == {"k": 1}
    code = (
        "import sys; from persicache.compat import persistdict\n"
        "d = persistdict.open(sys.argv[1], commit_every=9); d['exit'] = 2"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert read_by_persistdict(path) == {"k": 1, "exit": 2}


def test_processes_lose_nothing_of_each_other(path):
    code = (
        "import sys; from persicache.compat import persistdict\n"
        "with persistdict.open(sys.argv[1]) as d:\n"
        "    for i in range(20):\n"
        "        d[f'{sys.argv[2]}-{i}'] = i\n"
        "        d.flush()"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, path, str(n)]) for n in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(read_by_persistdict(path)) == 60


@pytest.mark.parametrize("lock", [True, False, threading.Lock()])
def test_threads_share_one(path, lock):
    with persistdict.open(path, lock=lock) as d:

        def write(n):
            for i in range(25):
                d[f"{n}-{i}"] = i

        threads = [threading.Thread(target=write, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(d) == 100


def test_tables_are_apart(tmp_path):
    path = tmp_path / "d.db"
    with persistdict.open(path, table="Users") as users, persistdict.open(path, table="config") as config:
        users["alice"] = 1
        config["debug"] = True
        assert (dict(users), dict(config)) == ({"alice": 1}, {"debug": True})
        users.clear()
        assert (len(users), len(config)) == (0, 1)
    assert read_by_persistdict(path, "Users") == {}


def test_what_is_no_such_file_is_refused(tmp_path):
    for text, reason in [("{broken", "corrupt JSON"), ("[1, 2]", "expected JSON object")]:
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=reason):
            persistdict.open(tmp_path / "bad.json")
        assert (tmp_path / "bad.json").read_text() == text
    (tmp_path / "plain.json").write_text('{"a": 1}')
    with pytest.raises(CorruptEntry, match=r"'a'.*it is a int"):
        persistdict.open(tmp_path / "plain.json")["a"]
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE items (a, b)")
    with pytest.raises(OSError, match="other columns"):
        persistdict.open(tmp_path / "other.db")["a"]
    for text in ("", " \n", "{}"):
        (tmp_path / "empty.json").write_text(text)
        assert len(persistdict.open(tmp_path / "empty.json")) == 0


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot auto-detect backend for extension '\.txt'"):
        persistdict.open(tmp_path / "d.txt")
    with pytest.raises(ValueError, match="unknown backend 'xml'"):
        persistdict.open(tmp_path / "d.json", backend="xml")
    for table in ("drop table;", "1st", ""):
        with pytest.raises(ValueError, match="invalid table name"):
            SqliteBackend(tmp_path / "d.db", table=table)
    with persistdict.open(tmp_path / "d.txt", backend="json") as d:
        d["k"] = 1
    assert json.loads((tmp_path / "d.txt").read_text()) == {"k": "1"}


def test_a_backend_of_ones_own_works():
    class Shouting:
        def dumps(self, obj):
            return str(obj).upper()

        def loads(self, s):
            return s.lower()

    class Texts(dict):
        def __init__(self):
            self.calls = []

        def get(self, key):
            return self[key]

        def set(self, key, value):
            self[key] = value

        def delete(self, key):
            del self[key]

        def contains(self, key):
            return key in self

        def flush(self):
            self.calls.append("flush")

        def close(self):
            self.calls.append("close")

    texts = Texts()
    assert isinstance(texts, Backend)
    assert isinstance(Shouting(), Serializer)
    with PersistDict(texts, serializer=Shouting()) as d:
        d["k"] = "hello"
        assert (d["k"], dict(texts)) == ("hello", {"k": "HELLO"})
        assert ("k" in d, list(d), len(d)) == (True, ["k"], 1)
        d.flush()
        d.close()
        del d["k"]
    del d
    gc.collect()
    assert texts.calls == ["flush", "close"]


def test_backends_and_serializers_are_what_they_are_called(tmp_path):
    json_backend, sqlite_backend = JsonFileBackend(tmp_path / "d.json"), SqliteBackend(tmp_path / "d.db")
    for backend in (json_backend, sqlite_backend):
        assert isinstance(backend, Backend)
        backend.set("k", '"v"')
        assert (backend.get("k"), backend.contains("k"), list(backend.keys())) == ('"v"', True, ["k"])
        backend.close()
    assert repr(PersistDict(json_backend)) == f"PersistDict(JsonFileBackend({str(tmp_path / 'd.json')!r}))"
    assert repr(sqlite_backend) == f"SqliteBackend({str(tmp_path / 'd.db')!r}, table='items')"
    assert isinstance(JsonSerializer(), Serializer)
    assert JsonSerializer().dumps("☃") == '"☃"'
    assert JsonSerializer(ensure_ascii=True, sort_keys=True).dumps({"b": "☃", "a": 1}) == (
        '{"a": 1, "b": "\\u2603"}'
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_its_own(path):
    with persistdict.open(path, commit_every=10) as d:
        d["parent"] = 1
        d.flush()
        d["waits"] = 2
        child = os.fork()
        if child == 0:
            try:
                ok = d["parent"] == 1
                d["child"] = 3
                d.close()
            finally:
                os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert read_by_persistdict(path) == {"parent": 1, "waits": 2, "child": 3}


@pytest.mark.parametrize("name", ["d.json", "d.db"])
def test_one_that_is_open_cannot_be_sent_and_says_what_can(name, tmp_path):
    with persistdict.open(tmp_path / name) as d:
        d["a"] = 1
        for send in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match=rf"{name}.*open the file there"):
                send(d)
        assert copy.copy(d)["a"] == 1
