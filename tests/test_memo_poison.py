"""Whatever callers do to results and arguments, what is stored stays as it was computed."""

import asyncio
import dataclasses
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from same import assert_same

from persicache import persistent_memoize


def fresh(n=3):
    """Return what can be changed in many places."""
    return {
        "list": [1, [2, bytearray(b"3")]],
        "tuple": ([4], {5}),
        "small": np.zeros(n),
        "large": np.arange(n * 10_000),
        "frame": pd.DataFrame({"a": [1.0] * n, "b": list("xyz"[:n])}),
    }


def spoil(value):
    """Change all that can be."""
    if isinstance(value, dict):
        for each in value.values():
            spoil(each)
        value["more"] = 1
    elif isinstance(value, (list, tuple)):
        for each in value:
            spoil(each)
        if isinstance(value, list):
            value.append(9)
    elif isinstance(value, bytearray):
        value[:] = b"spoilt"
    elif isinstance(value, set):
        value.add(9)
    elif isinstance(value, np.ndarray):
        value[:] = 9
    elif isinstance(value, pd.DataFrame):
        value.iloc[:, 0] = 9.0
        value["more"] = 1


def by_calling(memoize):
    return memoize(fresh)


def by_lookup(memoize):
    f = memoize(fresh)
    return lambda n: (f(n), f.lookup(n))[1]


def by_refreshing(memoize):
    f = memoize(fresh)
    f.refresh(3)
    return f


def by_putting(memoize):
    f = memoize(fresh)
    given = fresh()
    f.put(given, 3)
    spoil(given)
    return f


def by_method(memoize):
    @dataclasses.dataclass
    class Source:
        n: int

        @memoize
        def get(self):
            return fresh(self.n)

    return lambda n: Source(n).get()


def by_awaiting(memoize):
    @memoize
    async def f(n):
        return fresh(n)

    return lambda n: asyncio.run(f(n))


def by_generating(memoize):
    @memoize
    def f(n):
        item = fresh(n)
        yield item
        spoil(item)
        yield fresh(n)

    def ask(n):
        items = []
        for item in f(n):
            items.append(item)
            if len(items) == 1:
                result = fresh(n)
                assert_same(item, result)
                spoil(item)
        return items[1]

    return ask


def by_generating_asynchronously(memoize):
    @memoize
    async def f(n):
        yield fresh(n)

    async def collected(n):
        return [item async for item in f(n)]

    return lambda n: asyncio.run(collected(n))[0]


def by_map(memoize):
    f = memoize(fresh)

    def ask(n):
        one, two = f.map([n, n])
        spoil(one)
        return two

    return ask


def by_map_in_threads(memoize):
    f = memoize(fresh)

    def ask(n):
        with ThreadPoolExecutor(2) as pool:
            one, two = f.map([n, n], executor=pool)
        spoil(one)
        return two

    return ask


def by_asynchronous_map(memoize):
    @memoize
    async def f(n):
        return fresh(n)

    async def collected(n):
        return [result async for result in f.map([n, n], concurrency=2)]

    def ask(n):
        one, two = asyncio.run(collected(n))
        spoil(one)
        return two

    return ask


def by_reference(memoize):
    f = memoize(fresh)
    return lambda n: f.ref(n).get()


def by_reference_as_an_argument(memoize):
    f = memoize(fresh)

    @memoize
    def g(one, two):
        spoil(one)
        return two[0]

    return lambda n: g(f.ref(n), [f.ref(n)])


def by_exception(memoize):
    @memoize(cache_exceptions=ValueError)
    def f(n):
        raise ValueError(fresh(n))

    def ask(n):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - its argument is what counts
            f(n)
        caught.value.add_note("mine")
        assert len(caught.value.__notes__) <= 2
        return caught.value.args[0]

    return ask


WAYS = [way for name, way in list(globals().items()) if name.startswith("by_")]


@pytest.fixture(params=["directory", "memory"])
def url(request, tmp_path):
    return tmp_path / "memo" if request.param == "directory" else f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize("memory", ["64 MiB", None])
@pytest.mark.parametrize("way", WAYS)
def test_what_callers_do_to_results_changes_nothing_stored(url, memory, way):
    def memoize(function=None, **options):
        decorate = persistent_memoize(url, memory=memory, **options)
        return decorate if function is None else decorate(function)

    ask = way(memoize)
    for _ in range(4):
        result = ask(3)
        assert_same(result, fresh())
        spoil(result)


def total(value):
    return float(value["small"].sum() + value["frame"]["a"].sum() + len(value["list"]))


@pytest.mark.parametrize("memory", ["64 MiB", None])
def test_what_is_done_to_arguments_changes_nothing_stored(url, memory):
    @persistent_memoize(url, memory=memory)
    def f(value):
        result = total(value)
        spoil(value)
        return result

    for _ in range(3):
        given = fresh()
        assert f(given) == 5.0
    assert f.stats().misses == 1
    changed = fresh()
    assert f(changed) == 5.0
    changed["small"][:] = 100
    assert f(changed) == 305.0
    changed = fresh()
    changed["small"][:] = 100
    assert f(changed) == 305.0
    assert f(fresh()) == 5.0
    assert f.stats().misses == 2


def test_what_is_done_to_arguments_changes_no_map_and_no_reference(url):
    f = persistent_memoize(url, memory=None)(total)

    def given():
        value = fresh()
        for i in range(4):
            value["small"][:] = i
            yield value
        spoil(value)

    expected = [5.0, 8.0, 11.0, 14.0]
    assert list(f.map(given())) == expected
    with ThreadPoolExecutor(2) as pool:
        f.clear()
        assert list(f.map(given(), executor=pool)) == expected
    argument = fresh()
    ref = f.ref(argument)
    spoil(argument)
    assert ref.get() == 5.0
    f.clear()
    with pytest.raises(LookupError, match="has changed since"):
        ref.get()
