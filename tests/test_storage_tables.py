"""SQLite files, LMDB environments and JSON documents: what only places with tables promise."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import mmap
import multiprocessing.util
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_storage_children import count_up, create, in_fork, in_spawned, write_all

from persicache.errors import BackendError, BlobNotFound, MissingDependency, ReadOnlyPlace, VersionConflict
from persicache.storage import ABSENT, open_storage
from persicache.storage.gate import Gate
from persicache.storage.json_text import bytes_in, text_of
from persicache.storage.sqlite_library import has_wal_reset_bug, interpreters_library, sqlite_library
from persicache.storage.sqlite_table import SqliteTable
from persicache.storage.table import PAGE, Change, prefix_end
from persicache.storage.table_place import make_table, place_of_url
from persicache.storage.table_storage import TableStorage

lmdb = pytest.importorskip("lmdb")

KINDS = ["sqlite", "lmdb", "jsondoc"]
FILES = {"sqlite": "x.db", "lmdb": "env", "jsondoc": "x.json"}
MIB = 1024 * 1024


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def url(kind, tmp_path):
    return url_of(kind, tmp_path)


def url_of(kind, folder):
    return f"{kind}://{folder}/place/{FILES[kind]}"


@contextlib.contextmanager
def opened(url, *, durable=False, **options):
    storage = open_storage(url, durable=durable, storage_options=options)
    try:
        yield storage
    finally:
        storage.close()


def names(storage, prefix=""):
    return sorted(info.name for info in storage.scan(prefix))


def content(storage, name):
    return bytes(storage.read(name).buffer)


# Places


@pytest.mark.parametrize(
    ("place", "protocol"),
    [
        ("x.db", "sqlite"),
        ("X.SQLITE", "sqlite"),
        ("x.sqlite3", "sqlite"),
        ("sqlite://x", "sqlite"),
        ("lmdb://x", "lmdb"),
        ("x.json", "jsondoc"),
        ("jsondoc://x", "jsondoc"),
    ],
)
def test_relative_paths_are_resolved_at_opening(place, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opened(place) as storage:
        monkeypatch.chdir("/")
        assert storage.url == f"{protocol}://{tmp_path}/{place.rpartition('/')[2]}"
        storage.write("a", [b"x"])
        with opened(storage.url) as again:
            assert content(again, "a") == b"x"


def test_the_tilde_is_expanded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", f"{tmp_path}/~")
    assert open_storage("lmdb://~/env").url == f"lmdb://{tmp_path}/~/env"
    assert open_storage("~/x.db").url == f"sqlite://{tmp_path}/~/x.db"


def test_paths_may_look_like_queries(tmp_path):
    path = tmp_path / "what?table=t.db"
    with opened(path) as storage:
        storage.write("a", [b"x"])
        assert path.exists()
        with opened(storage.url) as again:
            assert content(again, "a") == b"x"


@pytest.mark.parametrize(
    ("place", "options"),
    [
        ("sqlite://", {}),
        ("sqlite:///x/", {}),
        ("sqlite:///x.db?tabel=t", {}),
        ("sqlite:///x.db?table=", {}),
        ("sqlite:///x.db?table=t&table=u", {}),
        (f"lmdb:///x?table={'t' * 101}", {}),
        ("lmdb:///x?table=%ff", {}),
        ("lmdb:///x?table=a%00b", {}),
        ("lmdb:///x?table=t", {"table": "u"}),
        ("lmdb:///x", {"table": 1}),
        ("lmdb:///x", {"table": "\ud800"}),
        ("jsondoc:///x?table=t", {}),
        ("x.json", {"table": "t"}),
        ("x.db", {"commit_every": 0}),
        ("x.db", {"commit_every": True}),
        ("x.db", {"map_nbytes": 1}),
        ("x.db", {"comit_every": 2}),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_opened(place, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"\S"):
        open_storage(place, storage_options=options)
    assert list(tmp_path.iterdir()) == []


def test_reading_makes_no_file(url, tmp_path):
    with opened(url) as storage:
        assert names(storage) == []
        assert storage.remove("a") is False
        storage.remove_many(["a"])
        for ask in (storage.read, storage.stat, storage.version):
            with pytest.raises(BlobNotFound):
                ask("a")
        with pytest.raises(VersionConflict):
            storage.remove("a", expect="version")
        assert storage.is_private
    assert list(tmp_path.iterdir()) == []


TABLES = ["t", "T", "persicache", "sqlite_t", "%73qlite_t", 'a"; DROP TABLE t; --', "ä/ß ", "'", "x" * 100]


@pytest.mark.parametrize("kind", ["sqlite", "lmdb"])
def test_tables_are_separate(kind, tmp_path):
    url = url_of(kind, tmp_path)
    for table in TABLES:
        with opened(url, table=table) as storage:
            storage.write("a", [table.encode()])
            storage.write(f"n{TABLES.index(table)}", [b"x"])
    for table in TABLES:
        with opened(url, table=table) as storage, opened(storage.url) as again:
            assert names(storage) == ["a", f"n{TABLES.index(table)}"]
            assert content(again, "a") == table.encode()


# Many, large and long


def test_twenty_thousand_entries(url):
    items = {f"d{i % 7}/n{i:05}": [b"%100d" % i] for i in range(20_000)}
    with opened(url) as storage:
        versions = storage.write_many(items)
        assert sum(1 for _ in storage.scan()) == len(items)
        assert sum(1 for _ in storage.scan("d3/")) == len(items) // 7
        assert storage.version("d0/n00007") == versions["d0/n00007"]
    with opened(url) as storage:
        assert len(dict(storage.read_many(items))) == len(items)
        storage.remove_many(list(items)[:-1])
        assert names(storage) == [list(items)[-1]]


def test_iterating_while_others_remove(url):
    wanted = {f"n{i:05}" for i in range(3 * PAGE)}
    with opened(url) as storage, opened(url) as other:
        storage.write_many({name: [b"x"] for name in wanted})
        listing = storage.scan()
        seen = [next(listing).name]
        other.remove_many(sorted(wanted)[100 : 2 * PAGE])
        other.write("z", [b"x" * MIB])
        seen += [info.name for info in listing]
        assert wanted - set(sorted(wanted)[100 : 2 * PAGE]) <= set(seen)
        assert len(seen) == len(set(seen))
        assert len(names(other)) == PAGE + 101


@pytest.mark.parametrize("kind", ["sqlite", "lmdb"])
def test_a_hundred_megabytes(kind, tmp_path):
    data = os.urandom(MIB) * 100
    with opened(url_of(kind, tmp_path)) as storage:
        storage.write("large", [data[: 50 * MIB], memoryview(data)[50 * MIB :]])
        assert storage.stat("large").nbytes == len(data)
        assert storage.read("large").buffer == data


def test_long_names(url):
    stem = "/".join(["x" * 255, "y" * 255, ""])
    long = [f"{stem}{end}" for end in ("a", "b", "z" * 100)]
    with opened(url) as storage:
        for name in [*long, "x", "x" * 511, "x" * 512, "x" * 255 + "/w"]:
            storage.write(name, [name.encode()])
        for info in storage.scan():
            assert content(storage, info.name) == info.name.encode()
        assert names(storage, stem) == long
        assert len(names(storage, "x" * 255 + "/")) == 4
        version = storage.version(long[0])
        storage.write(long[0], [b"new"], expect=version)
        assert storage.remove(long[0]) is True
        assert names(storage, stem) == long[1:]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a\ud7ff", "\U0010ffff", "a\U0010ffff"])
def test_what_comes_after_a_prefix(prefix):
    end = prefix_end(prefix)
    if end is None:
        assert not prefix.strip("\U0010ffff")
    else:
        assert prefix < end
        assert prefix.encode() + b"\xf4\x8f\xbf\xbf" < end.encode()


# Concurrency


@pytest.mark.parametrize("kind", ["sqlite", "lmdb"])
def test_eight_processes_count_to_1600(kind, tmp_path):
    url = url_of(kind, tmp_path)
    with opened(url) as storage:
        storage.write("counter", [b"0"])
        in_spawned(count_up, [(url, {}, 200)] * 8)
        assert content(storage, "counter") == b"1600"


def test_processes_lose_no_update_of_a_document(tmp_path):
    url = url_of("jsondoc", tmp_path)
    with opened(url) as storage:
        storage.write("counter", [b"0"])
        in_spawned(count_up, [(url, {}, 50)] * 4)
        assert json.loads((tmp_path / "place" / "x.json").read_text()) == {"counter": 200}


def test_creating_has_one_winner(url):
    wanted = [f"n{i}" for i in range(30)]
    won = in_spawned(create, [(url, {}, f"writer {i}", wanted) for i in range(4)])
    assert sum(won) == len(wanted)
    with opened(url) as storage:
        assert names(storage) == sorted(wanted)


def test_handles_agree(url):
    with opened(url) as one, opened(url) as two:
        version = one.write("a", [b"1"])
        assert two.version("a") == version == pickle.loads(pickle.dumps(two)).version("a")
        assert two.stat("a").modified == one.stat("a").modified
        second = two.write("a", [b"2"], expect=version)
        with pytest.raises(VersionConflict):
            one.write("a", [b"3"], expect=version)
        third = one.write("a", [b"1"], expect=second)
        assert third != version
        with pytest.raises(VersionConflict):
            two.remove("a", expect=version)
        one.close()
        assert content(two, "a") == b"1"
        assert content(one, "a") == b"1"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forking_while_threads_work(url):
    stop = threading.Event()
    failures = []
    with opened(url) as storage:
        storage.write("a", [b"x" * 1000])

        def work(number):
            try:
                while not stop.is_set():
                    storage.read("a")
                    storage.write(f"thread{number}", [b"y" * 1000])
            except Exception as error:  # noqa: BLE001 - whatever there is
                failures.append(error)

        def child(number):
            storage.write(f"child{number}", [b"z"])
            assert content(storage, "a") == b"x" * 1000
            with opened(url) as own:
                assert f"child{number}" in names(own)
            storage.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for number in range(4):
            in_fork(lambda number=number: child(number))
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert names(storage) == ["a", *[f"child{n}" for n in range(4)], "thread0", "thread1"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forks_and_outlives_its_parents_use(url):
    with opened(url) as storage:
        storage.write("a", [b"x"])

        def grandchild():
            storage.write("grandchild", [b"x"])

        def child():
            storage.write("child", [b"x"])
            in_fork(grandchild)
            storage.write("child", [b"y"])

        in_fork(child)
        assert names(storage) == ["a", "child", "grandchild"]
        assert content(storage, "child") == b"y"


def write_batches(url, started):
    """Write batch after batch until killed."""
    storage = open_storage(url, durable=False)
    for turn in count():
        storage.write_many({f"n{i}": [b"%d" % turn] for i in range(50)})
        started.set()


def test_a_batch_is_whole_when_its_writer_is_killed(url):
    spawn = multiprocessing.get_context("spawn")
    with opened(url) as storage:
        for turn in range(2):
            started = spawn.Event()
            writer = spawn.Process(target=write_batches, args=(url, started))
            writer.start()
            assert started.wait(60)
            time.sleep(0.03 * turn)
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            found = {content(storage, f"n{i}") for i in range(50)}
            assert len(found) == 1
            storage.write("next", [b"works"])
            storage.write_many({f"n{i}": [b"mine"] for i in range(50)})


def grow(url):
    """Write more than the map of somebody else holds."""
    with opened(url) as storage:
        storage.write("large", [bytes(8 * MIB)])


def test_the_map_of_lmdb_grows(tmp_path):
    url = url_of("lmdb", tmp_path)
    with opened(url, map_nbytes=MIB) as storage, opened(url, table="other") as other:
        storage.write("a", [b"x"])
        listing = storage.scan()
        next(listing)
        other.write("b", [bytes(3 * MIB)])
        storage.write_many({f"n{i}": [bytes(100_000)] for i in range(100)})
        assert content(storage, "a") == b"x"
    with opened(url) as storage:
        assert len(names(storage)) == 101


def test_the_map_of_lmdb_is_grown_by_others(tmp_path):
    url = url_of("lmdb", tmp_path)
    with opened(url, map_nbytes=MIB) as storage:
        storage.write("a", [b"x"])
        in_spawned(grow, [(url,)])
        assert content(storage, "a") == b"x"
        assert storage.stat("large").nbytes == 8 * MIB
        in_spawned(grow, [(url,)])
        storage.write("b", [bytes(3 * MIB)])
    with opened(url, table="other", map_nbytes=MIB) as other, opened(url) as storage:
        assert names(other) == []
        in_spawned(grow, [(url,)])
        assert "large" in names(storage)


def test_the_map_of_lmdb_grows_under_threads(tmp_path):
    with opened(url_of("lmdb", tmp_path), map_nbytes=MIB) as storage:
        storage.write("a", [b"x"])

        def work(number):
            for turn in range(20):
                storage.write(f"n{number}", [bytes(100_000 * turn)])
                assert content(storage, "a") == b"x"
                assert storage.stat(f"n{number}").nbytes == 100_000 * turn

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))


def test_the_map_of_lmdb_is_grown_by_others_while_it_is_opened(tmp_path, monkeypatch):
    real, failures = lmdb.open, [lmdb.MapResizedError("grown in between")]

    def grown(*args, **options):
        if failures:
            raise failures.pop()
        return real(*args, **options)

    monkeypatch.setattr(lmdb, "open", grown)
    with opened(url_of("lmdb", tmp_path)) as storage:
        storage.write("a", [b"x"])
        assert not failures
        assert content(storage, "a") == b"x"


def test_one_lmdb_environment_is_opened_once(tmp_path):
    url = url_of("lmdb", tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "place")
    with (
        opened(url) as one,
        opened(f"lmdb://{tmp_path}/link/env") as two,
        opened(url, durable=True) as three,
    ):
        one.write("a", [b"x"])
        assert content(two, "a") == b"x"
        three.write("b", [b"y"])
        assert names(one) == ["a", "b"]
        two.close()
        assert names(one) == ["a", "b"]


def test_an_lmdb_environment_that_was_removed_is_made_again(tmp_path):
    url = url_of("lmdb", tmp_path)
    with opened(url) as old, opened(url) as new:
        old.write("a", [b"x"])
        for path in (tmp_path / "place" / "env").iterdir():
            path.unlink()
        new.write("b", [b"y"])
        assert names(new) == ["b"]


def test_what_is_written_after_the_file_was_removed_or_replaced_is_found(url, tmp_path):
    for turn in range(2):
        with opened(url) as storage:
            storage.write("old", [b"x"])
            assert content(storage, "old") == b"x"
            shutil.rmtree(tmp_path / "place")
            if turn:
                in_spawned(write_all, [(url, b"z", 2)])
            storage.write("a", [b"y"])
            expected = ["a", "n0", "n1"] if turn else ["a"]
            assert names(storage) == expected
            assert content(storage, "a") == b"y"
            storage.write("b", [b"y"])
        with opened(url) as storage:
            assert names(storage) == sorted([*expected, "b"])


@pytest.mark.parametrize("kind", ["sqlite", "lmdb"])
def test_closing_takes_nothing_from_other_threads(url):
    def work(number):
        for turn in range(200):
            storage.write(f"{number}", [b"%d" % turn])
            assert content(storage, f"{number}") == b"%d" % turn
            assert storage.version(f"{number}")

    with opened(url) as storage, ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, number) for number in range(4)]
        while not all(each.done() for each in working):
            storage.close()
        for each in working:
            each.result()


def test_closing_gives_the_descriptors_back(url):
    with opened(url) as storage:
        storage.write("a", [b"x"])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with opened(url) as storage:
            storage.write("a", [b"x"])
            storage.read("a")
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_gate_waits_for_those_inside():
    gate = Gate()
    inside, leave, shut = threading.Event(), threading.Event(), threading.Event()

    def stay():
        with gate:
            inside.set()
            leave.wait()

    def close():
        with gate.shut() as alone:
            assert alone
            shut.set()

    with ThreadPoolExecutor(2) as pool:
        staying = pool.submit(stay)
        inside.wait()
        closing = pool.submit(close)
        assert not shut.wait(0.05)
        leave.set()
        staying.result()
        closing.result()
    with gate, gate.shut() as alone:
        assert not alone


def test_a_gate_lets_those_inside_in_again():
    gate = Gate()

    def close():
        with gate.shut() as alone:
            return alone

    with ThreadPoolExecutor(1) as pool:
        with gate:
            closing = pool.submit(close)
            while gate.keeper is None:
                time.sleep(0)
            with gate:
                pass
            assert not closing.done()
        assert closing.result(timeout=10)


def test_a_gate_opens_again_when_whoever_waited_to_shut_it_is_interrupted():
    gate = Gate()
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with gate:
            inside.set()
            leave.wait()

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor(1) as pool:
            staying = pool.submit(stay)
            inside.wait()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt), gate.shut():
                pass
            leave.set()
            staying.result()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert gate.keeper is None


# Whose files


@pytest.mark.parametrize("umask", [0, 0o777])
def test_files_are_private_whatever_the_umask(url, umask, tmp_path):
    old = os.umask(umask)
    try:
        with opened(url) as storage:
            storage.write("a", [b"x"])
            storage.write("a", [b"y"])
            assert storage.is_private
            assert storage.read("a").is_private
            paths = list((tmp_path / "place").rglob("*"))
            for path in [tmp_path / "place", *paths]:
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode == (0o700 if path.is_dir() else 0o600), path
    finally:
        os.umask(old)


def test_what_others_can_write_is_not_private(url, kind, tmp_path):
    now = [0.0]
    storage = TableStorage(place_of_url(url, {}), durable=False, clock=lambda: now[0])

    def is_private():
        now[0] += 1  # in a moment as short as a loop's, it isn't looked at again
        found = storage.is_private
        assert storage.is_private_for("a") is storage.read("a").is_private is found
        return found

    with contextlib.closing(storage):
        storage.write("a", [b"x"])
        folder = tmp_path / "place"
        file = folder / "env" / "data.mdb" if kind == "lmdb" else folder / FILES[kind]
        assert is_private()
        file.chmod(0o620)
        assert not is_private()
        file.chmod(0o600)
        assert is_private()
        file.parent.chmod(0o777)
        assert not is_private()


def test_a_link_is_as_private_as_what_it_leads_to(url, kind, tmp_path):
    # Who can write beside the file itself can put a log there that becomes part of it.
    (tmp_path / "place").mkdir(mode=0o700)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (tmp_path / "place" / FILES[kind]).symlink_to(shared / FILES[kind])
    if kind == "lmdb":
        (shared / "env").mkdir(mode=0o777)
        (shared / "env").chmod(0o777)
    with opened(url) as storage:
        storage.write("a", [b"x"])
        assert content(storage, "a") == b"x"
    with opened(url) as storage, opened(f"{kind}://{shared}/{FILES[kind]}") as same:
        assert content(same, "a") == b"x"
        assert storage.is_private is same.is_private is False


def test_foreign_files_are_refused_and_left(kind, tmp_path):
    url = url_of(kind, tmp_path)
    for data in (b"[1, 2]", b"no database\n" * 1000):
        path = tmp_path / "place" / FILES[kind]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        with opened(url) as storage:
            for attempt in (
                lambda: storage.read("a"),
                lambda: storage.write("a", [b"x"]),
                lambda: storage.write_many({"a": [b"x"]}),
                lambda: names(storage),
            ):
                with pytest.raises(BackendError) as caught:
                    attempt()
                assert FILES[kind] in str(caught.value)
                assert not isinstance(caught.value, ReadOnlyPlace)
        assert path.read_bytes() == data


@pytest.mark.parametrize("kind", ["sqlite", "jsondoc"])
def test_what_is_no_file_is_refused(kind, tmp_path):
    path = tmp_path / "place" / FILES[kind]
    path.mkdir(parents=True)
    with opened(url_of(kind, tmp_path)) as storage:
        for attempt in (lambda: storage.read("a"), lambda: storage.write("a", [b"x"])):
            with pytest.raises(BackendError):
                attempt()
    path.rmdir()
    os.mkfifo(path)
    with opened(url_of(kind, tmp_path)) as storage, pytest.raises(BackendError):
        storage.read("a")


def test_a_foreign_table_is_refused_and_left(tmp_path):
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute('CREATE TABLE persicache (a, b)'); c.execute('INSERT INTO persicache VALUES (1, 2)'); "
        "c.commit(); c.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.db")], check=True)
    with opened(tmp_path / "x.db") as storage:
        for attempt in (lambda: storage.read("a"), lambda: storage.write("a", [b"x"])):
            with pytest.raises(BackendError, match="not made by persicache"):
                attempt()
    with opened(tmp_path / "x.db", table="mine") as storage:
        storage.write("a", [b"x"])
        assert content(storage, "a") == b"x"


def test_a_foreign_lmdb_table_is_refused_and_left(tmp_path):
    import lmdb

    with lmdb.open(str(tmp_path / "env"), max_dbs=2) as environment:
        table = environment.open_db(b"theirs")
        with environment.begin(db=table, write=True) as transaction:
            transaction.put(b"a", b"value")
    with opened(f"lmdb://{tmp_path}/env?table=theirs") as storage:
        with pytest.raises(BackendError, match="not made by persicache"):
            storage.read("a")
        with pytest.raises(BackendError, match="not made by persicache"):
            names(storage)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "place"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_what_was_there(url, small_disk):
    with opened(url) as storage:
        storage.write("a", [b"old"])
        for attempt in (
            lambda: storage.write("a", [os.urandom(3 * MIB)]),
            lambda: storage.write_many({"a": [os.urandom(3 * MIB)]}),
        ):
            with pytest.raises(BackendError):
                attempt()
            assert content(storage, "a") == b"old"
        assert len(storage.write_many({"b": [b"fits"]})) == 1
        with pytest.raises(BackendError):
            storage.write_many({"c": [os.urandom(3 * MIB)], "d": [b"fits"]})
        assert names(storage) == ["a", "b", "d"]
        storage.write("a", [b"new"])
    with opened(url) as storage:
        assert content(storage, "a") == b"new"


def test_a_read_only_disk_can_be_read(url, small_disk):
    with opened(url) as storage:
        storage.write("a", [b"x"])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with opened(url) as storage:
        assert content(storage, "a") == b"x"
        assert names(storage) == ["a"]
        for attempt in (
            lambda: storage.write("a", [b"y"]),
            lambda: storage.remove("a"),
            lambda: storage.write("a", [b"y"], expect=storage.version("a")),
        ):
            with pytest.raises(ReadOnlyPlace):
                attempt()
        assert content(storage, "a") == b"x"


def refused_within(storage):
    """Yield what is refused in the middle of a write, in which "a" is 1."""
    for attempt in (
        lambda: storage.write("a", [b"inner"]),
        lambda: storage.remove("a"),
        lambda: storage.write_many({"inner": [b"x"]}),
        lambda: storage.write("inner", [b"x"], expect=ABSENT),
    ):
        with pytest.raises(BackendError, match="in the middle of"):
            attempt()
        yield attempt
    assert content(storage, "a") == b"1"


@pytest.mark.parametrize("kind", ["sqlite", "jsondoc"])
def test_a_write_in_the_middle_of_another_is_refused(kind, url, monkeypatch):
    # As a signal handler or a finalizer makes one: it could be undone with the other.
    module = f"persicache.storage.{'json' if kind == 'jsondoc' else 'sqlite'}_table"
    real, refused = importlib.import_module(module).check_row, []

    def interrupted(*args, **options):
        monkeypatch.setattr(f"{module}.check_row", real)
        refused.extend(refused_within(storage))
        real(*args, **options)

    with opened(url) as storage:
        storage.write("a", [b"1"])
        monkeypatch.setattr(f"{module}.check_row", interrupted)
        with pytest.raises(VersionConflict):
            storage.write("a", [b"2"], expect=ABSENT)
        assert len(refused) == 4
        storage.write("b", [b"2"])
        assert names(storage) == ["a", "b"]


def test_who_can_only_read_sees_what_others_write(url, kind, tmp_path):
    in_spawned(write_all, [(url, b"1" * 100, 300)])
    seen = tmp_path / "seen"
    seen.mkdir()
    if subprocess.run(["mount", "--bind", str(tmp_path / "place"), str(seen)], check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(seen)], check=True)
        with opened(f"{kind}://{seen}/{FILES[kind]}") as storage:
            for size, n in ((100, 300), (3000, 400), (9000, 500)):
                data = b"%d" % (size % 7) * size
                in_spawned(write_all, [(url, data, n)])
                assert len(names(storage)) == n
                assert {content(storage, f"n{i}") for i in range(n)} == {data}
            with pytest.raises(ReadOnlyPlace):
                storage.write("a", [b"x"])
    finally:
        subprocess.run(["umount", "-l", str(seen)], check=True)


def test_who_may_only_read_can(kind):
    if os.geteuid():
        pytest.skip("to be somebody else needs root")
    # Not in tmp_path, which nobody else can enter.
    with tempfile.TemporaryDirectory() as folder:
        url = f"{kind}://{folder}/{FILES[kind]}"
        with opened(url) as storage:
            storage.write("a", [b"x"])
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)

        def somebody_else():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with opened(url) as storage:
                assert content(storage, "a") == b"x"
                assert names(storage) == ["a"]
                assert not storage.is_private
                with pytest.raises(ReadOnlyPlace):
                    storage.write("a", [b"y"])

        in_fork(somebody_else)


def test_what_may_not_be_read_is_not_absent(kind):
    if os.geteuid():
        pytest.skip("to be somebody else needs root")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, FILES[kind])
        with opened(f"{kind}://{place}") as storage:
            storage.write("a", [b"x"])
        Path(folder).chmod(0o755)
        place.chmod(0)

        def somebody_else():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with opened(f"{kind}://{folder}/{FILES[kind]}") as storage:
                for access in (storage.read, storage.stat, storage.remove):
                    with pytest.raises(BackendError):
                        access("a")
                with pytest.raises(BackendError):
                    names(storage)

        in_fork(somebody_else)


# Writes that wait


def test_waiting_writes_are_seen_by_their_writer_only(url):
    with opened(url, commit_every=3) as storage, opened(url) as other:
        assert not storage.is_durable
        data = bytearray(b"one")
        version = storage.write("a", [data])
        data[:] = b"xxx"
        storage.write("b", [b"two"])
        assert storage.version("a") == version
        assert content(storage, "a") == b"one"
        assert storage.stat("b").nbytes == 3
        assert names(other) == []
        storage.write("c", [b"three"])
        assert names(other) == ["a", "b", "c"]
        assert other.version("a") == version
        assert storage.remove("a") is True
        assert storage.remove("a") is False
        with pytest.raises(BlobNotFound):
            storage.read("a")
        assert content(other, "a") == b"one"
        storage.flush()
        assert names(other) == ["b", "c"]


def test_every_so_many_writes_count_though_they_are_of_one_name(url):
    with opened(url, commit_every=3) as storage, opened(url) as other:
        for turn in range(4):
            storage.write("a", [b"%d" % turn])
        assert content(other, "a") == b"2"


@pytest.mark.parametrize("make", ["flush", "close", "batch", "condition"])
def test_what_makes_waiting_writes(make, url):
    with opened(url, commit_every=100) as storage, opened(url) as other:
        version = storage.write("a", [b"1"])
        if make == "flush":
            storage.flush()
        elif make == "close":
            storage.close()
        elif make == "batch":
            storage.write_many({"b": [b"2"]})
        else:
            with pytest.raises(VersionConflict):
                storage.write("a", [b"2"], expect=ABSENT)
            storage.write("a", [b"1"], expect=version)
        assert content(other, "a") == b"1"


def test_a_listing_tells_of_what_waits_and_writes_nothing(url):
    with opened(url, commit_every=100) as storage, opened(url) as other:
        other.write("a", [b"one"])
        other.write("b", [b"two"])
        storage.write("b", [b"other"])
        storage.write("c", [b"three"])
        storage.remove("a")
        assert {info.name: info.nbytes for info in storage.scan()} == {"b": 5, "c": 5}
        assert names(storage, "d/") == []
        assert names(other) == ["a", "b"]


@pytest.mark.parametrize("again", [False, True])
def test_a_transaction_that_is_interrupted_as_it_begins_is_undone(tmp_path, monkeypatch, again):
    # Or all that this process writes from then on would be a part of it, and gone with the process.
    kind = sqlite_library().connect
    real = kind.run

    def interrupted(self, sql, values=()):
        if sql == "ROLLBACK":
            monkeypatch.setattr(kind, "run", real)
            raise KeyboardInterrupt
        rows = real(self, sql, values)
        if sql.startswith("BEGIN"):
            if not again:
                monkeypatch.setattr(kind, "run", real)
            raise KeyboardInterrupt
        return rows

    url = url_of("sqlite", tmp_path)
    with opened(url) as storage, opened(url) as other:
        storage.write("a", [b"1"])
        monkeypatch.setattr(kind, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            storage.write_many({"a": [b"2"], "b": [b"2"]})
        storage.write("c", [b"3"])
        assert names(other) == ["a", "c"]
        assert content(other, "a") == b"1"


@pytest.mark.parametrize("before", [False, True])
def test_a_flush_that_is_interrupted_when_it_is_done_is_done(url, before, monkeypatch):
    def interrupted(_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    with opened(url, commit_every=2) as storage, opened(url) as other:
        storage.write("a" if before else "b", [b"old"])
        monkeypatch.setattr(multiprocessing.util.Finalize, "cancel", interrupted)
        with pytest.raises(KeyboardInterrupt):
            storage.write("a", [b"new"])
        storage.flush()
        assert content(other, "a") == content(storage, "a") == b"new"


def test_notes_that_cant_be_tidied_fail_no_write(tmp_path, monkeypatch):
    # It is made by then.
    monkeypatch.setattr("persicache.storage.json_journal._MOST_STALE", 2)
    url = url_of("jsondoc", tmp_path)
    refused = []

    def full(fd, nbytes):
        refused.append(nbytes)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(url) as storage, opened(url) as other:
        monkeypatch.setattr(os, "ftruncate", full)
        for turn in range(9):
            version = storage.write("a", [b"%d" % turn])
            assert other.version("a") == version
            assert content(other, "a") == b"%d" % turn
    assert refused


def test_a_write_in_the_middle_of_a_flush_is_refused(url, monkeypatch):
    # As a signal handler or a finalizer makes one: the flush would take it for made.
    table = type(make_table(place_of_url(url, {}), durable=False, options={}))
    real, refused = table.apply, []

    def interrupted(self, changes):
        monkeypatch.setattr(table, "apply", real)
        real(self, changes)
        refused.extend(refused_within(storage))

    with opened(url, commit_every=100) as storage, opened(url) as other:
        storage.write("a", [b"1"])
        monkeypatch.setattr(table, "apply", interrupted)
        storage.flush()
        assert len(refused) == 4
        assert content(other, "a") == b"1"
        storage.write("b", [b"3"])
        storage.flush()
        assert content(other, "b") == b"3"


EXITS = {
    "end": "pass",
    "forgotten": "del storage; import gc; gc.collect()",
    "error": "1 / 0",
    "child": (
        "storage.flush(); import multiprocessing as m; c = m.get_context('fork').Process("
        "target=lambda: storage.write('b', [b'2'])); c.start(); c.join(); assert c.exitcode == 0"
    ),
}


@pytest.mark.parametrize("way", EXITS)
def test_waiting_writes_are_made_when_the_process_ends(way, url):
    code = (
        "import sys; from persicache.storage import open_storage; "
        "storage = open_storage(sys.argv[1], storage_options={'commit_every': 100}); "
        "storage.write('a', [b'1']); "
    )
    subprocess.run([sys.executable, "-c", code + EXITS[way], url], check=False, capture_output=True)
    with opened(url) as storage:
        assert names(storage) == (["a", "b"] if way == "child" else ["a"])


def test_what_is_written_as_the_process_ends_does_not_wait(url):
    code = (
        "import atexit, sys; atexit.register(lambda: storage.write('b', [b'2'])); "
        "from persicache.storage import open_storage; "
        "storage = open_storage(sys.argv[1], storage_options={'commit_every': 100}); "
        "storage.write('a', [b'1'])"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)
    with opened(url) as storage:
        assert names(storage) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_leaves_its_parents_waiting_writes_alone(url):
    with opened(url, commit_every=100) as storage, opened(url) as other:
        storage.write("a", [b"parent"])

        def child():
            assert names(storage) == []
            storage.write("b", [b"child"])
            storage.flush()

        in_fork(child)
        assert names(other) == ["b"]
        storage.flush()
        assert names(other) == ["a", "b"]


def test_a_write_that_fails_is_not_made_later(url, small_disk):
    with opened(url, commit_every=3) as storage:
        storage.write("a", [b"1"])
        storage.write("b", [b"2"])
        with pytest.raises(BackendError):
            storage.write("b", [os.urandom(3 * MIB)])
        assert content(storage, "b") == b"2"
        storage.write("c", [b"3"])
    with opened(url) as storage:
        assert [content(storage, name) for name in names(storage)] == [b"1", b"2", b"3"]


# SQLite


def test_the_versions_of_sqlite_with_the_bug():
    affected = ["3.7.0", "3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.2"]
    fixed = ["3.6.23", "3.44.6", "3.44.9", "3.50.7", "3.51.3", "3.54.1"]
    assert all(has_wal_reset_bug(version) for version in affected)
    assert not any(has_wal_reset_bug(version) for version in fixed)


def count_with_the_interpreters(path, times):
    """Add one, `times` times, by the SQLite that came with Python, as if it had the bug."""
    library = interpreters_library()._replace(has_wal_reset_bug=True)
    table = SqliteTable(path, durable=False, library=library)
    for _ in range(times):
        while True:
            row = table.get("n")
            change = Change([b"%d" % (int(row.data) + 1)], os.urandom(8).hex(), time.time())
            try:
                table.put("n", change, expect=row.version)
            except VersionConflict:
                continue
            break
    table.close()


def test_an_affected_sqlite_works_under_a_lock(tmp_path):
    path = str(tmp_path / "x.db")
    library = interpreters_library()._replace(has_wal_reset_bug=True)
    table = SqliteTable(path, durable=False, library=library)
    table.put("n", Change([b"0"], "first", 0.0))
    table.close()
    in_spawned(count_with_the_interpreters, [(path, 50)] * 4)
    assert table.get("n").data == b"200"
    assert [info.name for info in table.scan()] == ["n"]
    assert table.delete("n")
    table.close()
    assert (tmp_path / ".x.db.lock").stat().st_mode & 0o777 == 0o600
    (tmp_path / "y.db").write_bytes(b"no database")
    with pytest.raises(BackendError, match="not a database"):
        SqliteTable(str(tmp_path / "y.db"), library=library).get("n")


def test_the_interpreters_sqlite_fails_as_apsw_does(tmp_path):
    # Of which no byte is ever touched.
    huge = memoryview(mmap.mmap(-1, 2**31))
    path = str(tmp_path / "x.db")
    table = SqliteTable(path, library=interpreters_library())
    table.put("a", Change([b"x"], "first", 0.0))
    with pytest.raises(BackendError):
        table.put("a", Change([huge], "second", 0.0))
    assert table.get("a").data == b"x"
    table.close()


def test_without_apsw_the_interpreters_sqlite_does(tmp_path):
    code = (
        "import sys; sys.modules['apsw'] = None; from persicache.storage import open_storage; "
        "storage = open_storage(sys.argv[1]); version = storage.write('a', [b'x']); "
        "storage.write('a', [b'y'], expect=version); storage.write_many({'b': [b'z' * 100000]}); "
        "assert bytes(storage.read('b').buffer) == b'z' * 100000; storage.close()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path / "x.db")], check=True)
    with opened(tmp_path / "x.db") as storage:
        assert content(storage, "a") == b"y"


def test_without_lmdb_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    storage = open_storage(f"lmdb://{tmp_path}/env")
    with pytest.raises(MissingDependency, match=r"persicache\[lmdb\]"):
        storage.write("a", [b"x"])


def test_the_journal_is_a_write_ahead_log(tmp_path):
    for durable, level in ((True, 2), (False, 1)):
        with opened(tmp_path / "x.db", durable=durable) as storage:
            storage.write("a", [b"x"])
            connection = storage._made.get()._writes.connection
            assert connection.run("PRAGMA journal_mode") == [("wal",)]
            assert connection.run("PRAGMA synchronous") == [(level,)]
            assert connection.run("PRAGMA mmap_size") in ([(0,)], [])


# JSON


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.from_regex(rb"[\[\]{}\"$base64:, 0-9.eE-]*", fullmatch=True)
)
def test_any_bytes_have_a_json_text(data):
    text = text_of(data)
    assert "\n" not in text
    marked = bytes_in(json.loads(text))
    assert (text.encode() if marked is None else marked) == data


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("$base64"), inner),
)


@given(json_values)
def test_json_values_stand_as_they_are(value):
    data = json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    text = text_of(data)
    marked = bytes_in(json.loads(text))
    assert (text.encode() if marked is None else marked) == data
    if not isinstance(value, dict) or len(value) != 1 or "$base64" not in value:
        assert text.encode() == data


def test_a_document_is_for_people_and_other_tools(tmp_path):
    path = tmp_path / "x.json"
    with opened(path) as storage:
        storage.write("b", [b'{"loss": 0.25}'])
        storage.write("a", ['"ä"'.encode()])
        storage.write("raw", [b"\x00"])
        assert path.read_text() == (
            '{\n  "b": {"loss": 0.25},\n  "a": "ä",\n  "raw": {"$base64": "AA=="}\n}\n'
        )
        storage.remove_many(["a", "b", "raw"])
        assert path.read_text() == "{}\n"


def test_a_document_written_by_hand(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(
        '{"a" : [1,\n 2.50], "": 1, "B C": "\\ud83d\\ude00", "half": "\\ud800", "n": {"$base64": "?"}}'
    )
    path.chmod(0o644)
    with opened(path) as storage:
        assert content(storage, "a") == b"[1, 2.5]"
        assert names(storage) == ["a", "half", "n"]
        assert content(storage, "half") == b'"\\ud800"'
        assert content(storage, "n") == b'{"$base64": "?"}'
        version = storage.version("a")
        path.write_text(path.read_text().replace("2.50", "3.5"))
        assert content(storage, "a") == b"[1, 3.5]"
        assert storage.version("a") != version
        with pytest.raises(VersionConflict):
            storage.write("a", [b"1"], expect=version)
        storage.write("c", [b"true"])
        assert json.loads(path.read_text()) == {
            "a": [1, 3.5],
            "": 1,
            "B C": "😀",
            "half": "\ud800",
            "n": {"$base64": "?"},
            "c": True,
        }
        assert path.stat().st_mode & 0o777 == 0o644
        path.unlink()
        assert names(storage) == []


def test_versions_and_times_of_a_document_survive(tmp_path):
    path = tmp_path / "x.json"
    with opened(path) as storage:
        first = storage.write("a", [b"1"])
        modified = storage.stat("a").modified
        storage.write("a", [b"2"])
        again = storage.write("a", [b"1"])
        storage.write("b", [b"2"])
        later = storage.stat("a").modified
    with opened(path) as storage:
        assert storage.version("a") == again != first
        assert storage.stat("a").modified == later > modified
    (tmp_path / ".x.json.lock").write_bytes(b"\n[1, 2\nnonsense\n{}")
    with opened(path) as storage:
        assert content(storage, "a") == b"1"
        assert storage.version("a") not in {first, again}
        version = storage.write("a", [b"3"])
    with opened(path) as storage:
        assert storage.version("a") == version


def test_the_notes_on_a_document_stay_few(tmp_path):
    path = tmp_path / "x.json"
    with opened(path) as storage:
        for turn in range(55):
            storage.write_many({f"n{i}": [b"%d" % turn] for i in range(20)})
    assert (tmp_path / ".x.json.lock").stat().st_size < 100_000
    with opened(path) as storage:
        assert content(storage, "n19") == b"54"


def test_a_document_is_replaced_whole(tmp_path):
    path = tmp_path / "real.json"
    (tmp_path / "x.json").symlink_to(path)
    (tmp_path / ".tmp-1-0123456789abcdef").write_bytes(b"left by a killed writer")
    os.utime(tmp_path / ".tmp-1-0123456789abcdef", (0, 0))
    (tmp_path / ".tmp-theirs").write_bytes(b"")
    os.utime(tmp_path / ".tmp-theirs", (0, 0))
    with opened(tmp_path / "x.json") as storage:
        storage.write("a", [b"1"])
        with path.open("rb") as before:
            storage.write("a", [b"2"])
            assert json.load(before) == {"a": 1}
        assert json.loads(path.read_bytes()) == {"a": 2}
    assert (tmp_path / "x.json").is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".real.json.lock",
        ".tmp-theirs",
        "real.json",
        "x.json",
    ]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 2}}', '{"a": 1e999}'])
def test_what_a_document_would_lose_is_refused(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with opened(f"jsondoc://{path}") as storage:
        for attempt in (lambda: storage.read("a"), lambda: storage.write("c", [b"3"])):
            with pytest.raises(BackendError, match=r"twice|1e999"):
                attempt()
    assert path.read_text() == text


def test_a_broken_document_is_not_overwritten(tmp_path):
    path = tmp_path / "x.json"
    for text in ("", "{", '"text"', "[]"):
        path.write_text(text)
        with opened(path) as storage:
            for attempt in (lambda: storage.read("a"), lambda: storage.write("a", [b"1"])):
                with pytest.raises(BackendError, match="left as it is"):
                    attempt()
        assert path.read_text() == text


# The filesystems


@pytest.fixture
def filesystem(kind, tmp_path):
    opened = fsspec.filesystem(kind, path=tmp_path / "place" / FILES[kind], skip_instance_cache=True)
    yield opened
    opened.close()


def test_anybody_can_open_a_chained_url(kind, tmp_path):
    url = f"{kind}://a/b::{tmp_path}/{FILES[kind]}"
    with fsspec.open(url, "w") as file:
        file.write("text")
    with fsspec.open(f"{kind}://a/b", "r", path=tmp_path / FILES[kind]) as file:
        assert file.read() == "text"
    with opened(f"{kind}://{tmp_path}/{FILES[kind]}") as storage:
        assert names(storage) == ["a/b"]
    fsspec.core.url_to_fs(url)[0].close()
    fsspec.filesystem(kind, path=tmp_path / FILES[kind]).close()


def test_a_filesystem_needs_a_path(kind):
    for options in ({}, {"fo": "x", "target_protocol": "memory"}):
        with pytest.raises(ValueError, match="needs path="):
            fsspec.filesystem(kind, **options)


def test_a_filesystem_travels(filesystem, tmp_path, monkeypatch):
    filesystem.pipe_file("a", b"x")
    again = pickle.loads(pickle.dumps(filesystem))
    assert again.cat_file("a") == b"x"
    again.close()
    in_spawned(type(filesystem).pipe_file, [(filesystem, "b", b"y")])
    assert filesystem.ls("", detail=False) == ["a", "b"]


def test_an_error_publishes_nothing(filesystem):
    with pytest.raises(ZeroDivisionError), filesystem.open("a", "wb") as file:
        file.write(b"part")
        raise ZeroDivisionError
    assert not filesystem.exists("a")


def test_exclusive_files_have_one_winner(filesystem):
    one, two = filesystem.open("a", "xb"), filesystem.open("a", "xb")
    one.write(b"one")
    two.write(b"two")
    one.close()
    with pytest.raises(FileExistsError):
        two.close()
    assert filesystem.cat_file("a") == b"one"
    with pytest.raises(FileExistsError):
        filesystem.pipe_file("a", b"", mode="create")


def test_appending_and_reading_parts(filesystem):
    with filesystem.open("a", "ab") as file:
        file.write(b"one ")
    with filesystem.open("a", "ab") as file:
        file.write(b"two")
    assert filesystem.cat_file("a") == b"one two"
    assert filesystem.cat_file("a", start=-3) == b"two"
    assert filesystem.cat_file("a", start=1, end=-4) == b"ne"
    with filesystem.open("a") as file:
        assert file.read(3) == b"one"
        file.seek(-3, 2)
        assert file.read() == b"two"


def test_large_files_are_written_in_blocks(filesystem):
    with filesystem.open("a", "wb", block_size=MIB) as file:
        for number in range(5):
            file.write(bytes([number]) * MIB)
    assert filesystem.size("a") == 5 * MIB
    assert filesystem.cat_file("a", start=4 * MIB - 1, end=4 * MIB + 1) == b"\3\4"


def test_transactions_publish_at_their_end(filesystem):
    with filesystem.transaction:
        with filesystem.open("a", "wb") as file:
            file.write(b"x")
        assert not filesystem.exists("a")
    assert filesystem.cat_file("a") == b"x"
    with pytest.raises(ZeroDivisionError), filesystem.transaction:
        with filesystem.open("b", "wb") as file:
            file.write(b"x")
        raise ZeroDivisionError
    assert not filesystem.exists("b")


def test_folders(filesystem):
    filesystem.mkdir("empty/deep")
    filesystem.pipe_file("d/e/f", b"x")
    assert filesystem.find("", withdirs=True) == ["d", "d/e", "d/e/f", "empty", "empty/deep"]
    assert filesystem.find("", maxdepth=2, withdirs=True) == ["d", "d/e", "empty", "empty/deep"]
    assert filesystem.isdir("d/e")
    assert filesystem.isdir("")
    assert filesystem.ls("empty/deep") == []
    for wrong, error in (
        (lambda: filesystem.mkdir("d"), FileExistsError),
        (lambda: filesystem.makedirs("d"), FileExistsError),
        (lambda: filesystem.makedirs("d/e/f", exist_ok=True), FileExistsError),
        (lambda: filesystem.mkdir("x/y", create_parents=False), FileNotFoundError),
        (lambda: filesystem.makedirs("d/e/f/g"), NotADirectoryError),
        (lambda: filesystem.cat_file("d"), IsADirectoryError),
        (lambda: filesystem.open("d"), IsADirectoryError),
        (lambda: filesystem.pipe_file("empty/deep", b"x"), IsADirectoryError),
        (lambda: filesystem.pipe_file("", b"x"), IsADirectoryError),
        (lambda: filesystem.cat_file("no"), FileNotFoundError),
        (lambda: filesystem.rm_file("no"), FileNotFoundError),
        (lambda: filesystem.rm("no", recursive=True), FileNotFoundError),
        (lambda: filesystem.cp_file("no", "yes"), FileNotFoundError),
        (lambda: filesystem.ls("no"), FileNotFoundError),
        (lambda: filesystem.rmdir("d"), OSError),
        (lambda: filesystem.modified("d"), IsADirectoryError),
    ):
        with pytest.raises(error):
            wrong()
    filesystem.rm("d", recursive=True)
    filesystem.rmdir("empty/deep")
    assert filesystem.find("", withdirs=True) == []


def test_names_are_not_patterns_and_stay_inside(filesystem):
    for name in ("../up", "a*", "[x]", "ä ö", "/lead//double/"):
        filesystem.pipe_file(name, name.encode())
    assert filesystem.cat_file("lead/double") == b"/lead//double/"
    assert filesystem.find("") == sorted(["../up", "a*", "[x]", "ä ö", "lead/double"])
    filesystem.rm_file("a*")
    assert filesystem.cat_file("[x]") == b"[x]"


def test_times_and_keys_of_files(filesystem):
    filesystem.pipe_file("a", b"x")
    key, modified = filesystem.ukey("a"), filesystem.modified("a")
    assert abs(modified.timestamp() - time.time()) < 60
    filesystem.touch("a", truncate=False)
    assert filesystem.cat_file("a") == b"x"
    assert filesystem.ukey("a") != key
    assert filesystem.modified("a") >= modified
    filesystem.touch("a")
    assert filesystem.cat_file("a") == b""
    filesystem.mv("a", "b")
    assert filesystem.find("") == ["b"]


def test_an_environment_cut_short_kills_nobody(tmp_path):
    url = f"lmdb://{tmp_path}/env?table=t"
    with contextlib.closing(open_storage(url, durable=False)) as storage:
        storage.write_many({f"k{i}": [b"x" * 100] for i in range(300)})
    os.truncate(tmp_path / "env" / "data.mdb", 2 * 4096)  # as a power cut can do

    def child():
        with contextlib.closing(open_storage(url, durable=False)) as left:
            with contextlib.suppress(BlobNotFound, BackendError):
                left.read("k1")
            with pytest.raises(BackendError, match="CORRUPTED"):
                left.write("next", [b"x"])

    in_fork(child)
