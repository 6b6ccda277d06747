"""Who leaves first: pure policies, without I/O, clock or threads."""

from persicache.eviction.lru import LRU
from persicache.eviction.policy import Policy

__all__ = ["LRU", "Policy"]
