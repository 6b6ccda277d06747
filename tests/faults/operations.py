"""What a person does with a dictionary, and what is in it afterwards: `Operation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from persicache import DELETE_CURRENT, ETAG_IS_THE_SAME, ITEM_NOT_AVAILABLE, PersiDict

LONG = "long" * 100  # too long for a name: the entry alone knows the key
BEFORE: dict[Any, Any] = {"a": "old", "b": [1, 2.5], ("f", "c"): b"deep", LONG: "digested"}
LARGE = bytes(range(256)) * 400  # written and read in other ways than what is small


@dataclass(frozen=True)
class Operation:
    """One call on a dictionary that holds `BEFORE`.

    Attributes
    ----------
    name : str
        For people.
    act : callable
        Makes the call on the dictionary it is given.
    after : mapping
        What the dictionary holds once the call has returned.
    result : object
        What the call returns.
    is_conditional : bool
        Whether it needs a place that can compare and swap.
    """

    name: str
    act: Callable[[PersiDict[Any]], Any]
    after: Mapping[Any, Any] = field(default_factory=lambda: BEFORE)
    result: Any = None
    is_conditional: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def touched(self) -> set[Any]:
        """The keys that it changes."""
        keys = BEFORE.keys() | self.after.keys()
        return {key for key in keys if key not in BEFORE or self.after.get(key) != BEFORE[key]}


def without(*keys: Any) -> dict[Any, Any]:
    """Return `BEFORE` without some keys."""
    return {key: value for key, value in BEFORE.items() if key not in keys}


def fill(d: PersiDict[Any]) -> None:
    """Make the dictionary hold `BEFORE`."""
    d.set_many(BEFORE)


def _swap(d: PersiDict[Any]) -> bool:
    options = {"condition": ETAG_IS_THE_SAME, "expected_etag": d.etag("a")}
    return d.set_item_if("a", value="swapped", **options).condition_was_satisfied


def _create(d: PersiDict[Any]) -> Any:
    options = {"condition": ETAG_IS_THE_SAME, "expected_etag": ITEM_NOT_AVAILABLE}
    return d.setdefault_if("new", default_value="created", **options).new_value


SET_NEW = Operation("set new", lambda d: d.__setitem__("new", 1), BEFORE | {"new": 1})
OVERWRITE = Operation("overwrite", lambda d: d.__setitem__("a", "new"), BEFORE | {"a": "new"})
SET_LARGE = Operation("set large", lambda d: d.__setitem__("a", LARGE), BEFORE | {"a": LARGE})
SET_DEEP = Operation(
    "set deep", lambda d: d.__setitem__(("new", "er", "x"), 1), BEFORE | {("new", "er", "x"): 1}
)
DELETE = Operation("delete", lambda d: d.__delitem__("a"), without("a"))
CREATE = Operation("create", _create, BEFORE | {"new": "created"}, "created", is_conditional=True)
SWAP = Operation("swap", _swap, BEFORE | {"a": "swapped"}, result=True, is_conditional=True)
TRANSFORM = Operation(
    "transform",
    lambda d: d.transform_item("a", transformer=lambda value: value + "er").new_value,
    BEFORE | {"a": "older"},
    "older",
    is_conditional=True,
)
REMOVE_IF = Operation(
    "remove by transforming",
    lambda d: d.transform_item("a", transformer=lambda _: DELETE_CURRENT).new_value,
    without("a"),
    ITEM_NOT_AVAILABLE,
    is_conditional=True,
)
MANY = {"a": "new", "n1": 1, ("f", "n2"): 2, ("g", "n3"): 3}
SET_MANY = Operation("set many", lambda d: d.set_many(MANY), BEFORE | MANY)
DISCARD_MANY = Operation("discard many", lambda d: d.discard_many(["a", "b", "no"]), without("a", "b"))
CLEAR = Operation("clear", lambda d: d.clear(), {})
POP = Operation("pop", lambda d: d.pop("a"), without("a"), "old")

READING = [
    Operation("get", lambda d: d["a"], result="old"),
    Operation("get long", lambda d: d[LONG], result="digested"),
    Operation("get what is absent", lambda d: d.get("no", "absent"), result="absent"),
    Operation("contains", lambda d: ("a" in d, "no" in d), result=(True, False)),
    Operation("count", len, result=len(BEFORE)),
    Operation("iterate", set, result=set(BEFORE)),
    Operation("items", lambda d: dict(d.items()), result=BEFORE),
    Operation("get many", lambda d: d.get_many([*BEFORE, "no"]), result=BEFORE),
]
CHANGING = [
    SET_NEW,
    OVERWRITE,
    SET_LARGE,
    SET_DEEP,
    DELETE,
    CREATE,
    SWAP,
    TRANSFORM,
    REMOVE_IF,
    SET_MANY,
    DISCARD_MANY,
    CLEAR,
    POP,
]
