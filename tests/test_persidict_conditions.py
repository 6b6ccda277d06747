"""Conditional operations, policies, orderings and sub-dictionaries of a PersiDict."""

import math
import threading

import pytest
from places import SWAPPING

import persicache as p
from persicache import PersiDict


@pytest.fixture(params=SWAPPING, ids=str)
def kind(request):
    return request.param


SAME, CHANGED, ANY, ABSENT = p.ETAG_IS_THE_SAME, p.ETAG_HAS_CHANGED, p.ANY_ETAG, p.ITEM_NOT_AVAILABLE


def test_get_with_etag_and_get_item_if(place):
    d = PersiDict(**place)
    with pytest.raises(KeyError):
        d.get_with_etag("k")
    nothing = d.get_item_if("k", condition=SAME, expected_etag=ABSENT)
    assert nothing == p.ConditionalOperationResult(True, ABSENT, ABSENT, ABSENT)
    d["k"] = "v"
    value, etag = d.get_with_etag("k")
    assert (value, etag) == ("v", d.etag("k"))
    for condition, expected, satisfied, fetched in [
        (SAME, etag, True, False),
        (SAME, "other", False, True),
        (CHANGED, etag, False, False),
        (CHANGED, "other", True, True),
        (ANY, etag, True, False),
        (ANY, ABSENT, True, True),
    ]:
        seen = d.get_item_if("k", condition=condition, expected_etag=expected)
        assert (seen.condition_was_satisfied, seen.actual_etag, seen.resulting_etag) == (
            satisfied,
            etag,
            etag,
        )
        assert seen.new_value == ("v" if fetched else p.VALUE_NOT_RETRIEVED)
        assert not seen.value_was_mutated
        options = {"condition": condition, "expected_etag": expected}
        assert d.get_item_if("k", **options, retrieve_value=p.ALWAYS_RETRIEVE).new_value == "v"
        never = d.get_item_if("k", **options, retrieve_value=p.NEVER_RETRIEVE)
        assert never.new_value is p.VALUE_NOT_RETRIEVED


def test_set_item_if(place):
    d = PersiDict(**place)
    created = d.set_item_if("k", value=1, condition=SAME, expected_etag=ABSENT)
    assert (created.condition_was_satisfied, created.actual_etag, created.new_value) == (True, ABSENT, 1)
    assert created.resulting_etag == d.etag("k")
    assert created.value_was_mutated
    refused = d.set_item_if("k", value=2, condition=SAME, expected_etag=ABSENT)
    assert (refused.condition_was_satisfied, refused.new_value, d["k"]) == (False, 1, 1)
    first = d.etag("k")
    changed = d.set_item_if("k", value=2, condition=SAME, expected_etag=first)
    assert changed.condition_was_satisfied
    assert d["k"] == 2
    stale = d.set_item_if("k", value=3, condition=SAME, expected_etag=first)
    assert (stale.condition_was_satisfied, stale.actual_etag, stale.new_value) == (False, d.etag("k"), 2)
    assert not d.set_item_if(
        "k", value=3, condition=CHANGED, expected_etag=d.etag("k")
    ).condition_was_satisfied
    assert d.set_item_if("k", value=3, condition=CHANGED, expected_etag=first).condition_was_satisfied
    assert d.set_item_if("k", value=4, condition=ANY, expected_etag=ABSENT).condition_was_satisfied
    assert d["k"] == 4


def test_an_etag_that_comes_back_is_not_the_same(place):
    d = PersiDict(**place)
    d["k"] = "A"
    first = d.etag("k")
    d["k"] = "B"
    d["k"] = "A"
    assert not d.set_item_if("k", value="C", condition=SAME, expected_etag=first).condition_was_satisfied
    assert d["k"] == "A"


def test_jokers(place):
    d = PersiDict(**place)
    d["k"] = p.KEEP_CURRENT
    assert "k" not in d
    d["k"] = p.DELETE_CURRENT
    d["k"] = 1
    d["k"] = p.KEEP_CURRENT
    assert d["k"] == 1
    kept = d.set_item_if("k", value=p.KEEP_CURRENT, condition=SAME, expected_etag=d.etag("k"))
    assert kept.condition_was_satisfied
    assert not kept.value_was_mutated
    gone = d.set_item_if("k", value=p.DELETE_CURRENT, condition=SAME, expected_etag="other")
    assert not gone.condition_was_satisfied
    gone = d.set_item_if("k", value=p.DELETE_CURRENT, condition=SAME, expected_etag=d.etag("k"))
    assert (gone.condition_was_satisfied, gone.resulting_etag) == (True, ABSENT)
    assert "k" not in d
    d["k"] = 2
    d["k"] = p.DELETE_CURRENT
    assert "k" not in d
    d.update({"a": 1, "b": p.KEEP_CURRENT})
    assert dict(d) == {"a": 1}
    with pytest.raises(TypeError, match="KEEP_CURRENT"):
        d.setdefault_if("k", default_value=p.KEEP_CURRENT, condition=ANY, expected_etag=ABSENT)
    for joker in (p.KEEP_CURRENT, p.DELETE_CURRENT):
        with pytest.raises(TypeError, match="KEEP_CURRENT"):
            d.setdefault("never set", joker)
    assert "never set" not in d


def test_setdefault_if_and_discard_if(place):
    d = PersiDict(**place)
    assert not d.setdefault_if(
        "k", default_value=1, condition=SAME, expected_etag="x"
    ).condition_was_satisfied
    assert "k" not in d
    made = d.setdefault_if("k", default_value=1, condition=SAME, expected_etag=ABSENT)
    assert (made.condition_was_satisfied, made.new_value, made.actual_etag) == (True, 1, ABSENT)
    kept = d.setdefault_if("k", default_value=2, condition=ANY, expected_etag=ABSENT)
    assert (kept.condition_was_satisfied, kept.new_value, d["k"]) == (True, 1, 1)
    assert not d.discard_if("k", condition=SAME, expected_etag="x").condition_was_satisfied
    assert d["k"] == 1
    gone = d.discard_if("k", condition=SAME, expected_etag=d.etag("k"))
    assert (gone.condition_was_satisfied, gone.resulting_etag, gone.new_value) == (True, ABSENT, ABSENT)
    again = d.discard_if("k", condition=SAME, expected_etag=ABSENT)
    assert again.condition_was_satisfied
    assert not again.value_was_mutated
    assert not d.discard_if("k", condition=SAME, expected_etag="x").condition_was_satisfied


def count(n):
    return 1 if n is ABSENT else n + 1


def test_transform_item(place):
    d = PersiDict(**place)
    assert d.transform_item("n", transformer=count).new_value == 1
    done = d.transform_item("n", transformer=count)
    assert (done.new_value, done.resulting_etag) == (2, d.etag("n"))
    assert d.transform_item("n", transformer=lambda _: p.KEEP_CURRENT) == done
    gone = d.transform_item("n", transformer=lambda _: p.DELETE_CURRENT)
    assert gone == p.OperationResult(ABSENT, ABSENT)
    assert d.transform_item("n", transformer=lambda _: p.DELETE_CURRENT) == gone
    for wrong in (-1, "6", True, 1.5):
        with pytest.raises((TypeError, ValueError), match="n_retries"):
            d.transform_item("n", transformer=count, n_retries=wrong)


def test_a_lost_race_is_a_conflict(place):
    d = PersiDict(**place)
    calls = []

    def meddled(n):
        calls.append(n)
        d["n"] = len(calls)
        return "mine"

    with pytest.raises(p.ConcurrencyConflictError, match="n_retries=") as info:
        d.transform_item("n", transformer=meddled, n_retries=2)
    assert info.value.attempts == 3
    assert d["n"] == 3


def test_of_several_who_pop_one_gets_it(place):
    d = PersiDict(**place)
    d.update({i: i for i in range(20)})
    got = []

    def run():
        got.extend(value for i in range(20) if (value := d.pop(i, None)) is not None)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(20))
    with pytest.raises(KeyError):
        d.popitem()
    d["a"] = 1
    assert d.popitem() == ("a", 1)


@pytest.mark.parametrize("url", ["dir::file://{}", "simplecache::file://{}"])
def test_conditions_are_refused_where_they_can_not_be_exact(tmp_path, url):
    d = PersiDict(url.format(tmp_path))
    d["k"] = 1
    for change in (
        lambda: d.set_item_if("k", value=2, condition=SAME, expected_etag=d.etag("k")),
        lambda: d.discard_if("k", condition=SAME, expected_etag=d.etag("k")),
        lambda: d.transform_item("k", transformer=pytest.fail),
        # Nor where there would be nothing to change.
        lambda: d.set_item_if("k", value=2, condition=SAME, expected_etag="other"),
        lambda: d.setdefault_if("k", default_value=2, condition=ANY, expected_etag=ABSENT),
        lambda: d.discard_if("no", condition=SAME, expected_etag=ABSENT),
    ):
        with pytest.raises(p.ConditionsUnsupported):
            change()
    assert d.pop("k") == 1
    assert d.get_item_if("k", condition=SAME, expected_etag=ABSENT).condition_was_satisfied


def test_a_place_that_is_not_there_is_no_place_without_conditions(s3):
    d = PersiDict("s3://no-such-bucket/x", storage_options=s3.storage_options)
    with pytest.raises(p.BackendError, match="no-such-bucket"):
        d.transform_item("k", transformer=count)


def test_append_only(place):
    d = PersiDict(**place, append_only=True)
    d["k"] = 1
    d.update({"a": 2, "b": 3})
    for change in (
        lambda: d.__setitem__("k", 2),
        lambda: d.__setitem__("k", p.DELETE_CURRENT),
        lambda: d.__delitem__("k"),
        lambda: d.discard("k"),
        lambda: d.pop("k"),
        d.popitem,
        d.clear,
        lambda: d.discard_many(["k"]),
        lambda: d.update({"k": 2}),
        lambda: d.set_item_if("k", value=2, condition=ANY, expected_etag=ABSENT),
        lambda: d.set_item_if("k", value=2, condition=SAME, expected_etag=d.etag("k")),
        lambda: d.discard_if("k", condition=ANY, expected_etag=ABSENT),
        lambda: d.transform_item("k", transformer=count),
    ):
        with pytest.raises(p.MutationPolicyError, match="append-only"):
            change()
    d["k"] = p.KEEP_CURRENT
    assert d.setdefault("k", 5) == 1
    assert not d.set_item_if("k", value=2, condition=SAME, expected_etag=ABSENT).condition_was_satisfied
    assert not d.discard_if("k", condition=SAME, expected_etag=ABSENT).condition_was_satisfied
    assert d.discard_if("no", condition=SAME, expected_etag=ABSENT).condition_was_satisfied
    assert dict(d) == {"k": 1, "a": 2, "b": 3}


def test_base_class_for_values(tmp_path):
    d = PersiDict(tmp_path, base_class_for_values=int)
    d["k"] = True
    for change in (
        lambda: d.__setitem__("k", "text"),
        lambda: d.set_many({"k": "text"}),
        lambda: d.setdefault("x", "text"),
        lambda: d.set_item_if("k", value="text", condition=ANY, expected_etag=ABSENT),
        lambda: d.transform_item("k", transformer=lambda _: "text"),
    ):
        with pytest.raises(TypeError, match="holds values of type int, not str"):
            change()
    PersiDict(tmp_path)["k"] = "text"
    for look in (lambda: d["k"], lambda: d.get("k"), lambda: dict(d), lambda: d.get_many(["k"])):
        with pytest.raises(TypeError, match="holds values of type int, not str"):
            look()


def test_orderings(place):
    d = PersiDict(**place)
    for i, key in enumerate("cab"):
        d[key] = i
    times = dict(d.keys_and_timestamps())
    assert set(times) == set("abc")
    assert all(times[key] == d.timestamp(key) for key in times)
    by_time = sorted(times, key=times.__getitem__)
    if len(set(times.values())) == 3:  # S3 tells whole seconds
        assert by_time == list("cab")
        assert d.oldest_keys() == list("cab")
        assert d.newest_keys() == list("bac")
        assert d.newest_keys(1) == ["b"]
        assert d.oldest_values(max_n=2) == [0, 1]
        assert d.newest_values() == [2, 1, 0]
    assert {(key, value) for key, value, _ in d.items_and_timestamps()} == {("c", 0), ("a", 1), ("b", 2)}
    assert sorted(value for value, _ in d.values_and_timestamps()) == [0, 1, 2]
    assert d.oldest_keys(0) == []
    with pytest.raises(ValueError, match="max_n"):
        d.newest_keys(-1)
    assert {d.random_key() for _ in range(60)} == set("abc")
    d.clear()
    assert d.random_key() is None
    assert d.oldest_keys() == []


def test_orderings_cost_one_listing(s3):
    d = PersiDict(s3.url, storage_options=s3.storage_options)
    d.update({i: i for i in range(20)})
    for look in (
        len,
        lambda d: list(iter(d)),
        lambda d: d.newest_keys(3),
        lambda d: d.random_key(),
        lambda d: d.subdicts(),
    ):
        s3.server.clear()
        look(d)
        assert len(s3.server.requests()) == 1


def test_subdicts(place):
    d = PersiDict(**place)
    long = "x" * 300
    for key in [
        "top",
        ("a",),
        ("a", "b"),
        ("a", 1, "c"),
        ("b", "c"),
        ("a", long),
        (long, "y"),
        (("n",), 1),
    ]:
        d[key] = repr(key)
    sub = d.get_subdict("a")
    assert sorted(sub, key=repr) == sorted(["b", (1, "c"), long], key=repr)
    assert sub["b"] == sub[("b",)] == sub[["b"]] == repr(("a", "b"))
    assert sub[1, "c"] == d.get_subdict(("a", 1))["c"] == sub.get_subdict(1)["c"]
    assert d.get_subdict(long)["y"] == repr((long, "y"))
    subs = d.subdicts()
    assert set(subs) == {"a", "b", long, ("n",)}
    assert dict(subs["n",]) == {1: repr((("n",), 1))}
    sub["new"] = 1
    assert d["a", "new"] == 1
    assert len(sub) == 4
    sub.clear()
    assert sorted(d, key=repr) == sorted(["top", ("a",), ("b", "c"), (long, "y"), (("n",), 1)], key=repr)
    assert sorted(d.get_subdict(()), key=repr) == sorted(d, key=repr)
    assert not d.get_subdict("nothing")
    with pytest.raises(p.UnencodableKey):
        d.get_subdict(object())
    with pytest.raises(p.UnencodableKey, match="outside"):
        sub[()] = 1


def test_subdicts_below_an_over_long_prefix(tmp_path):
    d = PersiDict(tmp_path)
    prefix = tuple("p" * 90 for _ in range(6))
    for i in range(3):
        d[(*prefix, i)] = i
        d[(*prefix[:-1], "other", i)] = i
    assert sorted(d.get_subdict(prefix)) == [0, 1, 2]
    assert len(d.get_subdict(prefix)) == 3
    assert len(d.get_subdict(prefix[:-1])) == 6


@pytest.mark.parametrize("part", [[1, 2], math.nan, (1, [2, math.nan]), 1, True, 1.0])
@pytest.mark.parametrize("before", [(), tuple("p" * 90 for _ in range(6))], ids=["short", "over-long"])
def test_a_subdict_lists_what_it_gets_whatever_equals_its_prefix(tmp_path, before, part):
    d = PersiDict(tmp_path)
    for first in (1, True, 1.0):
        d[(*before, first, "type")] = type(first).__name__
    d[(*before, part, "type")] = type(part).__name__
    for sub in (d.get_subdict((*before, part)), d.get_subdict(before).get_subdict((part,))):
        assert dict(sub) == {"type": sub["type"]} == {"type": type(part).__name__}
        assert dict(sub.items()) == dict(sub)
        assert len(sub) == 1


def test_subdicts_of_different_parts_that_are_equal_are_not_mixed_up():
    d = PersiDict("memory://equal-parts")
    d[1, "a"] = "int"
    d[math.nan, "a"] = "nan"
    (found,) = [sub for first, sub in d.subdicts().items() if first != 1]
    assert dict(found) == {"a": "nan"}
    d[True, "a"] = "bool"
    with pytest.raises(ValueError, match="one key of the dict"):
        d.subdicts()
    d.clear()


def test_what_stands_for_no_value_is_no_value(place):
    d = PersiDict(**place)
    always = {"condition": ANY, "expected_etag": ABSENT}
    for missing in (p.ITEM_NOT_AVAILABLE, p.VALUE_NOT_RETRIEVED):
        for store in (
            lambda: d.__setitem__("k", missing),  # noqa: B023 - called at once
            lambda: d.update(k=missing),  # noqa: B023 - as above
            lambda: d.setdefault("k", missing),  # noqa: B023 - as above
            lambda: d.set_item_if("k", value=missing, **always),  # noqa: B023 - as above
            lambda: d.setdefault_if("k", default_value=missing, **always),  # noqa: B023 - as above
            lambda: d.transform_item("k", transformer=lambda _: missing),  # noqa: B023 - as above
        ):
            with pytest.raises(TypeError, match=f"{missing!r} stands for"):
                store()
    assert "k" not in d


def test_get_params_make_the_same_again(tmp_path):
    d = PersiDict(tmp_path, format="json", append_only=True, durable=False)
    d["k"] = [1]
    again = PersiDict(**d.get_params())
    assert again.get_params() == d.get_params()
    assert again["k"] == [1]
    with pytest.raises(p.MutationPolicyError):
        again["k"] = 2


def test_in_place_union(place):
    d = PersiDict(**place)
    same = d
    d |= {"a": 1}
    d |= [("b", 2)]
    assert d is same
    assert dict(d) == {"a": 1, "b": 2}


def test_sentinels_are_one_in_every_process():
    import pickle

    for sentinel in (ABSENT, p.KEEP_CURRENT, p.ANY_ETAG, p.ALWAYS_RETRIEVE):
        assert pickle.loads(pickle.dumps(sentinel)) is sentinel
    assert repr(p.VALUE_NOT_RETRIEVED) == "VALUE_NOT_RETRIEVED"


def test_wrong_conditions_are_refused(tmp_path):
    d = PersiDict(tmp_path)
    with pytest.raises(TypeError, match="condition must be"):
        d.set_item_if("k", value=1, condition="same", expected_etag=ABSENT)
    with pytest.raises(TypeError, match="retrieve_value must be"):
        d.get_item_if("k", condition=ANY, expected_etag=ABSENT, retrieve_value=True)
    assert not list(tmp_path.iterdir())


def test_a_home_or_a_bucket_is_not_cleared_by_mistake(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = PersiDict(tmp_path)
    bucket = PersiDict(f"s3://{s3.bucket}", storage_options=s3.storage_options)
    for d in (home, bucket):
        d["k"] = 1
        d["sub", "k"] = 2
        with pytest.raises(ValueError, match="force=True"):
            d.clear()
        with pytest.raises(ValueError, match="force=True"):
            d.discard_many(["k"])
        d["more"] = 3
        d.discard_many(["more"], force=True)
        d.get_subdict("sub").clear()
        assert dict(d) == {"k": 1}
        d.clear(force=True)
        assert not d
    PersiDict(tmp_path / "cache").clear()
    with pytest.raises(ValueError, match="force=True"):
        PersiDict("/").clear()
