"""joblib.Memory over persicache's places."""

import asyncio
import datetime as dt
import mmap
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import cloudpickle
import joblib
import joblib_workers
import numpy as np
import pandas as pd
import persicache_joblib
import pytest
from joblib.memory import MemorizedFunc, NotMemorizedResult, expires_after
from same import assert_same

from persicache import BackendError, MissingDependency, PersicacheWarning, digest, fingerprint


@pytest.fixture(autouse=True)
def registered():
    persicache_joblib.register()
    yield
    persicache_joblib.register()


@pytest.fixture(params=["directory", "Path", "memory", "s3", "sqlite", "json"])
def place(request, tmp_path):
    """Return what makes a Memory, each time a new one."""
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")
        options = {"storage_options": s3.storage_options}
        return lambda **more: new_memory(s3.url, backend_options=options, **more)
    location = {
        "directory": str(tmp_path / "results"),
        "Path": tmp_path / "results",
        "memory": f"memory://{tmp_path.name}",
        "sqlite": str(tmp_path / "results.db"),
        "json": str(tmp_path / "results.json"),
    }[request.param]
    return lambda **more: new_memory(location, **more)


def new_memory(location, **options):
    return joblib.Memory(location, **{"backend": "persicache", "verbose": 0, **options})


@pytest.fixture
def on_s3(s3):
    def new(**more):
        return new_memory(s3.url, backend_options={"storage_options": s3.storage_options, **more})

    return new


class Counted:
    """A function that counts its calls; its code is that of the class."""

    def __init__(self):
        self.calls = []


def counting(calls, result=lambda x: x):
    """Return a function that notes its calls, and is the same code each time."""

    def function(x, n=1):
        note(x)
        return result(x)

    note = Note(calls)
    return function


class Note:
    """Whatever was noted, it is the same dependency."""

    def __init__(self, calls):
        self._calls = calls

    def __call__(self, x):
        self._calls.append(x)

    def __persicache_key__(self):
        return "note"


VALUES = {
    "text": "é",
    "nothing": None,
    "array": np.arange(20_000.0).reshape(100, 200),
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "tree": {"a": [np.ones(3), (1, 2.5)], "b": {"c": b"x"}},
}


def test_a_result_is_computed_once_and_comes_back_the_same(place):
    calls = []
    for _ in range(2):  # in the second round, by a Memory that has seen nothing
        f = place().cache(counting(calls, VALUES.__getitem__))
        for name, value in VALUES.items():
            assert_same(f(name), value)
            assert_same(f(x=name, n=1), value)
            assert f.check_call_in_cache(name)
    assert calls == list(VALUES)
    assert not f.check_call_in_cache("text", n=2)
    assert f.call("text")[0] == "é"  # computes, whatever there is
    assert calls == [*VALUES, "text"]


def test_shelved_results_are_references(place):
    calls = []
    memory = place()
    f = memory.cache(counting(calls))
    shelved = f.call_and_shelve([1, 2])
    again = f.call_and_shelve([1, 2])
    assert calls == [[1, 2]]
    assert shelved.get() == again.get() == [1, 2]
    assert again.duration == shelved.duration >= 0
    assert again.metadata["input_args"] == {"x": "[1, 2]", "n": "1"}
    again.clear()
    assert not f.check_call_in_cache([1, 2])
    with pytest.raises(KeyError):
        shelved.get()


def test_clear_is_of_a_function_or_of_all(place):
    calls = []
    memory = place()
    f = memory.cache(counting(calls))
    g = memory.cache(lambda x: -x)
    f(1), g(1)
    f.clear(warn=False)
    assert not f.check_call_in_cache(1)
    assert g.check_call_in_cache(1)
    f(1)
    memory.clear(warn=False)
    assert not f.check_call_in_cache(1)
    assert not g.check_call_in_cache(1)
    assert f(1) == 1
    assert calls == [1, 1, 1]


def test_clear_leaves_the_files_of_others(tmp_path):
    memory = new_memory(tmp_path)
    memory.cache(counting([]))(1)
    (tmp_path / "thesis.tex").write_text("years of work")
    memory.clear(warn=False)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_least_recently_used_leave_first(place):
    calls = []
    memory = place()
    f = memory.cache(counting(calls))
    for x in range(5):
        f(x)
    assert [f(0), f(2)] == [0, 2]
    memory.reduce_size(items_limit=3)
    assert [x for x in range(5) if f.check_call_in_cache(x)] == [0, 2, 4]
    f.call_and_shelve(0).get()
    place().reduce_size(items_limit=1)
    assert [x for x in range(5) if f.check_call_in_cache(x)] == [0]
    assert calls == [0, 1, 2, 3, 4]


def test_sizes_and_ages_are_limits_too(tmp_path):
    memory = new_memory(tmp_path)
    f = memory.cache(counting([], lambda x: np.zeros(x * 1000)))
    for x in (5, 3, 1):
        f(x)
    f(5)
    memory.reduce_size(bytes_limit="50K")
    assert [x for x in (5, 3, 1) if f.check_call_in_cache(x)] == [5, 1]
    memory.reduce_size(age_limit=dt.timedelta(hours=1))
    assert f.check_call_in_cache(1)
    memory.reduce_size(age_limit=dt.timedelta(0))
    assert not f.check_call_in_cache(1)
    with pytest.raises(ValueError, match="positive"):
        f(1), memory.reduce_size(age_limit=dt.timedelta(-1))


def test_uses_by_other_processes_count(s3, on_s3, tmp_path):
    memory = on_s3()
    f = memory.cache(joblib_workers.total)
    arrays = [np.full(3, i) for i in range(3)]
    log = {**os.environ, joblib_workers.LOG: str(tmp_path / "log")}
    code = f"""
        import joblib, joblib_workers, numpy as np, persicache_joblib, sys
        persicache_joblib.register(storage_options={s3.storage_options!r})
        f = joblib.Memory({s3.url!r}, backend="persicache", verbose=0).cache(joblib_workers.total)
        for i in map(int, sys.argv[1:]):
            f(np.full(3, i))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), *"0120"]
    subprocess.run(command, env=log, check=True, cwd=Path(__file__).parent)
    memory.reduce_size(items_limit=2)
    assert [f.check_call_in_cache(array) for array in arrays] == [True, False, True]


@pytest.mark.parametrize("server", ["refuses", "never answers"])
def test_notes_of_use_that_nobody_takes_do_not_keep_a_process_from_ending(server):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if server == "refuses":
            silent.close()
        code = f"""
            import time
            from persicache import PersiDict
            from persicache_joblib import uses
            uses.MOST_SECONDS = 0.5
            there = {{"endpoint_url": "http://127.0.0.1:{port}"}}
            options = {{"key": "a", "secret": "b", "client_kwargs": there}}
            noted = [uses.Uses(PersiDict(f"s3://bucket/{{i}}", storage_options=options)) for i in range(5)]
            for each in noted:
                each.note(("f", "code", "args"))
            print(time.time())
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert time.time() - float(done.stdout) < 60  # until it gives up takes longer than that
    # Of connections that it closes under a request, aiohttp has something to say itself.
    assert server == "never answers" or not done.stderr


def test_a_validation_callback_sees_the_metadata(place):
    calls, seen, is_valid = [], [], True

    def validate(metadata):
        seen.append(metadata)
        return is_valid

    f = place().cache(counting(calls), cache_validation_callback=validate)
    assert [f(1), f(1)] == [1, 1]
    assert (calls, len(seen)) == ([1], 1)
    assert seen[0].keys() == {"duration", "input_args", "time"}
    assert seen[0]["input_args"] == {"x": "1", "n": "1"}
    is_valid = False
    assert not f.check_call_in_cache(1)
    is_valid = True
    assert not f.check_call_in_cache(1)  # it was removed
    g = place().cache(counting(calls), cache_validation_callback=expires_after(days=1))
    assert [g(2), g(2)] == [2, 2]
    h = place().cache(counting(calls), cache_validation_callback=expires_after(seconds=-1))
    assert [h(2), h(2)] == [2, 2]
    assert calls == [1, 2, 2, 2]


def test_what_a_memory_has_seen_does_not_change_what_holds_it(tmp_path):
    memory = new_memory(tmp_path)

    def uses_it():
        return memory

    before, digested = fingerprint(uses_it).digest, digest(memory)
    memory.cache(counting([]))(1)
    assert fingerprint(uses_it).digest == before
    assert digest(memory) == digested


# What it costs on S3


def test_a_hit_is_one_request(s3, on_s3):
    calls = []
    on_s3().cache(counting(calls, np.ones))(1000)
    s3.server.clear()
    f = on_s3().cache(counting(calls, np.ones), cache_validation_callback=lambda metadata: True)
    assert s3.server.requests() == []
    f(1000)
    assert [request.split()[0] for request in s3.server.requests()] == ["GET"]
    s3.server.clear()
    f.call_and_shelve(1000)
    assert [request.split()[0] for request in s3.server.requests()] == ["GET"]
    s3.server.clear()
    f(2000)
    assert [request.split()[0] for request in s3.server.requests()] == ["GET", "PUT"]
    assert calls == [1000, 2000]


def test_a_reference_is_shelved_without_reading_the_result(s3, on_s3):
    f = on_s3().cache(counting([], np.ones))
    f(1_000_000)
    tracemalloc.start()
    try:
        assert f.call_and_shelve(1_000_000).duration >= 0
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        assert f(1_000_000).sum() == 1_000_000
        assert tracemalloc.get_traced_memory()[1] > 8_000_000
    finally:
        tracemalloc.stop()


# What joblib gets wrong silently


def define(source, **names):
    """Return the function `f` that a source defines, as a module would."""
    namespace = {"__name__": "edited", **names}
    exec(textwrap.dedent(source), namespace)
    return namespace["f"]


OLD = """
    def helper(x): return x + 1
    def f(x): note(x); return helper(x)
"""


def test_edited_helpers_compute_again_and_undone_edits_do_not(place):
    calls = []
    new = OLD.replace("x + 1", "x + 2")
    for source, expected in (
        (OLD, 2),
        (new, 3),
        (OLD.replace("helper(x): r", "helper(x): # as said\n        r"), 2),
    ):
        f = place().cache(define(source, note=Note(calls)))
        assert f(1) == expected
    assert calls == [1, 1]


def test_a_process_with_old_code_plants_no_results(tmp_path):
    new = OLD.replace("note(x); ", "note(x); x *= 10; ")
    fresh = new_memory(tmp_path).cache(define(new, note=Note([])))
    stale = new_memory(tmp_path).cache(define(OLD, note=Note([])))
    assert [fresh(1), stale(1), stale(2)] == [11, 2, 3]
    assert new_memory(tmp_path).cache(define(new, note=Note([])))(2) == 21
    assert [fresh(1), fresh(2), stale(1)] == [11, 21, 2]


def test_functions_of_one_name_are_different_functions(tmp_path):
    memory = new_memory(tmp_path)
    functions = [memory.cache(lambda x: x), memory.cache(lambda x: -x), memory.cache(lambda x: [x])]
    assert [f(3) for f in functions] == [3, -3, [3]]
    assert [f(3) for f in functions] == [3, -3, [3]]


def test_a_changed_helper_counts_at_the_next_call(tmp_path):
    namespace = {"__name__": "session"}
    exec("def helper(x): return x + 1\ndef f(x): return helper(x)", namespace)
    f = new_memory(tmp_path).cache(namespace["f"])
    assert f(1) == 2
    exec("def helper(x): return x + 2", namespace)
    assert f(1) == 3


def test_decorated_functions_count_in_those_that_call_them(tmp_path):
    memory = new_memory(tmp_path)
    results = []
    for inner in ("x + 1", "x + 2"):
        source = f"@cache\ndef inner(x): return {inner}\n@cache\ndef f(x): return inner(x)"
        results.append(define(source, cache=memory.cache)(1))
    assert results == [2, 3]


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-1] + b"!"]
)
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    calls = []
    f = new_memory(tmp_path).cache(counting(calls, np.ones))
    f(10)
    (entry,) = (path for path in tmp_path.rglob("*.pc") if "results" in path.parts)
    entry.write_bytes(damage(entry.read_bytes()))
    with pytest.warns(PersicacheWarning, match="computed again"):
        assert f(10).sum() == 10
    assert f(10).sum() == 10
    assert calls == [10, 10]


def test_what_cannot_be_stored_is_returned_and_nothing_is_left(tmp_path):
    calls = []
    f = new_memory(tmp_path).cache(counting(calls, lambda x: (i for i in range(x))))
    with pytest.warns(PersicacheWarning, match="isn't kept"):
        assert list(f(3)) == [0, 1, 2]
    assert not f.check_call_in_cache(3)
    shelved = f.call_and_shelve(3)  # it was said once
    assert isinstance(shelved, NotMemorizedResult)
    assert list(shelved.get()) == [0, 1, 2]
    assert list(tmp_path.rglob("*.pc")) == []


def test_equal_arguments_are_equal_and_others_are_not(tmp_path):
    calls = []
    f = new_memory(tmp_path).cache(counting(calls, len))
    a = np.arange(12.0).reshape(3, 4)
    for same in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):
        f(same)
    assert len(calls) == 1
    kind = np.dtype("float64")
    for other in ([kind, "a"], ["a", kind]):
        f(other)
    assert len(calls) == 3


def test_arguments_that_only_joblib_can_hash_work(tmp_path):
    calls = []
    f = new_memory(tmp_path).cache(counting(calls, lambda x: 1))
    assert [f(object()), f(object())] == [1, 1]
    assert len(calls) == 1


def test_ignored_arguments_do_not_count(tmp_path):
    calls = []
    f = new_memory(tmp_path).cache(counting(calls), ignore=["n"])
    assert [f(1, n=1), f(1, n=2), f(2)] == [1, 1, 2]
    assert calls == [1, 2]


# Ways to read


def is_mapped(array):
    while isinstance(array, np.ndarray):
        array = array.base
    while isinstance(array, memoryview):
        array = array.obj
    return isinstance(array, mmap.mmap)


@pytest.mark.parametrize("mode", [None, "c", "r"])
def test_large_results_are_mapped(tmp_path, mode):
    f = new_memory(tmp_path, mmap_mode=mode).cache(counting([], lambda x: [np.zeros(x), {"a": np.ones(x)}]))
    first, second = f(100_000), f(100_000)
    assert is_mapped(second[0])
    assert is_mapped(second[1]["a"])
    assert second[0].flags.writeable == (mode != "r")
    assert is_mapped(first[0]) == (mode is not None)
    if mode != "r":
        second[0][:] = 7
        assert f(100_000)[0].sum() == 0
    loaded = f.call_and_shelve(100_000).get()
    assert loaded[1]["a"].flags.writeable == (mode != "r")


def test_a_function_can_have_a_mode_of_its_own(tmp_path):
    memory = new_memory(tmp_path)
    f = memory.cache(counting([], np.ones), mmap_mode="r")
    assert not f(100).flags.writeable
    assert not f(100).flags.writeable
    with pytest.raises(ValueError, match="change what is stored"):
        memory.cache(counting([]), mmap_mode="r+")
    with pytest.raises(ValueError, match="change what is stored"):
        new_memory(tmp_path, mmap_mode="w+")
    with pytest.raises(ValueError, match="not 'x'"):
        new_memory(tmp_path, mmap_mode="x")


def test_remote_results_are_mapped_from_copies_nearby(s3, on_s3, tmp_path):
    f = on_s3(near=str(tmp_path / "near")).cache(counting([], np.ones), mmap_mode="c")
    f(100_000)
    s3.server.clear()
    again = on_s3(near=str(tmp_path / "near")).cache(counting([], np.ones), mmap_mode="c")(100_000)
    assert [request.split()[0] for request in s3.server.requests()] == ["GET", "304"]
    assert is_mapped(again)
    assert again.sum() == 100_000


@pytest.mark.parametrize("compress", [True, 9, ("zlib", 3), "lz4", ("lz4", 1)])
def test_compressed_results_take_less_and_are_the_same(tmp_path, compress):
    f = new_memory(tmp_path, compress=compress).cache(counting([], np.zeros))
    f(100_000)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.pc")) < 50_000
    assert_same(f(100_000), np.zeros(100_000))
    # Who reads need not know.
    assert_same(new_memory(tmp_path).cache(counting([], np.zeros))(100_000), np.zeros(100_000))


# Kinds of functions


def test_coroutine_functions(tmp_path):
    calls = []

    @new_memory(tmp_path).cache
    async def f(x):
        Note(calls)(x)
        return x + 1

    async def use():
        return await f(1), await f(1), (await f.call_and_shelve(1)).get()

    assert asyncio.run(use()) == (2, 2, 2)


def test_methods_builtins_and_eval(tmp_path):
    memory = new_memory(tmp_path)

    class Model:
        def __init__(self, n):
            self.n = n
            self.fit = memory.cache(self.fit)

        def fit(self, x):
            return self.n * x

    assert [Model(2).fit(3), Model(3).fit(3)] == [6, 9]
    assert Model(2).fit.check_call_in_cache(3)
    assert not Model(4).fit.check_call_in_cache(3)
    assert memory.eval(sorted, [2, 1]) == memory.eval(sorted, [2, 1]) == [1, 2]
    assert memory.eval(np.cos, 0.0) == memory.eval(np.cos, 0.0) == 1.0


def test_verbose_says_what_happens(tmp_path, capsys):
    f = new_memory(tmp_path, verbose=5).cache(counting([]))
    f(1)
    assert "Calling" in capsys.readouterr().out
    f(1)
    assert "Loading" in capsys.readouterr().out


def test_a_memory_without_a_place_computes(tmp_path):
    assert joblib.Memory(None, backend="persicache").cache(len)("ab") == 2


# Secrets and travel


def test_no_secret_is_in_pickles_and_reprs(s3, on_s3):
    memory = on_s3(signing_key="planted-signing-key")
    f = memory.cache(joblib_workers.square)
    things = [memory, f, memory.store_backend]
    for pack in (pickle.dumps, cloudpickle.dumps):
        for thing in things:
            packed = pack(thing)
            assert b"planted" not in packed
            assert b"AKIA" not in packed
    assert "planted" not in repr(things) + repr(memory.__dict__)


READER = """
    import pickle, sys, joblib_workers
    f = pickle.load(sys.stdin.buffer)
    print(f(3), f.check_call_in_cache(3))
"""


def run_reader(payload, tmp_path, before=""):
    environment = {**os.environ, joblib_workers.LOG: str(tmp_path / "log")}
    code = textwrap.dedent(before) + textwrap.dedent(READER)
    return subprocess.run(
        [sys.executable, "-c", code],
        input=payload,
        env=environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        check=False,
    )


def test_another_process_here_finds_the_secrets(s3, on_s3, tmp_path, monkeypatch):
    monkeypatch.setenv(joblib_workers.LOG, str(tmp_path / "log"))
    f = on_s3().cache(joblib_workers.square)
    f(3)
    done = run_reader(pickle.dumps(f), tmp_path)
    assert done.stdout.split() == [b"9", b"True"], done.stderr
    assert (tmp_path / "log").read_text().split() == ["3"]


def test_references_outlive_the_worker_that_made_them(s3, on_s3, tmp_path):
    f = on_s3().cache(joblib_workers.square)
    code = """
        import pickle, sys
        f = pickle.load(sys.stdin.buffer)
        sys.stdout.buffer.write(pickle.dumps(f.call_and_shelve(3)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        input=pickle.dumps(f),
        env={**os.environ, joblib_workers.LOG: str(tmp_path / "log")},
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
    )
    assert b"planted" not in done.stdout
    assert pickle.loads(done.stdout).get() == 9


def test_secrets_on_the_disk_are_for_this_user_and_go_with_the_process(s3, tmp_path):
    code = f"""
        import joblib, os, persicache_joblib, pickle, stat
        from pathlib import Path
        persicache_joblib.register()
        options = {{"storage_options": {s3.storage_options!r}}}
        pickle.dumps(joblib.Memory({s3.url!r}, backend="persicache", verbose=0, backend_options=options))
        for path in [*Path(os.environ["TMPDIR"]).rglob("*")]:
            print(oct(stat.S_IMODE(path.stat().st_mode)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {"0o700", "0o600"}
    assert list(tmp_path.iterdir()) == []


def test_elsewhere_they_are_asked_for(s3, on_s3, tmp_path):
    options = {"storage_options": s3.storage_options, "signing_key": "of this test"}
    code = f"""
        import joblib, joblib_workers, persicache_joblib, pickle, sys
        persicache_joblib.register()
        memory = joblib.Memory({s3.url!r}, backend="persicache", verbose=0, backend_options={options!r})
        sys.stdout.buffer.write(pickle.dumps(memory.cache(joblib_workers.square)))
    """
    made = subprocess.run(  # by a process that has ended, as good as on another machine
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
    ).stdout
    with pytest.raises(BackendError, match=r"signing_key and storage_options.*register"):
        pickle.loads(made)
    persicache_joblib.register(**options)
    f = pickle.loads(made)
    assert not f.check_call_in_cache(3)
    f.store_backend.store((f.func_id, f._get_args_id(3)), 9, {})
    assert f(3) == 9


def test_a_pickled_function_and_its_results_work_again(tmp_path):
    calls = []
    f = new_memory(tmp_path).cache(counting(calls))
    shelved = f.call_and_shelve(1)
    again, result = cloudpickle.loads(cloudpickle.dumps((f, shelved)))
    assert again(1) == result.get() == 1
    assert calls == [1]


def test_pickles_are_refused_where_others_can_write_unless_signed(on_s3):
    calls = []
    value = Counted()
    f = on_s3().cache(counting(calls, lambda x: value))
    with pytest.warns(PersicacheWarning, match="signing_key"):
        assert f(1) is value
    g = on_s3(signing_key="hush").cache(counting(calls, lambda x: Counted()))
    assert isinstance(g(1), Counted)
    assert isinstance(g(1), Counted)
    assert calls == [1, 1]


def test_a_place_that_cannot_be_reached_costs_the_cache_only(s3, on_s3):
    calls = []
    f = on_s3().cache(counting(calls))
    s3.server.fault("denied", times=-1, message="planted-secret-value")
    with pytest.warns(PersicacheWarning) as caught:
        assert [f(1), f(2), f.call_and_shelve(3).get()] == [1, 2, 3]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "planted" not in str(caught[0].message)
    assert calls == [1, 2, 3]


# What is refused


def test_options_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(TypeError, match="no options colour"):
        new_memory(tmp_path, backend_options={"colour": "red"})
    with pytest.raises(TypeError, match="no options colour"):
        persicache_joblib.register(colour="red")
    with pytest.raises(ValueError, match="give it as a text"):
        new_memory(Path("s3://bucket/team"))


def test_functions_of_other_kinds_are_refused(tmp_path):
    class Own(MemorizedFunc):
        pass

    with pytest.raises(TypeError, match="Own"):
        Own(len, new_memory(tmp_path).store_backend)


def test_without_joblib_it_can_be_imported_and_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(MissingDependency, match=r"persicache\[joblib\]"):
        persicache_joblib.register()


def test_importing_it_imports_no_joblib():
    code = "import sys, persicache_joblib; print('joblib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
