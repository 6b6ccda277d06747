"""The classes of flags: each has one instance, persicache's sentinel."""

from __future__ import annotations

from typing import Any, NewType, Protocol, TypeVar, runtime_checkable

from persicache.mappings import conditions as c

__all__ = [
    "AlwaysRetrieveFlag",
    "AnyETagFlag",
    "DeleteCurrentFlag",
    "ETagConditionFlag",
    "ETagHasChangedFlag",
    "ETagIfExists",
    "ETagIsTheSameFlag",
    "ETagValue",
    "IfETagChangedRetrieveFlag",
    "ItemNotAvailableFlag",
    "KeepCurrentFlag",
    "NeverRetrieveFlag",
    "RetrieveValueFlag",
    "TransformingFunction",
    "ValueNotRetrievedFlag",
    "ValueType",
]


class _OfOne(type):
    it: Any

    def __call__(cls) -> Any:
        return cls.it

    def __instancecheck__(cls, instance: object) -> bool:
        return instance is cls.it


KeepCurrentFlag = _OfOne("KeepCurrentFlag", (), {"it": c.KEEP_CURRENT})
DeleteCurrentFlag = _OfOne("DeleteCurrentFlag", (), {"it": c.DELETE_CURRENT})
AnyETagFlag = _OfOne("AnyETagFlag", (), {"it": c.ANY_ETAG})
ETagIsTheSameFlag = _OfOne("ETagIsTheSameFlag", (), {"it": c.ETAG_IS_THE_SAME})
ETagHasChangedFlag = _OfOne("ETagHasChangedFlag", (), {"it": c.ETAG_HAS_CHANGED})
AlwaysRetrieveFlag = _OfOne("AlwaysRetrieveFlag", (), {"it": c.ALWAYS_RETRIEVE})
NeverRetrieveFlag = _OfOne("NeverRetrieveFlag", (), {"it": c.NEVER_RETRIEVE})
IfETagChangedRetrieveFlag = _OfOne("IfETagChangedRetrieveFlag", (), {"it": c.IF_ETAG_CHANGED})
ItemNotAvailableFlag = _OfOne("ItemNotAvailableFlag", (), {"it": c.ITEM_NOT_AVAILABLE})
ValueNotRetrievedFlag = _OfOne("ValueNotRetrievedFlag", (), {"it": c.VALUE_NOT_RETRIEVED})
ETagConditionFlag, RetrieveValueFlag, ETagIfExists = c.Condition, c.Retrieval, c.ETag
ETagValue = NewType("ETagValue", str)
ValueType = TypeVar("ValueType")


@runtime_checkable
class TransformingFunction(Protocol[ValueType]):
    """What `transform_item` calls: from a value, or ITEM_NOT_AVAILABLE, to the next or a joker."""

    def __call__(self, current: ValueType | c.Missing, /) -> ValueType | c.Joker:
        """Return the next value."""
