"""A memoized function never computes the same call twice, and never returns a wrong result."""

import dataclasses
import enum
import functools
import math
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import uuid
import warnings

import numpy as np
import pandas as pd
import pytest
from same import assert_same

import persicache
from persicache import BackendError, PersicacheWarning, UndigestibleValue, persistent_memoize
from persicache.codecs import EntryCodec
from persicache.mappings import Entries
from persicache.memo import MemoizedFunction
from persicache.memo.settings import Settings
from persicache.storage.memory import MemoryStorage


@pytest.fixture(params=["directory", "memory", "s3", "dir"])
def store(request, tmp_path):
    """Return a decorator factory over a store of its own."""
    where = {
        "directory": lambda: (tmp_path / "memo", {}),
        "memory": lambda: (f"memory://{uuid.uuid4().hex}", {}),
        "dir": lambda: (f"dir::file://{tmp_path}", {}),
        "s3": lambda: (
            request.getfixturevalue("s3").url,
            {"storage_options": request.getfixturevalue("s3").storage_options},
        ),
    }
    url, options = where[request.param]()
    return lambda **more: persistent_memoize(url, **options, **more)


class Counted:
    """A function's body that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __persicache_key__(self):
        return "counted"


def counting(store, **options):
    count = Counted()

    @store(**options)
    def f(x, y=2, *, z=3):
        count.calls += 1
        return (x, y, z)

    return f, count


def test_the_same_call_is_computed_once(store):
    f, count = counting(store)
    for _ in range(3):
        assert f(1) == (1, 2, 3)
    assert f(x=1) == f(1, 2) == f(1, y=2, z=3) == (1, 2, 3)
    assert count.calls == 1
    assert f(2) == (2, 2, 3)
    assert count.calls == 2
    stats = f.stats()
    assert (stats.hits, stats.misses, stats.errors) == (5, 2, 0)
    assert "5 hits, 2 misses" in repr(f)


def test_verbs(store):
    f, count = counting(store)
    with pytest.raises(KeyError, match="no stored result"):
        f.lookup(1)
    assert not f.contains(1)
    assert not f.forget(1)
    f(1)
    assert f.lookup(1) == (1, 2, 3)
    assert f.contains(x=1)
    assert f.forget(1)
    assert not f.contains(1)
    f(1)
    f(2)
    assert f.clear() == 2
    assert count.calls == 3
    assert f.clear() == 0
    assert f.__wrapped__(5) == (5, 2, 3)
    assert f.__name__ == "f"


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Job:
    name: str
    sizes: list


ARGUMENTS = [
    1,
    1.0,
    True,
    "1",
    b"1",
    (1,),
    [1],
    None,
    {"a": 1, "b": 2},
    {1},
    frozenset({1}),
    Colour.RED,
    Colour.BLUE,
    Job("a", [1]),
    Job("a", [2]),
    pathlib.PurePosixPath("/a"),
    np.arange(6),
    np.arange(6).reshape(2, 3),
    np.arange(6).reshape(2, 3).T,
    np.arange(6.0),
    pd.DataFrame({"a": [1, 2]}),
    pd.DataFrame({"b": [1, 2]}),
    pd.DataFrame({"a": [1, 2]}, index=[1, 2]),
    pd.Series([1, 2], name="a"),
]


def test_different_arguments_are_different_calls(tmp_path):
    count = Counted()

    @persistent_memoize(tmp_path)
    def f(x):
        count.calls += 1
        return count.calls

    results = [f(argument) for argument in ARGUMENTS]
    assert results == list(range(1, len(ARGUMENTS) + 1))
    assert [f(argument) for argument in ARGUMENTS] == results


def test_equal_arguments_are_the_same_call(tmp_path):
    f, count = counting(lambda **o: persistent_memoize(tmp_path, **o))
    a = np.arange(12).reshape(3, 4)
    for x in (a, np.asfortranarray(a), np.arange(24).reshape(6, 4)[:3], a[::-1][::-1]):
        f(x)
    assert count.calls == 1
    for x in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        f(x)
    assert count.calls == 2


def test_an_argument_without_a_digest_is_named(tmp_path):
    f, _ = counting(lambda **o: persistent_memoize(tmp_path, **o))
    with pytest.raises(UndigestibleValue, match=r"argument 'y'\['lock'\].*ignore="):
        f(1, {"lock": threading.Lock()})
    with pytest.raises(TypeError):
        f()


def test_ignored_parameters_do_not_count(tmp_path):
    f, count = counting(lambda **o: persistent_memoize(tmp_path, **o), ignore=["z"])
    assert f(1, z=5) == (1, 2, 5)
    assert f(1, z=threading.Lock()) == (1, 2, 5)
    assert count.calls == 1
    with pytest.raises(ValueError, match="no such parameter"):
        counting(lambda **o: persistent_memoize(tmp_path, **o), ignore=["verbose"])


def test_another_version_is_another_function(tmp_path):
    calls = []
    for version in (1, 2, 1):
        f, count = counting(lambda **o: persistent_memoize(tmp_path, **o), version=version)
        f(1)
        calls.append(count.calls)
    assert calls == [1, 1, 0]


def test_none_is_a_result(store):
    @store()
    def f():
        pass

    assert f() is None
    assert f() is None
    assert f.stats()[:2] == (1, 1)


def test_exceptions_are_not_stored(store):
    outcome = [ValueError("first"), 5]

    @store(code="off")
    def f():
        result = outcome.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    with pytest.raises(ValueError, match="first"):
        f()
    assert f() == 5
    assert f() == 5


def test_every_hit_is_the_callers_own(tmp_path):
    @persistent_memoize(tmp_path)
    def f(n):
        return {"list": [1], "small": np.zeros(3), "large": np.zeros(n)}

    first = f(100_000)
    for _ in range(3):
        again = f(100_000)
        assert_same(again, {"list": [1], "small": np.zeros(3), "large": np.zeros(100_000)})
        for result in (first, again):
            result["list"].append(2)
            result["small"][:] = 7
            result["large"][:] = 7


MODULE = """
from persicache import persistent_memoize
CONSTANT = 10
def deep(x):
    return x + 1
def helper(x):
    # a comment
    return deep(x) * 2
@persistent_memoize({store!r})
def f(x):
    "A docstring."
    return helper(x) + CONSTANT
@persistent_memoize({store!r})
def g(x):
    return x
if __name__ == "__main__":
    print(f(1), g(1), f.stats().misses, g.stats().misses)
"""


def run(path):
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_new_process_hits_and_an_edited_helper_recomputes_what_depends_on_it(tmp_path):
    script = tmp_path / "script.py"
    source = textwrap.dedent(MODULE.format(store=str(tmp_path / "memo")))
    script.write_text(source)
    assert run(script) == ["14", "1", "1", "1"]
    assert run(script) == ["14", "1", "0", "0"]
    script.write_text("\n\n" + source.replace("# a comment", "# another").replace("A docstring", "Docs"))
    assert run(script) == ["14", "1", "0", "0"]
    script.write_text(source.replace("x + 1", "x + 2"))
    assert run(script) == ["16", "1", "1", "0"]
    script.write_text(source.replace("CONSTANT = 10", "CONSTANT = 11"))
    assert run(script) == ["15", "1", "1", "0"]
    script.write_text(source)
    assert run(script) == ["14", "1", "0", "0"]


def test_trouble_with_an_entry_is_a_miss_with_a_warning(tmp_path):
    f, count = counting(lambda **o: persistent_memoize(tmp_path, memory=None, **o))
    f(1)
    (entry,) = tmp_path.rglob("*.pc")
    intact = entry.read_bytes()
    for bad in (intact[:-3], b"", intact[:100] + b"\1" + intact[101:]):
        entry.write_bytes(bad)
        with pytest.warns(PersicacheWarning, match="computes again"):
            assert f(1) == (1, 2, 3)
        assert f(1) == (1, 2, 3)
    assert count.calls == 4
    assert f.stats().errors == 3


def test_warnings_point_at_the_caller(tmp_path):
    f, _ = counting(lambda **o: persistent_memoize(tmp_path, memory=None, **o))
    f(1)
    (entry,) = tmp_path.rglob("*.pc")
    entry.write_bytes(b"")
    with pytest.warns(PersicacheWarning, match="computes again") as caught:
        f(1)
    assert caught[0].filename == __file__
    g, _ = counting(lambda **o: persistent_memoize(tmp_path / "file" / "x", **o))
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(PersicacheWarning, match="could not be stored") as caught:
        g(1)
    assert caught[0].filename == __file__


def test_a_store_that_can_not_be_used_never_stops_a_computation(tmp_path):
    place = tmp_path / "file"
    f, count = counting(lambda **o: persistent_memoize(place / "x", **o))
    g, _ = counting(lambda **o: persistent_memoize(place / "x", on_error="raise", **o))
    place.write_text("in the way")
    with pytest.warns(PersicacheWarning, match="could not be stored"):
        assert f(1) == (1, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(1) == (1, 2, 3)
    assert count.calls == 2
    with pytest.raises(BackendError):
        g(1)


def test_a_result_that_can_not_be_stored_is_returned(store):
    @store()
    def f(x):
        return threading.Lock()

    with pytest.warns(PersicacheWarning, match="could not be stored"):
        assert f(1) is not None


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("code", "shallow"),
        ("on_error", "ignore"),
        ("expires", "soon"),
        ("expires", -1),
        ("expires", b"1 h"),
        ("memory", "much"),
        ("memory", -1),
        ("key", "x"),
        ("depends_on", "helper"),
        ("cache_exceptions", [KeyboardInterrupt]),
        ("cache_exceptions", ["ValueError"]),
        ("single_flight", 1),
        ("lease", 0),
        ("lease", "never"),
        ("lease", float("inf")),
        ("record_args", None),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, option, wrong):
    with pytest.raises((TypeError, ValueError), match=r"must be|no duration|no amount"):
        persistent_memoize(tmp_path, **{option: wrong})
    assert not list(tmp_path.iterdir())


def test_without_a_store_results_are_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    @persistent_memoize
    def f(x):
        return x

    f(1)
    assert list((tmp_path / "persicache" / "memo").rglob("*.pc"))


def test_methods_take_their_instance_into_account(tmp_path):
    @dataclasses.dataclass
    class Scale:
        factor: int

        @persistent_memoize(tmp_path)
        def apply(self, x):
            return self.factor * x

    assert Scale(2).apply(3) == 6
    assert Scale(5).apply(3) == 15
    assert Scale(2).apply(3) == 6
    assert Scale.apply.stats()[:2] == (1, 2)


def test_threads_may_call_at_once(store):
    f, _ = counting(store)
    results = []

    def run():
        results.extend(f(i % 5) for i in range(20))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(results)) == [(i, 2, 3) for i in range(5)]
    assert f.stats().hits + f.stats().misses == 120


@persistent_memoize("memory://test-memoize-module")
def module_level(x):
    return (x, os.getpid())


def slow_square(url):
    f = persistent_memoize(url)(_square)
    return [f(i % 10) for i in range(50)]


def _square(x):
    return np.full(20_000, x * x)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_processes_share_a_store(tmp_path, method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        for results in pool.map(slow_square, [tmp_path] * 4):
            assert [int(r[0]) for r in results] == [(i % 10) ** 2 for i in range(50)]
    assert len(list(tmp_path.rglob("*.pc"))) == 10


def test_a_decorated_function_pickles_by_reference():
    import pickle

    assert pickle.loads(pickle.dumps(module_level)) is module_level


WORKER = """
import cloudpickle, subprocess, sys
from persicache import persistent_memoize
def helper(x):
    return x + 1
@persistent_memoize({store!r})
def f(x):
    return helper(x)
if __name__ == "__main__":
    f(1)
    payload = cloudpickle.dumps(f)
    code = "import sys, pickle; f = pickle.load(sys.stdin.buffer); print(f(1), f(2), *f.stats()[:2])"
    done = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True, check=True)
    print(done.stdout.decode())
    import multiprocessing
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(f, [1, 2]), f.stats()[:2])
"""


def test_a_scripts_function_travels_to_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WORKER.format(store=str(tmp_path / "memo")))
    assert " ".join(run(script)) == "2 3 1 1 [2, 3] (0, 1)"


def test_a_rebound_helper_is_noticed(tmp_path):
    namespace = {"persistent_memoize": persistent_memoize, "place": tmp_path}
    exec(
        "def helper(x): return x + 1\n@persistent_memoize(place)\ndef f(x): return helper(x)",
        namespace,
    )
    assert namespace["f"](1) == 2
    exec("def helper(x): return x + 2", namespace)
    assert namespace["f"](1) == 3


def methods(s3):
    return [request.split()[0] for request in s3.server.requests()]


def test_one_request_a_hit_and_one_a_miss_on_s3(s3):
    memoize = functools.partial(persistent_memoize, s3.url, storage_options=s3.storage_options)
    f = memoize(single_flight=False, memory=None)(_square)
    f(1)  # probes the bucket
    for call, requests in ((f, ["GET", "PUT"]), (f, ["GET"])):
        s3.server.clear()
        call(2)
        assert methods(s3) == requests
    together = memoize()(_square)
    together(1.5)  # its storage probes, too
    # A lease, and a look at what came before it was there; then memory knows.
    for requests in (["GET", "PUT", "GET", "PUT", "DELETE"], []):
        s3.server.clear()
        together(3)
        assert methods(s3) == requests


def test_entries_can_be_browsed_as_a_dictionary(tmp_path):
    f = persistent_memoize(tmp_path)(_square)
    f(3)
    ((key, value),) = persicache.open(tmp_path).items()
    assert key[0].endswith("_square")
    assert value[0] == 9


def test_a_wrapper_has_its_own_signature(tmp_path):
    import functools

    def inner(x, n=1):
        return x * n

    @persistent_memoize(tmp_path)
    @functools.wraps(inner)
    def outer(x, n=10):
        return inner(x, n)

    assert (outer(3), outer(3, 1), outer(3, 10)) == (30, 3, 30)
    assert outer.stats()[:2] == (1, 2)


def test_any_name_may_be_a_parameter(tmp_path):
    @persistent_memoize(tmp_path)
    def f(self, args=0, **kwargs):
        return (self, args, kwargs)

    assert f(self=1, args=2, store=3) == (1, 2, {"store": 3})
    assert f.contains(self=1, args=2, store=3)
    assert f.forget(self=1, args=2, store=3)


def test_changed_defaults_are_noticed(tmp_path):
    def plain(x, n=1):
        return x * n

    f = persistent_memoize(tmp_path)(plain)
    assert f(3) == 3
    plain.__defaults__ = (10,)
    assert (f(3), f(3, 1)) == (30, 3)


def test_a_result_of_other_code_is_not_stored(tmp_path):
    namespace = {"persistent_memoize": persistent_memoize, "place": tmp_path}
    exec(
        "rate = 1\n"
        "@persistent_memoize(place)\n"
        "def f(x):\n"
        "    meddle()\n"
        "    return rate * x\n"
        "def meddle():\n"
        "    globals().update(rate=5)\n",
        namespace,
    )
    f = namespace["f"]
    assert f(10) == 50
    namespace["rate"] = 1
    assert not f.contains(10)


def test_attributes_of_the_function_do_not_hide_the_verbs(tmp_path):
    def f(x):
        return x

    f.stats = "mine"
    assert persistent_memoize(tmp_path)(f).stats().hits == 0


@pytest.mark.parametrize("kind", [functools.cached_property, property])
def test_properties_are_refused_with_the_right_order(tmp_path, kind):
    for decorate in (persistent_memoize, persistent_memoize(tmp_path)):
        with pytest.raises(TypeError, match=f"below @{kind.__name__}"):
            decorate(kind(lambda x: x))


@pytest.mark.parametrize("wrong", [max, int, 5, type("C", (), {})])
def test_what_is_no_function_is_refused(tmp_path, wrong):
    with pytest.raises(TypeError, match=r"signature|decorates functions"):
        persistent_memoize(tmp_path)(wrong)


def test_a_version_of_an_inner_function_counts_for_the_outer(tmp_path):
    results = []
    for version in (1, 2):

        @persistent_memoize(tmp_path, version=version)
        def inner(x):
            return x * 3

        @persistent_memoize(tmp_path)
        def outer(x, inner=inner):
            return inner(x)

        results.append(outer.code_digest())
    assert results[0] != results[1]


def test_a_store_that_takes_long_to_fail_is_left_alone_for_a_while():
    class Slow(MemoryStorage):
        """Answers after 20 s that it doesn't."""

        calls, now = 0, 0.0

        def read(self, name):
            self.calls += 1
            self.now += 20
            raise BackendError(place=self.url, action="read", cause="nobody answers")

    slow = Slow("memory://slow")
    f = MemoizedFunction(
        _square, Entries(slow, EntryCodec()), Settings.of(single_flight=False), clock=lambda: slow.now
    )
    with pytest.warns(PersicacheWarning, match="nobody answers"):
        f(1)
    for _ in range(5):
        f(1)
    assert slow.calls == 1
    slow.now += 1000
    f(2)
    assert slow.calls == 2


def test_scripts_go_by_their_file(tmp_path):
    (tmp_path / "one.py").write_text(MODULE.format(store=str(tmp_path / "memo")))
    (tmp_path / "two.py").write_text(MODULE.format(store=str(tmp_path / "memo")))
    assert run(tmp_path / "one.py") == run(tmp_path / "two.py") == ["14", "1", "1", "1"]


def test_code_that_is_replaced_by_its_like_keeps_what_memory_holds(tmp_path):
    namespace = {"persistent_memoize": persistent_memoize, "place": tmp_path}
    exec("def helper(x): return x + 1\n@persistent_memoize(place)\ndef f(x): return helper(x)", namespace)
    f = namespace["f"]
    assert f(1) == 2
    shutil.rmtree(tmp_path)
    exec("def helper(x): return x + 1  # anew", namespace)
    assert f(1) == 2
    assert f.stats().hits == 1
    exec("def helper(x): return x + 2", namespace)
    assert f(1) == 3


def test_what_a_result_had_cost_is_told_and_none_is_loaded(tmp_path):
    class Slow:
        def __persicache_key__(self):
            return "slow"

        @persistent_memoize(tmp_path, memory=None)
        def doubled(self, x):
            time.sleep(0.02)
            return 2 * x

    slow = Slow()
    with pytest.raises(KeyError, match="no stored result for this call"):
        slow.doubled.cost_seconds(1)
    slow.doubled(1)
    assert 0.02 <= slow.doubled.cost_seconds(x=1) < 60
    slow.doubled.put(4, 2)
    assert math.isnan(slow.doubled.cost_seconds(2))
    assert slow.doubled.stats().hits == 0


DECODING, GO_ON = threading.Event(), threading.Event()


class SlowToCome:
    """Comes out of the store when it is let, if it is old."""

    def __init__(self, age):
        self.age = age

    def __reduce__(self):
        return come, (self.age,)


def come(age):
    if age == "old":
        DECODING.set()
        assert GO_ON.wait(60)
    return SlowToCome(age)


@pytest.mark.parametrize("verb", ["put", "refresh", "forget", "clear"])
def test_memory_does_not_take_what_was_read_before_a_change(tmp_path, verb):
    def f(x):
        return SlowToCome("new")

    DECODING.clear()
    GO_ON.clear()
    # Who waits for an event is a part of it, and so would be of the code.
    persistent_memoize(tmp_path, memory=None, code="off")(f).put(SlowToCome("old"), 1)
    f = persistent_memoize(tmp_path, code="off")(f)
    reader = threading.Thread(target=f, args=(1,))
    reader.start()
    try:
        assert DECODING.wait(60)
        match verb:
            case "put":
                f.put(SlowToCome("new"), 1)
            case "clear":
                f.clear()
            case _:
                getattr(f, verb)(1)
    finally:
        GO_ON.set()
        reader.join()
    assert f(1).age == "new"
    assert f(1).age == "new"


class Picky(Exception):
    """Pickles, and can't be rebuilt."""

    def __init__(self, code, text):
        super().__init__(text)

    def __reduce__(self):
        return Picky, self.args


@pytest.mark.parametrize("memory", [None, "64 MiB"])
def test_what_can_not_be_rebuilt_is_computed_again(tmp_path, memory):
    @persistent_memoize(tmp_path, cache_exceptions=Picky, memory=memory)
    def f(x):
        raise Picky(7, "no")

    with pytest.raises(Picky, match="no"):
        f(1)
    for _ in range(2):
        with pytest.warns(PersicacheWarning, match="can't be rebuilt"), pytest.raises(Picky, match="no"):
            f(1)
    assert f.stats().hits == 0


def test_a_dictionary_whose_content_can_change_is_no_argument(tmp_path):
    numbers = persicache.open(tmp_path / "numbers")
    numbers["a"] = 1

    @persistent_memoize(tmp_path / "memo")
    def read(d, name):
        return d[name]

    with pytest.raises(UndigestibleValue, match=r"argument 'd'.*holds can change.*pass what is read"):
        read(numbers, "a")

    @persistent_memoize(tmp_path / "memo", ignore="d")
    def trusting(d, name):
        return d[name]

    assert trusting(numbers, "a") == 1
