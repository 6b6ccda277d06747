"""Copies near a place: what they save, and that they are never taken for what they aren't."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import pickle
import resource
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_storage_children import in_fork, in_spawned

from persicache import PersiDict
from persicache.errors import BackendError, PersicacheWarning, UntrustedPickle
from persicache.mappings.near import NearStorage
from persicache.mappings.near_memory import MemoryCopies
from persicache.storage import open_storage, place_identity

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(params=["directory", "memory"])
def near(request, tmp_path):
    return "8 MiB" if request.param == "memory" else ("8 MiB", tmp_path / "near")


@pytest.fixture
def here(tmp_path):
    """Return a directory for copies."""
    return tmp_path / "near"


@pytest.fixture
def opened(s3):
    """Open dictionaries on one place in S3; one without options is the same every time."""
    plain = PersiDict(s3.url, storage_options=s3.storage_options)
    dicts = [plain]

    def make(**options):
        if not options:
            return plain
        dicts.append(PersiDict(s3.url, storage_options=s3.storage_options, **options))
        return dicts[-1]

    plain["warm"] = 1  # connections, credentials
    yield make
    for each in dicts:
        each.close()


@pytest.fixture
def opened_here(tmp_path):
    """Open dictionaries on one local place."""
    return functools.partial(PersiDict, tmp_path / "place")


@pytest.fixture
def asked(s3):
    """Return the methods asked for since the last time."""

    def since():
        requests = s3.server.requests()
        s3.server.clear()
        return [request.partition(" ")[0] for request in requests]

    since()
    return since


def files(directory):
    """Return the files of copies, drafts included."""
    return sorted(
        path for path in Path(directory).rglob("*") if path.is_file() and "locks" not in path.parts
    )


def test_a_hit_asks_whether_anything_changed(opened, near, asked):
    opened()["a"] = np.arange(100_000)
    d = opened(near=near)
    asked()
    assert d["a"].sum() == sum(range(100_000))
    assert asked() == ["GET"]
    for _ in range(2):
        assert d["a"].sum() == sum(range(100_000))
        assert asked() == ["GET", "304"]


def test_an_append_only_hit_asks_nothing(opened, near, asked):
    opened()["a"] = np.arange(100_000)
    d = opened(near=near, append_only=True)
    asked()
    assert d["a"][-1] == 99_999
    assert asked() == ["GET"]
    assert d["a"][-1] == 99_999
    assert d.get_many(["a", "warm"])["a"][-1] == 99_999
    assert asked() == ["GET"]  # for "warm"
    assert d.get_many(["a", "warm"])["warm"] == 1
    assert asked() == []


def test_what_was_written_is_near(opened, near, asked):
    d = opened(near=near)
    asked()
    d["a"] = b"x" * 100_000
    d.set_many({f"n{i}": i for i in range(3)})
    assert asked() == ["PUT"] * 4
    assert d["a"] == b"x" * 100_000
    assert d.get_many(f"n{i}" for i in range(3)) == {f"n{i}": i for i in range(3)}
    assert sorted(asked()) == sorted(["GET", "304"] * 4)


def test_changes_of_others_are_seen_at_once(opened_here, near):
    d, other = opened_here(near=near), opened_here(durable=False)
    for value in ("one", "two", "three"):
        other["a"] = value
        other["b"] = value * 50_000
        assert d["a"] == d.get_many(["a"])["a"] == value
        assert d.get_many(["b", "a"]) == {"a": value, "b": value * 50_000}
        assert d.etag("a") == d.get_with_etag("a")[1] == other.etag("a")
    del other["a"]
    assert d.get_many(["a", "b"]) == {"b": "three" * 50_000}
    with pytest.raises(KeyError):
        d["a"]
    other["a"] = "again"
    assert d["a"] == "again"
    assert sorted(d) == ["a", "b"]


def test_what_is_absent_is_asked_for_again(opened_here, near):
    d = opened_here(near=near, append_only=True)
    for _ in range(2):
        with pytest.raises(KeyError):
            d["a"]
        assert d.get_many(["a"]) == {}
    opened_here()["a"] = 1
    assert d["a"] == 1


def test_many_are_asked_for_at_once(opened, near, s3):
    opened().set_many({i: i for i in range(8)})
    d = opened(near=near)
    assert d.get_many(range(8)) == {i: i for i in range(8)}
    opened()[3] = "changed"
    s3.server.clear()
    s3.server.fault("meet", method="GET", times=4)
    assert d.get_many(range(9)) == {**{i: i for i in range(8)}, 3: "changed"}
    requests = s3.server.requests()
    assert requests.count("met") == 4
    assert requests.count("304") == 7
    assert sum(request.startswith("GET") for request in requests) == 9


def test_trouble_with_the_place_is_not_hidden(opened, here, s3):
    d = opened(near=here)
    d["a"] = 1
    s3.server.fault("denied", method="GET", times=2)
    with pytest.raises(BackendError, match="PermissionError"):
        d["a"]
    with pytest.raises(BackendError):
        d.get_many(["a"])
    assert d["a"] == 1


def test_a_failed_write_leaves_no_copy(opened, here, s3, asked):
    d, trusting = opened(near=here), opened(near=here, append_only=True)
    for change in (lambda: d.update(a=2), lambda: d.__setitem__("a", 2), lambda: d.discard("a")):
        d["a"] = 1
        s3.server.fault("denied", method="*", times=-1)
        with pytest.raises(BackendError):
            change()
        asked()
        assert trusting["a"] == 1
        assert asked() == ["GET"]


def test_copies_of_what_is_removed_go_with_it(opened_here, here):
    d, trusting = opened_here(near=here), opened_here(near=here, append_only=True)
    d.set_many({"a": 1, "b": 2, "c": 3})
    before = len(files(here))
    del d["a"]
    d.discard_many(["b", "c"])
    assert len(files(here)) == before - 3
    assert trusting.get_many("abc") == {}


def count_up(*dicts):
    def count(d):
        for _ in range(8):
            d.transform_item("n", transformer=lambda n: n + 1, n_retries=None)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(count, dicts))


def test_no_update_is_lost(opened_here, near):
    plain = opened_here()
    plain["n"] = 0
    count_up(opened_here(near=near), opened_here(near=near))
    assert opened_here(near=near)["n"] == plain["n"] == 16


def test_no_update_is_lost_in_s3(opened, here):
    opened()["n"] = 0
    d = opened(near=here)
    count_up(d, opened(near="1 MiB"))
    assert d["n"] == opened()["n"] == 16


def flipped(index):
    def damage(file, _):
        data = bytearray(file.read_bytes())
        data[index] ^= 1
        file.write_bytes(data)

    return damage


def link(file, other):
    file.unlink()
    file.symlink_to(other)


DAMAGES = {
    "data": flipped(0),
    "last data": flipped(-150),
    "label": flipped(-60),
    "length": flipped(-44),
    "digest": flipped(-10),
    "magic": flipped(-1),
    "truncated": lambda file, _: file.write_bytes(file.read_bytes()[:-1000]),
    "empty": lambda file, _: file.write_bytes(b""),
    "foreign": lambda file, _: file.write_bytes(b"what somebody else has there" * 10),
    "swapped": lambda file, other: shutil.copy(other, file),
}


@pytest.mark.parametrize("nbytes", [1000, 100_000])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_copy_that_is_not_what_it_should_be_is_fetched_again(damage, nbytes, here):
    # A format without a checksum of its own, and nobody is asked.
    place = f"memory://{uuid.uuid4().hex}"
    d = PersiDict(place, format="bytes", near=here)
    d["a"] = b"a" * nbytes
    (file,) = files(here)
    d["b"] = b"b" * nbytes
    (other,) = set(files(here)) - {file}
    assert d["a"] == b"a" * nbytes  # it is verified, and then:
    DAMAGES[damage](file, other)
    for reader in (d, PersiDict(place, format="bytes", near=here)):
        assert reader["a"] == b"a" * nbytes
        assert reader.get_many(["b", "a"]) == {"a": b"a" * nbytes, "b": b"b" * nbytes}
    assert file.read_bytes()[:nbytes] == b"a" * nbytes  # and it was kept again


def test_no_damaged_copy_is_trusted(here, tmp_path):
    for damage in DAMAGES.values():
        shutil.rmtree(here, ignore_errors=True)
        options = {"format": "bytes", "near": here}
        d = PersiDict(tmp_path / uuid.uuid4().hex, **options, append_only=True)
        d["a"] = b"a" * 1000
        (file,) = files(here)
        d["b"] = b"b" * 1000
        (other,) = set(files(here)) - {file}
        damage(file, other)
        assert d["a"] == b"a" * 1000
        assert PersiDict(d.url, **options, append_only=True)["a"] == b"a" * 1000


def test_what_is_planted_in_place_of_a_copy(here):
    for plant in (link, lambda file, _: (file.unlink(), file.mkdir()), lambda file, _: _fifo(file)):
        d = PersiDict(f"memory://{uuid.uuid4().hex}", near=here)
        before = set(files(here))
        d["a"] = "right"
        (file,) = set(files(here)) - before
        other = here / "other"
        shutil.copy(file, other)
        plant(file, other)
        with pytest.warns(PersicacheWarning, match="going on without them"):
            assert d["a"] == "right"
        assert d["a"] == "right"


def _fifo(file):
    file.unlink()
    os.mkfifo(file)


def test_places_that_share_a_directory_don_t_mix(opened, here, s3, tmp_path):
    places = {
        "bucket": opened(near=here, append_only=True),
        "prefix": PersiDict(
            s3.url + "/deeper", storage_options=s3.storage_options, near=here, append_only=True
        ),
        "path": PersiDict(tmp_path / "x", near=here, append_only=True),
        "table": PersiDict(tmp_path / "x.db", near=here, append_only=True),
    }
    for value, d in places.items():
        d["a"] = value
    for value, d in places.items():
        assert d["a"] == value
        d.close()


def test_another_key_is_no_other_place_but_another_server_is(opened, here, s3, asked):
    opened(near=here)["a"] = 1
    rotated = {**s3.storage_options, "key": "AKIAOTHER", "secret": "another"}
    elsewhere = {**rotated, "endpoint_url": s3.server.endpoint.replace("127.0.0.1", "localhost")}
    for options, requests in ((rotated, []), (elsewhere, ["GET"])):
        d = PersiDict(s3.url, storage_options=options, near=here, append_only=True)
        asked()
        assert d["a"] == 1
        assert asked() == requests
        d.close()


def test_servers_that_can_t_be_told_apart_are_taken_for_two():
    where = "s3://bucket"
    plain = place_identity(where, environ={})
    assert place_identity(where, {"session": object()}) != place_identity(where, {"session": object()})
    assert place_identity(where, {"at": b"1"}) != place_identity(where, {"at": b"2"})
    assert place_identity(where, {"at": Path("x")}) == place_identity(where, {"at": Path("x")})
    for name in ("AWS_CONFIG_FILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL"):
        assert place_identity(where, environ={name: "other"}) != plain


@pytest.mark.parametrize("url", ["{}", "{}/x.db", "lmdb://{}/env?table=t"])
def test_a_link_that_leads_elsewhere_now_is_another_place(here, tmp_path, url):
    link = tmp_path / "latest"
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / run)
        with PersiDict(url.format(link), near=here, append_only=True) as d:
            d["a"] = run
    with PersiDict(url.format(link), near=here, append_only=True) as d:
        assert d["a"] == "second"
    link.unlink()
    link.symlink_to(tmp_path / "first")
    with PersiDict(url.format(link), near=here, append_only=True) as d:
        assert d["a"] == "first"


def test_what_the_place_may_forget_is_asked_for(here):
    place = f"memory://{uuid.uuid4().hex}"
    d = PersiDict(place, near=here, append_only=True)
    d["a"] = 1
    PersiDict(place).clear()  # as the end of the process would
    with pytest.raises(KeyError):
        d["a"]
    assert d.get_many(["a"]) == {}


def held(directory):
    return sum(file.stat().st_size for file in files(directory))


@pytest.mark.parametrize("written", [True, False])
def test_a_directory_keeps_to_its_size(here, written):
    place = f"memory://{uuid.uuid4().hex}"
    d = PersiDict(place, near=(here, "1 MiB"))
    writer = d if written else PersiDict(place)
    for i in range(30):
        writer[i % 20] = bytes([i]) * (i * 10 * KIB)
        assert len(d[i % 20]) == i * 10 * KIB
        assert held(here) <= MIB
    assert held(here) > MIB // 2
    count = len(files(here))
    writer["large"] = b"x" * 2 * MIB
    assert d["large"] == b"x" * 2 * MIB
    assert len(files(here)) == count
    for i in range(20):
        assert len(d[i]) == (i if i >= 10 else i + 20) * 10 * KIB


def test_what_lies_there_counts(here, tmp_path):
    place = tmp_path / "place"
    d = PersiDict(place, near=here)
    for i in range(20):
        d[i] = b"x" * 100 * KIB
    assert held(here) > MIB
    stale = files(here)[0].parent / ".tmp-left-by-somebody"
    stale.write_bytes(b"x" * 1000)
    os.utime(stale, (0, 0))
    again = PersiDict(place, near=("1 MiB", here), append_only=True)
    again["more"] = b"x" * 100 * KIB
    assert MIB // 2 < held(here) <= MIB
    assert not stale.exists()
    near = still_read([*range(20), "more"], again, place)
    assert near == [*range(21 - len(near), 20), "more"]


def still_read(keys, d, place):
    """Return which keys are read from copies that are trusted: nothing else is left of them."""
    PersiDict(place).clear()
    return [key for key in keys if key in d.get_many([key])]


def test_who_was_used_last_stays(near, tmp_path):
    d = PersiDict(tmp_path / "place", near=near, append_only=True)
    for i in range(7):  # as many as there is room for
        d[i] = b"x" * MIB
    assert d[0] == b"x" * MIB
    for i in range(7, 11):
        d[i] = b"x" * MIB
    assert still_read(range(11), d, tmp_path / "place") == [0, *range(5, 11)]


def test_two_who_share_a_bounded_directory(here):
    place = f"memory://{uuid.uuid4().hex}"
    one, two = (PersiDict(place, near=(here, MIB)) for _ in range(2))
    for i in range(60):
        (one, two)[i % 2][i] = b"x" * 50 * KIB
        assert held(here) <= 1.2 * MIB
    assert one.get_many(range(60)) == two.get_many(range(60)) == dict.fromkeys(range(60), b"x" * 50 * KIB)


def test_memory_keeps_to_its_size():
    place = f"memory://{uuid.uuid4().hex}"
    d = PersiDict(place, near="1 MiB", append_only=True)
    for i in range(30):
        d[i] = b"x" * 100 * KIB
    assert still_read(range(30), d, place) == [*range(20, 30)]
    # Small ones are more than their bytes.
    d.update({("small", i): i for i in range(2000)})
    small = still_read([("small", i) for i in range(2000)], d, place)
    assert 500 < len(small) < 1000


@contextlib.contextmanager
def no_room():
    """Let no file of this process grow beyond 50 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50 * KIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [(), (MIB,)])
def test_a_full_disk_is_a_warning(here, limit):
    d = PersiDict(f"memory://{uuid.uuid4().hex}", near=(here, *limit))
    d["a"] = b"old" * 100 * KIB
    with no_room():
        with pytest.warns(PersicacheWarning, match="File too large") as warned:
            d["a"] = b"new" * 100 * KIB
        assert warned[0].filename == __file__
        for i in range(3):
            d[i] = b"x" * 100 * KIB
            assert d[i] == b"x" * 100 * KIB
        assert d["a"] == b"new" * 100 * KIB
        assert files(here) == []
    assert d["a"] == b"new" * 100 * KIB
    assert len(files(here)) == 1


def test_a_directory_that_can_t_be_one_is_an_error_at_first_and_a_warning_later(tmp_path):
    place = f"memory://{uuid.uuid4().hex}"
    d = PersiDict(place, near=tmp_path / "file")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BackendError, match="it is a file"):
        PersiDict(place, near=tmp_path / "file")
    with pytest.warns(PersicacheWarning, match="file"):
        d["a"] = 1
    assert d["a"] == 1
    del d["a"]
    assert (tmp_path / "file").read_text() == "mine"


def test_what_others_can_write_is_no_copy(here, tmp_path):
    d = PersiDict(tmp_path / "place", near=here, append_only=True)
    d["a"] = "right"
    (folder,) = here.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    again = PersiDict(tmp_path / "place", near=here, append_only=True)
    with pytest.warns(PersicacheWarning, match="others can write"):
        assert again["a"] == "right"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give links away")
@pytest.mark.parametrize("uid", [0, 12345])
def test_a_link_that_another_user_planted_leads_to_no_loss(here, tmp_path, uid):
    others = tmp_path / "documents"
    others.mkdir(mode=0o700)
    document = others / "letter.txt"
    document.write_bytes(b"x" * 50_000)
    here.mkdir()
    planted = here / f"persicache-near-{os.geteuid()}"
    planted.symlink_to(others)
    os.lchown(planted, uid, -1)
    d = PersiDict(f"memory://{uuid.uuid4().hex}", near=(here, "60 kB"))
    with contextlib.nullcontext() if uid == 0 else pytest.warns(PersicacheWarning, match="somebody else's"):
        d["a"] = 1
    if uid == 0:
        assert len(files(others)) == 2  # one's own link is followed
        return
    d["b"] = b"x" * 50_000
    assert (d["a"], d["b"]) == (1, b"x" * 50_000)
    assert files(others) == [document]


def test_a_pickle_of_a_shared_place_stays_untrusted(opened, near):
    with pytest.raises(UntrustedPickle):
        opened(near=near)["a"] = Path("x")
    trusting = opened(near=near, allow_pickle=True)
    trusting["a"] = Path("x")
    assert trusting["a"] == Path("x")
    d = opened(near=near, append_only=True)
    for _ in range(3):
        with pytest.raises(UntrustedPickle):
            d["a"]


def test_a_pickle_of_a_private_place_stays_trusted(tmp_path, near):
    PersiDict(tmp_path / "place")["a"] = Path("x")
    d = PersiDict(tmp_path / "place", near=near)
    d["b"] = Path("y")
    for _ in range(2):
        assert (d["a"], d["b"]) == (Path("x"), Path("y"))


def test_a_large_array_is_mapped_and_the_readers_own(here):
    d = PersiDict(f"memory://{uuid.uuid4().hex}", near=here)
    d["a"] = np.arange(100 * MIB // 8)
    for _ in range(2):
        array = d["a"]
        base = array
        while not isinstance(base, mmap.mmap):
            base = base.obj if isinstance(base, memoryview) else base.base
        assert array.flags.writeable
        assert array.ctypes.data % 64 == 0
        array[:10] = -1
    assert d["a"][5] == 5


def test_a_copy_in_memory_is_the_readers_own():
    d = PersiDict(f"memory://{uuid.uuid4().hex}", near="4 MiB")
    array = np.arange(100_000)
    d["a"] = array
    array[0] = 7
    for _ in range(2):
        mine = d["a"]
        assert mine[0] == 0
        mine[0] = 8


def read_and_write(d):
    found = d["a"]
    d["b"] = found + 1
    return d["b"]


def test_it_travels(opened, near, asked):
    d = opened(near=near)
    d["a"] = 1
    again = pickle.loads(pickle.dumps(d))
    sub = d.get_subdict("part")
    sub["x"] = b"x" * 100_000
    asked()
    assert again["a"] == 1
    assert asked() == (["GET"] if isinstance(near, str) else ["GET", "304"])
    assert sub["x"] == d["part", "x"] == b"x" * 100_000
    assert asked().count("304") == 2
    assert len(pickle.dumps(d)) < 10_000
    again.close()


def test_it_is_made_again_from_its_params(here, tmp_path):
    d = PersiDict(tmp_path / "place", near=(here, "1 MiB"))
    d["a"] = 1
    assert PersiDict(**d.get_params())["a"] == 1
    assert d.get_params()["near"] == (here, "1 MiB")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_other_processes(tmp_path, near):
    d = PersiDict(tmp_path / "place", near=near)
    d["a"] = 1
    in_fork(lambda: read_and_write(d))
    assert d["b"] == 2
    d["a"] = 10
    assert in_spawned(read_and_write, [(d,)]) == [11]
    assert d["b"] == 11


def test_threads(near):
    d = PersiDict(f"memory://{uuid.uuid4().hex}", near=near)

    def work(seed):
        for i in range(60):
            key = (seed + i) % 7
            d[key] = [key, b"x" * (20_000 * key)]
            assert all(value == [k, b"x" * (20_000 * k)] for k, value in d.get_many(range(7)).items())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


class Overtaken(MemoryCopies):
    """Copies, of which a slower thread brings an older one whenever one was looked at."""

    def load(self, name):
        found = super().load(name)
        self.keep(name, [b"old"], "the version of old", is_private=True)
        return found


def test_a_copy_that_nobody_asked_about_is_not_used():
    inner, copies = open_storage(f"memory://{uuid.uuid4().hex}"), Overtaken(MIB)
    storage = NearStorage(inner, copies, trusts=False)
    for read in (storage.read, lambda name: dict(storage.read_many([name]))[name]):
        storage.write("a", [b"new"])
        assert read("a").buffer == b"new"
        assert read("a").buffer == b"new"


def test_a_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    PersiDict(f"memory://{uuid.uuid4().hex}", near="~/copies")["a"] = 1
    assert len(files(tmp_path / "copies")) == 1


def test_a_directory_that_looks_like_a_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for near in (Path("16 MiB"), "./16 MiB"):
        PersiDict(f"memory://{uuid.uuid4().hex}", near=near)["a"] = 1
    assert len(files(tmp_path / "16 MiB")) == 2


@pytest.mark.parametrize(
    ("near", "error", "match"),
    [
        ("", ValueError, "''"),
        ("s3://bucket/x", ValueError, "not a URL"),
        ("a\0b", ValueError, "names no directory"),
        ("12 parsecs", ValueError, "12 parsecs"),
        ("0 MiB", ValueError, "0 MiB"),
        (0, ValueError, "0"),
        (-5, ValueError, "-5"),
        (True, TypeError, "True"),
        (0.5, TypeError, "0.5"),
        (b"dir", TypeError, "dir"),
        (("a", "b"), ValueError, "pair"),
        ((1, 2), ValueError, "pair"),
        ((), ValueError, "pair"),
    ],
)
def test_what_is_no_near_tier(near, error, match, tmp_path):
    with pytest.raises(error, match=match):
        PersiDict(tmp_path / "place", near=near)
    assert list(tmp_path.iterdir()) == []
