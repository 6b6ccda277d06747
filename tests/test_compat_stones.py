"""Code written for stones 0.1 runs over persicache, on the environments that stones wrote."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import lmdb
import pytest

import persicache
from persicache.compat.stones import EncoderException, LmdbStore, MemoryStore, serializers, stone

# What stones 0.1.4 itself made of these values; its JSON, with ujson 1, its CBOR in pure Python.
WRITTEN = {
    "pickle": {
        b"qwe": b"\x80\x05\x95\x07\x00\x00\x00\x00\x00\x00\x00C\x03qwe\x94.",
        (
            "Yes",
            "No",
            3,
        ): b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x03Yes\x94\x8c\x02No\x94K\x03\x87\x94.",
        True: b"\x80\x05\x88.",
    },
    "msgpack": {
        (b"yes", b"no"): b"\x93\xc4\x07__(,)__\xc4\x03yes\xc4\x02no",
        frozenset([b"q"]): b"\x92\xc4\x07__f{}__\xc4\x01q",
        "text": b"\xa4text",
    },
    "cbor": {
        (b"yes", b"no"): b"\xd8\x26\x82CyesBno",
        frozenset([b"q"]): b"\xd9\x01\x02\x81Aq",
        b"qwe": b"Cqwe",
    },
    "json": {
        (b"yes", 1): b'["__(,)__", "yes", 1]',
        frozenset([b"q"]): b'["__f{}__", "q"]',
        3.5: b"3.5",
    },
}

VALUES = [
    True,
    None,
    3.1415,
    b"qwe ASD 123",
    [],
    {},
    [b"x", [b"deep", (b"deeper",)]],
    {b"y", b"qwerty"},
    {True, None},
    (b"yes", (b"no",), {b"k": {1}}),
    frozenset([b"q", b"e"]),
    {b"yes": b"y", b"maybe": 1},
]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my-db"


def raw(folder, table=None):
    with lmdb.open(str(folder), max_dbs=9, readonly=True, lock=False) as env:
        db = None if table is None else env.open_db(table, create=False)
        with env.begin(db=db) as transaction:
            return dict(transaction.cursor())


def test_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stor = stone("my-db", LmdbStore, serialize="pickle")
    stor[b"s"] = b"whatever"
    stor[b"li"] = [True, False, None, -1]
    stor[b"tu"] = ("Yes", "No", 3)
    assert b"s" in stor
    assert len(stor) == 3
    assert repr(stor.keys()) == "[b'li', b's', b'tu']"
    assert repr(stor.values()) == "[[True, False, None, -1], b'whatever', ('Yes', 'No', 3)]"
    assert -1 in stor[b"li"]
    assert 3 in stor[b"tu"]
    del stor[b"li"]
    assert stor.get(b"li", False) is False
    del stor
    stor = stone("my-db", LmdbStore, serialize="pickle")
    assert len(stor) == 2
    assert repr(stor.keys()) == "[b's', b'tu']"


@pytest.mark.parametrize("name", sorted(WRITTEN))
@pytest.mark.parametrize("table", [None, b"users"])
def test_what_stones_wrote_is_read_and_written_the_same(folder, name, table):
    values = WRITTEN[name]
    with lmdb.open(str(folder), max_dbs=9, map_size=2**20) as env:
        db = None if table is None else env.open_db(table)
        with env.begin(write=True, db=db) as transaction:
            for i, data in enumerate(values.values()):
                transaction.put(b"%d" % i, data)
    before = raw(folder, table)
    store = LmdbStore(folder, table, serialize=name)
    assert store.values() == list(values)
    assert [type(value) for value in store.values() if name != "cbor"] == [
        type(value) for value in values if name != "cbor"
    ]
    for key, value in store.items():
        store[key + b"-again"] = value
    store.close()
    after = raw(folder, table)
    assert {key: after[key] for key in before} == before
    assert {key: after[key + b"-again"] for key in before} == before


@pytest.mark.parametrize("name", ["noop", *sorted(WRITTEN)])
@pytest.mark.parametrize("value", VALUES)
def test_every_serializer_gives_back_what_it_was_given(name, value):
    store = stone("any", serialize=name)
    store[b"k"] = value
    assert store[b"k"] == value
    assert store.setdefault("k", 7) == value


def test_a_list_that_would_come_back_as_a_tuple_is_refused(folder):
    store = LmdbStore(folder, serialize="msgpack")
    with pytest.raises(TypeError, match="would come back as something else"):
        store[b"k"] = [b"__(,)__", 1]
    assert b"k" not in store


@pytest.mark.parametrize("make", [lambda path: LmdbStore(path, serialize="json"), lambda _: MemoryStore()])
def test_missing_keys_raise(folder, make):
    store = make(folder)
    with pytest.raises(KeyError, match="nothing"):
        store["nothing"]
    with pytest.raises(KeyError, match="nothing"):
        del store[b"nothing"]
    assert store.get(b"nothing") is None
    assert b"nothing" not in store
    with pytest.raises(TypeError, match="bytes or str, not 7"):
        store[7] = 1


def test_what_is_set_stays_unless_it_is_to_be_overwritten(folder):
    store, memory = LmdbStore(folder), MemoryStore(serialize="json")
    for each in (store, memory):
        each.put("a", b"old")
        each.put("a", b"new", overwrite=False)
        assert each["a"] == b"old"
        each.put(b"a", b"new", overwrite=True)
        assert each.items() == [(b"a", b"new")]
        each.update([(b"x", b"1")], y=b"2")
        assert each.keys() == [b"a", b"x", b"y"]
    # Their defaults differ.
    store.put("a", b"x")
    memory.put("a", b"x")
    assert (store["a"], memory["a"]) == (b"new", b"x")
    # So does what they say of a key that isn't there.
    assert store.delete("a") is True
    assert store.delete("a") is False
    with pytest.raises(KeyError):
        memory.delete("z")


@pytest.mark.parametrize("kind", [list, set])
@pytest.mark.parametrize("store", [MemoryStore, LmdbStore])
def test_deep_values_grow_and_shrink(folder, kind, store):
    store = stone(folder, store, serialize="msgpack", value_type=kind)
    for value in (b"a", b"x", b"a"):
        store.deep_add(b"deep", value)
    assert sorted(store[b"deep"]) == [b"a", b"a", b"x"][3 - len(kind((b"a", b"a", b"x"))) :]
    store.deep_remove("deep", b"x")
    assert kind is type(store[b"deep"])
    assert b"x" not in store[b"deep"]
    store["number"] = b"bytes"
    with pytest.raises(TypeError, match="a frozenset has no add"):
        stone(folder, MemoryStore, value_type=frozenset).deep_add(b"k", 1)


def test_no_addition_is_lost_among_threads(folder):
    stores = [LmdbStore(folder, serialize="json", value_type=list) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: stores[i % 2].deep_add("all", i), range(40)))
    assert sorted(stores[0]["all"]) == list(range(40))


def _add(folder, start):
    store = LmdbStore(folder, serialize="json", value_type=list, database={"sync": False})
    for i in range(start, start + 20):
        store.deep_add("all", i)
    store.close()


def test_no_addition_is_lost_among_processes(folder):
    context = get_context("spawn")
    children = [context.Process(target=_add, args=(folder, start)) for start in (0, 20)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert sorted(LmdbStore(folder, serialize="json")["all"]) == list(range(40))


def test_tables_of_an_environment_do_not_mix(folder):
    plain = LmdbStore(folder, serialize="noop")
    users = LmdbStore(folder, b"users", serialize="json")
    plain["a"] = b"0" * 48  # as long as what LMDB keeps of a table
    users["a"] = 1
    users["b"] = 2
    assert (len(plain), plain.items()) == (1, [(b"a", b"0" * 48)])
    plain.clear()
    assert (len(plain), users.items()) == (0, [(b"a", 1), (b"b", 2)])
    assert repr(users) == "LmdbStore{b'a': 1, b'b': 2}"
    users.destroy()
    assert folder.exists()
    users.destroy(yes_im_sure=True)
    assert not folder.exists()


def test_more_than_a_page_of_a_scan(folder):
    store = LmdbStore(folder, serialize="json", iterable=[(f"{i:05}", i) for i in range(2500)])
    assert store.values() == list(range(2500))
    assert store.pop("00007") == 7
    assert len(store) == 2499


def test_pickles_that_others_could_have_written_are_not_loaded(folder):
    LmdbStore(folder, serialize="pickle", iterable={b"a": 1}).close()
    folder.chmod(0o777)
    (folder / "data.mdb").chmod(0o666)
    store = LmdbStore(folder, serialize="pickle")
    with pytest.raises(persicache.UntrustedPickle, match="allow_pickle=True"):
        store[b"a"]
    with pytest.raises(persicache.UntrustedPickle):
        store[b"b"] = 2
    trusting = stone(folder, LmdbStore, options={"allow_pickle": True})
    assert trusting[b"a"] == 1


def test_damage_is_told_by_its_key(folder):
    LmdbStore(folder, serialize="noop", iterable={b"a": b"{"}).close()
    with pytest.raises(persicache.CorruptEntry, match="b'a'"):
        LmdbStore(folder, serialize="json")[b"a"]


def test_serializers_of_ones_own(folder):
    store = stone(folder, LmdbStore, serialize=None, dump_load=(str.encode, bytes.decode))
    store["k"] = "text"
    assert store["k"] == "text"
    store.close()
    assert raw(folder) == {b"k": b"text"}
    serializers["mine"] = {"encode": str.encode, "decode": bytes.decode}
    try:
        assert stone(folder, LmdbStore, serialize="mine")["k"] == "text"
    finally:
        del serializers["mine"]
    with pytest.raises(EncoderException, match="nothing"):
        stone(folder, LmdbStore, serialize="nothing")
    with pytest.raises(EncoderException):
        MemoryStore(serialize=None)
    with pytest.raises(ValueError, match="readonly"):
        LmdbStore(folder, database={"readonly": True})
    with pytest.raises(ValueError, match="1 to 511 bytes"):
        store[b"k" * 512] = "text"
