"""Cells of a notebook that are run once, in a real kernel."""

from __future__ import annotations

import os
import re
import textwrap
import time
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

SECONDS = 60


class Notebook:
    """A kernel, and what its cells say."""

    def __init__(self, folder):
        names = ["TMPDIR", "IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"]
        env = os.environ | {name: str(folder) for name in names} | {"XDG_CACHE_HOME": str(folder / "cache")}
        self.manager = KernelManager(connection_file=str(folder / "kernel.json"))
        self.manager.start_kernel(env=env, cwd=str(folder))
        self.connect()

    def connect(self):
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)
        self.run("%load_ext persicache_ipython\n_STARTED = set(globals())")

    def restart(self):
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self.connect()

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.manager.context.destroy()

    def outputs(self, cell):
        messages = []
        self.client.execute_interactive(
            textwrap.dedent(cell), output_hook=messages.append, timeout=SECONDS, allow_stdin=False
        )
        return [
            {"kind": message["msg_type"], **message["content"]}
            for message in messages
            if message["msg_type"] != "status" and message["msg_type"] != "execute_input"
        ]

    def run(self, cell):
        """Return what a cell prints to stdout and shows as its value; raise what it raises."""
        said = []
        for output in self.outputs(cell):
            if output["kind"] == "error":
                raise RuntimeError(f"{output['ename']}: {output['evalue']}")
            if output.get("text", "").startswith("UsageError: "):
                raise RuntimeError(output["text"])
            if output["kind"] == "stream":
                assert output["name"] == "stdout" or "%load_ext" in cell, output["text"]
                said.append(output["text"])
            else:
                said.append(output["data"]["text/plain"] + "\n")
        return "".join(said)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    notebook = Notebook(tmp_path_factory.mktemp("kernel"))
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(kernel, tmp_path):
    """The kernel with no variables, no cells, and a store of its own."""
    # %reset collects garbage, which takes longer than all the rest.
    kernel.run(
        "for _name in [each for each in globals() if each[0] != '_' and each not in _STARTED]:\n"
        "    del globals()[_name]\n"
        "get_ipython().magics_manager.registry['PersistMagics']._persisted.clear()\n"
        f"%config PersistMagics.store = {str(tmp_path / 'store')!r}"
    )
    return kernel


def computed(said):
    """Return what a cell kept when it ran."""
    return re.search(r"^kept (.*): ", said, re.MULTILINE)[1]


def restored(said):
    """Return what was restored when a cell did not run."""
    return re.search(r"^restored (.*): .* saved$", said, re.MULTILINE)[1]


def test_a_cell_is_run_once_and_its_variables_come_back(notebook):
    cell = """\
    %%persist
    import numpy as np
    print("working")
    scores = np.arange(n) * 0.5   # halves
    best = scores.max()
    """
    notebook.run("n = 5")
    assert computed(notebook.run(cell)) == "best, scores"
    notebook.run("del scores, best, np")
    said = notebook.run(cell.replace("# halves", "").replace("n) * 0.5", "n)*0.5"))
    assert restored(said) == "best, scores"
    assert "working" in said
    assert (
        notebook.run("scores[0] = 7; print(best, scores, np.__name__)")
        == "2.0 [7.  0.5 1.  1.5 2. ] numpy\n"
    )
    assert restored(notebook.run(cell)) == "best, scores"
    assert notebook.run("print(scores[0])") == "0.0\n"
    notebook.run("n = 6")
    assert computed(notebook.run(cell)) == "best, scores"


def test_only_named_variables_are_kept(notebook):
    notebook.run("%%persist b\na = 1\nb = a + 1")
    notebook.run("del a, b")
    assert restored(notebook.run("%%persist b\na = 1\nb = a + 1")) == "b"
    assert notebook.run("print('a' in dir(), b)") == "False 2\n"
    with pytest.raises(RuntimeError, match="UsageError: this cell can't be persisted: it makes no c, d"):
        notebook.run("%%persist d b, c\na = 1\nb = a + 1")


def test_it_works_after_a_restart(notebook, tmp_path):
    first = """\
    class Point:
        def __init__(self, x): self.x = x
        def doubled(self): return Point(self.x * factor)
    factor = 2
    """
    second = """\
    %%persist
    from fractions import Fraction
    class Line(Point):
        pass
    def shown(p): return f"{type(p).__name__} {p.x}"
    half = lambda p: p.x / factor
    points = [Point(1).doubled(), Line(Fraction(1, 2))]
    """
    third = "%%persist\ntext = ', '.join(shown(p) for p in points)"
    notebook.run(first)
    computed(notebook.run(second))
    computed(notebook.run(third))
    notebook.restart()
    notebook.run(f"%config PersistMagics.store = {str(tmp_path / 'store')!r}")
    notebook.run(first)
    assert restored(notebook.run(second)) == "points"
    assert restored(notebook.run(third)) == "text"
    assert notebook.run("print(text, isinstance(points[1], Line), half(points[0]))") == (
        "Point 2, Line 1/2 True 1.0\n"
    )
    # A restored definition looks up the notebook's variables, as it would if it had run.
    assert notebook.run("factor = 4; print(half(points[0]), shown(points[0].doubled()))") == "0.5 Point 8\n"
    assert computed(notebook.run(second)) == "points"


def test_two_kernels_run_a_cell_once(notebook, tmp_path, tmp_path_factory):
    # What it makes needs what it defines.
    cell = f"""\
    %%persist --store {tmp_path / "both"}
    import pathlib, time
    class Point: pass
    pathlib.Path({str(tmp_path / "begun")!r}).touch()
    time.sleep(1)
    point = Point()
    """
    other = Notebook(tmp_path_factory.mktemp("other"))
    try:
        notebook.client.execute(textwrap.dedent(cell))
        end = time.monotonic() + SECONDS
        while not (tmp_path / "begun").exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert restored(other.run(cell)) == "point"
        assert notebook.run("print(type(point) is Point)") == "True\n"
        assert other.run("print(type(point) is Point)") == "True\n"
    finally:
        other.close()


def test_what_a_function_of_the_notebook_does_is_part_of_the_key(notebook):
    notebook.run("rate = 2\ndef inner(x): return x * rate\ndef outer(x): return inner(x) + 1")
    cell = "%%persist\ny = outer(10)"
    assert computed(notebook.run(cell)) == "y"
    assert restored(notebook.run(cell)) == "y"
    notebook.run("def inner(x):\n    'Multiply.'  # now with a docstring\n    return x * rate")
    assert restored(notebook.run(cell)) == "y"
    notebook.run("rate = 3")
    assert computed(notebook.run(cell)) == "y"
    notebook.run("def inner(x): return x - rate")
    assert computed(notebook.run(cell) + notebook.run("print(y)")) == "y"
    assert notebook.run("print(y)") == "8\n"


def test_what_a_module_of_ones_own_does_is_part_of_the_key(notebook, tmp_path):
    module = tmp_path / "steps_of_mine.py"
    module.write_text("def step(x):\n    return x + 1\n")
    notebook.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True")
    for cell in ["%%persist\nimport steps_of_mine\ny = steps_of_mine.step(1)", "%%persist\ny = m.step(1)"]:
        module.write_text("def step(x):\n    return x + 1\n")
        notebook.run("import importlib, steps_of_mine as m; importlib.reload(m)")
        assert computed(notebook.run(cell)) == "y"
        assert restored(notebook.run(cell)) == "y"
        module.write_text("def step(x):\n    return x + 100\n")
        notebook.run("importlib.reload(m)")
        assert computed(notebook.run(cell)) == "y"
        assert notebook.run("print(y)") == "101\n"


@pytest.mark.parametrize(
    "cell",
    [
        "x = x + 1",
        "x += 1",
        "total = 0\nfor i in range(3):\n    total += i * x",
        "def f(): return x\ny = f()",
        "y = [i * x for i in range(3)]",
        "if x > 1:\n    y = 1\nz = 2",
        "class A:\n    x = x\ny = A.x",
        "import pandas as pd\ny = pd.DataFrame({'a': [1, 2, 3]}).query('a > @x')",
        "import numpy as np, pandas as pd\na = np.ones(3)\ny = pd.eval('a + x')",
        "import types\nk = types.SimpleNamespace(v=x)\nmatch {1: 2}:\n    case {k.v: got}: y = got",
        "y = f'{x}'",
        "match x:\n    case 1: y = 1\n    case other: y = other",
        "with open(__import__('os').devnull): y = x",
        "try:\n    y = x / 0\nexcept ZeroDivisionError:\n    y = x",
        "y = (lambda a=x: a)()",
        "global y\ny = x",
        "(y := x)",
        "y: int = x",
    ],
)
def test_whatever_way_a_cell_reads_a_variable(notebook, cell):
    notebook.run("x = 1")
    computed(notebook.run(f"%%persist\n{cell}"))
    notebook.run("x = 1")
    restored(notebook.run(f"%%persist\n{cell}"))
    notebook.run("x = 2")
    computed(notebook.run(f"%%persist\n{cell}"))


@pytest.mark.parametrize(
    "cell",
    [
        "for i in range(3):\n    last = i\nprint(i, last)",
        "import io\nwith io.StringIO('a') as f:\n    text = f.read()\nsize = len(text)",
        "x = [[x for x in range(y)] for y in range(3)]",
        "while True:\n    done = True\n    break\nprint(done)",
        "try:\n    import numpy as xp\nexcept ImportError:\n    import math as xp\ny = xp.pi",
        "def make():\n    global made\n    made = 5\nmake()\ny = made",
    ],
)
def test_what_a_cell_has_set_itself_is_nothing_that_it_reads(notebook, cell):
    computed(notebook.run(f"%%persist\n{cell}"))
    restored(notebook.run(f"%%persist\n{cell}"))


def test_a_variable_that_a_cell_may_leave_alone_is_left_alone(notebook):
    cell = "%%persist\nfor x in empty:\n    pass\nif empty:\n    y = 1\nz = 3"
    notebook.run("empty = []; x = 1; y = 1")
    assert computed(notebook.run(cell)) == "z"
    notebook.run("x = 2; y = 2")
    assert restored(notebook.run(cell)) == "z"
    assert notebook.run("print(x, y, z)") == "2 2 3\n"
    again = "%%persist\nfor x in range(3):\n    pass"
    notebook.run("x = 2")
    assert computed(notebook.run(again)) == "x"
    notebook.run("x = 7")
    assert restored(notebook.run(again)) == "x"
    assert notebook.run("print(x)") == "2\n"


def test_a_cell_that_notices_an_unbound_name_depends_on_it(notebook):
    cell = "%%persist\nfor i in range(2):\n    try:\n        n += i\n    except NameError:\n        n = 0"
    computed(notebook.run(cell))
    notebook.run("n = 100")
    computed(notebook.run(cell))
    assert notebook.run("print(n)") == "101\n"


def test_what_a_cell_changes_in_place_is_kept_too(notebook, tmp_path):
    setup = "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})"
    cell = "%%persist\ndf['b'] = df['a'] * 2\nrows = len(df)"
    for said in (computed, restored):
        notebook.run(setup)
        assert said(notebook.run(cell)) == "df, rows"
        assert notebook.run("print(df['b'].tolist())") == "[2, 4]\n"
    notebook.run(setup)
    assert notebook.run(cell.replace("%%persist", "%%persist rows")) == (
        "nothing is kept: it changes df in place: keep that too, or change a copy\n"
    )
    # Another variable that is the same object would change too, when the cell runs.
    for added in ["", "\nmore = 1"]:
        notebook.run(setup + "\nother = df")
        assert "it changes df in place, which is also other" in notebook.run(cell + added)
        assert notebook.run("print(other is df, other['b'].tolist())") == "True [2, 4]\n"
    notebook.run("items = []\ndef add(x): items.append(x)")
    assert notebook.run("%%persist\nadd(1)\ny = 1") == "nothing is kept: it changes what add uses\n"


@pytest.mark.parametrize(
    ("setup", "cell", "other"),
    [
        ("inner = [1]\nother = ({'a': inner},)", "inner.append(2)", "({'a': [1, 2]},)"),
        ("import numpy as np\na = np.zeros(2)\nother = a[:1]", "a[0] = 9", "array([9.])"),
        (
            "inner = [1]\ndef other(): return inner\nother = [other]\nouter = [inner]",
            "outer[0].pop()",
            None,
        ),
    ],
    ids=["list", "view", "held"],
)
def test_what_others_have_a_part_of_is_not_changed_behind_their_back(notebook, setup, cell, other):
    for _ in range(2):
        notebook.run(setup)
        assert "has something in common with: change a copy" in notebook.run(f"%%persist\n{cell}")
        if other is not None:
            assert notebook.run("print(repr(other))") == f"{other}\n"


def test_tables_that_have_columns_in_common_are_not_in_each_others_way(notebook):
    for said in (computed, restored):
        notebook.run(
            "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\nother = df.rename(columns=str)"
        )
        assert said(notebook.run("%%persist\ndf['a'] *= 2")) == "df"
        assert notebook.run("print(df['a'].tolist(), other['a'].tolist())") == "[2, 4] [1, 2]\n"


def test_variables_that_are_one_object_stay_one(notebook):
    cell = "%%persist\na = [1]\nb = a\nc = base\nd = [2]"
    for said in (computed, restored):
        notebook.run("base = [0]")
        assert said(notebook.run(cell)) == "a, b, c, d"
        assert notebook.run("print(a is b, c is base, a is d, a, d)") == "True True False [1] [2]\n"


def test_what_a_cell_deletes_is_gone(notebook):
    cell = "%%persist\ntmp = [1]\ny = tmp[0]\ndel tmp, old"
    notebook.run("old = 1")
    assert computed(notebook.run(cell)) == "y"
    notebook.run("old = 1; tmp = 2")
    assert restored(notebook.run(cell)) == "y"
    assert notebook.run("print('old' in dir(), 'tmp' in dir())") == "False False\n"


def test_what_can_not_be_kept_is_named_and_the_rest_is_kept(notebook):
    cell = """\
    %%persist
    import threading
    lock = threading.Lock()
    also = lock
    value = 3
    def adder(n):
        return lambda x: x + n
    add = adder(value)
    """
    said = notebook.run(cell)
    assert computed(said) == "value"
    assert "not kept: lock, TypeError: cannot pickle '_thread.lock' object\n" in said
    assert "not kept: add, its code is of this notebook" in said
    notebook.run("del lock, also, value, add, adder")
    said = notebook.run(cell)
    assert restored(said) == "value"
    assert said.count("not kept: ") == 3
    assert (
        notebook.run("print(value, adder(1)(1), 'lock' in dir(), 'also' in dir())") == "3 2 False False\n"
    )


def test_an_error_in_the_cell_is_the_cells_and_nothing_is_kept(notebook):
    cell = "%%persist\ny = 1\nz = 1 / zero"
    notebook.run("zero = 0")
    error = notebook.outputs(cell)[-1]
    assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")
    shown = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))
    assert "----> 2 z = 1 / zero" in shown
    assert "persicache" not in shown
    assert notebook.run("print(y)") == "1\n"
    assert "0 cells are kept" in notebook.run("%persicache")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("%matplotlib inline\ny = 1", "magics and ! commands"),
        ("files = !ls", "magics and ! commands"),
        ("import asyncio\nawait asyncio.sleep(0)\ny = 1", "it awaits"),
        ("from math import *\ny = pi", r"import the names that you need, not \* from math"),
        ("y = eval('x')", r"what eval\(\) looks at can't be seen"),
        ("import os\nos.environ['A'] = 'b'", "it changes something of os"),
        ("y = stored['a']", "it reads stored, a PersiDict: what is in a store can change"),
        ("y = lock", "it reads lock, a lock, .* give --ignore lock"),
    ],
)
def test_what_can_not_be_seen_through_is_refused(notebook, cell, reason):
    notebook.run(
        "import persicache, threading; lock = threading.Lock(); stored = persicache.open('memory://stored')"
    )
    with pytest.raises(RuntimeError, match=f"UsageError: this cell can't be persisted: .*{reason}"):
        notebook.run(f"%%persist\n{cell}")
    assert notebook.run("print('y' in dir(), 'files' in dir())") == "False False\n"


def test_a_syntax_error_is_one(notebook):
    with pytest.raises(RuntimeError, match="SyntaxError"):
        notebook.run("%%persist\nx = = 1")
    with pytest.raises(RuntimeError, match="SyntaxError: 'return' outside function"):
        notebook.run("%%persist\nreturn 1")


def test_what_does_not_count_is_ignored_and_a_file_or_a_version_counts(notebook, tmp_path):
    file = tmp_path / "data.txt"
    file.write_text("one")
    notebook.run(f"import threading; lock = threading.Lock(); path = {str(file)!r}")
    cell = f"%%persist --ignore lock --depends {file}\nwith lock:\n    y = open(path).read()"
    computed(notebook.run(cell))
    restored(notebook.run(cell))
    file.write_text("two")
    computed(notebook.run(cell))
    assert notebook.run("print(y)") == "two\n"
    computed(notebook.run(cell.replace("%%persist", "%%persist --version 2")))
    said = notebook.run(cell.replace("y = ", "n = open(path, 'w').write('more')\n    y = "))
    assert said == "nothing is kept: a file that it depends on was changed meanwhile\n"
    with pytest.raises(RuntimeError, match="nothing-there"):
        notebook.run("%%persist --depends nothing-there\ny = 1")


def test_what_the_cell_showed_is_shown_again(notebook):
    cell = """\
    %%persist
    import sys
    from IPython.display import HTML, display
    import matplotlib.pyplot as plt
    print("first")
    display(HTML("<b>bold</b>"))
    print("second")
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    value = [1, 2]
    value
    """
    notebook.run("%matplotlib inline")
    before, after = notebook.outputs(cell), notebook.outputs(cell)

    def shown(outputs):
        kinds = [sorted(output.get("data", {})) or output["text"] for output in outputs]
        return [kind for kind in kinds if isinstance(kind, list) or not re.match("kept|restored", kind)]

    assert restored(after[0]["text"]) == "axes, figure, value"
    assert "first" in str(after)
    texts = [output["text"].split("\n")[-2] for output in after if output["kind"] == "stream"]
    assert texts == ["first", "second"]
    assert [kind for kind in shown(before) if isinstance(kind, list)] == [
        kind for kind in shown(after) if isinstance(kind, list)
    ]
    assert ["image/png", "text/plain"] in shown(after)
    assert after[-1]["data"]["text/plain"] == "[1, 2]"


def test_a_semicolon_silences_the_last_line(notebook):
    for said in (computed, restored):
        assert said(notebook.run("%%persist\nx = [1]\nx;")) == "x"
        assert not any(
            each["kind"] == "execute_result" for each in notebook.outputs("%%persist\nx = [2]\nx;")
        )


def test_what_was_cleared_or_goes_on_changing_is_not_shown_again(notebook):
    cell = """\
    %%persist y
    import sys
    from IPython.display import clear_output, display
    print("cleared")
    clear_output()
    print("left", end="", flush=True)
    print("!", file=sys.stdout)
    handle = display("first", display_id=True)
    handle.update("second")
    y = 1
    y + 1;
    """
    assert any(output["kind"] == "clear_output" for output in notebook.outputs(cell))
    said = notebook.run(cell)
    assert said.splitlines()[1:] == ["some of what the cell displayed is not shown again", "left!"]


def test_cells_are_listed_explained_and_forgotten(notebook):
    notebook.run("n = 1\ndef f(x): return x")
    cell = "%%persist\ny = f(n)\nz = 2"
    notebook.run(cell)
    notebook.run("%%persist other\nother = 5")
    listing = notebook.run("%persicache").splitlines()
    assert listing[0].startswith("2 cells are kept in ")
    assert [line.split("  ")[0] for line in listing[2:]] == ["y, z", "other"]
    assert listing[2].endswith("y = f(n); z = 2")
    assert "would be restored" in notebook.run("%persicache explain y")
    notebook.run("n = 2")
    said = notebook.run("%persicache explain y z")
    assert said.count("would be run\n  n was 1, is 2\n") == 2
    notebook.run("n = 1\ndef f(x): return -x")
    assert "\n  f was '<function " in notebook.run("%persicache explain y")
    notebook.run("def f(x): return x")
    for line, code, said in [
        ("%%persist", "z = 1 / 0", "its code is another"),
        ("%%persist --version 2", "z = 2\n1 / 0", "version: was None, is '2'"),
        ("%%persist", "y = other = new = 1 / 0", "nothing is kept that is like it"),
    ]:
        notebook.outputs(cell.replace("%%persist", line).replace("z = 2", code))
        name = "new" if "new" in code else "y"
        assert f"\n  {said}\n" in notebook.run(f"%persicache explain {name}")
    with pytest.raises(RuntimeError, match="UsageError: no %%persist cell of this session makes nobody"):
        notebook.run("%persicache explain nobody")
    assert notebook.run("%persicache forget z").startswith("1 cell is forgotten in ")
    assert "1 cell is kept" in notebook.run("%persicache list")
    computed(notebook.run(cell))
    assert notebook.run("%persicache forget --all").startswith("2 cells are forgotten in ")
    with pytest.raises(RuntimeError, match="UsageError: name variables, or give --all"):
        notebook.run("%persicache forget")


def test_a_store_of_a_cell_and_trouble_with_it(notebook, tmp_path):
    notebook.run("%config PersistMagics.store = ''")
    assert re.match(r"0 cells are kept in .*\bcache/persicache/memo\n", notebook.run("%persicache"))
    cell = f"%%persist --store {tmp_path / 'x.db'}\ny = 5"
    computed(notebook.run(cell))
    restored(notebook.run(cell))
    listing = notebook.run("%persicache")
    assert re.search(r"cache/persicache/memo\n1 cell is kept in .*x\.db\n", listing)
    assert re.fullmatch(r"1 cell is forgotten in .*x\.db\n", notebook.run("%persicache forget y"))
    assert notebook.run("%persicache forget --all").endswith("cache/persicache/memo\n")
    computed(notebook.run(cell))
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match=r"UsageError: could not keep entries in .*file: it is a file"):
        notebook.run(f"%%persist --store {tmp_path / 'file'}\ny = 6")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", "")
    said = notebook.run(f"%%persist --store zip://::{tmp_path / 'x.zip'}\ny = 6\nprint('ran')")
    assert said.count("ran\n") == 1
    assert "nothing is kept: " in said
    assert notebook.run("print(y)") == "6\n"


def test_what_needs_a_pickle_is_not_kept_where_others_can_write(notebook, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    cell = f"%%persist --store {shared}\nimport decimal, types\nx = 1\ny = types.SimpleNamespace()"
    said = notebook.run(cell)
    assert computed(said) == "x"
    assert re.search("^not kept: y, .*signing_key", said, re.MULTILINE)
    notebook.run("%config PersistMagics.options = {'signing_key': b'a secret of thirty-two bytes....'}")
    assert computed(notebook.run(cell + "; z = 1")) == "x, y, z"
    assert restored(notebook.run(cell + "; z = 1")) == "x, y, z"
    notebook.run("%config PersistMagics.options = {}")


def test_a_cells_own_error_is_its_own_whatever_it_is(notebook):
    notebook.run("import persicache")
    cell = "%%persist\ny = 1\nraise persicache.BackendError(place='p', action='a', cause='c')"
    with pytest.raises(RuntimeError, match=r"^BackendError: could not a in p: c"):
        notebook.run(cell)


def test_a_damaged_entry_is_computed_again(notebook, tmp_path):
    notebook.run("%%persist\ny = list(range(1000))")
    damaged = 0
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-100] + bytes(100))
            damaged += 1
    assert damaged == 1
    outputs = notebook.outputs("%%persist\ny = list(range(1000))")
    assert computed("".join(output["text"] for output in outputs)) == "y"
    assert "computes again" in "".join(output["text"] for output in outputs if output["name"] == "stderr")
    restored(notebook.run("%%persist\ny = list(range(1000))"))


def test_time_goes_above(notebook):
    assert "Wall time" in notebook.run("%%time\n%%persist\ny = 1")
    assert restored(notebook.run("%%persist\ny = 1")) == "y"


@pytest.mark.parametrize(
    ("made", "title"),
    [
        ("persicache.open('memory://shown')", "PersiDict"),
        ("persicache.SpillDict({'a': 1})", "SpillDict"),
        ("persicache.persistent_memoize('memory://shown')(abs_of)", "memoized __main__.abs_of"),
        ("persicache.persistent_memoize('memory://shown')(abs_of).entries()", "Results of __main__.abs_of"),
    ],
)
def test_a_notebook_shows_tables(notebook, made, title):
    shown = notebook.outputs(f"import persicache\ndef abs_of(x): return abs(x)\n{made}")[-1]
    table = ET.fromstring(f"<div>{shown['data']['text/html']}</div>").find("table")
    assert title in "".join(table.find("caption").itertext())


def test_bare_install_names_the_extra(monkeypatch):
    import sys

    import persicache_ipython

    import persicache

    monkeypatch.setitem(sys.modules, "IPython.core.error", None)
    monkeypatch.delitem(sys.modules, "persicache_ipython.magics", raising=False)
    with pytest.raises(persicache.MissingDependency, match=r"pip install 'persicache\[ipython\]'"):
        persicache_ipython.load_ipython_extension(None)
    assert Path(persicache_ipython.__file__).name == "__init__.py"
