"""A fingerprint follows edits that matter, at any depth, and no others."""

# ruff: noqa: E501 - sources in strings

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
    assert before.parts != after.parts
    again = fingerprint(workspace.load(SOURCE).f)
    assert before.digest == again.digest
    assert before.parts == again.parts


@pytest.mark.parametrize("change", NO_EDITS.values(), ids=NO_EDITS)
def test_what_changes_nothing_is_not_seen(workspace, change):
    before = fingerprint(workspace.load(SOURCE).f)
    after = fingerprint(workspace.load(edit(SOURCE, change)).f)
    assert before.parts == after.parts
    assert before.digest == after.digest


def test_edits_in_another_module_are_seen(workspace):
    before = fingerprint(workspace.load(SOURCE).f).digest
    assert fingerprint(workspace.load(SOURCE, HELPER.replace("x * 3", "x * 4")).f).digest != before
    assert fingerprint(workspace.load(SOURCE, HELPER.replace('"a": 1', '"a": 2')).f).digest != before
    assert (
        fingerprint(workspace.load(SOURCE, HELPER.replace("return x\n", "return -x\n")).f).digest == before
    )


def test_parts_name_what_changed(workspace):
    before = fingerprint(workspace.load(SOURCE).f).parts
    after = fingerprint(workspace.load(edit(SOURCE, EDITS["helper of a helper"])).f).parts
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        "edited_module:deepest"
    }
    after = fingerprint(workspace.load(edit(SOURCE, EDITS["helper of a helper's constant"])).f).parts
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        "edited_module.RATE"
    }
    assert f"numpy {np.__version__}" in before


def test_parts_tell_what_depends_on_what(workspace):
    source = AFFINE + "T = {'a': aff(2, 0), 'b': aff(1, 3)}\ndef f(x): return T['a'](x)\n"
    before = fingerprint(workspace.load(source).f).parts
    swapped = source.replace("aff(2, 0), 'b': aff(1, 3)", "aff(1, 3), 'b': aff(2, 0)")
    after = fingerprint(workspace.load(swapped).f).parts
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == ["references"]
    # A third closure of the same code is a part of its own.
    more = fingerprint(workspace.load(source.replace("}", ", 'c': aff(9, 9)}", 1)).f).parts
    assert {name for name in more if before.get(name) != more[name]} > {
        "edited_module:aff.<locals>.<lambda> (3)"
    }


def test_parts_name_what_is_bound_and_how_much_was_asked_for():
    def bound(function, code="deep"):
        return fingerprint(function, code=code).parts

    assert (
        bound(functools.partial(int, base=2))["functools:partial"]
        != (bound(functools.partial(int, base=3))["functools:partial"])
    )
    assert bound(int).keys() - bound(int, "own").keys() == {'code="deep"'}


def test_parts_are_those_of_then():
    namespace = run("RATE = 1\ndef f(x): return RATE")
    code, asked = fingerprint(namespace["f"]), fingerprint(namespace["f"])
    before = dict(asked.parts)
    namespace["RATE"] = 2
    assert code.parts == before != fingerprint(namespace["f"]).parts
    with pytest.raises(TypeError):
        code.parts["numpy 0"] = b""


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


def in_cell(source, namespace, *, file):
    """Run a notebook's cell: all cells share a namespace, and each has a file name of its own."""
    exec(compile(textwrap.dedent(source), file, "exec"), namespace)
    return namespace


CELLS = (
    "RATE = 2\ndef helper(x):\n    return x * RATE",
    "f = lambda x: helper(x) + 1; g = lambda x: helper(x) + 2",
    "class Model:\n    def go(self, x): return f(x)\ndef use(x): return Model().go(x)",
)


def test_notebook_cells_count_by_what_they_say(tmp_path):
    def notebook(kernel, cells=CELLS):
        namespace = {"__name__": "__main__"}
        for number, cell in enumerate(cells):
            in_cell(cell, namespace, file=str(tmp_path / f"ipykernel_{kernel}" / f"{number * kernel}.py"))
        return namespace

    before, again = notebook(1), notebook(77)
    for name in ("f", "g", "use", "helper"):
        assert fingerprint(before[name]).digest == fingerprint(again[name]).digest
        assert fingerprint(before[name]).parts == fingerprint(again[name]).parts
    assert fingerprint(before["f"]).digest != fingerprint(before["g"]).digest
    typed = in_cell("\n\n".join(CELLS), {"__name__": "__main__"}, file="<ipython-input-3-abc>")
    assert fingerprint(typed["use"]).digest == fingerprint(before["use"]).digest
    # A cell is run again as it is, and then edited.
    code = fingerprint(before["use"])
    in_cell(CELLS[0], before, file="another.py")
    assert not code.is_current()
    assert fingerprint(before["use"]).digest == code.digest
    in_cell(CELLS[0].replace("x * RATE", "x + RATE"), before, file="another.py")
    assert fingerprint(before["use"]).digest != code.digest


BUSY = """
import functools
RATE = 3
class Model:
    def go(self, x): return [self.one(y) for y in range(x)]
    def one(self, y): return y * RATE if y % 2 else -y
@functools.lru_cache
def total(x):
    with_lambda = sorted(Model().go(x), key=lambda y: -y)
    try:
        return sum(with_lambda) / x
    except ZeroDivisionError:
        return None
def f(x): return total(x), total.__wrapped__(x)
"""


def test_what_watches_the_code_does_not_count(workspace):
    def watch(frame, event, argument):
        frame.f_trace_opcodes = True
        return watch

    def digests():
        return [fingerprint(module.f, code=code).digest for code in ("deep", "own")] + [digest(module.f)]

    module = workspace.load(BUSY)
    code, before = fingerprint(module.f), digests()
    tracer = sys.gettrace()
    sys.settrace(watch)
    try:
        # Often enough for the interpreter to specialise what runs.
        for number in range(100):
            module.f(number % 7)
        assert digests() == before
    finally:
        sys.settrace(tracer)
    assert code.is_current()
    assert digests() == before


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="Python 3.12 has it first")
def test_what_monitors_the_code_does_not_count(workspace):
    module = workspace.load(BUSY)
    before = fingerprint(module.f).digest
    monitoring, tool = sys.monitoring, 4
    events = (monitoring.events.LINE, monitoring.events.INSTRUCTION, monitoring.events.CALL)
    monitoring.use_tool_id(tool, "test")
    try:
        for event in events:
            monitoring.register_callback(tool, event, lambda *_: None)
        monitoring.set_events(tool, functools.reduce(operator.or_, events))
        for number in range(100):
            module.f(number % 7)
        assert fingerprint(module.f).digest == before
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    assert fingerprint(module.f).digest == before


def test_nested_and_decorated_functions_count_each_by_its_own():
    source = """
    import functools
    def times(n):
        def decorate(function):
            @functools.wraps(function)
            def wrapper(x):
                def inner(y): return function(y) * n
                return inner(x)
            return wrapper
        return decorate
    @times(2)
    @times(3)
    def f(x): return x
    def outer(k):
        def middle():
            def innermost(x): return x + k
            return innermost
        return middle()
    g = outer(1)
    class Tool:
        @staticmethod
        @times(5)
        def make(x): return x
        @property
        def size(self): return 7
        @classmethod
        def read(cls, x): return cls.make(x)
        class Inner:
            def go(self): return 9
    def h(x): return Tool().size, Tool.read(x), Tool.Inner().go()
    """
    before = run(source)
    edits = {
        "f": [
            ("@times(3)", "@times(4)"),
            ("@times(2)\n", "\n"),
            ("def f(x): return x", "def f(x): return -x"),
        ],
        "g": [("outer(1)", "outer(2)"), ("x + k", "x - k")],
        "h": [("@times(5)", "@times(6)"), ("return 7", "return 8"), ("cls.make(x)", "cls.make(-x)")],
    }
    edits["h"] += [("return 9", "return 10"), ("def make(x): return x", "def make(x): return -x")]
    for name in edits:
        assert fingerprint(run(source)[name]).digest == fingerprint(before[name]).digest
        for other, changes in edits.items():
            for change in changes:
                edited = fingerprint(run(edit(source, change))[name])
                assert (edited.digest == fingerprint(before[name]).digest) == (name != other), change
    everywhere = run(edit(source, ("function(y) * n", "function(y) + n")))
    for name in "fh":
        assert fingerprint(everywhere[name]).digest != fingerprint(before[name]).digest
    assert fingerprint(everywhere["g"]).digest == fingerprint(before["g"]).digest


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
    assert {"edited_helper:scale", "edited_helper:unused"} < before.parts.keys()
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
    assert len(fingerprint(namespace["f0"]).parts) == 3001 + 3


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


# Each was missed once: a module's source, and an edit of it that changes what f returns.
AFFINE = "def aff(a, b):\n    return lambda x: a * x + b\n"
LOCKED = "import threading\nclass Cfg:\n    def __init__(s, r):\n        s.rate = r\n        s.lock = threading.Lock()\n"
HARD_EDITS = {
    "import used in a comprehension": (
        "def f(xs):\n    import HELPER\n    return [HELPER.scale(x) for x in xs]\n",
        ("x * 3", "x * 4"),
    ),
    "module bound to a local": (
        "import HELPER\ndef f(x):\n    k = HELPER\n    return k.scale(x)\n",
        ("x * 3", "x * 4"),
    ),
    "module in a dict": (
        "import HELPER\nT = {'a': HELPER}\ndef f(x): return T['a'].scale(x)\n",
        ("x * 3", "x * 4"),
    ),
    "module as class attribute": (
        "import HELPER\nclass A:\n    mod = HELPER\n    def go(self, x): return self.mod.scale(x)\ndef f(x): return A().go(x)\n",
        ("x * 3", "x * 4"),
    ),
    "module in a closure": (
        "def make():\n    import HELPER\n    return lambda x: HELPER.scale(x)\nf = make()\n",
        ("x * 3", "x * 4"),
    ),
    "module used by computed names": (
        "import HELPER\ndef f(x): return getattr(HELPER, 'sca' + 'le')(x)\n",
        ("x * 3", "x * 4"),
    ),
    "dict of closures": (
        AFFINE + "T = {'a': aff(2, 0), 'b': aff(1, 3)}\ndef f(x): return T['a'](x)\n",
        ("{'a': aff(2, 0), 'b': aff(1, 3)}", "{'a': aff(1, 3), 'b': aff(2, 0)}"),
    ),
    "list of closures": (
        AFFINE + "T = [aff(2, 0), aff(1, 3)]\ndef f(x): return T[0](x)\n",
        ("[aff(2, 0), aff(1, 3)]", "[aff(1, 3), aff(2, 0)]"),
    ),
    "defaults of lambdas": (
        "T = {'a': lambda x, k=1: x * k, 'b': lambda x, k=2: x * k}\ndef f(x): return T['a'](x)\n",
        (
            "{'a': lambda x, k=1: x * k, 'b': lambda x, k=2: x * k}",
            "{'a': lambda x, k=2: x * k, 'b': lambda x, k=1: x * k}",
        ),
    ),
    "objects by their closures": (
        AFFINE
        + "class H:\n    def __init__(s, fn): s.fn = fn\nT = [H(aff(2, 0)), H(aff(1, 3))]\ndef f(x): return T[0].fn(x)\n",
        ("[H(aff(2, 0)), H(aff(1, 3))]", "[H(aff(1, 3)), H(aff(2, 0))]"),
    ),
    "a long chain of closures": (
        AFFINE
        + "import functools\ndef compose(f, g):\n    return lambda x: f(g(x))\ninc, dbl, tri = aff(1, 1), aff(2, 0), aff(3, 0)\n"
        + "u = [inc] * 6\nchain = functools.reduce(compose, u + [dbl] + u + [tri] + u)\ndef f(x): return chain(x)\n",
        ("u + [dbl] + u + [tri] + u", "u + [tri] + u + [dbl] + u"),
    ),
    "object with a lock": (LOCKED + "cfg = Cfg(2)\ndef f(x): return x * cfg.rate\n", ("Cfg(2)", "Cfg(3)")),
    "dict with an undigestible value": (
        "T = {'rate': 2, 'sentinel': object()}\ndef f(x): return x * T['rate']\n",
        ("'rate': 2", "'rate': 3"),
    ),
    "function beside an undigestible value": (
        "def g(x): return x + 1\nT = [object(), g]\ndef f(x): return T[1](x)\n",
        ("x + 1", "x + 2"),
    ),
    "object in a cycle": (
        (
            "class N:\n    def __init__(s, v): s.v, s.kids, s.up = v, [], None\nr, k = N(1), N(2)\nr.kids.append(k)\nk.up = r\n"
            "def f(x): return x * r.v\n"
        ),
        ("N(1)", "N(5)"),
    ),
    "list in itself": ("L = [1]\nL.append(L)\ndef f(x): return L[0]\n", ("[1]", "[2]")),
    "nested deep": ("L = 1\nfor _ in range(3000): L = [L]\ndef f(x): return L\n", ("L = 1", "L = 2")),
    "partial with update_wrapper": (
        (
            "import functools\ndef g(x, k): return x * k\np = functools.partial(g, k=2)\nfunctools.update_wrapper(p, g)\n"
            "def f(x): return p(x)\n"
        ),
        ("k=2", "k=3"),
    ),
    "state of a decorator": (
        (
            "import functools\nclass Scale:\n    def __init__(s, fn, k):\n        functools.update_wrapper(s, fn)\n        s.fn, s.k = fn, k\n"
            "    def __call__(s, x): return s.k * s.fn(x)\ndef g(x): return x\ng = Scale(g, 2)\ndef f(x): return g(x)\n"
        ),
        ("Scale(g, 2)", "Scale(g, 3)"),
    ),
    "cached partial": (
        "import functools\ndef g(x, k): return x * k\nh = functools.cache(functools.partial(g, k=2))\ndef f(x): return h(x)\n",
        ("k=2", "k=3"),
    ),
    "function attribute": (
        "def g(x): return x * g.k\ng.k = 2\ndef f(x): return g(x)\n",
        ("g.k = 2", "g.k = 3"),
    ),
    "helper as a function attribute": (
        "def h(x): return x + 1\ndef g(x): return g.h(x)\ng.h = h\ndef f(x): return g(x)\n",
        ("x + 1", "x + 2"),
    ),
    "attribute of an enum member": (
        "import enum\nclass A(enum.Enum):\n    X = 1\nA.X.extra = 7\ndef f(x): return A.X.extra\n",
        ("extra = 7", "extra = 8"),
    ),
    "constant of an enum": (
        "import enum\nclass A(enum.Enum):\n    X = 1\n    __k = 7\n    def go(s): return s.__k\ndef f(x): return A.X.go()\n",
        ("__k = 7", "__k = 8"),
    ),
    "match arguments": (
        "class P:\n    __match_args__ = ('x', 'y')\n    x, y = 1, 2\ndef f(v):\n    match P():\n        case P(a, b): return a\n",
        ("('x', 'y')", "('y', 'x')"),
    ),
    "module's lazy attribute": (
        "import HELPER\ndef f(x): return HELPER.K * x\n",
        ("    return x\n\nTABLE", "    return x\n\ndef __getattr__(name): return 2\n\nTABLE"),
    ),
    "version of a memoized function": (
        (
            "from persicache import persistent_memoize\n@persistent_memoize('memory://x', version=1)\ndef g(x): return x\n"
            "def f(x): return g(x)\n"
        ),
        ("version=1", "version=2"),
    ),
}


@pytest.mark.parametrize(("source", "change"), HARD_EDITS.values(), ids=HARD_EDITS)
def test_an_edit_far_from_the_code_is_seen(workspace, monkeypatch, source, change):
    def take(source, helper):
        monkeypatch.syspath_prepend(workspace.path / str(workspace.count + 1))
        return fingerprint(workspace.load(source, helper).f).digest

    before = take(source, HELPER)
    old, new = change
    assert (source + HELPER).count(old) == 1
    assert take(source.replace(old, new), HELPER.replace(old, new)) != before
    assert take(source, HELPER) == before


# A module's source, and what is done with it that is no edit.
QUIET = {
    "annotations read": ("class A: pass\ndef f(x): return A()\n", "m.A.__annotations__"),
    "protocol checked": (
        "import typing\n@typing.runtime_checkable\nclass A(typing.Protocol):\n    def go(s): ...\ndef f(x): return isinstance(x, A)\n",
        "m.f(1)",
    ),
    "class counter": (
        "class A:\n    n = 0\n    def __init__(s): A.n += 1\ndef f(x): return A()\n",
        "m.A()",
    ),
    "singleton": (
        (
            "class A:\n    one = None\n    @classmethod\n    def get(cls):\n        if cls.one is None: cls.one = cls()\n        return cls.one\n"
            "def f(x): return A.get()\n"
        ),
        "m.A.get()",
    ),
    "lazy global": (
        "_m = None\ndef model():\n    global _m\n    if _m is None: _m = {'w': 1}\n    return _m\ndef f(x): return model()['w'] * x\n",
        "m.model()",
    ),
    "function that counts itself": (
        "def g(x):\n    g.calls += 1\n    return x\ng.calls = 0\ndef f(x): return g(x)\n",
        "m.f(1)",
    ),
    "dict called a cache": (
        "_cache = {}\ndef g(x):\n    if x not in _cache: _cache[x] = x * 2\n    return _cache[x]\ndef f(x): return g(x)\n",
        "m.g(3)",
    ),
    "environment": (
        "import os\ndef f(x): return os.environ['HOME']\nE = os.environ\ndef g(): return E\nf.g = g\n",
        "os.environ.update(PERSICACHE_X='1')",
    ),
    "flags combined": (
        "import enum\nclass F(enum.Flag):\n    A = 1\n    B = 2\ndef f(x): return F.A | F.B\n",
        "m.f(1), ~m.F.A",
    ),
}


@pytest.mark.parametrize(("source", "use"), QUIET.values(), ids=QUIET)
def test_use_is_no_edit(workspace, monkeypatch, source, use):
    monkeypatch.setattr(os, "environ", os.environ)
    module = workspace.load(source)
    before = fingerprint(module.f)
    try:
        eval(use, {"m": module, "os": os})
        assert fingerprint(module.f).digest == before.digest
    finally:
        os.environ.pop("PERSICACHE_X", None)


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("def f(x):\n    while True: x += 1\n", ("while True: x", "while True:\n        x")),
        ("def f(x):\n    try: return x\n    finally: print()\n", ("try: return", "try:\n        return")),
        (
            "def f(x):\n    class A:\n        'one'\n        def go(s): return x\n    return A\n",
            ("'one'", "'two'"),
        ),
    ],
)
def test_layout_and_inner_docstrings_do_not_count(workspace, source, change):
    before = fingerprint(workspace.load(source).f).digest
    assert fingerprint(workspace.load(edit(source, change)).f).digest == before


@pytest.mark.parametrize(
    "replace",
    [
        "CFG.rate = 7",
        "cfg.rate = 7",
        "OPTIONS['a'] = Namespace()",
        "PAIR[0][0] = 7",
        "CFG.new = 1",
        "g.k = 3",
    ],
)
def test_changes_within_objects_are_noticed(replace):
    namespace = run("""
    class CFG: rate = 2
    class Namespace: pass
    cfg = Namespace()
    cfg.rate = 2
    OPTIONS = {"a": cfg}
    PAIR = ([1],)
    def g(x): return x
    def f(x): return CFG.rate, OPTIONS, PAIR, g(x), Namespace
    """)
    code = fingerprint(namespace["f"])
    assert code.is_current()
    exec(replace, namespace)
    assert not code.is_current()


def test_changes_of_what_is_called_are_noticed():
    class Scale:
        def __init__(self, k):
            self.k = k

        def __call__(self, x):
            return self.k * x

    for call in (lambda scale: scale, lambda scale: scale.__call__):
        scale = Scale(2)
        code = fingerprint(call(scale))
        assert code.is_current()
        scale.k = 3
        assert not code.is_current()
        assert fingerprint(call(scale)).digest != code.digest


def test_small_nested_containers_are_compared_not_digested():
    f = run("OPTIONS = {'a': {'b': [1, 2, {'c': (3, [4])}]}}\ndef f(): return OPTIONS\n")["f"]
    code = fingerprint(f)
    assert code.is_complete
    assert code.is_current()
    f.__globals__["OPTIONS"]["a"]["b"][2]["c"][1].append(5)
    assert not code.is_current()


class RaisesOnGet:
    def __getattribute__(self, name):
        raise ValueError(name)


class RaisesOnDict:
    @property
    def __dict__(self):
        raise ValueError("no")


class OddRecipe:
    def __reduce_ex__(self, protocol):
        return (1, 2, 3)


class RaisesOnKey:
    def __persicache_key__(self):
        raise ValueError("no")


class RaisesOnState:
    def __getstate__(self):
        raise ValueError("no")


def of_meta():
    # Not in the module: pytest looks at everything that is there.
    class Meta(type):
        def __getattribute__(cls, name):
            raise ValueError(name)

    class OfMeta(metaclass=Meta):
        pass

    return OfMeta


def released():
    view = memoryview(b"ab")
    view.release()
    return view


ODD = {
    "get": RaisesOnGet,
    "dict": RaisesOnDict,
    "recipe": OddRecipe,
    "key": RaisesOnKey,
    "state": RaisesOnState,
    "released": released,
    "metaclass": of_meta,
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_globals_are_no_trouble(kind):
    def take(value, rate):
        namespace = {"__name__": "user_code", "V": [value, rate]}
        exec("def f(): return V", namespace)
        code = fingerprint(namespace["f"])
        assert code.is_current() in {True, False}
        return code.digest

    value = ODD[kind]()
    assert take(value, 1) == take(value, 1)
    assert take(value, 1) != take(value, 2)


def test_code_in_other_site_packages_is_a_library(tmp_path):
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "elsewhere_installed.py").write_text("def g(x): return x\n")
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module("elsewhere_installed")
        f = run("import elsewhere_installed as e\ndef f(x): return e.g(x)\n")["f"]
        assert "elsewhere_installed ?" in fingerprint(f).parts
        module.g.__code__ = (lambda x: 2 * x).__code__
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("elsewhere_installed")


USES_LIBRARY = """
import sys
sys.path.insert(0, sys.argv[1])
import some_library
from persicache.keys import digest, fingerprint
def f(x): return some_library.g(x)
print(fingerprint(f).digest.hex(), digest(some_library.g).hex(), *fingerprint(f).parts, sep=",")
"""


def test_libraries_count_by_their_version(tmp_path):
    folder = tmp_path / "lib" / "site-packages"
    information = folder / "some_library-1.dist-info"
    information.mkdir(parents=True)

    def take(version, body):
        (folder / "some_library.py").write_text(f"def g(x): return {body}\n")
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: some_library\nVersion: {version}\n"
        )
        command = [sys.executable, "-B", "-c", USES_LIBRARY, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip().split(",")

    first, edited, second = take("1.0", "x"), take("1.0", "x + 1"), take("2.0", "x + 1")
    assert first == edited
    assert "some_library 1.0" in first
    assert "some_library 2.0" in second
    assert first[0] != second[0]
    assert first[1] != second[1]


@pytest.mark.parametrize("module", ["yaml", "dateutil"])
def test_a_library_has_one_version_loaded_or_not(module):
    pytest.importorskip(module)
    script = f"""
import sys
from persicache.keys.origins import library
first = library({module!r})
import {module}
print(first == library({module!r}) and "?" not in first)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("count", [10, 1000])
def test_long_chains_that_lead_back_are_followed(count):
    source = f"""
    class D: pass
    first = x = D()
    for n in range({count}):
        x.n = D()
        x.n.p, x.n.v = x, n // 3
        x = x.n
    def f(): return first
    """
    before = fingerprint(run(source)["f"]).digest
    assert fingerprint(run(source)["f"]).digest == before
    assert fingerprint(run(source.replace("n // 3", f"n // 3 + (n == {count - 2})"))["f"]).digest != before
