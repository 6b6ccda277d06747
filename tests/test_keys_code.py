"""A fingerprint follows edits that matter, at any depth, and no others."""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import importlib
import operator
import os
import subprocess
import sys
import textwrap
import weakref

import numpy as np
import pytest

from persicache.keys import Fingerprint, digest, fingerprint

HELPER = """
def scale(x):
    return x * 3

def unused(x):
    return x

TABLE = {"a": 1}
"""

SOURCE = '''
"""About this module."""
import functools
import enum
import dataclasses
import math
import numpy as np
import HELPER
from HELPER import scale as renamed

RATE = 0.19
NAMES = ["a", "b"]
UNRELATED = 5

def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) + 0
    return wrapper

class Base:
    factor = 2
    def area(self, x):
        """Area."""
        return x * self.factor

class Shape(Base):
    def twice(self, x):
        return self.area(x) * 2

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int = 1

def deepest(x):
    return x + RATE

def middle(x):
    # a comment
    return [deepest(i) for i in range(x)]

@logged
def decorated(x):
    return x + 100

@functools.lru_cache
def cached(x):
    return x + 200

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def f(x, y=10, *, z=20):
    """What f does."""
    total = middle(x)
    total += renamed(x) + HELPER.scale(x) + decorated(x) + cached(x)
    total += Shape().twice(x) + Point().x + Color.RED.value
    total += len(NAMES) + math.sin(x) + np.linalg.norm([x])
    total += (lambda v: v + 7)(x) + even(x)
    if x in {"p", "q", "r", "s"}:
        return None
    return total, HELPER.TABLE
'''

EDITS = {
    "body": ("total = middle(x)", "total = middle(x + 1)"),
    "default": ("y=10", "y=11"),
    "keyword default": ("z=20", "z=21"),
    "helper of a helper's constant": ("RATE = 0.19", "RATE = 0.2"),
    "helper of a helper": ("return x + RATE", "return x - RATE"),
    "comprehension in a helper": ("[deepest(i) for", "[deepest(i + 1) for"),
    "list constant": ('["a", "b"]', '["a", "c"]'),
    "method": ("return self.area(x) * 2", "return self.area(x) * 4"),
    "method of a base": ("return x * self.factor", "return x + self.factor"),
    "class attribute": ("factor = 2", "factor = 3"),
    "base": ("class Shape(Base)", "class Shape(Base, dict)"),
    "enum value": ("RED = 1", "RED = 2"),
    "dataclass default": ("x: int = 1", "x: int = 2"),
    "decorator": ("function(*args) + 0", "function(*args) + 1"),
    "decorated": ("x + 100", "x + 101"),
    "under lru_cache": ("x + 200", "x + 201"),
    "lambda": ("v + 7", "v + 8"),
    "mutual recursion": ("n != 0 and", "n != 1 and"),
    "set constant": ('"s"}', '"t"}'),
    "library function": ("math.sin", "math.cos"),
    "library attribute": ("np.linalg.norm", "np.linalg.det"),
    "argument order": ("def f(x, y=10, ", "def f(y, x=10, "),
}

NO_EDITS = {
    "comment": ("# a comment", "# another comment\n    # of two lines"),
    "docstring": ("What f does.", "What else f does."),
    "no docstring": ('    """What f does."""\n', ""),
    "new docstring": ("return x + 100", '"""New."""\n    return x + 100'),
    "docstring of a method": ('        """Area."""\n', ""),
    "docstring of the module": ("About this module.", "About"),
    "blank lines": ("def deepest", "\n\n\n\n\ndef deepest"),
    "whitespace": ("middle(x)\n", "middle( x )\n"),
    "unrelated constant": ("UNRELATED = 5", "UNRELATED = 6"),
    "unrelated function": ("def deepest", "def nothing():\n    pass\n\ndef deepest"),
}


class Workspace:
    """Writes modules and imports them under the same name again and again."""

    def __init__(self, path):
        self.path = path
        self.count = 0

    def load(self, source, helper=HELPER, name="edited_module"):
        importlib.invalidate_caches()
        self.count += 1
        # Another file each time: neither bytecode caches nor the file's name play a part.
        folder = self.path / str(self.count)
        folder.mkdir()
        (folder / "edited_helper.py").write_text(helper)
        (folder / f"{name}.py").write_text(source.replace("HELPER", "edited_helper"))
        for module in ("edited_helper", name):
            sys.modules.pop(module, None)
        sys.path.insert(0, str(folder))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(folder))


@pytest.fixture
def workspace(tmp_path):
    yield Workspace(tmp_path)
    for module in ("edited_helper", "edited_module"):
        sys.modules.pop(module, None)


def edit(source, change):
    old, new = change
    assert source.count(old) == 1, change
    return source.replace(old, new)


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_an_edit_is_seen(workspace, change):
    before = fingerprint(workspace.load(SOURCE).f)
    after = fingerprint(workspace.load(edit(SOURCE, change)).f)
    assert before.digest != after.digest
    assert before.describe() != after.describe()
    again = fingerprint(workspace.load(SOURCE).f)
    assert before.digest == again.digest
    assert before.describe() == again.describe()


@pytest.mark.parametrize("change", NO_EDITS.values(), ids=NO_EDITS)
def test_what_changes_nothing_is_not_seen(workspace, change):
    before = fingerprint(workspace.load(SOURCE).f)
    after = fingerprint(workspace.load(edit(SOURCE, change)).f)
    assert before.describe() == after.describe()
    assert before.digest == after.digest


def test_edits_in_another_module_are_seen(workspace):
    before = fingerprint(workspace.load(SOURCE).f).digest
    assert fingerprint(workspace.load(SOURCE, HELPER.replace("x * 3", "x * 4")).f).digest != before
    assert fingerprint(workspace.load(SOURCE, HELPER.replace('"a": 1', '"a": 2')).f).digest != before
    assert (
        fingerprint(workspace.load(SOURCE, HELPER.replace("return x\n", "return -x\n")).f).digest == before
    )


def test_describe_names_what_changed(workspace):
    before = fingerprint(workspace.load(SOURCE).f).describe()
    after = fingerprint(workspace.load(edit(SOURCE, EDITS["helper of a helper"])).f).describe()
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        "edited_module:deepest"
    }
    after = fingerprint(workspace.load(edit(SOURCE, EDITS["helper of a helper's constant"])).f).describe()
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        "edited_module.RATE"
    }
    assert f"numpy {np.__version__}" in before


def test_own_and_off(workspace):
    module, edited = workspace.load(SOURCE), workspace.load(edit(SOURCE, EDITS["helper of a helper"]))
    assert fingerprint(module.f, code="own").digest == fingerprint(edited.f, code="own").digest
    body = workspace.load(edit(SOURCE, EDITS["body"]))
    assert fingerprint(module.f, code="own").digest != fingerprint(body.f, code="own").digest
    assert fingerprint(module.f, code="off").digest == fingerprint(body.f, code="off").digest
    with pytest.raises(ValueError, match="deep"):
        fingerprint(module.f, code="none")


@pytest.mark.parametrize("code", ["deep", "own", "off"])
def test_what_is_bound_counts(code):
    def adder(n):
        return lambda x: x + n

    def count(function):
        return fingerprint(function, code=code).digest

    assert count(adder(1)) == count(adder(1))
    assert count(adder(1)) != count(adder(2))
    assert count(functools.partial(int, base=2)) != count(functools.partial(int, base=3))
    assert count("a".join) != count("b".join)


def test_functions_in_closures_are_followed():
    def make(function):
        def wrapped(x):
            return function(x)

        return wrapped

    one, two = (lambda x: x + 1), (lambda x: x + 2)
    assert fingerprint(make(one)).digest != fingerprint(make(two)).digest
    assert fingerprint(make(one)).digest == fingerprint(make(lambda x: x + 1)).digest
    assert fingerprint(make(make(one))).digest != fingerprint(make(make(two))).digest


def test_lambdas_on_one_line_differ():
    one, two, three = (lambda x: x + 1), (lambda x: x + 2), (lambda x, y=1: x + 1)
    assert len({fingerprint(function).digest for function in (one, two, three)}) == 3


def test_which_of_two_namesakes_is_called_counts():
    one, two = (lambda x: x + 1), (lambda x: x + 2)

    def make(first, second):
        return lambda x: first(x) - second(x)

    assert fingerprint(make(one, two)).digest != fingerprint(make(two, one)).digest


def run(source, namespace=None, name="user_code"):
    namespace = {"__name__": name} if namespace is None else namespace
    exec(textwrap.dedent(source), namespace)
    return namespace


def test_a_table_of_functions_that_use_the_table():
    source = """
    def a(x): return TABLE["b"](x - 1) if x else 0
    def b(x): return TABLE["a"](x) if x else {}
    TABLE = {"a": a, "b": b}
    MANY = {n: eval(f"lambda x: MANY[x] + {n}") for n in range(60)}
    def f(x): return TABLE["a"](x), MANY
    """
    one, other = fingerprint(run(source)["f"]).digest, fingerprint(run(source)["f"]).digest
    assert one == other
    for change in (("else {}", "else 1"), ("+ {n}", "- {n}"), ("x - 1", "x - 2")):
        assert fingerprint(run(edit(source, change))["f"]).digest != one


def test_sets_and_dicts_of_functions_have_no_order():
    source = """
    def a(x): return x
    def b(x): return x + 1
    S = frozenset([a, b])
    D = {"a": a, "b": b}
    def f(): return S, D
    """
    one = fingerprint(run(source)["f"]).digest
    assert fingerprint(run(source.replace('"a": a, "b": b', '"b": b, "a": a'))["f"]).digest == one


def test_imports_inside_functions_are_followed(workspace, monkeypatch):
    source = """
def f(x):
    import HELPER
    from HELPER import unused
    from math import sin
    return HELPER.scale(x) + unused(x)
"""

    def load(helper, folder):
        module = workspace.load(source, helper)
        monkeypatch.syspath_prepend(workspace.path / folder)
        return module

    module = load(HELPER, "1")
    assert "edited_helper" not in sys.modules
    before = fingerprint(module.f)
    assert {"edited_helper:scale", "edited_helper:unused"} < before.describe().keys()
    module.f(1)
    assert before.is_current()
    assert fingerprint(module.f).digest == before.digest
    assert fingerprint(load(HELPER.replace("x * 3", "x * 4"), "2").f).digest != before.digest


def test_a_missing_import_is_no_trouble():
    f = run("""
    def f():
        try:
            import no_such_module_at_all
            from .nowhere import nothing
        except ImportError:
            return None
    """)["f"]
    assert isinstance(fingerprint(f), Fingerprint)


def test_library_decorators_are_seen_through():
    source = """
    import contextlib, functools
    @contextlib.contextmanager
    def manager(): yield VALUE
    @functools.singledispatch
    def generic(x): return 1
    @generic.register
    def _(x: int): return 2
    VALUE = 3
    def f():
        with manager() as m:
            return m + generic(1)
    """
    before = fingerprint(run(source)["f"]).digest
    assert fingerprint(run(source))
    assert fingerprint(run(source)["f"]).digest == before
    for change in (("VALUE = 3", "VALUE = 4"), ("return 1", "return 5"), ("return 2", "return 5")):
        assert fingerprint(run(edit(source, change))["f"]).digest != before


def test_instances_count_with_their_class():
    source = """
    class Model:
        def __init__(self, weight): self.weight = weight
        def predict(self, x): return x * self.weight
    MODEL = Model(3)
    MODELS = [Model(1)]
    def f(x): return MODEL.predict(x)
    def g(x): return MODELS[0].predict(x)
    """
    before = run(source)
    for name in "fg":
        changed = run(source.replace("x * self", "x + self"))
        assert fingerprint(before[name]).digest != fingerprint(changed[name]).digest
    other = run(source.replace("Model(3)", "Model(4)"))
    assert fingerprint(before["f"]).digest != fingerprint(other["f"]).digest
    assert fingerprint(before["MODEL"].predict).digest != fingerprint(other["MODEL"].predict).digest
    assert fingerprint(before["Model"]).digest == fingerprint(other["Model"]).digest


def test_undigestible_constants_count_by_their_type():
    source = "import threading\nLOCK = threading.Lock()\ndef f(): return LOCK\n"
    assert fingerprint(run(source)["f"]).digest == fingerprint(run(source)["f"]).digest
    assert (
        fingerprint(run(source.replace("Lock()", "Event()"))["f"]).digest
        != fingerprint(run(source)["f"]).digest
    )


def test_memoized_functions_are_followed():
    source = """
    class Memoized:
        def __init__(self, function): self.__wrapped__ = function; self.calls = 0
        def __call__(self, *args): self.calls += 1; return self.__wrapped__(*args)
    @Memoized
    def g(x): return x + 1
    @Memoized
    def f(x): return f(x - 1) + g(x) if x else 0
    """
    before, after = run(source), run(source.replace("return x + 1", "return x + 2"))
    assert fingerprint(before["f"]).digest != fingerprint(after["f"]).digest
    assert fingerprint(before["f"].__wrapped__).digest != fingerprint(after["f"].__wrapped__).digest
    code = fingerprint(before["f"].__wrapped__)
    before["f"](3)
    assert code.is_current()
    assert fingerprint(before["f"].__wrapped__).digest == code.digest


def test_persicache_code_says_what_to_follow():
    source = """
    class Wrapper:
        def __init__(self, function): self.hidden = function
        def __persicache_code__(self): return self.hidden
    g = Wrapper(lambda x: x + 1)
    def f(x): return g.hidden(x)
    """
    after = run(source.replace("x + 1", "x + 2"))
    assert fingerprint(run(source)["f"]).digest != fingerprint(after["f"]).digest


@pytest.mark.parametrize(
    "replace",
    [
        "def helper(x): return x + 2",
        "RATE = 4",
        "NAMES.append('c')",
        "TABLE['a'].append(2)",
        "helper.__code__ = (lambda x: x).__code__",
        "f.__defaults__ = (3,)",
        "f.__kwdefaults__ = {'z': 9}",
        "print = None",
        "LATER = 1",
        "Thing.method = lambda self: 3",
    ],
)
def test_replacing_what_it_looked_at_is_noticed(replace):
    namespace = run("""
    RATE, NAMES, TABLE = 3, ["a", "b"], {"a": [1]}
    def helper(x): return x + 1
    class Thing:
        def method(self): return 2
    def f(x, y=1, *, z=2):
        print(NAMES, TABLE, Thing().method())
        return helper(x) * RATE + LATER
    """)
    code = fingerprint(namespace["f"])
    assert code.is_current()
    exec(replace, namespace)
    assert not code.is_current()
    again = fingerprint(namespace["f"])
    assert again.is_current()
    assert again.digest != code.digest


def test_a_rebound_closure_is_noticed():
    def make():
        n = 1

        def get():
            return n

        def put(value):
            nonlocal n
            n = value

        return get, put

    get, put = make()
    code = fingerprint(get)
    put(2)
    assert not code.is_current()
    assert fingerprint(get).digest != code.digest
    put(1)
    assert fingerprint(get).digest == code.digest


def test_a_reloaded_module_is_noticed(workspace):
    module = workspace.load(SOURCE)
    code = fingerprint(module.f)
    sys.modules["edited_helper"].scale = lambda x: x
    assert not code.is_current()


def test_anything_that_can_be_called_has_a_fingerprint():
    class Callable:
        def __init__(self, n):
            self.n = n

        def __call__(self, x):
            return x + self.n

    everything = [
        *(
            len,
            operator.add,
            operator.itemgetter(1),
            operator.itemgetter(2),
            np.sin,
            np.linalg.norm,
            int,
            np.mean,
        ),
        *(Callable, Callable(1), Callable(2), Callable(1).__call__, functools.partial(len), "a".upper),
        *(
            os.path.join,
            collections.OrderedDict,
            str.upper,
            contextlib.suppress,
            functools.reduce,
            lambda: 1,
        ),
    ]
    digests = [fingerprint(function).digest for function in everything]
    assert len(set(digests)) == len(digests)
    assert digests == [fingerprint(function).digest for function in everything]


def test_deep_call_graphs_are_no_trouble():
    lines = [f"def f{n}(x): return f{n + 1}(x)" for n in range(3000)]
    namespace = run("\n".join([*lines, "def f3000(x): return x"]))
    assert len(fingerprint(namespace["f0"]).describe()) == 3001


def test_a_fingerprint_is_collected_with_its_function():
    def make():
        def function(x):
            return x

        return function

    function = make()
    code = fingerprint(function)
    gone = weakref.ref(function)
    del function, code
    gc.collect()
    assert gone() is None


def test_functions_as_values():
    def make(n):
        return lambda x: x + n

    assert digest(make(1)) == digest(make(1))
    assert digest(make(1)) != digest(make(2))
    assert digest({"f": [make(1)]}) != digest({"f": [make(2)]})
    assert digest(functools.partial(make, 1)) != digest(functools.partial(make, 2))
    assert digest(len) != digest(max)
    assert digest(np) != digest(os)


SCRIPT = """
import sys
sys.path.insert(0, {path!r})
from persicache.keys import fingerprint, digest
RATE = 2
class Thing:
    def method(self): return {{1, 2, 3}}
def helper(x):
    {docstring}
    return x in {{"a", "b", "c"}} and Thing()
def f(x, names=frozenset("abc")):
    return [helper(y) * {rate} for y in names]
print(fingerprint(f).digest.hex(), digest(f).hex(), digest(Thing()).hex())
"""


def start(script, seed):
    command = [sys.executable, str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
    )
    return done.stdout.split()


def test_scripts_agree_whatever_the_hash_seed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first, second, third = tmp_path / "a.py", tmp_path / "elsewhere" / "b.py", tmp_path / "c.py"
    path = str(tmp_path)
    first.write_text(SCRIPT.format(path=path, docstring="pass", rate="RATE"))
    second.write_text("\n\n# moved\n" + SCRIPT.format(path=path, docstring="pass  # why", rate="RATE"))
    third.write_text(SCRIPT.format(path=path, docstring="pass", rate="RATE * 2"))
    before = start(first, "1")
    assert start(first, "2") == before
    assert start(second, "3") == before
    after = start(third, "1")
    assert after[0] != before[0]
    assert after[1] != before[1]
