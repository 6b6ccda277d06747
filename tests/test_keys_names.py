"""Key <-> storage name: injective, reversible, and safe in any place."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import math
import re
import string
import sys
import types
import unicodedata
import uuid
from collections import namedtuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from persicache.errors import UnencodableKey
from persicache.keys import KeyName, decode_name, decode_text, encode_key, encode_prefix, name_of

EXTENSION = ".pc"

# The first draw of a character builds a table of Unicode.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Color(enum.Enum):
    RED = 1
    GREY = 2
    CRIMSON = 1  # noqa: PIE796 - an alias is the subject


class Mode(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Word(enum.StrEnum):
    A = "a"


zones = st.one_of(
    st.none(),
    st.sampled_from(["Europe/Berlin", "UTC", "America/New_York"]).map(ZoneInfo),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))),
    st.builds(dt.timezone, st.just(dt.timedelta(hours=1)), st.text(max_size=5)),
)
strings = st.one_of(
    st.text(st.characters(codec=None), max_size=12),
    st.text("aB.-_=!,()/g03x", max_size=12),
    st.text("ab=x0", min_size=150, max_size=400),
    st.sampled_from(["con", "CON", "nul.txt", "com1", "lpt9.a.b", "", ".", "..", "-", "aux."]),
)
atoms = st.one_of(
    strings,
    st.binary(max_size=8),
    st.integers(),
    st.builds(lambda few, shift: few << shift, st.integers(-9, 9), st.integers(200, 20_000)),
    st.floats(),
    st.booleans(),
    st.none(),
    st.dates(),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.datetimes().map(lambda moment: moment.replace(fold=1)),
    st.uuids(),
    st.sampled_from([*Color, *Mode, Mode.READ | Mode.RUN, Mode(0), Word.A]),
)
keys = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple)
)

NAIVE = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - naive is the subject

HOSTILE = [
    "../x", "/etc/passwd", "..", ".", "", "a\0b", "a\nb", "con", "CON", "con.txt", "a", "A", "-rf", "_",
    "é", "e\N{COMBINING ACUTE ACCENT}", "ﬁ", "fi", "ß", "SS", "ss", "\u0131", "İ", "i", "I", "K", "k",
    "\N{KELVIN SIGN}", "*", "?", "[x]", "%2F", "a?b#c", "s3://x", "a::b", "~", "~root", "~user/x",
    "file:", "a" * 10_000, "a" * 10_001, "\ud800", "\udfff\ud800", "😀", ".persicache", ".tmp-x",
    "=x" + "0" * 40, "a=x" + "0" * 40, "a.pc", "a.pc.pc", ".pc", "=i12", "=n", "=t", "=s", "=h", "=g=n",
    "!a", "=41", "(a,b)", "a/b", "a,b", " ", "a ", "a.", "a\\b", "$HOME", "a|b", "a;b", "a'b", 'a"b',
    "\x7f", "\ufeff", "\u200b", "\u202e", "nul.tar.gz", b"a", b"", b"..", b"\xff", ("a",), [("a",)],
    (("a",),), ("a", "b"), (("a", "b"),), (("a", "b"), "c"), ("a", ("b", "c")), ("a", "b", "c"), (),
    ((),), ((), ()), 1, 1.0, True, "1", b"1", 0, 0.0, -0.0, False, None, (None,), math.nan, math.inf,
    -math.inf, 10**5000, -(10**5000), ("a", "."), ("..", ".."), ("", ""), ("a.pc", "b"), ("a=2epc", "b"),
    ("con", "x"), ("x", "con"), ("-x", "-y"), ("a" * 300, "b"), ("a" * 300, "c"), tuple("abcdefgh" * 60),
    tuple("abcdefgh" * 61), ("a" * 150,) * 9, ("a" * 150,) * 10, ("x", "y" * 300), dt.date(2024, 1, 1),
    NAIVE, NAIVE.replace(tzinfo=dt.UTC), dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")),
    NAIVE.replace(fold=1), "2024-01-01", dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(0),
    "UTC")), uuid.UUID(int=0), "0" * 32, Color.RED, Color.GREY, "RED", Mode.READ, Mode.READ | Mode.WRITE,
    Word.A,
]  # fmt: skip


def canonical(key):
    """What a key should come back as, in a form that == tells apart."""
    if type(key) in (tuple, list):
        return ("tuple", *map(canonical, key))
    if type(key) is dt.datetime:
        zone = getattr(key.tzinfo, "key", None) or repr(key.tzinfo)
        return ("datetime", key.replace(tzinfo=None), key.fold, zone)
    return (type(key), key if type(key) is int else repr(key))


def name_for(key):
    return encode_key(key, extension=EXTENSION).name


def folded(name):
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFD", name)).casefold()


@unhurried
@given(keys)
@example(list(itertools.repeat("a", 600)))
def test_a_key_comes_back_from_its_text(key):
    name, text = encode_key(key, extension=EXTENSION)
    assert canonical(decode_text(text)) == canonical(key)
    assert name_of(text, extension=EXTENSION) == name


@unhurried
@given(keys)
def test_a_name_gives_its_text_or_says_that_it_is_digested(key):
    name, text = encode_key(key, extension=EXTENSION)
    found = decode_name(name, extension=EXTENSION)
    assert found is not None
    assert found == (KeyName(name, "") if "=x" in name else KeyName(name, text))
    assert ("=x" in name) == (len(text) > 512 or any(len(part) > 160 for part in text.split("/")))


@unhurried
@given(keys)
def test_names_are_safe(key):
    name = name_for(key)
    assert len(name) <= 600
    assert set(name) <= set(string.ascii_lowercase + string.digits + "_.=!,()-/")
    components = name.split("/")
    for component in components:
        assert 0 < len(component) <= 200
        assert component[0] not in ".-"
        assert not re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", component)
    assert not any("." in component for component in components[:-1])
    assert folded(name) == name


@unhurried
@given(keys, keys)
def test_different_keys_have_different_names(one, other):
    assert (name_for(one) == name_for(other)) == (canonical(one) == canonical(other))


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: type(key).__name__)
def test_hostile_keys(key):
    test_a_key_comes_back_from_its_text.hypothesis.inner_test(key)
    test_a_name_gives_its_text_or_says_that_it_is_digested.hypothesis.inner_test(key)
    test_names_are_safe.hypothesis.inner_test(key)


def test_hostile_keys_are_all_different():
    names = {}
    for key in HOSTILE:
        name = folded(name_for(key))
        assert canonical(names.setdefault(name, key)) == canonical(key)
    assert len(names) == len({canonical(key) for key in HOSTILE})


@unhurried
@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789=!.,()-_/ghiX", max_size=30))
@example("=i01")
@example("=i0x1")
@example("=41")
@example("=61")
@example("(a")
@example("a)")
@example("(a)(b)")
@example("(a,,b)")
@example("(a,)")
@example("(a)")
@example("a//b")
@example("/a")
@example("=ga/b")
@example("=h/")
@example("=scon")
@example("=sa")
@example("=m:::")
@example("=w2024-01-01_00-00-00_o99999999999999999999999999")
@example("=w2024-01-01_00-00-00_z=2e.=2fetc")
@example("=ra")
@example("=r1_0")
@example("=nn")
@example("=q")
@example("=x")
@example("=i" + "9" * 5000)
@example("(" * 5000 + ")" * 5000)
def test_a_foreign_name_is_no_key(text):
    found = decode_name(text + EXTENSION, extension=EXTENSION)
    if found is not None and found.text:
        try:
            key = decode_text(found.text)
        except UnencodableKey:
            return
        assert encode_key(key, extension=EXTENSION) == found


FOREIGN = [
    "", ".hidden", "a b", "A", "a.d/b", "a/.tmp", "con", "-a", "é", "=x12", "a=x" + "0" * 39,
    "a=x" + "0" * 41, "A=x" + "0" * 40, "../=x" + "0" * 40, "=h/a", "(" * 60 + ")" * 60,
    "=w2024-01-01_00-00-00_o" + "9" * 20, "a/", "/a", "(a", "a)", "(a,)", "=i01", "=61", "=sa", "=ra",
    "=q", "=nn",
]  # fmt: skip


@pytest.mark.parametrize("text", FOREIGN)
def test_these_are_foreign(text):
    assert decode_name(text + EXTENSION, extension=EXTENSION) is None
    with pytest.raises(ValueError, match="is not how a key is written"):
        decode_text(text)


def test_names_of_another_extension_are_foreign():
    assert decode_name("a.json", extension=".pkl") is None
    assert decode_name("a.pkl", extension=".pkl") == ("a.pkl", "a")


@unhurried
@given(st.lists(atoms, max_size=4), st.lists(keys, min_size=2, max_size=4))
def test_tuples_lie_under_the_prefix_of_their_beginning(start, rest):
    assert name_for((*start, *rest)).startswith(encode_prefix(tuple(start)))


@unhurried
@given(strings, strings, keys)
def test_no_other_short_tuple_lies_under_a_prefix(one, other, last):
    if one != other:
        assert not name_for((other, last)).startswith(encode_prefix((one,)))


def test_a_prefix_too_long_for_names_covers_more():
    assert encode_prefix(("a" * 150, "b" * 150, "c" * 150)) == "a" * 150 + "/" + "b" * 150 + "/"


def test_plain_keys_stay_readable():
    shown = {
        key: name_for(key) for key in ["loss", "v1.2", ("runs", "loss.v2"), ("a",), ("a", ("b", 1)), "Ab"]
    }
    assert list(shown.values()) == [
        "loss.pc", "v1.2.pc", "runs/loss.v2.pc", "=ga.pc", "a/(b,=i1).pc", "!ab.pc",
    ]  # fmt: skip
    assert name_for("Results of the run " * 20).startswith("!results=20of=20the=20run")


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        (np.int64(1), "item()"),
        (np.float64(1), "item()"),
        (np.str_("a"), "item()"),
        (np.datetime64("2024-01-01"), "item()"),
        (namedtuple("Point", "x y")(1, 2), "pass tuple(key)"),  # noqa: PYI024 - the untyped form is the subject
        (type("Path", (str,), {})("a"), "come back as str"),
        (type("Many", (list,), {})(), "pass tuple(key)"),
        ({"a": 1}, "sorted"),
        (frozenset("a"), "sorted"),
        (object(), "builtins.object"),
        (1j, "complex"),
        (bytearray(b"a"), "bytearray"),
        (dt.timedelta(1), "timedelta"),
        (dt.datetime(2024, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {})()), "found again"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_keys_are_refused_with_advice(key, advice):
    for whole in (key, (key,), ("a", [key])):
        with pytest.raises(UnencodableKey, match=re.escape(advice)) as caught:
            encode_key(whole, extension=EXTENSION)
        assert isinstance(caught.value, TypeError)


def test_cycles_and_deep_nesting_are_refused():
    cycle = []
    cycle.append(cycle)
    wide = []
    wide += [wide, wide]
    deep = ()
    for _ in range(100_000):
        deep = (deep,)
    for key in (cycle, (cycle,), ["a", cycle], wide, deep):
        with pytest.raises(UnencodableKey, match="too deep, or contains itself"):
            encode_key(key, extension=EXTENSION)
    while deep:  # Freeing it in one go would recurse.
        (deep,) = deep


def test_the_deepest_key_comes_back():
    key = "a"
    for _ in range(51):
        key = (key,)
    name, text = encode_key(key, extension=EXTENSION)
    assert decode_text(text) == key
    assert decode_name(name, extension=EXTENSION) == (name, text)
    with pytest.raises(UnencodableKey):
        encode_key((key,), extension=EXTENSION)


def test_nan_is_one_key():
    assert name_for(math.nan) == name_for(-math.nan) == name_for(float("inf") - float("inf"))


def test_huge_ints_dodge_the_digit_limit():
    text = encode_key(10**100_000, extension=EXTENSION).text
    assert decode_text(text) == 10**100_000


def test_a_local_enum_is_refused():
    class Local(enum.Enum):
        A = 1

    with pytest.raises(UnencodableKey, match="could not be found again"):
        encode_key(Local.A, extension=EXTENSION)


def test_listing_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "planted_enum.py").write_text("import enum\nclass E(enum.Enum):\n    A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = "=mplanted_enum=3a!e=3a!a"
    assert decode_name(text + EXTENSION, extension=EXTENSION) == (text + EXTENSION, text)
    with pytest.raises(UnencodableKey, match="import planted_enum first"):
        decode_text(text)
    assert "planted_enum" not in sys.modules
    key = decode_text(text, import_modules=True)
    assert (type(key).__name__, key.name) == ("E", "A")
    with pytest.raises(UnencodableKey, match="no such member"):
        decode_text("=mplanted_enum=3a!e=3a!b")
    with pytest.raises(UnencodableKey, match="can't be imported"):
        decode_text("=mplanted_missing=3a!e=3a!b", import_modules=True)
    monkeypatch.delitem(sys.modules, "planted_enum")


def test_a_name_reaches_no_code_but_an_enum():
    for planted in ("os:system:a", "os.path:join:a", "builtins:eval:a"):
        text = "=m" + planted.replace(":", "=3a")
        with pytest.raises(UnencodableKey, match="defines no enum"):
            decode_text(text)


def test_a_spawned_main_is_main(monkeypatch):
    module = types.ModuleType("__main__")
    exec("import enum\nclass E(enum.Enum):\n    A = 1\n", module.__dict__)
    parent = module.E.A
    monkeypatch.setitem(sys.modules, "__main__", module)
    here = encode_key(parent, extension=EXTENSION)
    module.E.__module__ = "__mp_main__"
    assert encode_key(parent, extension=EXTENSION) == here
    assert decode_text(here.text) is parent
