"""What type checkers see: this file is checked by mypy and by pyright, and is never run."""

from __future__ import annotations

from typing import assert_type

import numpy as np

import persicache
from persicache import (
    ETAG_IS_THE_SAME,
    ITEM_NOT_AVAILABLE,
    KEEP_CURRENT,
    EmptyDict,
    PersiDict,
    SpillDict,
    WriteOnceDict,
    persistent_memoize,
)
from persicache.mappings.conditions import Missing

scores: PersiDict[int] = persicache.open("scores", base_class_for_values=int)
assert_type(scores["a", 1], int)
assert_type(scores.get_many(["a"])["a"], int)
assert_type(scores.newest_values(1), list[int])
assert_type(scores.get_with_etag("a"), tuple[int, str])
assert_type(scores.get_subdict("a"), PersiDict[int])
assert_type(list(scores.values()), list[int])
assert_type(PersiDict("s3://team/x", base_class_for_values=np.ndarray)["a"].nbytes, int)
scores["a"] = 1
scores["a"] = KEEP_CURRENT
scores.update({"a": 1}, b=2)
scores |= {"a": 1}
scores["a"] = "text"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
scores[object()] = 1  # type: ignore[index]  # pyright: ignore[reportArgumentType]

result = scores.set_item_if("a", value=2, condition=ETAG_IS_THE_SAME, expected_etag=ITEM_NOT_AVAILABLE)
assert_type(result.new_value, int | Missing)
assert_type(WriteOnceDict(scores)["a"], int)
nothing: PersiDict[str] = EmptyDict()
spilled: SpillDict[bytes] = SpillDict(available_memory="1 MiB")
assert_type(spilled["a"], bytes)


@persistent_memoize
def mean(numbers: list[float], *, digits: int = 2) -> float:
    """Return a rounded mean."""
    return round(sum(numbers) / len(numbers), digits)


assert_type(mean([1.0, 2.0]), float)
mean("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
