"""`f.explain(...)` says why a call hits or misses."""

import importlib.util
import sys
import textwrap
import warnings

import numpy as np
import pandas as pd
import pytest

import persicache
from persicache import BackendError, PersicacheWarning, persistent_memoize
from persicache.codecs import EntryCodec
from persicache.mappings import Entries
from persicache.memo import MemoizedFunction
from persicache.memo.settings import Settings
from persicache.storage.memory import MemoryStorage


def changes(explanation):
    return [str(difference).split(": ", 1) for difference in explanation.differences]


def square(x, y=2, *rest, **more):
    return (x, y, rest, more)


def test_a_hit_says_when_it_was_computed_and_how_long_it_took(tmp_path):
    f = persistent_memoize(tmp_path, memory=None, expires="1 h")(square)
    f(1)
    told = f.explain(1)
    assert told.is_hit
    assert not told.differences
    text = str(told)
    assert text.startswith(f"{square.__module__}.square(x=1, y=2, rest=(), more={{}}) is a hit")
    assert "computed" in text
    assert "python/3" in text
    assert "it expires in 60 min" in text
    assert f.stats()[:2] == (0, 1)  # asking is no use


def test_a_hit_from_memory_says_so(tmp_path):
    f = persistent_memoize(tmp_path)(lambda x: x)
    f(1)
    assert "in the memory of this process" in str(f.explain(1))
    assert "in the memory" not in str(f.explain(x=1))


def test_of_a_new_function_nothing_is_stored(tmp_path):
    f = persistent_memoize(tmp_path)(square)
    assert "nothing is stored of this function" in str(f.explain(1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("was", "now", "change"),
    [
        (3, 4, "was 3, is 4"),
        (1, 1.0, "was 1, is 1.0"),
        (1, True, "was 1, is True"),
        ("a", b"a", "was 'a', is b'a'"),
        (0.0, -0.0, "was 0.0, is -0.0"),
        ([1, 2], [1, 3], "was [1, 2], is [1, 3]"),
        ("a" * 1000, "a" * 500 + "b" + "a" * 499, "looks the same, 'aaa"),
        (list(range(1000)), [*range(999), 0], "differs inside"),
        (np.zeros(5), np.ones(5), "looks the same, ndarray (5,) float64, and differs inside"),
        (np.zeros(5), np.zeros(6), "was ndarray (5,) float64, is ndarray (6,) float64"),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), "looks the same, DataFrame (1, 1)"),
        (np.zeros(1 << 18), np.ones(1 << 18), "too large to be compared"),
        ([np.zeros(1 << 18)], [np.ones(1 << 18)], "was [array([0., 0."),
    ],
    ids=range(13),
)
def test_an_argument_that_differs_is_named(tmp_path, was, now, change):
    f = persistent_memoize(tmp_path)(square)
    f(was)
    told = f.explain(now)
    assert not told.is_hit
    assert [difference[:2] for difference in told.differences] == [("argument", "x")]
    assert change in told.differences[0].change
    assert not f.contains(now)


class Celsius:
    def __init__(self, degrees):
        self.degrees = degrees

    def __repr__(self):
        return f"{self.degrees} degrees"


class Fahrenheit(Celsius):
    pass


def test_types_are_told_where_two_arguments_look_the_same(tmp_path):
    f = persistent_memoize(tmp_path)(square)
    f(Celsius(30))
    (difference,) = f.explain(Fahrenheit(30)).differences
    assert "looks the same, 30 degrees, and differs in type" in difference.change
    assert difference.change.endswith(f"was {__name__}.Celsius, is {__name__}.Fahrenheit")
    assert "was 30 degrees, is 31 degrees" in str(f.explain(Celsius(31)))


def test_the_nearest_entry_is_the_one_with_the_fewest_other_arguments(tmp_path):
    f = persistent_memoize(tmp_path)(square)
    f(1, 1, 1, z=1)
    f(2, 2, 2, z=2)
    assert changes(f.explain(2, 2, 1, z=2)) == [["argument rest", "was (2,), is (1,)"]]
    assert changes(f.explain(1, 1, 1)) == [["argument more", "was {'z': 1}, is {}"]]
    assert "the nearest of 2 entries" in str(f.explain(3))


NUMPY = np.__version__
MODULE = """
import {library}
RATE = 0.2
NAME = "secret"
class Model:
    order = 1
    def fit(self, x):
        return x * self.order
def deep(x):
    return x + 1
def helper(x):
    return deep(x) * RATE, NAME, {library}.pi, Model().fit(x)
def f(x):
    "Docs."
    return helper(x)
"""
SOURCE = textwrap.dedent(MODULE).format(library="math")


@pytest.fixture
def load(tmp_path):
    """Return a function that decorates `f` of a module with this source."""

    def loaded(source, **options):
        path = tmp_path / "explained.py"
        path.write_text(source)
        sys.dont_write_bytecode, wrote = True, sys.dont_write_bytecode
        spec = importlib.util.spec_from_file_location("explained", path)
        module = sys.modules["explained"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.dont_write_bytecode = wrote
        return persistent_memoize(tmp_path / "memo", memory=None, **options)(module.f)

    yield loaded
    sys.modules.pop("explained", None)


@pytest.mark.parametrize(
    ("edit", "to", "told"),
    [
        ("x + 1", "x + 2", ["code explained:deep: has changed"]),
        ("RATE = 0.2", "RATE = 0.25", ["constant explained.RATE: was 0.2, is 0.25"]),
        ("order = 1", "order = 2", ["constant explained:Model.order: was 1, is 2"]),
        ('NAME = "secret"', 'NAME = "hidden"', ["constant explained.NAME: has changed"]),
        ("return x * self.order", "return self.order", ["code explained:Model.fit: has changed"]),
        ("return helper(x)", "return helper(x), 1", ["code explained:f: has changed"]),
        ("f(x):\n", "f(x, y=1):\n", ["argument y: is new: 1", "code explained:f: has changed"]),
        (
            "math",
            "numpy",
            ["code explained:helper: has changed", f"library numpy: is new: {np.__version__}"],
        ),
    ],
)
def test_what_changed_in_the_code_is_named(load, edit, to, told):
    load(SOURCE)(1)
    explanation = load(SOURCE.replace(edit, to)).explain(1)
    assert not explanation.is_hit
    assert list(map(str, explanation.differences)) == told
    assert "secret" not in str(explanation)
    assert load(SOURCE).explain(1).is_hit
    assert load("# moved\n" + SOURCE.replace("Docs", "More docs")).explain(1).is_hit


def test_texts_among_the_constants_are_not_stored(load, tmp_path):
    load(SOURCE)(1)
    (inventory,) = (tmp_path / "memo").rglob("*.code")
    content = inventory.read_bytes()
    assert b"explained.NAME" in content
    assert b"0.2" in content
    assert b"secret" not in content


def test_the_same_arguments_by_other_code_are_nearer_than_others_by_this(load):
    load(SOURCE)(1)
    edited = load(SOURCE.replace("x + 1", "x + 2"))
    edited(2)
    assert changes(edited.explain(1)) == [["code explained:deep", "has changed"]]
    assert changes(edited.explain(3)) == [["argument x", "was 2, is 3"]]


def test_another_version_of_a_library_is_named(load, monkeypatch):
    source = SOURCE.replace("math", "numpy")
    load(source)(1)
    from persicache.keys import graph

    real = graph.library
    monkeypatch.setattr(graph, "library", lambda name: "numpy 0.9" if name == "numpy" else real(name))
    assert changes(load(source).explain(1)) == [["library numpy", f"was {NUMPY}, is 0.9"]]


def test_what_changed_is_told_as_far_as_it_is_known(load, tmp_path):
    load(SOURCE)(1)
    edited = load(SOURCE.replace("x + 1", "x + 2"))
    for inventory in (tmp_path / "memo").rglob("*.code"):
        for content in (inventory.read_bytes()[:-9], b""):
            inventory.write_bytes(content)
            assert "what it consisted of is not recorded" in str(edited.explain(1))
        inventory.unlink()
    assert changes(edited.explain(1)) == [["code", "has changed, and what it consisted of is not recorded"]]


def test_inventories_are_no_entries_and_leave_with_them(load, tmp_path):
    f = load(SOURCE)
    f(1)
    f(2)
    assert len(list((tmp_path / "memo").rglob("*.code"))) == 1
    assert len(persicache.open(tmp_path / "memo")) == 2
    assert f.clear() == 2
    assert not [path for path in tmp_path.rglob("memo/*=*/**/*") if path.is_file()]
    f(1)
    assert len(list((tmp_path / "memo").rglob("*.code"))) == 1


def test_another_version_or_dependency_is_told(tmp_path):
    (tmp_path / "rates.csv").write_text("1")
    limits = {"top": 1}

    def decorated(version):
        options = {"version": version, "depends_on": [tmp_path / "rates.csv", limits]}
        return persistent_memoize(tmp_path / "memo", **options)(square)

    decorated("1.0")(1)
    assert changes(decorated("1.1").explain(1)) == [["version", "was '1.0', is '1.1'"]]
    assert changes(decorated(None).explain(1)) == [["version", "was '1.0', is None"]]
    (tmp_path / "rates.csv").write_text("2")
    limits["top"] = 2
    file, value = decorated("1.0").explain(1).differences
    assert (file.kind, file.change) == ("depends_on", "has changed")
    assert "rates.csv" in file.name
    assert (value.name, value.change) == ("[1] dict", "has changed")


def test_an_expired_result_says_since_when(tmp_path):
    f = persistent_memoize(tmp_path, expires=0)(square)
    f(1)
    told = f.explain(1)
    assert not told.is_hit
    assert "its result expired" in str(told)
    assert str(told).endswith("ago")


def test_a_damaged_entry_is_told(tmp_path):
    f = persistent_memoize(tmp_path, memory=None)(square)
    f(1)
    (entry,) = tmp_path.rglob("*.pc")
    entry.write_bytes(entry.read_bytes()[:-3])
    told = f.explain(1)
    assert not told.is_hit
    assert "there is an entry, which will be replaced, because" in str(told)
    f.put("new", 1)
    assert f.explain(1).is_hit
    f(2)
    f.forget(2)
    entry.write_bytes(b"")
    assert "no entry of this function tells what it is for" in str(f.explain(2))


def test_secrets_are_not_told_and_not_stored(tmp_path):
    f = persistent_memoize(tmp_path, record_args=False)(square)
    f("password-one", token=b"token-one")
    told = f.explain("password-two")
    assert "record_args=False" in str(told)
    assert f"{square.__name__}(...)" in str(told)
    assert "password" not in str(told)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"marks" not in stored
    g = persistent_memoize(tmp_path)(square)
    assert "which arguments it is for is not recorded" in str(g.explain("x"))


def test_a_stored_exception_is_told(tmp_path):
    @persistent_memoize(tmp_path, cache_exceptions=ValueError)
    def f(x):
        raise ValueError(f"bad {x}")

    with pytest.raises(ValueError, match="bad 1"):
        f(1)
    assert "it is an exception: ValueError('bad 1')" in str(f.explain(1))


TABLE = {i: i for i in range(1000)}


def test_code_that_can_not_be_watched_is_told(tmp_path):
    @persistent_memoize(tmp_path)
    def f(x):
        return TABLE[x]

    assert "is not noticed" in str(f.explain(1))
    assert "is not noticed" not in str(persistent_memoize(tmp_path)(square).explain(1))


def test_trouble_with_the_store_and_pauses_are_told():
    class Slow(MemoryStorage):
        """Answers after 20 s that it doesn't."""

        now, calls = 0.0, 0

        def read(self, name):
            self.calls += 1
            self.now += 20
            raise BackendError(place=self.url, action="read", cause="nobody answers")

    slow = Slow("memory://slow-explained")
    f = MemoizedFunction(square, Entries(slow, EntryCodec()), Settings.of(), clock=lambda: slow.now)
    assert "the store can't be used: could not read" in str(f.explain(1))
    with pytest.warns(PersicacheWarning, match="nobody answers"):
        f(1)
    calls = slow.calls
    assert "the store is left alone for another 3.33 min" in str(f.explain(1))
    assert slow.calls == calls


def test_a_store_that_can_not_keep_inventories_keeps_results(tmp_path):
    class Full(MemoryStorage):
        """Refuses all but entries."""

        def write(self, name, chunks, **options):
            if name.endswith(".pc"):
                return super().write(name, chunks, **options)
            raise BackendError(place=self.url, action="write", cause="full")

    entries = Entries(Full("memory://full-explained"), EntryCodec())
    f = MemoizedFunction(square, entries, Settings.of(memory=None, single_flight=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(1)
    assert f.explain(1).is_hit
    assert f.stats().errors == 0


def test_only_the_newest_entries_of_a_huge_store_are_looked_at(tmp_path, monkeypatch):
    from persicache.memo import nearest

    f = persistent_memoize(tmp_path)(square)
    for x in range(10):
        f(x)
    monkeypatch.setattr(nearest, "MOST_ENTRIES", 4)
    assert "the nearest of the 4 newest of 10 entries" in str(f.explain(99))


def test_methods_and_all_kinds_explain(tmp_path):
    class Scale:
        def __persicache_key__(self):
            return "scale"

        @persistent_memoize(tmp_path)
        def apply(self, x):
            return x

    assert not Scale().apply.explain(1).is_hit
    Scale().apply(1)
    assert Scale().apply.explain(1).is_hit

    @persistent_memoize(tmp_path)
    def numbers(n):
        yield from range(n)

    list(numbers(3))
    assert numbers.explain(3).is_hit
    assert changes(numbers.explain(4)) == [["argument n", "was 3, is 4"]]


def test_notebooks_show_a_table_and_escape_what_arguments_say(tmp_path):
    f = persistent_memoize(tmp_path)(square)
    f("<b>")
    html = f.explain("<i>")._repr_html_()
    assert html.startswith("<table>")
    assert "was &#x27;&lt;b&gt;&#x27;, is &#x27;&lt;i&gt;&#x27;" in html
    assert "<i>" not in html


def test_an_argument_that_can_not_be_shown_or_digested_again_is_no_trouble(tmp_path):
    digested = []

    class Odd:
        def __repr__(self):
            raise RuntimeError("no repr")

        def __persicache_key__(self):
            digested.append(1)
            if len(digested) == 2:
                raise RuntimeError("asked twice")
            return "odd"

    f = persistent_memoize(tmp_path)(lambda x: 5)
    assert f(Odd()) == 5
    assert len(digested) == 2
    assert "Odd" in str(f.explain(Odd()))


def test_one_more_request_a_process_and_code_on_s3(s3):
    f = persistent_memoize(s3.url, storage_options=s3.storage_options, single_flight=False)(square)
    f(0)
    s3.server.clear()
    f.put("x", 1)
    assert [request.split()[0] for request in s3.server.requests()] == ["PUT"]
    s3.server.clear()
    g = persistent_memoize(s3.url, storage_options=s3.storage_options, single_flight=False)(square)
    g(2)
    assert [request.split()[0] for request in s3.server.requests()][-2:] == ["PUT", "HEAD"]
    assert changes(g.explain(3)) == [["argument x", "was 2, is 3"]]
