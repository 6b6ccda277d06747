"""persidict's names: its own pages, itself as the oracle, and what persicache adds."""

# ruff: noqa: E501 - a page's lines are as long as they are

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from contextlib import redirect_stdout
from dataclasses import astuple, is_dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import persidict as theirs
import pytest
from compat_persidict_children import count, one_more
from same import assert_same

import persicache
import persicache.compat.persidict as ours
from persicache.compat.persidict import (
    ANY_ETAG,
    KEEP_CURRENT,
    BasicS3Dict,
    EmptyDict,
    FileDirDict,
    LocalDict,
    MutableDictCached,
    MutationPolicyError,
    S3Dict,
    SafeStrTuple,
    WriteOnceDict,
)

pytestmark = pytest.mark.filterwarnings("ignore:keys will default")  # persidict's, of jsonpickle


@pytest.fixture
def bucket(s3, monkeypatch):
    """Give the name of a bucket that is reached as AWS is, and by persidict, too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.storage_options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.storage_options["secret"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return s3.bucket


# The examples of persidict's pages (0.36 and 0.309 show the same ones); what they print is in them.

LOCAL = """
from persidict import FileDirDict
app_settings = FileDirDict(base_dir="my_app_data")
app_settings["username"] = "alex"
app_settings["theme"] = "dark"
app_settings["notifications_enabled"] = True
app_settings["recent_projects"] = ["project_a", "project_b"]
print(f"Current theme is: {app_settings['theme']}")
# >>> Current theme is: dark
reloaded_settings = FileDirDict(base_dir="my_app_data")
print(f"Number of settings: {len(reloaded_settings)}")
# >>> Number of settings: 4
print("username" in reloaded_settings)
# >>> True
"""
CLOUD = """
from persidict import S3Dict
cloud_config = S3Dict(bucket_name="my-app-config-bucket")
cloud_config["api_key"] = "ABC-123-XYZ"
cloud_config["timeout_seconds"] = 30
print(f"API Key: {cloud_config['api_key']}")
# >>> API Key: ABC-123-XYZ
"""
TYPED = """
from persidict import FileDirDict
d: FileDirDict[int] = FileDirDict(base_dir="./data")
d["count"] = 42
val: int = d["count"]
from persidict import LocalDict
cache: LocalDict[str] = LocalDict()
d = FileDirDict(base_dir="./data", base_class_for_values=int)
d["count"] = 42
try:
    d["name"] = "Alice"
except TypeError:
    print("Raises TypeError at runtime")
# >>> Raises TypeError at runtime
"""
INSERTED = """
from persidict import FileDirDict, ITEM_NOT_AVAILABLE, ETAG_IS_THE_SAME
d = FileDirDict(base_dir="./data")
r = d.setdefault_if("token", default_value="v1", condition=ETAG_IS_THE_SAME, expected_etag=ITEM_NOT_AVAILABLE)
print(r.new_value, d["token"])
# >>> v1 v1
"""
SWAPPED = """
from persidict import FileDirDict, ANY_ETAG, ETAG_IS_THE_SAME, ITEM_NOT_AVAILABLE
d = FileDirDict(base_dir="./data")
while True:
    r = d.get_item_if("count", condition=ANY_ETAG, expected_etag=ITEM_NOT_AVAILABLE)
    new_value = 1 if r.new_value is ITEM_NOT_AVAILABLE else r.new_value + 1
    r2 = d.set_item_if("count", value=new_value, condition=ETAG_IS_THE_SAME, expected_etag=r.actual_etag)
    if r2.condition_was_satisfied:
        break
print(d["count"])
# >>> 1
"""


@pytest.mark.parametrize("example", [LOCAL, CLOUD, TYPED, INSERTED, SWAPPED])
def test_the_examples_of_its_pages_print_what_they_say(example, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = [line.removeprefix("# >>> ") for line in example.splitlines() if line.startswith("# >>> ")]
    with redirect_stdout(io.StringIO()) as printed:
        exec(example.replace("from persidict", "from persicache.compat.persidict"), {})
    assert printed.getvalue().splitlines() == said


def test_every_name_is_there():
    assert set(theirs.__all__) <= set(ours.__all__)
    assert all(hasattr(ours, name) for name in theirs.__all__)
    assert ours.get_safe_chars() == theirs.get_safe_chars()
    assert ours.replace_unsafe_chars("a/b:c d", "_") == theirs.replace_unsafe_chars("a/b:c d", "_")
    for flag in ("KeepCurrentFlag", "AnyETagFlag", "NeverRetrieveFlag", "ItemNotAvailableFlag"):
        assert isinstance(getattr(ours, flag)(), getattr(ours, flag))
    assert ours.KeepCurrentFlag() is KEEP_CURRENT
    assert isinstance(KEEP_CURRENT, ours.Joker)
    assert isinstance(ANY_ETAG, ours.ETagConditionFlag)
    assert isinstance(one_more, ours.TransformingFunction)


def test_keys_are_flat_tuples_of_safe_strings_as_its_are():
    for given in ("a", ("a", "b"), ["a", ["b", ("c",)]], (), "a~b=(c)-_."):
        assert tuple(SafeStrTuple(given)) == tuple(theirs.SafeStrTuple(given))
    for bad in ("", ".", "..", "a/b", "ä", "x" * 254, ["a", ""], {"a": 1}, 1, None, ("a", 2)):
        with pytest.raises((TypeError, ValueError)) as expected:
            theirs.SafeStrTuple(bad)
        with pytest.raises(expected.type):
            SafeStrTuple(bad)
    with pytest.raises(ValueError, match="at least one"):
        ours.NonEmptySafeStrTuple(())
    key = SafeStrTuple("a", "b")
    assert key + "c" == SafeStrTuple("a", "b", "c") == ("a", "b", "c")
    assert "x" + key == ("x", "a", "b")
    assert (key[0], key[-1], len(key), "a" in key, list(reversed(key))) == ("a", "b", 2, True, ["b", "a"])
    assert key != "a"
    assert key != 5
    assert {key: 1}[SafeStrTuple(["a"], "b")] == 1
    assert key.str_chain == key.strings
    assert copy.deepcopy(key) is key


# The same calls, the same results: persidict is the oracle.

E = {"expected_etag": "other"}
ABSENT = {"expected_etag": None}  # stands for each one's own ITEM_NOT_AVAILABLE
CALLS = [
    lambda d, m: d.update({"a": 1, ("b", "C"): [2, {"x": None}], ("b", "d", "e"): "three"}),
    lambda d, m: (len(d), bool(d), "a" in d, ("b", "C") in d, "b" in d, d["b", "C"], d.get("zz", 5)),
    lambda d, m: sorted(map(tuple, d.keys())),
    lambda d, m: sorted((tuple(k), str(v)) for k, v in d.items()),
    lambda d, m: sorted(map(str, d.values())),
    lambda d, m: next(d.keys()) in d,
    lambda d, m: d["missing"],
    lambda d, m: d["bad/key"],
    lambda d, m: d[()],
    lambda d, m: d[1],
    lambda d, m: d.pop("missing"),
    lambda d, m: d.pop("missing", 7),
    lambda d, m: d.pop("a", 1, 2),
    lambda d, m: d.setdefault("a", 9),
    lambda d, m: d.setdefault("new", 9),
    lambda d, m: d.setdefault("new", m.KEEP_CURRENT),
    lambda d, m: d.__setitem__("new", m.KEEP_CURRENT),
    lambda d, m: d["new"],
    lambda d, m: d.__setitem__("new", m.DELETE_CURRENT),
    lambda d, m: "new" in d,
    lambda d, m: d.__setitem__("dict", d),
    lambda d, m: (d.discard("nothing"), d.delete_if_exists("nothing")),
    lambda d, m: d.__delitem__("nothing"),
    lambda d, m: d.timestamp("nothing"),
    lambda d, m: d.etag("nothing"),
    lambda d, m: (type(d.timestamp("a")), type(d.etag("a")), d.etag("a") == d.etag("a")),
    lambda d, m: (len(d.oldest_keys()), d.oldest_keys(max_n=0), d.newest_keys(max_n=-1)),
    lambda d, m: (len(d.newest_values(max_n=2)), sorted(map(str, d.oldest_values()))),
    lambda d, m: sorted((tuple(k), type(t)) for k, t in d.keys_and_timestamps()),
    lambda d, m: sorted((str(v), type(t)) for v, t in d.values_and_timestamps()),
    lambda d, m: sorted((tuple(k), str(v), type(t)) for k, v, t in d.items_and_timestamps()),
    lambda d, m: sorted(d.subdicts()),
    lambda d, m: sorted(map(tuple, d.get_subdict("b"))),
    lambda d, m: d.get_subdict(("b", "d"))["e"],
    lambda d, m: len(d.get_subdict(())),
    lambda d, m: len(d.get_subdict("nothing")),
    lambda d, m: d.get_subdict("b").get_subdict("d").update({"f": 4}),
    lambda d, m: d["b", "d", "f"],
    lambda d, m: d.get_subdict("b").clear(),
    lambda d, m: sorted(map(tuple, d)),
    lambda d, m: tuple(d.random_key()) in set(map(tuple, d)),
    lambda d, m: (d == {"a": 1}, d == {"a": 2}, d == {}, d == 5, d != {"a": 1}, d == d.get_subdict(())),
    lambda d, m: d.get_with_etag("a"),
    lambda d, m: d.get_with_etag("nothing"),
    lambda d, m: d.get_item_if("a", condition=m.ETAG_IS_THE_SAME, expected_etag=d.etag("a")),
    lambda d, m: d.get_item_if("a", condition=m.ETAG_HAS_CHANGED, expected_etag="other"),
    lambda d, m: d.get_item_if(
        "a", condition=m.ANY_ETAG, expected_etag="other", retrieve_value=m.NEVER_RETRIEVE
    ),
    lambda d, m: d.get_item_if("a", condition=m.ANY_ETAG, expected_etag="other", retrieve_value=1),
    lambda d, m: d.set_item_if("a", value=2, condition=m.ETAG_IS_THE_SAME, expected_etag=d.etag("a")),
    lambda d, m: d.set_item_if("a", value=3, condition=m.ETAG_IS_THE_SAME, expected_etag="other"),
    lambda d, m: d.set_item_if("a", value=4, condition=m.ETAG_HAS_CHANGED, expected_etag="other"),
    lambda d, m: d.set_item_if(
        "a", value=5, condition=m.ETAG_IS_THE_SAME, expected_etag=m.ITEM_NOT_AVAILABLE
    ),
    lambda d, m: d.set_item_if(
        "n", value=5, condition=m.ETAG_IS_THE_SAME, expected_etag=m.ITEM_NOT_AVAILABLE
    ),
    lambda d, m: d.set_item_if("n", value=m.KEEP_CURRENT, condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.set_item_if("n", value=m.DELETE_CURRENT, condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.set_item_if(
        "a", value=5, condition=m.ANY_ETAG, expected_etag="other", retrieve_value=True
    ),
    lambda d, m: d.setdefault_if(
        "n", default_value=5, condition=m.ANY_ETAG, expected_etag="other", retrieve_value=None
    ),
    lambda d, m: d.setdefault_if("a", default_value=6, condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.setdefault_if("n", default_value=6, condition=m.ETAG_IS_THE_SAME, expected_etag="other"),
    lambda d, m: d.setdefault_if("n", default_value=6, condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.setdefault_if("n", default_value=m.KEEP_CURRENT, condition=m.ANY_ETAG, expected_etag=""),
    lambda d, m: d.discard_if("n", condition=m.ETAG_IS_THE_SAME, expected_etag="other"),
    lambda d, m: d.discard_if("n", condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.discard_if("n", condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.transform_item("t", transformer=lambda v: 1 if v is m.ITEM_NOT_AVAILABLE else v + 1),
    lambda d, m: d.transform_item("t", transformer=lambda v: m.KEEP_CURRENT),
    lambda d, m: d.transform_item("t", transformer=lambda v: m.DELETE_CURRENT),
    lambda d, m: d.transform_item("t", transformer=lambda v: v, n_retries=-1),
    lambda d, m: d.get_params().keys() - {"backend", "base_dir", "digest_len"},
    lambda d, m: sorted(d | {}) if hasattr(type(d), "__or__") else None,
    lambda d, m: d.__ior__({"z": 1}) is d,
    lambda d, m: (d.popitem() is not None, len(d)),
    lambda d, m: copy.copy(d) == d,
    lambda d, m: (d.clear(), len(d), bool(d), d.random_key(), d == {}),
    lambda d, m: d.popitem(),
    lambda d, m: hash(d),
]
APPENDED = [
    lambda d, m: d.update({"a": 1, "b": 2}),
    lambda d, m: d.__setitem__("a", 3),
    lambda d, m: d.__setitem__("a", m.KEEP_CURRENT),
    lambda d, m: d.__setitem__("a", m.DELETE_CURRENT),
    lambda d, m: d.__delitem__("a"),
    lambda d, m: d.discard("a"),
    lambda d, m: d.discard("nothing"),
    lambda d, m: d.clear(),
    lambda d, m: d.pop("a"),
    lambda d, m: d.popitem(),
    lambda d, m: d.setdefault("a", 5),
    lambda d, m: d.setdefault("c", 5),
    lambda d, m: d.set_item_if("d", value=1, condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.set_item_if("d", value=2, condition=m.ANY_ETAG, expected_etag="other"),
    UNSATISFIED := lambda d, m: d.set_item_if(
        "d", value=2, condition=m.ETAG_IS_THE_SAME, expected_etag="other"
    ),
    lambda d, m: d.discard_if("d", condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.discard_if("d", condition=m.ETAG_IS_THE_SAME, expected_etag="other"),
    lambda d, m: d.discard_if("nothing", condition=m.ANY_ETAG, expected_etag="other"),
    lambda d, m: d.transform_item("e", transformer=lambda v: 1),
    lambda d, m: d.transform_item("e", transformer=lambda v: 2),
    lambda d, m: d.transform_item("e", transformer=lambda v: m.KEEP_CURRENT),
    lambda d, m: sorted((tuple(k), v) for k, v in d.items()),
]


def outcome(call, d, module):
    """Return what a call does, as far as it is the same for both."""
    try:
        got = call(d, module)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return type(error).__name__
    if is_dataclass(got):
        return tuple(map(told, astuple(got))), getattr(got, "value_was_mutated", None)
    return got


def told(part):
    names = {
        id(getattr(m, n)): n for m in (ours, theirs) for n in ("ITEM_NOT_AVAILABLE", "VALUE_NOT_RETRIEVED")
    }
    return names.get(id(part), "an etag" if isinstance(part, str) else part)


def same_calls(calls, mine, original):
    for n, call in enumerate(calls):
        assert (n, outcome(call, mine, ours)) == (n, outcome(call, original, theirs))


@pytest.mark.parametrize("options", [{}, {"serialization_format": "json", "digest_len": 0}])
def test_the_same_calls_do_the_same_on_files(options, tmp_path):
    mine, original = tmp_path / "mine", tmp_path / "original"
    same_calls(
        CALLS, FileDirDict(base_dir=mine, **options), theirs.FileDirDict(base_dir=original, **options)
    )
    only = {"append_only": True, **options}
    same_calls(APPENDED, FileDirDict(base_dir=mine, **only), theirs.FileDirDict(base_dir=original, **only))
    assert files(mine) == files(original)


def test_the_same_calls_do_the_same_in_memory():
    same_calls(CALLS, LocalDict(), theirs.LocalDict())
    same_calls(APPENDED, LocalDict(append_only=True), theirs.LocalDict(append_only=True))


def test_the_same_calls_do_the_same_nowhere():
    def is_plain(call):  # persidict's takes any key and any default there
        result = outcome(call, theirs.EmptyDict(), theirs)
        return result is None or not (isinstance(result, (str, theirs.Joker)) and result != "KeyError")

    calls = [call for call in CALLS if is_plain(call)]
    assert len(calls) > 50
    same_calls(calls, EmptyDict(), theirs.EmptyDict())


def files(root):
    """Return the visible files below a directory."""
    found = (path.relative_to(root) for path in Path(root).rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not any(part.startswith(".") for part in path.parts))


# What persidict wrote is read, and persidict reads what was written here.

VALUES = {
    "none": None,
    "nested": {"a": (1, [2, {3}]), "b": b"bytes"},
    "array": np.arange(6.0).reshape(2, 3),
    "text": "\u00fc\n",
}


@pytest.mark.parametrize("digest_len", [0, 4, 8, 30])
@pytest.mark.parametrize("format_", ["pkl", "json", "csv"])
def test_directories_go_to_persidict_and_come_from_it(format_, digest_len, tmp_path):
    values = {"A~b": "\u00fc,1\n"} if format_ == "csv" else VALUES
    options = {"serialization_format": format_, "digest_len": digest_len}
    if format_ == "csv":
        options["base_class_for_values"] = str
    for write, read, place in ((ours, theirs, "a"), (theirs, ours, "b")):
        writer = write.FileDirDict(base_dir=tmp_path / place, **options)
        for name, value in values.items():
            writer[name] = writer["Sub", name, "x"] = value
        reader = read.FileDirDict(base_dir=tmp_path / place, **options)
        assert {tuple(key) for key in reader} == {
            *((name,) for name in values),
            *(("Sub", name, "x") for name in values),
        }
        for name, value in values.items():
            assert_same(reader["Sub", name, "x"], value)
            assert_same(reader[name], value)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_buckets_go_to_persidict_and_come_from_it(bucket, tmp_path):
    for make in (ours.BasicS3Dict, theirs.BasicS3Dict):
        d = make(bucket_name=bucket, root_prefix=make.__module__.replace(".", "-"))
        d["runs", "Loss"] = VALUES["array"]
        d["n"] = {"a": (1, 2)}
    for make, prefix in (
        (theirs.BasicS3Dict, ours.BasicS3Dict.__module__),
        (ours.BasicS3Dict, theirs.BasicS3Dict.__module__),
        (ours.S3Dict, theirs.BasicS3Dict.__module__),
    ):
        more = {"base_dir": tmp_path / "copies"} if make is ours.S3Dict else {}
        d = make(bucket_name=bucket, root_prefix=prefix.replace(".", "-"), **more)
        assert {tuple(key) for key in d} == {("runs", "Loss"), ("n",)}
        assert_same(d["runs", "Loss"], VALUES["array"])
        assert_same(d.get_subdict("runs")["Loss"], VALUES["array"])
        assert d["n"] == {"a": (1, 2)}


def test_the_same_calls_do_the_same_in_a_bucket(bucket, tmp_path):
    options = {"bucket_name": bucket, "region": "us-east-1"}
    same_calls(
        CALLS,
        S3Dict(root_prefix="mine/", base_dir=tmp_path / "mine", **options),
        theirs.BasicS3Dict(root_prefix="original", **options),
    )
    same_calls(
        [call for call in APPENDED if call is not UNSATISFIED],  # an error there, and no result as on files
        BasicS3Dict(root_prefix="mine", append_only=True, **options),
        theirs.BasicS3Dict(root_prefix="original", append_only=True, **options),
    )


def test_a_bucket_is_made_if_it_is_missing_and_copies_spare_the_fetch(bucket, s3, tmp_path):
    d = S3Dict(bucket_name=f"{bucket}-new", base_dir=tmp_path / "copies")
    d["a"] = np.arange(100_000)
    assert_same(d["a"], np.arange(100_000))
    s3.server.clear()
    assert_same(S3Dict(**d.get_params())["a"], np.arange(100_000))
    assert "304" in s3.server.requests()  # asked whether it has changed, and no more
    assert d.get_subdict("x").get_params()["root_prefix"] == "x/"
    assert (d.base_url, d.bucket_name, d.digest_len) == (f"s3://{bucket}-new/", f"{bucket}-new", 8)
    assert d.base_dir == str(tmp_path / "copies")


def test_the_names_of_persidict_0_36(tmp_path):
    d = FileDirDict(tmp_path, file_type="json", immutable_items=True)
    d["Key"] = 1
    assert len(files(tmp_path)[0]) == len("Key_12345678.json")
    with pytest.raises(MutationPolicyError, match="append-only"):
        d.delete_if_exists("Key")
    assert (d.serialization_format, d.append_only) == ("json", True)
    assert theirs.FileDirDict(base_dir=tmp_path, serialization_format="json", digest_len=8)["Key"] == 1
    with pytest.raises(TypeError, match="file_kind"):
        FileDirDict(tmp_path, file_kind="json")


# What it adds

HOSTILE = (
    '{"py/object": "compat_persidict_children.Trap"}',
    '{"py/type": "os.system"}',
    '{"py/function": "os.system"}',
    '{"py/reduce": [{"py/type": "os.system"}, {"py/tuple": ["touch executed"]}]}',
    '[1, {"a": {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch executed"]}]}}]',
    '{"py/object": "pandas.DataFrame", "values": "{}", "txt": true, "meta": {}}',
    '{"py/repr": "os/os.system(\'touch executed\')"}',
)


@pytest.mark.parametrize("text", HOSTILE)
def test_reading_json_runs_no_code(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    d = FileDirDict(base_dir=tmp_path, serialization_format="json", digest_len=0)
    Path("a.json").write_text(text)
    with pytest.raises(persicache.UnloadableValue, match=r"'a'.*JSON"):
        d["a"]
    assert not Path("executed").exists()


def test_json_refuses_what_would_not_come_back(tmp_path):
    class Own:
        pass

    d = FileDirDict(base_dir=tmp_path, serialization_format="json")
    for value in (Own(), [Own()], bytearray(b"x"), {"py/object": 1}, len, {"f": print}, pd.DataFrame()):
        with pytest.raises(persicache.UnencodableValue):
            d["a"] = value
    assert len(d) == 0


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_pickles_that_others_could_have_written_run_no_code(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs.BasicS3Dict(bucket_name=bucket)["evil"] = Evil()
    theirs.BasicS3Dict(bucket_name=bucket)["evil", "array"] = np.array([Evil()], dtype=object)
    d = BasicS3Dict(bucket_name=bucket)
    for key in ("evil", ("evil", "array")):
        with pytest.raises(persicache.UntrustedPickle, match="allow_pickle=True"):
            d[key]
    with pytest.raises(persicache.UntrustedPickle):
        d["frame"] = pd.DataFrame({"a": [1]})
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    theirs.FileDirDict(base_dir=shared)["evil"] = Evil()
    with pytest.raises(persicache.UntrustedPickle):
        FileDirDict(base_dir=shared)["evil"]
    assert not Path("executed").exists()
    trusting = BasicS3Dict(bucket_name=bucket, allow_pickle=True)
    trusting["frame"] = pd.DataFrame({"a": [1]})
    assert_same(trusting["frame"], pd.DataFrame({"a": [1]}))


def test_eight_processes_lose_no_update():
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(["compat_persidict_children"])  # imported once, and not by each
        with processes.Pool(8) as pool:
            pool.starmap(count, [(directory, 200)] * 8, chunksize=1)
        assert FileDirDict(base_dir=directory)["count"] == 1600


def test_threads_lose_no_update_in_memory():
    d = LocalDict()

    def add():
        for _ in range(100):
            d.transform_item("n", transformer=one_more, n_retries=None)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert d["n"] == 800


def test_dictionaries_travel_by_their_parameters(tmp_path):
    d = FileDirDict(base_dir=tmp_path, serialization_format="json")
    d["a", "b"] = 1
    for sub in (pickle.loads(pickle.dumps(d.get_subdict("a"))), copy.copy(d.get_subdict("a"))):
        assert list(sub) == ["b"]
        assert sub.base_dir == d.get_subdict("a").base_dir
    assert FileDirDict(**d.get_subdict("a").get_params())["b"] == 1
    once = WriteOnceDict(wrapped_dict=FileDirDict(base_dir=tmp_path / "once", append_only=True))
    once["a"] = 1
    assert pickle.loads(pickle.dumps(once))["a"] == 1
    with pytest.raises(TypeError, match="memory"):
        pickle.dumps(LocalDict())


def test_local_dicts_share_what_they_are_told_to_and_leave_nothing():
    d = LocalDict()
    d["a", "b"] = [1]
    LocalDict(backend=d.get_params()["backend"], serialization_format="json")["x"] = 1
    again = LocalDict(**d.get_subdict("a").get_params())
    again["b"] = again["b"] + [2]
    assert d["a", "b"] == [1, 2]
    assert list(d) == [("a", "b")]
    assert "b" not in LocalDict()


def test_formats_and_classes_are_checked(tmp_path):
    for make in (FileDirDict, theirs.FileDirDict):
        for options in (
            {"serialization_format": "txt"},
            {"serialization_format": "txt", "base_class_for_values": int},
            {"serialization_format": ""},
            {"serialization_format": "a/b"},
            {"digest_len": -1},
        ):
            with pytest.raises(ValueError):  # noqa: PT011 - the messages are each one's own
                make(base_dir=tmp_path, **options)
        with pytest.raises(TypeError):
            make(base_dir=tmp_path, base_class_for_values=5)
        d = make(base_dir=tmp_path, base_class_for_values=int)
        with pytest.raises(TypeError):
            d["a"] = "text"
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        FileDirDict(base_dir=tmp_path / "file")
    with pytest.raises(ValueError, match="dot in front"):
        FileDirDict(base_dir=tmp_path)[".hidden"] = 1


# Those over others


@pytest.mark.parametrize("module", [ours, theirs])
def test_write_once_keeps_the_first_and_compares(module, tmp_path):
    inner = module.FileDirDict(base_dir=tmp_path, append_only=True)
    d = module.WriteOnceDict(wrapped_dict=inner, p_consistency_checks=1.0)
    d["a"] = [1]
    d["a"] = [1]
    with pytest.raises(module.MutationPolicyError):
        d["a"] = [2]
    assert d["a"] == inner["a"] == [1]
    counts = (d.consistency_checks_attempted, d.consistency_checks_passed, d.consistency_checks_failed)
    assert counts == (2, 1, 1)
    d.p_consistency_checks = module.KEEP_CURRENT
    assert d.p_consistency_checks == 1.0
    d.p_consistency_checks = None
    d["a"] = [2]
    d["sub", "b"] = 1
    assert (d.p_consistency_checks, d["a"], d.base_dir, len(d)) == (0.0, [1], str(tmp_path), 2)
    assert d.get_subdict("sub")["b"] == 1
    for refused in (
        lambda: d.__delitem__("a"),
        lambda: d.discard("a"),
        lambda: d.set_item_if("a", value=1, condition=module.ANY_ETAG, expected_etag="x"),
        lambda: d.__setitem__("a", module.DELETE_CURRENT),
    ):
        with pytest.raises(module.MutationPolicyError):
            refused()
    with pytest.raises(ValueError, match="append-only"):
        module.WriteOnceDict(wrapped_dict=module.LocalDict())
    with pytest.raises(TypeError):
        module.WriteOnceDict(wrapped_dict={})
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        d.p_consistency_checks = 2


@pytest.mark.parametrize("module", [ours, theirs])
def test_an_append_only_cache_is_read_first(module):
    main, cache = module.LocalDict(append_only=True), module.LocalDict(append_only=True)
    d = module.AppendOnlyDictCached(main_dict=main, data_cache=cache)
    d["a"] = 1
    main["b", "c"] = 2
    assert (d["b", "c"], d.get_subdict("b")["c"], d["a"], len(d), cache["a"], cache["b", "c"]) == (
        2,
        2,
        1,
        2,
        1,
        2,
    )
    for refused in (lambda: d.__setitem__("a", 5), lambda: d.__delitem__("a"), lambda: d.discard("a")):
        with pytest.raises(module.MutationPolicyError):
            refused()
    with pytest.raises(KeyError):
        d["c"]
    assert (d.setdefault("e", 5), main["e"], cache["e"]) == (5, 5, 5)
    cache["kept"] = 6
    assert ("kept" in d, d["kept"], "nothing" in d) == (True, 6, False)
    with pytest.raises(ValueError, match="append"):
        module.AppendOnlyDictCached(main_dict=main, data_cache=module.LocalDict())
    with pytest.raises(TypeError):
        module.AppendOnlyDictCached(main_dict=main, data_cache={})


@pytest.mark.parametrize("module", [ours, theirs])
def test_a_mutable_cache_is_read_while_it_is_current(module):
    main, cache, etags = module.LocalDict(), module.LocalDict(), module.LocalDict(base_class_for_values=str)
    d = module.MutableDictCached(main_dict=main, data_cache=cache, etag_cache=etags)
    d["a"] = 1
    assert (d["a"], cache["a"], main["a"]) == (1, 1, 1)
    main["a"] = 2
    assert (d["a"], cache["a"]) == (2, 2)
    seen = d.get_item_if("a", condition=module.ANY_ETAG, expected_etag="x")
    assert d.set_item_if("a", value=3, condition=module.ETAG_IS_THE_SAME, expected_etag=seen.actual_etag)
    assert (main["a"], cache["a"]) == (3, 3)
    d.transform_item("a", transformer=lambda n: n + 1)
    assert (d["a"], main["a"]) == (4, 4)
    assert d.pop("a") == 4
    assert ("a" in d, "a" in cache, len(d)) == (False, False, 0)
    with pytest.raises(ValueError, match="append-only"):
        module.MutableDictCached(
            main_dict=module.LocalDict(append_only=True), data_cache=cache, etag_cache=etags
        )


def test_a_copy_that_another_wrote_meanwhile_is_no_copy():
    main, cache, etags = LocalDict(), LocalDict(), LocalDict()
    d = MutableDictCached(main_dict=main, data_cache=cache, etag_cache=etags)
    d["a"] = 1
    cache["a"] = "of an earlier value, written late"
    assert d["a"] == 1


@pytest.mark.parametrize("module", [ours, theirs])
def test_several_formats_in_one_place(module, tmp_path):
    d = module.OverlappingMultiDict(
        dict_type=module.FileDirDict,
        shared_subdicts_params={"base_dir": str(tmp_path)},
        json={},
        txt={"base_class_for_values": str},
    )
    d.json["a"] = {"n": 1}
    d.txt["a"] = "log"
    assert (d.json["a"], d.txt["a"], d.subdicts_names) == ({"n": 1}, "log", ["json", "txt"])
    d.json.clear()
    assert list(map(tuple, d.txt)) == [("a",)]
    for refused in (lambda: d["a"], lambda: d.__setitem__("a", 1), lambda: d.__delitem__("a")):
        with pytest.raises(TypeError, match="json"):
            refused()
    with pytest.raises(TypeError):
        module.OverlappingMultiDict(dict_type=dict, shared_subdicts_params={})


def test_a_pickle_that_changes_a_class_is_refused(tmp_path):
    import fractions

    # fractions.Fraction gets the state (None, {"numerator": 5}): that of the class, for everybody.
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04cfractions\nFraction\nN}\x8c\x09numeratorK\x05s\x86b.")
    d = FileDirDict(base_dir=tmp_path, digest_len=0, allow_pickle=False)
    with pytest.raises(persicache.UntrustedPickle, match="allow_pickle"):
        d["a"]
    assert fractions.Fraction(1, 3).numerator == 1


@pytest.mark.parametrize(
    ("package", "format_"), [("joblib", "pkl"), ("lz4.frame", "pkl"), ("jsonpickle.ext.numpy", "json")]
)
@pytest.mark.parametrize("allow_pickle", [True, False])
def test_what_is_missing_is_named_with_the_extra(package, format_, allow_pickle, tmp_path, monkeypatch):
    d = FileDirDict(base_dir=tmp_path, serialization_format=format_, allow_pickle=allow_pickle)
    d["a"] = 1
    monkeypatch.setitem(sys.modules, package, None)
    for use in (lambda: d.__setitem__("b", 1), lambda: d["a"]):
        with pytest.raises(persicache.MissingDependency, match=r"persicache\[persidict\]"):
            use()


def test_importing_the_names_imports_no_others_library():
    code = (
        "import sys, persicache.compat.persidict; "
        "print(sorted({'boto3', 'joblib', 'jsonpickle', 'lz4', 'pandas', 'persidict', 's3fs'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
