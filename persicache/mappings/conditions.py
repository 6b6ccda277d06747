"""What conditional operations are told, and what they tell.

The names are those of persidict, whose conditional operations these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, Literal, TypeAlias, TypeVar

__all__ = [
    "ALWAYS_RETRIEVE",
    "ANY_ETAG",
    "DELETE_CURRENT",
    "ETAG_HAS_CHANGED",
    "ETAG_IS_THE_SAME",
    "IF_ETAG_CHANGED",
    "ITEM_NOT_AVAILABLE",
    "KEEP_CURRENT",
    "NEVER_RETRIEVE",
    "VALUE_NOT_RETRIEVED",
    "Condition",
    "ConditionalOperationResult",
    "ETag",
    "Joker",
    "Missing",
    "OperationResult",
    "Retrieval",
    "holds",
]

V = TypeVar("V")


class Named(Enum):
    """A sentinel that is shown by the name it is imported by, and is one in every process."""

    def __repr__(self) -> str:
        return self.name


class Condition(Named):
    """What must hold between the etag that is expected and the one that is there."""

    ANY_ETAG = "any"
    ETAG_IS_THE_SAME = "same"
    ETAG_HAS_CHANGED = "changed"


class Retrieval(Named):
    """When a conditional operation fetches the value that is there."""

    ALWAYS_RETRIEVE = "always"
    IF_ETAG_CHANGED = "if changed"
    NEVER_RETRIEVE = "never"


class Missing(Named):
    """What stands for an etag or a value that isn't there, or wasn't asked for."""

    ITEM_NOT_AVAILABLE = "absent"
    VALUE_NOT_RETRIEVED = "not retrieved"


class Joker(Named):
    """What can be set in place of a value, to do something else."""

    KEEP_CURRENT = "keep"
    DELETE_CURRENT = "delete"


#: Always satisfied.
ANY_ETAG: Final = Condition.ANY_ETAG
#: The etag must be the expected one.
ETAG_IS_THE_SAME: Final = Condition.ETAG_IS_THE_SAME
#: The etag must be another than the expected one.
ETAG_HAS_CHANGED: Final = Condition.ETAG_HAS_CHANGED

#: Fetch the value that is there.
ALWAYS_RETRIEVE: Final = Retrieval.ALWAYS_RETRIEVE
#: Fetch it only if its etag is not the expected one.
IF_ETAG_CHANGED: Final = Retrieval.IF_ETAG_CHANGED
#: Don't fetch it.
NEVER_RETRIEVE: Final = Retrieval.NEVER_RETRIEVE

#: There is no such item: stands for its etag and for its value.
ITEM_NOT_AVAILABLE: Final = Missing.ITEM_NOT_AVAILABLE
#: There is a value, which wasn't fetched.
VALUE_NOT_RETRIEVED: Final = Missing.VALUE_NOT_RETRIEVED

#: Set in place of a value: leave everything as it is.
KEEP_CURRENT: Final = Joker.KEEP_CURRENT
#: Set in place of a value: remove the item, if there is one.
DELETE_CURRENT: Final = Joker.DELETE_CURRENT

#: An etag, or ITEM_NOT_AVAILABLE.
ETag: TypeAlias = str | Literal[Missing.ITEM_NOT_AVAILABLE]


@dataclass(frozen=True)
class OperationResult(Generic[V]):
    """What came of `PersiDict.transform_item`.

    Attributes
    ----------
    resulting_etag : str or ITEM_NOT_AVAILABLE
        The etag afterwards.
    new_value : object or ITEM_NOT_AVAILABLE
        The value afterwards.

    Examples
    --------
    >>> OperationResult(resulting_etag="e1", new_value=5).new_value
    5
    """

    resulting_etag: ETag
    new_value: V | Missing


@dataclass(frozen=True)
class ConditionalOperationResult(Generic[V]):
    """What came of a conditional operation.

    Attributes
    ----------
    condition_was_satisfied : bool
        Whether the condition held.
    actual_etag : str or ITEM_NOT_AVAILABLE
        The etag before.
    resulting_etag : str or ITEM_NOT_AVAILABLE
        The etag afterwards.
    new_value : object, ITEM_NOT_AVAILABLE or VALUE_NOT_RETRIEVED
        The value afterwards.

    Examples
    --------
    >>> ConditionalOperationResult(True, "e1", "e2", "value").value_was_mutated
    True
    """

    condition_was_satisfied: bool
    actual_etag: ETag
    resulting_etag: ETag
    new_value: V | Missing

    @property
    def value_was_mutated(self) -> bool:
        """Whether the operation changed what is stored."""
        return self.resulting_etag != self.actual_etag


def holds(condition: Condition, expected: ETag, actual: ETag) -> bool:
    """Return whether a condition holds.

    Raises
    ------
    TypeError
        If `condition` is none.

    Examples
    --------
    >>> holds(ETAG_IS_THE_SAME, ITEM_NOT_AVAILABLE, ITEM_NOT_AVAILABLE)
    True
    """
    if not isinstance(condition, Condition):
        raise TypeError(
            f"condition must be ANY_ETAG, ETAG_IS_THE_SAME or ETAG_HAS_CHANGED, not {condition!r}"
        )
    if condition is ANY_ETAG:
        return True
    return (expected == actual) is (condition is ETAG_IS_THE_SAME)
