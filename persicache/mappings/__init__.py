"""Dictionaries over the engine: persistent, spilling."""

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
from persicache.mappings.entries import Entries, open_entries
from persicache.mappings.persidict import PersiDict
from persicache.mappings.spilldict import SpillDict
from persicache.mappings.weigh import nbytes

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
    "Entries",
    "OperationResult",
    "PersiDict",
    "SpillDict",
    "nbytes",
    "open_entries",
]
