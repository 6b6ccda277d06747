"""Memoized functions work in worker processes, however they get there, and share one store."""

import copy
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import cloudpickle
import memo_workers
import pytest
from memo_workers import KINDS, STORE, use

from persicache import persistent_memoize


@pytest.fixture(autouse=True)
def empty_store():
    shutil.rmtree(STORE, ignore_errors=True)
    Path(STORE).mkdir()
    yield
    shutil.rmtree(STORE)


def computed(store=STORE):
    """Return how often each argument was computed."""
    log = Path(store, "computed")
    return Counter(log.read_text().split()) if log.exists() else {}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_every_kind_works_in_processes_and_shares_its_results(method):
    calls = [(f, 10 * i) for i, f in enumerate(KINDS.values())]
    with get_context(method).Pool(2) as pool:
        results = pool.starmap(use, calls)
        assert results == [x + 1 for _, x in calls]
    assert [use(f, x) for f, x in calls] == results
    assert computed() == {str(x): 1 for _, x in calls}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [pickle, cloudpickle])
def test_every_kind_is_itself_again_in_the_same_process(kind, how):
    there = how.loads(how.dumps(KINDS[kind]))
    assert use(there, 5) == use(KINDS[kind], 5) == 6
    assert computed() == {"5": 1}
    assert len(how.dumps(KINDS[kind])) < 2000


@pytest.mark.parametrize("kind", ["function", "class method", "static method", "coroutine", "generator"])
def test_what_can_be_imported_travels_by_name(kind):
    assert len(pickle.dumps(KINDS[kind])) < 200
    again = pickle.loads(pickle.dumps(KINDS[kind]))
    assert getattr(again, "__func__", again) is getattr(KINDS[kind], "__func__", KINDS[kind])


def test_what_cannot_be_imported_travels_with_its_code_and_options(tmp_path):
    offset = 2

    @persistent_memoize(tmp_path, key=lambda x: x % 10, expires=lambda result: "1 h")
    def local(x):
        return x + offset

    assert local(1) == 3
    payload = pickle.dumps(local)
    assert pickle.loads(payload) is local
    assert copy.deepcopy(local) is local
    code = (
        "import pickle, sys; f = pickle.load(sys.stdin.buffer); "
        "print(f(1), f(11), f(2), *f.stats()[:2], f.code_digest().hex(), f.url)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True, check=True)
    assert done.stdout.decode().split() == [*"33421", local.code_digest().hex(), local.url]


def test_functions_that_come_again_are_the_same_ones_until_they_change(tmp_path):
    namespace = {"memoize": persistent_memoize(tmp_path, memory=None), "__name__": "__main__"}
    exec("def helper(x): return x + 1\nf = memoize(lambda x: helper(x))", namespace)
    old = cloudpickle.dumps(namespace["f"])
    exec("def helper(x): return x + 2", namespace)
    new = cloudpickle.dumps(namespace["f"])
    code = (
        "import pickle, sys; old, new = pickle.load(sys.stdin.buffer); load = pickle.loads; "
        "f, g = load(old), load(new); print(f is load(old), g is load(new), f(1), g(1), load(old)(1))"
    )
    payload = pickle.dumps((old, new))
    done = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["True", "True", "2", "3", "2"]


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_equal_calls_at_once_are_computed_once():
    calls = [(memo_workers.slow, x) for x in (1, 2, 1, 1, 2)]
    with get_context("fork").Pool(5) as pool:
        assert pool.starmap(use, calls, chunksize=1) == [2, 3, 2, 2, 3]
    assert computed() == {"1": 1, "2": 1}


def test_a_name_that_is_gone_says_so(monkeypatch):
    payload = pickle.dumps(memo_workers.function)
    monkeypatch.delattr(memo_workers, "function")
    with pytest.raises(AttributeError, match="memo_workers has no function"):
        pickle.loads(payload)


SCRIPT = """
import os, sys
from persicache import persistent_memoize
STORE = {store!r}
memoize = persistent_memoize(STORE, memory=None)

def note(x):
    with open(os.path.join(STORE, "computed"), "a") as log:
        log.write(f"{{x}}\\n")

def helper(x):
    return x + 1

@memoize
def plain(x):
    note(f"plain{{x}}")
    return helper(x)

@persistent_memoize(STORE, key=lambda x: x % 100, expires=lambda result: "1 h")
def with_options(x):
    note(f"options{{x}}")
    return x % 100

@memoize
def fibonacci(n):
    note(f"fibonacci{{n}}")
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

@memoize
def is_even(n):
    return n == 0 or is_odd(n - 1)

@memoize
def is_odd(n):
    return n != 0 and is_even(n - 1)

class Number:
    def __init__(self, x):
        self.x = x

@memoize
def is_number(x):
    note(f"number{{x.x}}")
    return isinstance(x, Number)

class Scale:
    offset = 1
    def __init__(self, factor):
        self.factor = factor
    @memoize
    def apply(self, x):
        note(f"apply{{x}}")
        return self.factor * x + Scale.offset

@memoize
def total(values):
    return sum(values)

def main(run):
    os.mkdir(STORE)
    two, three = Scale(2), Scale(3)
    calls = [(plain, 1), (plain, 2), (with_options, 103), (is_even, 3), (two.apply, 4), (three.apply, 5)]
    assert run(calls) == [2, 3, 3, False, 9, 16], run(calls)
    assert run([(fibonacci, 10), (is_number, Number(6))]) == [55, True]
    assert is_number(Number(6))
    assert [f(x) for f, x in calls] == [2, 3, 3, False, 9, 16]
    assert with_options(203) == 3
    assert fibonacci(10) == 55
    refs = [plain.ref(1), plain.ref(7)]
    assert run([(total, refs), (get, plain.ref(8))]) == [10, 9]
    assert refs[1].is_stored and total.contains(refs)
    print("done")

def call(f, x):
    return f(x)

def get(ref):
    return ref.get()
"""

RUNNERS = {
    "multiprocessing": """
if __name__ == "__main__":
    import multiprocessing
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        main(lambda calls: pool.starmap(call, calls))
""",
    "joblib": """
if __name__ == "__main__":
    from joblib import Parallel, delayed
    with Parallel(n_jobs=2) as parallel:
        main(lambda calls: parallel(delayed(f)(x) for f, x in calls))
        f = persistent_memoize(STORE)(lambda x: (os.getpid(), x))
        from joblib.externals.loky import get_reusable_executor
        found = list(f.map(range(6), executor=get_reusable_executor(2)))
        assert [x for _, x in found] == list(range(6)) and os.getpid() not in dict(found)
        assert list(f.map(range(6))) == found
""",
    "dask": """
if __name__ == "__main__":
    from distributed import Client, LocalCluster
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        main(lambda calls: client.gather([client.submit(f, x, pure=False) for f, x in calls]))
        g = persistent_memoize(STORE)(lambda x: (os.getpid(), x))
        found = list(g.map(range(6), executor=client.get_executor()))
        assert [x for _, x in found] == list(range(6)) and os.getpid() not in dict(found)
        assert list(g.map(range(6))) == found
""",
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_scripts_functions_work_in_workers(tmp_path, runner):
    store = tmp_path / "store"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(store=str(store)) + RUNNERS[runner])
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "DASK_TEMPORARY_DIRECTORY": str(tmp_path)},
    )
    assert done.stdout == "done\n", done.stderr[-3000:]
    counts = computed(store)
    assert {name for name in counts if not name.startswith("fib")} == {
        *("plain1", "plain2", "plain7", "plain8", "options103", "number6", "apply4", "apply5")
    }
    assert set(counts.values()) == {1}, counts


def test_who_waits_on_a_dask_worker_leaves_its_slot_to_the_tasks_it_waits_for(tmp_path):
    distributed = pytest.importorskip("distributed")

    @persistent_memoize(tmp_path)
    def total(n):
        with distributed.worker_client() as client:
            time.sleep(0.3)  # while the others come to wait
            return sum(client.gather([client.submit(pow, each, 2) for each in range(n)]))

    one_slot = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**one_slot) as cluster, cluster.get_client() as client:
        asked = [client.submit(lambda _: total(3), each, pure=False) for each in range(3)]
        assert [each.result(timeout=20) for each in asked] == [5, 5, 5]
    assert total.stats().misses == 1
