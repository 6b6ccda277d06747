"""Dictionaries over the engine: persistent, spilling."""

from persicache.mappings.budget import parse_nbytes
from persicache.mappings.conditions import (
    ALWAYS_RETRIEVE,
    ANY_ETAG,
    DELETE_CURRENT,
    ETAG_HAS_CHANGED,
    ETAG_IS_THE_SAME,
    IF_ETAG_CHANGED,
    ITEM_NOT_AVAILABLE,
    KEEP_CURRENT,
    NEVER_RETRIEVE,
    VALUE_NOT_RETRIEVED,
    ConditionalOperationResult,
    OperationResult,
)
from persicache.mappings.empty import EmptyDict
from persicache.mappings.entries import Entries, open_entries
from persicache.mappings.multi import OverlappingMultiDict
from persicache.mappings.persidict import PersiDict
from persicache.mappings.spilldict import SpillDict
from persicache.mappings.weigh import nbytes
from persicache.mappings.write_once import WriteOnceDict

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
    "ConditionalOperationResult",
    "EmptyDict",
    "Entries",
    "OperationResult",
    "OverlappingMultiDict",
    "PersiDict",
    "SpillDict",
    "WriteOnceDict",
    "nbytes",
    "open_entries",
    "parse_nbytes",
]
