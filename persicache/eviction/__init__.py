"""Who leaves first: pure policies, without I/O, clock or threads."""

from persicache.eviction.gdsf import GDSF
from persicache.eviction.lfu import LFU
from persicache.eviction.lru import LRU
from persicache.eviction.policies import POLICIES, check_policy, new_policy
from persicache.eviction.policy import Policy
from persicache.eviction.record import Record

__all__ = ["GDSF", "LFU", "LRU", "POLICIES", "Policy", "Record", "check_policy", "new_policy"]
