"""A reference stands for a result: small, lazy, and never for another."""

import asyncio
import copy
import dataclasses
import pickle
import subprocess
import sys
import textwrap
import uuid

import cloudpickle
import numpy as np
import pytest

from persicache import PersicacheWarning, StaleReference, persistent_memoize


@pytest.fixture
def memoize():
    url = f"memory://{uuid.uuid4().hex}"

    def memoize(function=None, **options):
        decorate = persistent_memoize(url, memory=None, **options)
        return decorate if function is None else decorate(function)

    return memoize


def load(x, n=2):
    return [x] * n


def test_a_reference_is_lazy(memoize):
    f = memoize(load)
    ref = f.ref(3)
    assert (ref.is_stored, f.stats().misses) == (False, 0)
    assert ref.get() == ref.get() == f(3) == [3, 3]
    assert (ref.is_stored, f.stats().misses) == (True, 1)
    f.forget(3)
    assert not ref.is_stored
    assert ref.get() == [3, 3]
    assert f.stats().misses == 2


def test_references_to_the_same_call_are_equal(memoize):
    f, g = memoize(load), memoize(lambda x, n=2: [x] * n)
    assert f.ref(3) == f.ref(x=3, n=2)
    assert hash(f.ref(3)) == hash(f.ref(x=3, n=2))
    assert len({f.ref(3), f.ref(3.0), f.ref(3, 3), g.ref(3), f.ref(3)}) == 4
    assert f.ref(3) != 3
    assert f.ref(3) != memoize(load, version=2).ref(3)


def test_its_repr_shows_the_call_unless_arguments_are_secrets(memoize):
    assert repr(memoize(load).ref("a")) == "<Ref to tests.test_memo_ref.load(x='a', n=2)>"
    assert "token" not in repr(memoize(load, record_args=False).ref("token"))
    assert "ndarray (1000,) float64" in repr(memoize(load).ref(np.zeros(1000)))


def test_as_an_argument_it_stands_for_the_result(memoize):
    f = memoize(load)
    given = []

    def g(a, b=None, *rest, **more):
        given.append((a, b, rest, more))
        return 5

    g.__persicache_key__ = "g"
    g = memoize(g, code="own", ignore=["b"])
    r = f.ref(1)
    assert g(r, {"k": [r, (f.ref(2), 0)]}, r, z=r) == 5
    one = [1, 1]
    assert given == [(one, {"k": [one, ([2, 2], 0)]}, (one,), {"z": one})]
    assert f.stats().misses == 2
    assert given[0][0] is not given[0][1]["k"][0]


def test_a_hit_loads_nothing(memoize):
    f, g = memoize(load), memoize(sum)
    assert g(f.ref(4)) == 8
    f.clear()
    assert g(f.ref(4)) == g(f.ref(x=4)) == 8
    assert (f.stats().misses, g.stats()[:2]) == (1, (2, 1))
    assert not f.ref(4).is_stored


def test_it_counts_by_what_it_refers_to(memoize):
    f, g = memoize(load), memoize(sum)
    results = [g(f.ref(4)), g(f(4)), g([f.ref(4), *[]][0]), g(memoize(load, version=2).ref(4))]
    assert results == [8] * 4
    assert g.stats().misses == 3
    assert g.contains(f.ref(4))
    assert not g.contains(f.ref(4, 3))
    g.refresh(f.ref(4, 3))
    assert g.lookup(f.ref(4, n=3)) == 12


def test_arguments_with_references_are_not_changed(memoize):
    f = memoize(load)
    g = memoize(lambda items: len(items.pop()))
    items = [f.ref(1)]
    assert g(items) == 2
    assert items == [f.ref(1)]


def test_a_list_that_holds_itself_can_be_ignored(memoize):
    items = [1]
    items.append(items)
    assert memoize(lambda x, items: len(items), ignore="items")(1, items) == 2


@dataclasses.dataclass
class Holder:
    ref: object


def test_elsewhere_it_stays_a_reference(memoize):
    f = memoize(load)
    g = memoize(lambda holder: holder.ref.get())
    assert g(Holder(f.ref(1))) == g(Holder(f.ref(x=1))) == [1, 1]
    assert g.stats()[:2] == (1, 1)
    assert g(Holder(f.ref(2))) == [2, 2]


def test_what_goes_wrong_with_it_is_no_result(memoize):
    class Flaky:
        failing = True

        def __persicache_key__(self):
            return 1

    flaky = Flaky()

    @memoize
    def f(x):
        if flaky.failing:
            raise ValueError("not yet")
        return x

    g = memoize(lambda x: x + 1, cache_exceptions=ValueError)
    for _ in range(2):
        with pytest.raises(ValueError, match="not yet"):
            g(f.ref(1))
    assert not g.contains(f.ref(1))
    flaky.failing = False
    assert g(f.ref(1)) == 2


def test_a_changed_argument_is_not_computed_under_the_old_name(memoize):
    f = memoize(load)
    argument = [1]
    ref = f.ref(argument)
    argument.append(2)
    with pytest.raises(StaleReference, match="has changed since") as caught:
        ref.get()
    assert isinstance(caught.value, LookupError)
    assert not f.contains([1])
    assert f([1]) == [[1], [1]]
    assert ref.get() == [[1], [1]]


def test_changed_code_is_not_computed_under_the_old_name(memoize):
    namespace = {}
    exec("def helper(x): return x + 1\ndef f(x): return helper(x)", namespace)
    f = memoize(namespace["f"])
    stored, other = f.ref(1), f.ref(2)
    assert stored.get() == 2
    exec("def helper(x): return x + 2", namespace)
    assert (stored.get(), f(1)) == (2, 3)
    with pytest.raises(StaleReference, match=r"f\(x=2\).*code is not that"):
        other.get()
    with pytest.raises(StaleReference, match=r"f\(x=2\).*code is not that"):
        memoize(lambda x: x)(other)


def test_coroutines_are_awaited(memoize):
    @memoize
    async def slow(x):
        await asyncio.sleep(0)
        return [x]

    f = memoize(load)
    pair = memoize(lambda x: x)

    @memoize
    async def both(a, b):
        return a, b

    async def main():
        assert await slow.ref(1).get() == await slow.ref(1).get() == [1]
        return await both([slow.ref(1), f.ref(2)], b=slow.ref(3))

    assert asyncio.run(main()) == ([[1], [2, 2]], [3])
    assert slow.stats().misses == 2
    assert slow.ref(3).is_stored
    with pytest.raises(TypeError, match=r"slow\(x=1\)> is to a coroutine.*await its get"):
        pair(slow.ref(1))


def test_generators_are_replayed(memoize):
    @memoize
    def count(n):
        yield from range(n)

    @memoize
    async def acount(items):
        for item in items:
            yield item

    async def collected(items):
        return [item async for item in items]

    f = memoize(load)
    ref = count.ref(3)
    assert [list(ref.get()), list(ref.get())] == [[0, 1, 2]] * 2
    assert memoize(sorted)(ref) == [0, 1, 2]
    assert count.stats().misses == 1
    aref = acount.ref(f.ref(7))
    assert asyncio.run(collected(aref.get())) == asyncio.run(collected(aref.get())) == [7, 7]
    assert acount.stats().misses == 1


def test_methods_have_references(memoize):
    @dataclasses.dataclass
    class Scale:
        factor: int

        @memoize
        def apply(self, x):
            return self.factor * x

    assert Scale(2).apply.ref(3).get() == 6
    assert Scale(2).apply.ref(3) == Scale(2).apply.ref(x=3) != Scale(5).apply.ref(3)


@persistent_memoize("memory://test-memo-ref")
def by_name(x):
    return len(x)


@pytest.mark.parametrize("copied", [pickle, cloudpickle, copy])
def test_it_travels_small(copied):
    there = copy.copy if copied is copy else lambda ref: copied.loads(copied.dumps(ref))
    for argument in (b"small", np.arange(100_000)):
        ref = by_name.ref(argument)
        assert there(ref) == ref
        assert by_name.contains(argument) is False
        assert there(ref).get() == len(argument)
        assert len(pickle.dumps(ref)) < 500
        assert repr(there(ref)) == repr(ref)
        assert there(there(ref)).get() == len(argument)
        by_name.clear()


def test_large_arguments_stay_behind_only_with_a_result():
    ref = by_name.ref(np.arange(50_000))
    assert len(pickle.dumps(ref)) > 400_000
    ref.get()
    arrived = pickle.loads(pickle.dumps(ref))
    by_name.clear()
    with pytest.raises(StaleReference, match=r"ndarray \(50000,\).*stayed behind"):
        arrived.get()
    assert ref.get() == 50_000
    assert arrived.get() == 50_000
    by_name.clear()


def test_large_arguments_travel_where_a_result_is_damaged(tmp_path):
    f = persistent_memoize(tmp_path, memory=None, expires="1 h")(len)
    ref = f.ref(bytes(100_000))
    ref.get()
    (entry,) = tmp_path.rglob("*.pc")
    entry.write_bytes(entry.read_bytes()[:-1])
    arrived = copy.copy(ref)  # by what it is pickled by
    with pytest.warns(PersicacheWarning, match="computes again"):
        assert arrived.get() == 100_000


SCRIPT = """
import pickle, subprocess, sys
import cloudpickle
from persicache import persistent_memoize
memoize = persistent_memoize({store!r})
def helper(x):
    return x + {increment}
@memoize
def f(x):
    return helper(x)
@memoize
def total(values):
    return sum(values)
stored, missing = f.ref(1), f.ref(2)
stored.get()
if {dumps}:
    payload = cloudpickle.dumps((total, stored, missing, lambda: total([f.ref(1), f.ref(2)])))
    with open({file!r}, "wb") as file:
        file.write(payload)
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_it_travels_with_a_scripts_code(tmp_path):
    script, file = tmp_path / "script.py", tmp_path / "refs"
    options = {"store": str(tmp_path / "memo"), "file": str(file), "dumps": True}
    script.write_text(SCRIPT.format(increment=1, **options))
    run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    told = run(
        textwrap.dedent(f"""
        import pickle
        total, stored, missing, call = pickle.load(open({str(file)!r}, "rb"))
        print(stored.is_stored, missing.is_stored, total([stored, missing]), missing.is_stored, call())
        """)
    )
    assert told == "True False 5 True 5"


def test_a_worker_with_other_code_says_so(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "other_code.py"
    options = {"store": str(tmp_path / "memo"), "file": "", "dumps": False}
    module.write_text(SCRIPT.format(increment=1, **options))
    import other_code

    payload = pickle.dumps((other_code.stored, other_code.missing))
    module.write_text(SCRIPT.format(increment=10, **options))
    told = run(
        textwrap.dedent(f"""
        import pickle, sys
        sys.path.insert(0, {str(tmp_path)!r})
        stored, missing = pickle.loads({payload!r})
        print(stored.get())
        try:
            missing.get()
        except LookupError as error:
            print(error)
        """)
    )
    result, error = told.splitlines()
    assert result == "2"
    assert error.startswith("other_code.f(x=2) has no stored result in ")
    assert error.endswith("the function's code is not that of where the reference was made")
