"""Dictionaries over the engine: persistent, spilling."""

from persicache.mappings.entries import Entries, open_entries
from persicache.mappings.persidict import PersiDict
from persicache.mappings.spilldict import SpillDict
from persicache.mappings.weigh import nbytes

__all__ = ["Entries", "PersiDict", "SpillDict", "nbytes", "open_entries"]
