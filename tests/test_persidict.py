"""A PersiDict is a dictionary, wherever it lies."""

import datetime as dt
import multiprocessing
import os
import pickle
import resource
import stat
import subprocess
import sys
import tempfile
import threading
import unittest
import uuid

import numpy as np
import pandas as pd
import pytest
from places import PLACES
from same import assert_same
from test import mapping_tests

import persicache
from persicache import (
    BackendError,
    BadSignature,
    CorruptEntry,
    PersiDict,
    UnencodableKey,
    UnencodableValue,
    UntrustedPickle,
)


@pytest.fixture(params=PLACES, ids=str)
def kind(request):
    return request.param


@pytest.mark.parametrize("part", ["whole", "subdict"])
def test_what_cpython_asks_of_mappings(kind, part, tmp_path, request):
    parent = PersiDict(**kind.new(tmp_path, request))

    class Mappings(mapping_tests.BasicTestMappingProtocol):
        type2test = PersiDict

        def _empty_mapping(self):
            if part == "subdict":
                return parent.get_subdict(uuid.uuid4())
            return PersiDict(**kind.new(tmp_path, request))

        def _full_mapping(self, data):
            mapping = self._empty_mapping()
            mapping.update(data)
            return mapping

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Mappings).run(result)
    assert not result.errors + result.failures
    assert result.testsRun > 8


VALUES = {
    "none": None,
    "array": np.arange(12.0).reshape(3, 4),
    ("runs", 7, "Loss"): {"loss": 0.25, "when": dt.datetime(2013, 1, 1, tzinfo=dt.UTC)},
    ("runs", 8): (1, [2, {3}]),
    "1": "text",
    b"1": "bytes",
    (): "no tuple",
    None: "None",
    "x" * 2000: "long",
    ("y" * 300, "../z"): "long and hostile",
}


def keyed():
    # A dict would take 1, 1.0 and True for one key.
    return [
        *VALUES.items(),
        (1, "int"),
        (1.0, "float"),
        (True, "bool"),
    ]


def test_every_key_has_its_value(place):
    d = persicache.open(**place)
    for key, value in keyed():
        d[key] = value
    d.flush()
    again = persicache.open(**place)
    assert len(again) == len(keyed())
    for key, value in keyed():
        assert key in again
        assert_same(again[key], value)
    assert sorted(map(repr, again)) == sorted(repr(key) for key, _ in keyed())
    assert sorted(repr(key) for key, _ in again.items()) == sorted(repr(key) for key, _ in keyed())


def test_missing_keys_are_key_errors(place):
    d = PersiDict(**place)
    for do in (d.__getitem__, d.__delitem__, d.etag, d.timestamp, d.pop):
        with pytest.raises(KeyError) as info:
            do(("no", "such"))
        assert info.value.args == (("no", "such"),)
    assert "no" not in d
    assert d.get("no") is None
    assert len(d) == 0
    assert not d


@pytest.mark.parametrize("key", [object(), np.int64(1), {1}, ["a", {}], 1j])
def test_a_key_without_a_name_is_refused_before_any_io(tmp_path, key):
    d = PersiDict(tmp_path / "never made")
    for do in (d.__getitem__, d.__contains__, d.__delitem__, lambda k: d.__setitem__(k, 1)):
        with pytest.raises(UnencodableKey, match="can't be a key"):
            do(key)
    assert not (tmp_path / "never made").exists()


def test_many_at_once(place):
    d = PersiDict(**place)
    items = {("k", i): np.full(10, i) for i in range(300)}
    d.set_many(items.items())
    found = d.get_many([("k", 5), ("no",), ("k", 3), ["k", 4]])
    assert list(found) == [("k", 5), ("k", 3), ("k", 4)]
    assert found["k", 5].sum() == 50
    assert {key: int(value[0]) for key, value in d.items()} == {("k", i): i for i in range(300)}
    assert sorted(int(value[0]) for value in d.values()) == list(range(300))
    d.discard_many([("k", i) for i in range(-5, 295)])
    assert len(d) == 5
    d.update({"a": 1}, b=2)
    d.update([("c", 3)])
    assert d.get_many("abc") == {"a": 1, "b": 2, "c": 3}
    d.clear()
    assert not d


def test_etags_change_with_every_write_and_timestamps_are_posix(place):
    d = PersiDict(**place)
    d["a"] = 1
    first = d.etag("a")
    assert first == d.etag("a")
    d["a"] = 2
    second = d.etag("a")
    d["a"] = 1
    assert len({first, second, d.etag("a")}) == 3
    assert abs(d.timestamp("a") - dt.datetime.now(dt.UTC).timestamp()) < 60


def test_an_entry_can_say_something_about_its_value(place):
    d = PersiDict(**place)
    told = {"seconds": 0.25, "args": {"x": "1"}}
    d.put("a", np.arange(100_000), about=told)
    d["b"] = 1
    assert d.about("a") == told
    assert d.about("b") == {}
    value, about = d.get_with_about("a")
    assert_same(value, np.arange(100_000))
    assert about == told
    assert {key: nbytes > 800_000 for key, nbytes, _ in d.keys_sizes_and_timestamps()} == {
        "a": True,
        "b": False,
    }
    d["a"] = 2  # says nothing any more
    assert d.get_with_about("a") == (2, {})
    for ask in (d.about, d.get_with_about):
        with pytest.raises(KeyError, match="missing"):
            ask("missing")


def test_what_is_said_about_a_value_needs_a_format_with_room_for_it(tmp_path):
    with pytest.raises(ValueError, match="plain format"):
        PersiDict(tmp_path, format="json").put("a", 1, about={})
    with pytest.raises(TypeError, match="KEEP_CURRENT"):
        PersiDict(tmp_path).put("a", persicache.KEEP_CURRENT, about={})
    frozen = PersiDict(tmp_path / "frozen", append_only=True)
    frozen.put("a", 1, about={"n": 1})
    with pytest.raises(persicache.MutationPolicyError):
        frozen.put("a", 2, about={"n": 2})
    assert frozen.get_with_about("a") == (1, {"n": 1})


def test_setdefault_has_one_winner(kind, place):
    d = PersiDict(**place)
    barrier = threading.Barrier(6)
    got = []

    def run(i):
        barrier.wait()
        got.append(d.setdefault("k", i))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if kind.swaps:
        assert set(got) == {d["k"]}
    assert d.setdefault("k", "late") == d["k"]


def _put_and_get(d, key):
    d[key] = os.getpid()
    d.flush()
    return d["shared"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_pickled_and_forked_dictionaries_share_the_place(kind, place, method):
    if not kind.is_shared:
        pytest.skip("it is one process's own")
    d = PersiDict(**place)
    d["shared"] = "seen"
    d.flush()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_put_and_get, (d, method)) == "seen"
    assert d[method] != os.getpid()


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_hashes_large_arrays(tmp_path):
    d = PersiDict(tmp_path, durable=False)
    d["parent"] = np.ones(1_000_000)
    assert d["parent"].sum() == 1_000_000

    def work():
        d["child"] = d["parent"] + 1

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert d["child"].sum() == 2_000_000


def test_a_pickled_dictionary_keeps_its_options(tmp_path):
    d = PersiDict(tmp_path, format="json")
    d["a"] = [1]
    again = pickle.loads(pickle.dumps(d))
    assert again["a"] == [1]
    assert repr(again) == repr(d)


def test_repr_names_the_place_and_no_secret(s3):
    d = PersiDict(s3.url, storage_options=s3.storage_options, signing_key="hush")
    assert s3.url in repr(d)
    assert s3.storage_options["secret"] not in repr(d)
    assert "hush" not in repr(d)


FORMATS = {
    "pickle": (".pkl", {"a": (1, complex)}),
    "json": (".json", {"a": [1, None]}),
    "text": (".txt", "héllo\n"),
    "bytes": (".bin", b"\0\1"),
    "cbor": (".cbor", {"a": [1, b"x"]}),
    "msgpack": (".msgpack", {"a": [1, b"x"]}),
    "npy": (".npy", np.arange(3)),
}


@pytest.mark.parametrize("format", FORMATS)
def test_plain_formats_are_files_that_other_tools_read(tmp_path, format):
    extension, value = FORMATS[format]
    d = PersiDict(tmp_path, format=format)
    d["x", "My Key"] = value
    assert_same(d["x", "My Key"], value)
    assert (tmp_path / "x" / f"!my=20!key{extension}").exists()
    assert list(d) == [("x", "My Key")]
    first = d.etag(("x", "My Key"))
    d["x", "My Key"] = value
    assert d.etag(("x", "My Key")) != first


def test_formats_share_a_place_and_see_their_own(tmp_path):
    (tmp_path / "README.md").write_text("foreign")
    (tmp_path / "Foreign.json").write_text("not ours: no key has this name")
    auto, json, text = (
        PersiDict(tmp_path),
        PersiDict(tmp_path, format="json"),
        PersiDict(tmp_path, format="text"),
    )
    auto["k"], json["k"], text["k"] = {1}, [2], "3"
    assert (auto["k"], json["k"], text["k"]) == ({1}, [2], "3")
    assert [list(d) for d in (auto, json, text)] == [["k"]] * 3
    json.clear()
    assert "k" in auto
    assert (tmp_path / "Foreign.json").exists()
    with pytest.raises(UnencodableKey, match="too long"):
        json["x" * 1000] = 1


def test_entries_of_any_options_are_read_by_any_options(tmp_path):
    value = [np.zeros(1000), "text " * 1000]
    for i, options in enumerate(
        [{}, {"compression": "lz4"}, {"compression": "zstd"}, {"signing_key": "s"}]
    ):
        PersiDict(tmp_path, **options)[i] = value
    for i in range(4):
        assert_same(PersiDict(tmp_path, compression="zstd")[i], value)
    with pytest.raises(BadSignature):
        PersiDict(tmp_path, signing_key="s")[0]


def test_a_damaged_entry_is_an_error_and_harms_no_other(tmp_path):
    d = PersiDict(tmp_path)
    d["good"], d["bad"], d["copied"] = 1, 2, 3
    (tmp_path / "bad.pc").write_bytes((tmp_path / "bad.pc").read_bytes()[:-1])
    (tmp_path / "copied.pc").write_bytes((tmp_path / "good.pc").read_bytes())
    for key in ("bad", "copied"):
        with pytest.raises(CorruptEntry, match=str(tmp_path)) as info:
            d[key]
        assert info.value.key == key
    assert d["good"] == 1
    d["bad"] = 5
    assert d["bad"] == 5


def test_an_error_of_the_place_is_no_missing_key(tmp_path):
    d = PersiDict(tmp_path)
    (tmp_path / "k.pc").mkdir()
    with pytest.raises(BackendError):
        d["k"]
    with pytest.raises(BackendError):
        d.get("k")


def test_pickles_need_trust_on_s3(s3):
    place = {"url": s3.url, "storage_options": s3.storage_options}
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020-01-01", periods=2, freq="D"))
    d = PersiDict(**place)
    d["frame"] = frame  # by Arrow
    assert_same(d["frame"], frame)
    with pytest.raises(UntrustedPickle, match="signing_key="):
        d["type"] = complex
    PersiDict(**place, allow_pickle=True)["type"] = complex
    with pytest.raises(UntrustedPickle):
        d["type"]
    signed = PersiDict(**place, signing_key="secret")
    signed["signed"] = complex
    assert signed["signed"] is complex
    with pytest.raises(UntrustedPickle):
        d["signed"]


def test_pickles_need_trust_in_a_directory_that_others_can_write_to(tmp_path):
    PersiDict(tmp_path)["type"] = complex
    tmp_path.chmod(0o777)
    with pytest.raises(UntrustedPickle):
        PersiDict(tmp_path)["type"]
    with pytest.raises(UntrustedPickle):
        PersiDict(tmp_path)["other"] = complex
    PersiDict(tmp_path)["plain"] = 1
    assert PersiDict(tmp_path)["plain"] == 1
    tmp_path.chmod(0o700)
    assert PersiDict(tmp_path)["type"] is complex


def test_files_and_directories_are_the_users_own_whatever_the_umask(tmp_path):
    for umask in (0, 0o777):
        old = os.umask(umask)
        try:
            d = PersiDict(tmp_path / str(umask))
            d["a", "b"] = 1
            d.setdefault("c", 2)
        finally:
            os.umask(old)
        for path in [tmp_path / str(umask), *(tmp_path / str(umask)).rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_an_array_that_is_read_is_writable_isolated_and_not_copied(tmp_path):
    d = PersiDict(tmp_path)
    d["small"], d["large"] = np.zeros(10), np.zeros(1_000_000)
    for key in d:
        array = d[key]
        array[:] = 7
        assert d[key].sum() == 0
    mapped = d["large"]
    base = mapped
    while getattr(base, "base", None) is not None:
        base = base.base
    assert type(getattr(base, "obj", base)).__name__ == "mmap"
    d["large"] = np.ones(1_000_000)
    assert mapped.sum() == 0


def test_a_value_that_can_not_be_stored_leaves_the_old_one(place):
    d = PersiDict(**place)
    d["k"] = "old"
    with pytest.raises((UnencodableValue, UntrustedPickle)):
        d["k"] = threading.Lock()
    assert d["k"] == "old"


def test_keys_of_enums_are_found_again(tmp_path):
    d = PersiDict(tmp_path)
    d[stat_kind()] = 1
    assert list(d) == [stat_kind()]


def stat_kind():
    return uuid.SafeUUID.safe


def test_one_request_each_on_s3(s3):
    d = PersiDict(s3.url, storage_options=s3.storage_options)
    d["k"] = np.arange(100_000)

    def requests(do):
        s3.server.clear()
        do()
        return [request.split()[0] for request in s3.server.requests()]

    assert requests(lambda: d.__setitem__("k", 1)) == ["PUT"]
    assert requests(lambda: d["k"]) == ["GET"]
    assert requests(lambda: "k" in d) == ["HEAD"]
    assert requests(lambda: d.get("missing")) == ["GET"]
    assert requests(lambda: d.set_many({i: i for i in range(20)})) == ["PUT"] * 20
    assert requests(lambda: len(d)) == ["GET"]
    assert requests(lambda: d.get_many(range(20))) == ["GET"] * 20


def test_a_generator_may_reuse_its_array(place):
    for n in (10, 100_000):
        buffer = np.zeros(n)

        def items(buffer=buffer):
            for i in range(4):
                buffer[:] = i
                yield ("reused", i), buffer

        d = PersiDict(**place)
        d.set_many(items())
        assert [float(d["reused", i].max()) for i in range(4)] == [0, 1, 2, 3]


def test_what_came_before_a_bad_item_is_stored(place):
    d = PersiDict(**place)
    with pytest.raises(UnencodableKey):
        d.update([("a", 1), (object(), 2), ("b", 3)])
    assert dict(d) == {"a": 1}


def test_keys_that_are_one_in_a_dict_are_not_mixed_up(tmp_path):
    d = PersiDict(tmp_path)
    d[1], d[True] = "int", "bool"
    assert d.get_many([1]) == {1: "int"}
    with pytest.raises(ValueError, match="one by one"):
        d.get_many([1, True])
    d["a", ("b",)] = 2
    assert d.get_many([["a", ["b"]]]) == {("a", ("b",)): 2}


def test_one_bad_file_hides_no_other(tmp_path):
    d = PersiDict(tmp_path)
    d["good"], d["z" * 500] = 1, 2
    (tmp_path / f"foo=x{'0' * 40}.pc").write_text("not an entry")
    (long,) = tmp_path.glob("z*.pc")
    (tmp_path / f"planted=x{'1' * 40}.pc").write_bytes(long.read_bytes())
    assert len(d) == 4
    seen = []
    with pytest.raises(CorruptEntry):
        for key in d:  # sees all that can be told, and then the error
            seen.append(key)  # noqa: PERF402 - list.extend would drop what came before the error
    assert sorted(seen) == ["good", "z" * 500]
    (tmp_path / "damaged.pc").write_bytes(b"")
    values = []
    with pytest.raises(CorruptEntry):
        for value in d.values():
            values.append(value)  # noqa: PERF402 - the same
    assert sorted(values) == [1, 2]
    d.clear()
    assert len(d) == 0


def test_errors_show_long_keys_shortened(tmp_path):
    d = PersiDict(tmp_path)
    key = "k" * 1_000_000
    d[key] = 1
    (entry,) = tmp_path.glob("*.pc")
    entry.write_bytes(b"")
    with pytest.raises(CorruptEntry) as info:
        d[key]
    assert len(str(info.value)) < 1000
    assert info.value.key == key


def test_errors_of_odd_keys_can_be_pickled(tmp_path):
    with pytest.raises(UnencodableKey) as info:
        PersiDict(tmp_path)[frozenset([10**5000, len])]
    assert "frozenset" in str(pickle.loads(pickle.dumps(info.value)))


def test_the_text_of_a_long_key_costs_a_small_request(s3):
    d = PersiDict(s3.url, storage_options=s3.storage_options)
    d["x" * 2000] = np.zeros(100_000)
    s3.server.clear()
    assert list(iter(d)) == ["x" * 2000]
    assert len(s3.server.requests()) == 2
    s3.server.clear()
    assert len(d) == 1
    d.clear()
    assert len(s3.server.requests()) == 3


def test_listing_imports_no_module_that_others_could_have_named(tmp_path, monkeypatch):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "planted_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path / "evil")
    d = PersiDict(tmp_path / "d")
    d["runs", 1] = 1
    (tmp_path / "d" / "runs").chmod(0o777)
    (tmp_path / "d" / "runs" / "=mplanted_module=3a!cls=3amember.pc").write_bytes(b"")
    with pytest.raises(UnencodableKey, match="planted_module"):
        list(iter(d))


def test_flush_writes_what_waits(tmp_path):
    d = PersiDict(tmp_path / "x.db", storage_options={"commit_every": 100})
    d["k"] = 1
    assert "k" not in PersiDict(tmp_path / "x.db")
    d.flush()
    assert PersiDict(tmp_path / "x.db")["k"] == 1
    d["late"] = 2
    d.close()
    assert PersiDict(tmp_path / "x.db")["late"] == 2


def test_large_values_can_be_set_until_the_very_end(tmp_path):
    script = f"""
import atexit, threading, numpy as np, persicache
d = persicache.open({str(tmp_path)!r}, durable=False)
def outlive():
    threading.main_thread().join()
    d["thread"] = np.ones(1 << 18)
threading.Thread(target=outlive).start()
atexit.register(lambda: d.update(atexit=np.ones(1 << 18)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert {key: value.sum() for key, value in PersiDict(tmp_path).items()} == {
        "thread": 1 << 18,
        "atexit": 1 << 18,
    }


def test_a_failed_set_leaves_no_thread(tmp_path):
    d = PersiDict(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(BackendError, match="File too large"):
            d["a"] = np.ones(1 << 24)
        assert [thread.name for thread in threading.enumerate() if "hash" in thread.name] == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_no_thread_can_be_started_one_does_it_all():
    script = """
import os, resource, sys, numpy as np, persicache
from persicache.keys import digest
if os.getuid() == 0:  # whom no such limit stops
    os.setgroups([])
    os.setuid(54321)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
value = np.ones(1 << 18)
d = persicache.open(sys.argv[1], durable=False)
d["a"] = value
assert (d["a"] == value).all()
assert len(digest(value)) > 0
"""
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's, which are its user's alone
        if os.getuid() == 0:
            os.chown(folder, 54321, 54321)
        subprocess.run([sys.executable, "-c", script, folder], check=True)
