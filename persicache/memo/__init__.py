"""Memoization: functions that never compute the same thing twice."""

from persicache.memo.difference import Difference
from persicache.memo.entries import EntryInfo
from persicache.memo.explain import Explanation
from persicache.memo.memoize import default_store, persistent_memoize
from persicache.memo.memoized import MemoizedFunction
from persicache.memo.ref import Ref
from persicache.memo.stats import Stats, total_stats

__all__ = [
    "Difference",
    "EntryInfo",
    "Explanation",
    "MemoizedFunction",
    "Ref",
    "Stats",
    "default_store",
    "persistent_memoize",
    "total_stats",
]
