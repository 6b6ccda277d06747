"""Memoization: functions that never compute the same thing twice."""

from persicache.memo.memoize import default_store, persistent_memoize
from persicache.memo.memoized import MemoizedFunction
from persicache.memo.stats import Stats

__all__ = ["MemoizedFunction", "Stats", "default_store", "persistent_memoize"]
