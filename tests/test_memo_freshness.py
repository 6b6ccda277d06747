"""Results expire, and depend on what is named in `depends_on=`."""

import os
import pathlib
import subprocess
import sys
import threading
import time
import uuid
from datetime import timedelta

import numpy as np
import pytest

from persicache import PersicacheWarning, UndigestibleValue, UnreadableDependency, persistent_memoize
from persicache.codecs import EntryCodec
from persicache.mappings import open_entries
from persicache.memo import MemoizedFunction
from persicache.memo.generator import MemoizedGenerator
from persicache.memo.settings import Settings


class Body:
    """A function that counts how often it ran."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return self.calls

    def __persicache_key__(self):
        return "body"


@pytest.fixture
def place():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def dated(place):
    """Return a function that decorates a body, with a clock so many seconds ahead when it stores."""

    def make(body, *, ahead=0, clock=time.time, kind=MemoizedFunction, **options):
        codec = EntryCodec(clock=lambda: clock() + ahead)
        entries = open_entries(place, codec, durable=False, storage_options=None)
        made = kind(body, entries, Settings.of(code="off", **options), label="body")
        made._results._clock = clock
        return made

    return make


HOUR = 3600.0


@pytest.mark.parametrize("expires", ["1 h", "60min", HOUR, timedelta(hours=1), " 3600 S "])
def test_a_result_expires_after_what_was_said(dated, expires):
    body = Body()
    dated(body, ahead=-HOUR + 60, expires=expires)(1)
    fresh = dated(body, expires=expires)
    assert (fresh(1), fresh.contains(1), fresh.lookup(1)) == (1, True, 1)
    dated(body, ahead=-HOUR - 60, expires=expires).refresh(1)
    assert not fresh.forget(2)
    late = dated(body, expires=expires)
    assert not late.contains(1)
    with pytest.raises(KeyError, match="no stored result"):
        late.lookup(1)
    assert "its result expired 60" in str(late.explain(1))
    assert late(1) == 3
    assert late(1) == dated(body, expires=expires)(1) == 3


def test_results_never_expire_by_default(dated):
    dated(Body(), ahead=-1e9)(1)
    assert dated(Body()).contains(1)
    assert dated(Body(), expires=float("inf")).contains(1)


def test_another_duration_counts_for_old_results_too(dated):
    body = Body()
    dated(body, ahead=-HOUR)(1)
    for expires, is_fresh in (("2 h", True), ("30 min", False), (None, True), (lambda _: "2 h", True)):
        assert dated(body, expires=expires).contains(1) is is_fresh
    assert not dated(body, expires=lambda _: "30 min").contains(1)
    dated(body, expires=lambda _: 0).put("put", 2)
    assert not dated(body, expires=lambda _: "2 h").contains(2)  # it was said of this very result
    assert dated(body, expires="2 h").contains(2)


def test_memory_lets_results_expire(dated):
    now = 1e9
    f = dated(Body(), expires=50.0, clock=lambda: now)
    results = []
    for _ in range(200):
        results.append(f(1))
        now += 1
    assert results == [1 + moment // 50 for moment in range(200)]


def test_a_clock_that_was_set_back_keeps_nothing_for_long(dated):
    body = Body()
    dated(body, ahead=24 * HOUR, expires="1 h")(1)
    f = dated(body, expires="1 h")
    assert not f.contains(1)
    assert "dated so far ahead of the clock" in str(f.explain(1))
    assert f(1) == 2
    dated(body, ahead=60, expires="1 h").refresh(1)  # no more than clocks differ
    assert f.contains(1)


def test_a_function_of_the_result_says_how_long(place):
    @persistent_memoize(place, code="off", memory=None, expires={"bad": 0, "good": "1 h"}.get)
    def f(x):
        return x

    for x in ("bad", "good", "other"):
        f(x)
    assert [f.contains(x) for x in ("bad", "good", "other")] == [False, True, True]
    assert "it expires in 60 min" in str(f.explain("good"))
    assert "expires" not in str(f.explain("other"))


def test_the_function_gets_what_the_caller_gets(dated):
    seen = []

    def note(result):
        seen.append(result)
        return "1 h"

    def fails(x):
        raise ValueError(x)

    with pytest.raises(ValueError, match="mine"):
        dated(fails, expires=note, cache_exceptions=ValueError)("mine")
    assert isinstance(seen.pop(), ValueError)
    list(dated(lambda x: iter([x]) and (yield x), kind=MemoizedGenerator, expires=note)(5))
    assert seen == [[5]]


@pytest.mark.parametrize("wrong", ["soon", -1, object(), float("nan")])
def test_a_function_that_tells_no_duration_loses_no_result(dated, wrong):
    f = dated(Body(), expires=lambda _: wrong)
    with pytest.warns(PersicacheWarning, match="could not be stored: .*expires= tells no duration"):
        assert f(1) == 1
    assert not f.contains(1)
    dated(Body()).put("old", 1)
    with pytest.warns(PersicacheWarning, match="computes again, because .*expires= tells no duration"):
        assert f(1) == 2


def test_an_expired_result_is_replaced_unless_somebody_else_was_quicker(dated, place):
    dated(Body(), ahead=-HOUR)(1)

    def slow(x):
        dated(Body()).put("newer", x)
        return "mine"

    assert dated(slow, expires="30 min")(1) == "mine"
    assert dated(Body()).lookup(1) == "newer"


# depends_on


def reading(path):
    return pathlib.Path(path).read_text()


@pytest.fixture
def depending(tmp_path):
    body = Body()

    def make(*depends_on, **options):
        f = persistent_memoize(tmp_path / "memo", code="off", depends_on=depends_on, **options)(body)
        return f, body

    return make


def older(path, seconds=10):
    """Let a file be as if nobody had touched it for some time."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - int(seconds * 1e9)))


def test_a_file_counts_with_its_content(depending, tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("1")
    f, _ = depending(path)
    assert f(1) == f(1) == 1
    path.touch()
    older(path)
    assert f(1) == 1
    path.write_text("2")  # as long, and in the same second
    assert f(1) == 2
    status = path.stat()
    path.write_text("3")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert f(1) == 3
    path.write_text("1")
    assert f(1) == 1  # the old result is there still
    other = tmp_path / "moved.csv"
    path.rename(other)
    assert depending(other)[0](1) == 1  # the name doesn't count


def test_a_file_that_nobody_touches_is_not_read_again(depending, tmp_path, monkeypatch):
    from persicache.memo import dependencies

    path = tmp_path / "rates.csv"
    path.write_text("1")
    monkeypatch.setattr(dependencies, "_YOUNG_NS", 0)
    f, _ = depending(path)
    f(1)
    opened = []
    real = pathlib.Path.open
    monkeypatch.setattr(
        pathlib.Path, "open", lambda self, *args, **kw: opened.append(self) or real(self, *args, **kw)
    )
    for _ in range(3):
        f(1)
    assert opened == []
    path.write_bytes(b"2")
    older(path)  # it may be the same tick of the clock still
    opened.clear()
    f(1)
    assert opened == [path]


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_file_that_can_not_be_read_is_named_before_anything_is_computed(depending, tmp_path, on_error):
    missing, folder, fifo = tmp_path / "missing.csv", tmp_path / "folder", tmp_path / "fifo"
    folder.mkdir()
    os.mkfifo(fifo)
    for path, reason in ((missing, "No such file"), (folder, "it is no file"), (fifo, "it is no file")):
        f, body = depending(path, on_error=on_error)
        for verb in (f, f.lookup, f.contains, f.explain, f.refresh):
            with pytest.raises(UnreadableDependency, match=f"depends_on= names .*{path.name}.*{reason}"):
                verb(1)
        with pytest.raises(OSError, match="depends_on="):
            f(1)
        assert body.calls == 0
    missing.write_text("there now")
    assert depending(missing)[0](1) == 1


def test_a_file_that_leaves_during_the_computation_loses_no_result(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("1")

    @persistent_memoize(tmp_path / "memo", depends_on=[path], code="off")
    def f(x):
        path.unlink(missing_ok=True)
        return x

    assert f(1) == 1
    path.write_text("1")
    assert not f.contains(1)


def test_a_file_that_changes_during_the_computation_is_not_what_the_result_is_for(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("1")

    @persistent_memoize(tmp_path / "memo", depends_on=[path], code="off")
    def f(text):
        path.write_text(text)
        return path.read_text()

    assert f("2") == "2"
    assert not f.contains("2")
    path.write_text("1")
    assert not f.contains("2")


def test_a_relative_path_is_that_of_where_the_function_was_decorated(depending, tmp_path, monkeypatch):
    (tmp_path / "rates.csv").write_text("1")
    monkeypatch.chdir(tmp_path)
    f, _ = depending(pathlib.Path("rates.csv"))
    (tmp_path / "memo").mkdir()
    monkeypatch.chdir(tmp_path / "memo")
    assert f(1) == 1


def helper(x):
    return x


def test_functions_and_classes_count_with_their_code(depending):
    def make(source):
        namespace = {"__name__": "elsewhere"}
        exec(source, namespace)
        return namespace["thing"]

    results = [
        depending(make(source))[0](1)
        for source in (
            "def thing(x): return 1",
            "def thing(x): return 2",
            "def thing(x): 'docs'; return 1",
            "class thing:\n  def a(self): return 1",
            "class thing:\n  def a(self): return 2",
        )
    ]
    assert results == [1, 2, 1, 3, 4]


def test_a_dependency_that_is_replaced_within_is_noticed(tmp_path):
    namespace = {"persistent_memoize": persistent_memoize, "place": tmp_path}
    exec(
        "def helper(): return 1\n"
        "def outer(): return helper()\n"
        "@persistent_memoize(place, depends_on=[outer])\n"
        "def f(x): return globals()['outer']()\n",
        namespace,
    )
    assert namespace["f"](1) == 1
    exec("def helper(): return 2", namespace)
    assert namespace["f"](1) == 2


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1], lambda v: v.append(2)),
        ({"a": [1]}, lambda v: v["a"].append(2)),
        (np.zeros(10_000), lambda v: v.__setitem__(5_000, 1)),
        (Body.__new__(Body), None),
    ],
    ids=["list", "dict", "array", "object"],
)
def test_a_value_that_is_changed_in_place_is_noticed(depending, value, change):
    f, body = depending(value)
    assert f(1) == f(1) == 1
    if change is not None:
        change(value)
        assert f(1) == 2
        assert f(1) == 2
    assert body.calls == (1 if change is None else 2)


def test_a_value_without_a_digest_is_named(depending):
    f, _ = depending(1, {"lock": threading.Lock()})
    with pytest.raises(UndigestibleValue, match=r"depends_on\[1\]\['lock'\] can't be digested"):
        f(1)


def test_order_and_number_of_dependencies_count(depending):
    assert [depending(*given)[0](1) for given in ((), (1,), (1, 2), (2, 1), (1,))] == [1, 2, 3, 4, 2]


SCRIPT = """
import pathlib, sys
from persicache import persistent_memoize
limits = {"top": 1}
@persistent_memoize(sys.argv[1], depends_on=[pathlib.Path(sys.argv[2]), limits, (1, "a")])
def f(x):
    return x
f(1)
print(f.stats().misses)
"""


def test_another_process_finds_what_depends_on_the_same(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "rates.csv").write_text("1")
    command = [sys.executable, tmp_path / "script.py", tmp_path / "memo", tmp_path / "rates.csv"]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert outputs == ["1\n", "0\n"]
