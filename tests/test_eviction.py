"""Eviction policies beside their textbook definitions."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from persicache.eviction import POLICIES, new_policy


class Textbook:
    """All keys with all that a definition speaks of; the victim is the least of all."""

    def __init__(self):
        self.now = 0
        self.age = Fraction(0)
        self.known = {}

    def access(self, key, nbytes, cost_seconds):
        self.now += 1
        uses = self.known[key]["uses"] + 1 if key in self.known else 1
        self.known[key] = {
            "uses": uses,
            "accessed": self.now,
            "nbytes": nbytes,
            "cost": cost_seconds,
            "worth": self.age + uses * Fraction(cost_seconds) / nbytes,
        }

    def touch(self, key):
        self.access(key, self.known[key]["nbytes"], self.known[key]["cost"])

    def evict(self, key):
        self.age = self.known.pop(key)["worth"]

    def victim(self, name):
        definitions = {
            "lru": lambda key: self.known[key]["accessed"],
            "lfu": lambda key: (self.known[key]["uses"], self.known[key]["accessed"]),
            "gdsf": lambda key: (self.known[key]["worth"], self.known[key]["accessed"]),
        }
        return min(self.known, key=definitions[name])


class PolicyMachine(RuleBasedStateMachine):
    name: str
    keys = st.integers(0, 6)
    # Powers of two, whose sums and quotients floats hold exactly.
    sizes = st.sampled_from([1, 2, 8, 64])
    costs = st.sampled_from([0.0, 0.125, 1.0, 16.0])

    @initialize()
    def start(self):
        self.policy = new_policy(self.name)
        self.book = Textbook()

    @rule(key=keys, nbytes=sizes, cost_seconds=costs)
    def add(self, key, nbytes, cost_seconds):
        self.policy.add(key, nbytes=nbytes, cost_seconds=cost_seconds)
        self.book.access(key, nbytes, cost_seconds)

    @rule(key=keys)
    def touch(self, key):
        if key in self.book.known:
            self.policy.touch(key)
            self.book.touch(key)
        else:
            with pytest.raises(KeyError):
                self.policy.touch(key)

    @rule(key=keys)
    def remove(self, key):
        if key in self.book.known:
            self.policy.remove(key)
            del self.book.known[key]
        else:
            for verb in (self.policy.remove, self.policy.evict):
                with pytest.raises(KeyError):
                    verb(key)

    @rule()
    def evict(self):
        if self.book.known:
            victim = self.policy.victim()
            assert victim == self.book.victim(self.name)
            self.policy.evict(victim)
            self.book.evict(victim)
        else:
            with pytest.raises(KeyError):
                self.policy.victim()

    @invariant()
    def same(self):
        if hasattr(self, "policy"):
            assert len(self.policy) == len(self.book.known)
            assert all(key in self.policy for key in self.book.known)
            if self.book.known:
                assert self.policy.victim() == self.book.victim(self.name)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_victim_is_the_textbooks(policy):
    class Machine(PolicyMachine):
        name = policy

    Machine.TestCase().runTest()


@pytest.mark.parametrize("name", POLICIES)
def test_a_million_touches_cost_a_number_each(name):
    policy = new_policy(name)
    for key in range(1000):
        policy.add(key, nbytes=1000, cost_seconds=1.0)
    start = time.process_time()
    for _ in range(1000):
        for key in range(1000):
            policy.touch(key)
    assert time.process_time() - start < 10
    assert policy.victim() == 0


def test_age_neither_overflows_nor_hides_small_differences():
    policy = new_policy("gdsf")
    policy.add("dear", nbytes=1, cost_seconds=1e250)
    policy.add("dearest", nbytes=1, cost_seconds=1e300)
    for _ in range(100):
        policy.touch("dearest")
    for i in range(10_000):
        policy.add(i, nbytes=1, cost_seconds=1e290)
        policy.evict(policy.victim())
    assert policy.victim() != "dearest"
    policy.evict("dearest")
    while len(policy):
        policy.evict(policy.victim())
    policy.add("small", nbytes=1_000_000_000, cost_seconds=1e-9)
    policy.add("smaller", nbytes=1_000_000_000, cost_seconds=1e-10)
    assert policy.victim() == "smaller"


@pytest.mark.parametrize("cost_seconds", [-1.0, math.inf, math.nan])
def test_costs_that_are_none_are_refused(cost_seconds):
    with pytest.raises(ValueError, match="cost_seconds"):
        new_policy("gdsf").add("a", cost_seconds=cost_seconds)


def test_an_unknown_policy_is_told_with_those_there_are():
    with pytest.raises(ValueError, match=r"'fifo'.*gdsf.*lfu.*lru"):
        new_policy("fifo")
