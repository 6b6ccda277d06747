"""What is stored of a function can be looked at: with its uses, by whatever process."""

from __future__ import annotations

import asyncio
import gc
import math
import multiprocessing
import os
import subprocess
import sys
import time
import uuid

import pytest

from persicache import PersicacheWarning, persistent_memoize


@pytest.fixture(params=["directory", "memory", "s3", "sqlite", "json", "dir"])
def store(request, tmp_path):
    """Return a decorator factory over a store of its own."""
    where = {
        "directory": lambda: (tmp_path / "memo", {}),
        "memory": lambda: (f"memory://{uuid.uuid4().hex}", {}),
        "sqlite": lambda: (tmp_path / "x.db", {}),
        "json": lambda: (tmp_path / "x.json", {}),
        "dir": lambda: (f"dir::file://{tmp_path}", {}),
        "s3": lambda: (
            request.getfixturevalue("s3").url,
            {"storage_options": request.getfixturevalue("s3").storage_options},
        ),
    }
    url, options = where[request.param]()
    return lambda **more: persistent_memoize(url, **options, **more)


def area(width, height=2):
    return width * height


def test_an_entry_tells_of_itself(store):
    start = time.time() - 1  # S3 tells whole seconds
    f = store()(area)
    for _ in range(3):
        f(3)
    f(4, height=5)
    found = {info.args["width"]: info for info in f.entries()}
    assert found["3"].args == {"width": "3", "height": "2"}
    assert found["4"].args == {"width": "4", "height": "5"}
    assert [found[x].hits for x in "34"] == [2, 0]
    for info in found.values():
        assert start < info.created <= info.last_use <= time.time()
        assert 0 <= info.cost_seconds < 1
        assert info.nbytes > 100
        assert info.is_current
        assert info.expires is None
    assert [info.hits for info in sorted(f.entries(), key=lambda info: info.hits)] == [0, 2]


@pytest.mark.parametrize("verb", ["__call__", "lookup"])
def test_a_hit_is_the_last_use(store, verb):
    f = store()(area)
    f(3)
    (info,) = f.entries()
    first = info.last_use
    getattr(f, verb)(3)
    (info,) = f.entries()
    assert info.last_use > max(first, info.created)


def test_hits_are_counted_in_memory_and_in_the_store(tmp_path):
    for memory in (None, "1 MiB"):
        f = persistent_memoize(tmp_path, memory=memory)(area)
        for _ in range(11):
            f(3)
    (info,) = f.entries()
    assert info.hits == 21
    assert f.stats().nbytes_saved == 11 * info.nbytes
    assert f.stats().seconds_saved == pytest.approx(11 * info.cost_seconds)


def test_secrets_are_not_shown(tmp_path):
    f = persistent_memoize(tmp_path, record_args=False)(area)
    f(3)
    (info,) = f.entries()
    assert info.args == {}
    assert info.is_current
    assert "width" not in f.entries()._repr_html_()


def test_results_of_other_code_and_versions_are_told_apart(tmp_path):
    for version in (1, 2):
        persistent_memoize(tmp_path, version=version)(area)(version)
    f = persistent_memoize(tmp_path, version=2)(area)
    assert {info.args["width"]: info.is_current for info in f.entries()} == {"1": False, "2": True}
    namespace = {"persistent_memoize": persistent_memoize, "place": tmp_path}
    for number in (1, 2):
        exec(f"@persistent_memoize(place)\ndef g(x): return x + {number}", namespace)
        namespace["g"](number)
    assert {info.args["x"]: info.is_current for info in namespace["g"].entries()} == {"1": False, "2": True}


def test_expiry_is_told(tmp_path):
    f = persistent_memoize(tmp_path, expires="1 h")(area)
    f(3)
    (info,) = f.entries()
    assert info.expires == pytest.approx(info.created + 3600)
    g = persistent_memoize(tmp_path, expires=lambda value: 100 if value < 10 else None)(math.prod)
    g((3, 2))
    g((30, 2))
    short, long = sorted(g.entries(), key=lambda info: info.expires or math.inf)
    assert short.expires == pytest.approx(short.created + 100, abs=1)
    assert long.expires is None


def test_an_entry_can_be_forgotten(store):
    f = store()(area)
    for width in range(4):
        f(width)
    for info in f.entries():
        if info.args["width"] != "2":
            assert info.forget()
            assert not info.forget()
    assert [f.contains(width) for width in range(4)] == [False, False, True, False]
    f(1)
    assert f.stats().misses == 5


def test_clear_forgets_uses_too(store):
    f = store()(area)
    for _ in range(5):
        f(3)
    f.flush()
    f(3)
    f.clear()
    f(3)
    (info,) = f.entries()
    assert info.hits == 0


def test_a_damaged_entry_hides_no_other(tmp_path):
    f = persistent_memoize(tmp_path)(area)
    for width in range(3):
        f(width)
    next(iter(tmp_path.rglob("*.pc"))).write_bytes(b"\0" * 300)
    with pytest.warns(PersicacheWarning, match="listed without one") as told:
        assert len(list(f.entries())) == 2
    assert told[0].filename == __file__


def test_a_notebook_shows_some(tmp_path, monkeypatch):
    f = persistent_memoize(tmp_path)(area)
    f("<b>")
    page = f.entries()._repr_html_()
    assert "width=&#x27;&lt;b&gt;&#x27;, height=2" in page
    assert "entries: 1," in page
    for width in range(30):
        f(width)
    assert "entries: more than 20," in f.entries()._repr_html_()
    f(3)
    with monkeypatch.context() as patch:  # neither is worth a listing
        patch.setattr(os, "scandir", None)
        patch.setattr(os, "listdir", None)
        assert "test_memo_entries.area" in repr(f.entries())
        page = f._repr_html_()
    for told in ("area", str(tmp_path), "hits: 1,", "misses: 31,"):
        assert told in page


def test_methods_and_coroutines_are_listed(tmp_path):
    class Scale:
        def __persicache_key__(self):
            return "scale"

        @persistent_memoize(tmp_path)
        def times(self, x):
            return 2 * x

    Scale().times(3)
    assert [info.args["x"] for info in Scale().times.entries()] == ["3"]
    f = persistent_memoize(tmp_path)(slowly)
    asyncio.run(f(3))
    assert [(info.args, info.hits) for info in f.entries()] == [({"x": "3"}, 0)]


async def slowly(x):
    return x


def hit(place, times):
    f = persistent_memoize(place)(area)
    for _ in range(times):
        f(3)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_uses_survive_processes_and_are_counted_once(tmp_path, method):
    f = persistent_memoize(tmp_path)(area)
    for _ in range(4):
        f(3)  # the parent's, which a forked child doesn't write for it
    context = multiprocessing.get_context(method)
    for _ in range(2):
        process = context.Process(target=hit, args=(tmp_path, 10))
        process.start()
        process.join()
    (info,) = f.entries()
    assert info.hits == 3 + 20
    f.flush()
    (info,) = f.entries()
    assert info.hits == 23


SCRIPT = """
import ast, sys
from persicache import persistent_memoize
@persistent_memoize(sys.argv[1], storage_options=ast.literal_eval(sys.argv[3]))
def f(x):
    return x
for _ in range(int(sys.argv[2])):
    f(1)
print(*[info.hits for info in f.entries()])
"""


@pytest.mark.parametrize("place", ["directory", "s3"])
def test_uses_are_written_when_a_process_ends_and_only_if_there_are_any(tmp_path, place, request):
    (tmp_path / "script.py").write_text(SCRIPT)
    url, options = str(tmp_path / "memo"), None
    if place == "s3":
        s3 = request.getfixturevalue("s3")
        url, options = s3.url, s3.storage_options

    def run(times):
        command = [sys.executable, tmp_path / "script.py", url, str(times), repr(options)]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)

    assert run(1) == 0
    assert not list((tmp_path / "memo").rglob("*.use"))
    assert run(10) == 10
    assert run(5) == 15


def test_the_blobs_of_uses_stay_few(tmp_path):
    f = persistent_memoize(tmp_path)(area)
    f(3)
    for _ in range(100):
        f(3)
        f.flush()
    assert len(list(tmp_path.rglob("*.use"))) < 20
    (info,) = f.entries()
    assert info.hits == 100


def test_foreign_blobs_among_the_uses_do_no_harm(tmp_path):
    f = persistent_memoize(tmp_path)(area)
    f(3)
    f(3)
    f.flush()
    (blob,) = tmp_path.rglob("*.use")
    for i, content in enumerate((b"", b"\xc1", b"\x80", blob.read_bytes()[:-3], b"x" * 1000)):
        (blob.parent / f"{i}.use").write_bytes(content)
    (info,) = f.entries()
    assert info.hits == 1


def test_a_store_that_can_not_be_written_is_read_in_peace(tmp_path):
    import zipfile

    f = persistent_memoize(tmp_path / "memo")(area)
    f(3)
    with zipfile.ZipFile(tmp_path / "memo.zip", "w") as archive:
        for path in (tmp_path / "memo").rglob("*.pc"):
            archive.write(path, path.relative_to(tmp_path / "memo"))
    before = (tmp_path / "memo.zip").read_bytes()
    g = persistent_memoize(f"zip://::file://{tmp_path}/memo.zip")(area)
    assert g(3) == g(3) == 6
    g.flush()
    assert g.stats().hits == 2
    assert [info.args["width"] for info in g.entries()] == ["3"]
    assert (tmp_path / "memo.zip").read_bytes() == before


def test_functions_that_are_made_again_and_again_share_one_account(tmp_path):
    def made():
        return persistent_memoize(tmp_path)(area)

    made()(3)
    for _ in range(50):
        made()(3)
    assert not list(tmp_path.rglob("*.use"))  # in one go, later
    (info,) = made().entries()
    assert info.hits == 50


def test_hits_of_a_function_that_is_gone_are_counted(tmp_path):
    for _ in range(5):
        hit(tmp_path, 10)
    gc.collect()
    (info,) = persistent_memoize(tmp_path)(area).entries()
    assert info.hits == 49
