"""Write-once, null and multi-format dictionaries."""

import pickle

import numpy as np
import pytest
from places import SWAPPING

import persicache as p
from persicache import EmptyDict, OverlappingMultiDict, PersiDict, UnencodableKey, WriteOnceDict


@pytest.fixture(params=SWAPPING, ids=str)
def kind(request):
    return request.param


@pytest.fixture
def inner(place):
    return PersiDict(**place)


def test_the_first_value_stays(inner):
    d = WriteOnceDict(inner)
    d["k"] = 1
    d["k"] = 2
    d["k"] = p.KEEP_CURRENT
    d.update({"k": 3, "x": np.arange(5)})
    assert d["k"] == inner["k"] == 1
    assert len(d) == 2
    assert set(d) == {"k", "x"}
    assert "k" in d
    assert d.consistency_checks_attempted == 0
    for change in (lambda: d.pop("k"), lambda: d.__delitem__("k"), d.clear, d.popitem):
        with pytest.raises(p.MutationPolicyError, match="write-once"):
            change()


class Overtaken(PersiDict):
    """A dictionary whose conditional changes come just after somebody else's."""

    def setdefault_if(self, key, **options):
        self[key] = "theirs"
        return super().setdefault_if(key, **options)


def test_a_default_that_came_second_is_not_returned(tmp_path):
    d = WriteOnceDict(Overtaken(tmp_path))
    assert d.setdefault("k", "mine") == d["k"]
    assert d.setdefault("k", "later") == d["k"]
    assert WriteOnceDict(EmptyDict()).setdefault("k", 1) == 1
    with pytest.raises(p.ConditionsUnsupported):
        WriteOnceDict(PersiDict(f"dir::file://{tmp_path}")).setdefault("new", 1)


def test_going_through_a_write_once_dict_while_others_remove_from_it(inner):
    d = WriteOnceDict(inner)
    for view in (d.items, d.values):
        d.update({i: i for i in range(5)})
        left = iter(view())
        next(left)
        inner.clear()
        assert len(list(left)) <= 4
    d["k"] = 1
    assert ("k", 1) in d.items()
    assert 1 in d.values()


def test_later_values_are_compared_now_and_then(inner):
    draws = iter([0.4, 0.6, 0.4, 0.4])
    d = WriteOnceDict(inner, p_consistency_checks=0.5, draw=lambda: next(draws))
    d["k"] = np.arange(5)
    d["k"] = np.arange(5)
    d["k"] = "unchecked"
    with pytest.raises(ValueError, match="written once"):
        d["k"] = np.arange(6)
    d["k"] = np.arange(5)
    counts = (d.consistency_checks_attempted, d.consistency_checks_passed, d.consistency_checks_failed)
    assert counts == (3, 2, 1)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="p_consistency_checks"):
            WriteOnceDict(inner, p_consistency_checks=wrong)
        with pytest.raises(ValueError, match="p_consistency_checks"):
            d.p_consistency_checks = wrong
    with pytest.raises(p.MutationPolicyError, match="write-once"):
        d["k"] = p.DELETE_CURRENT
    assert d.p_consistency_checks == 0.5
    again = pickle.loads(pickle.dumps(WriteOnceDict(inner)))
    assert len(again) == 1


def test_an_empty_dict_takes_everything_and_keeps_nothing():
    d = EmptyDict()
    d["k"] = np.arange(5)
    d.update({"a": 1, ("b", 2): 3})
    assert (len(d), list(d), dict(d.items()), d.get("k"), bool(d)) == (0, [], {}, None, False)
    assert d.setdefault("k", 5) == 5
    assert d.pop("k", "default") == "default"
    assert not d.discard("k")
    assert d.newest_keys() == []
    assert d.random_key() is None
    assert d.get_subdict("a").subdicts() == {}
    absent = {"condition": p.ETAG_IS_THE_SAME, "expected_etag": p.ITEM_NOT_AVAILABLE}
    assert d.set_item_if("k", value=1, **absent).condition_was_satisfied
    assert not d.set_item_if("k", value=1, **{**absent, "expected_etag": "x"}).condition_was_satisfied
    d.clear()
    for do in (d.__getitem__, d.etag, d.timestamp, d.__delitem__):
        with pytest.raises(KeyError):
            do("k")
    with pytest.raises(UnencodableKey):
        d[object()] = 1
    assert len(pickle.loads(pickle.dumps(d))) == 0


def test_formats_share_a_place(tmp_path):
    m = OverlappingMultiDict(tmp_path, {"json": {}, "text": {"append_only": True}}, durable=False)
    m.json["k"] = [1]
    m["text"]["k"] = "one"
    assert (m.json["k"], m.text["k"], m.formats) == ([1], "one", ("json", "text"))
    assert {path.name for path in tmp_path.glob("k.*")} == {"k.json", "k.txt"}
    with pytest.raises(p.MutationPolicyError):
        m.text["k"] = "two"
    with pytest.raises(AttributeError, match="no format 'pickle'"):
        _ = m.pickle
    assert pickle.loads(pickle.dumps(m)).json["k"] == [1]
    for wrong in ([], ["jsn"]):
        with pytest.raises(ValueError, match="format"):
            OverlappingMultiDict(tmp_path, wrong)
    with pytest.raises(TypeError, match=r"\['json'\]"):
        OverlappingMultiDict(tmp_path, "json")
