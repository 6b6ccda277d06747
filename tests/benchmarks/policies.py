"""Eviction policies on traces: how much each finds in memory, beside LRU and beside the optimum."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from rich.table import Table

from persicache.eviction import POLICIES, Policy, new_policy

N_KEYS = 1000
N_ACCESSES = 50_000
#: The share of all bytes that fits into memory.
SHARE = 0.1


class Trace(NamedTuple):
    """What is asked for, in order, and what each key weighs and costs.

    Attributes
    ----------
    name : str
        Its name.
    keys : numpy.ndarray
        The keys in the order that they are asked for.
    nbytes : numpy.ndarray
        What each key's value weighs.
    seconds : numpy.ndarray
        What it takes to have each key's value back.
    """

    name: str
    keys: np.ndarray
    nbytes: np.ndarray
    seconds: np.ndarray


class Outcome(NamedTuple):
    """What a policy made of a trace: shares of accesses, bytes and seconds that were in memory."""

    hits: float
    nbytes: float
    seconds: float


def traces() -> Iterator[Trace]:
    """Yield the traces."""
    rng = np.random.default_rng(0)
    alike = np.full(N_KEYS, 1 << 20)
    second = np.ones(N_KEYS)
    weights = 1.0 / np.arange(1, N_KEYS + 1)
    zipf = rng.choice(N_KEYS, N_ACCESSES, p=weights / weights.sum())
    yield Trace("Zipf", zipf, alike, second)
    scanned = zipf.copy()
    for start in range(0, N_ACCESSES, 5000):  # every now and then somebody goes through everything
        scanned[start : start + N_KEYS] = np.arange(N_KEYS)
    yield Trace("Zipf with scans", scanned, alike, second)
    yield Trace(
        "a loop over a fifth more than fits",
        np.arange(N_ACCESSES) % int(N_KEYS * SHARE * 1.2),
        alike,
        second,
    )
    sizes = rng.lognormal(mean=13, sigma=1.5, size=N_KEYS).astype(np.int64) + 1
    costs = rng.lognormal(mean=0, sigma=2.0, size=N_KEYS)
    yield Trace("Zipf, sizes and costs skewed", zipf, sizes, costs)


def replay(trace: Trace, policy: Policy) -> Outcome:
    """Return what a policy makes of a trace."""
    return _replayed(trace, policy.add, policy.touch, policy.victim, policy.evict)


def optimum(trace: Trace) -> Outcome:
    """Return what Belady's makes of it: who is asked for latest, or never again, leaves first.

    L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", 1966. It is
    the optimum in hits where all weigh the same.
    """
    after = np.full(N_ACCESSES, N_ACCESSES)
    seen: dict[int, int] = {}
    for i in range(N_ACCESSES - 1, -1, -1):
        after[i] = seen.get(int(trace.keys[i]), N_ACCESSES)
        seen[int(trace.keys[i])] = i
    now = -1
    due: dict[int, int] = {}
    latest: list[tuple[int, int]] = []

    def touch(key: int) -> None:
        due[key] = int(after[now])
        heapq.heappush(latest, (-due[key], key))

    def add(key: int, *, nbytes: int, cost_seconds: float) -> None:
        touch(key)

    def victim() -> int:
        while due.get(latest[0][1]) != -latest[0][0]:
            heapq.heappop(latest)
        return latest[0][1]

    def evict(key: int) -> None:
        del due[key]

    def step(i: int) -> None:
        nonlocal now
        now = i

    return _replayed(trace, add, touch, victim, evict, step)


def _replayed(
    trace: Trace,
    add: Callable[..., object],
    touch: Callable[[int], object],
    victim: Callable[[], object],
    evict: Callable[[int], object],
    step: Callable[[int], object] = lambda _: None,
) -> Outcome:
    budget, used = int(trace.nbytes.sum() * SHARE), 0
    inside: set[int] = set()
    found = np.zeros(N_ACCESSES, dtype=bool)
    for i, key in enumerate(trace.keys.tolist()):
        step(i)
        weight = int(trace.nbytes[key])
        if key in inside:
            found[i] = True
            touch(key)
            continue
        if weight > budget:
            continue
        while used + weight > budget:
            leaving = int(victim())  # type: ignore[call-overload]
            evict(leaving)
            inside.discard(leaving)
            used -= int(trace.nbytes[leaving])
        add(key, nbytes=weight, cost_seconds=float(trace.seconds[key]))
        inside.add(key)
        used += weight
    nbytes, seconds = trace.nbytes[trace.keys], trace.seconds[trace.keys]
    return Outcome(found.mean(), nbytes[found].sum() / nbytes.sum(), seconds[found].sum() / seconds.sum())


def table() -> Table:
    """Return hit rates, and bytes and seconds saved, by trace and policy."""
    shown = Table(
        "trace", "policy", "hits", "bytes", "seconds", "hits / LRU", title="found in a tenth of all"
    )
    for trace in traces():
        outcomes = {
            name: replay(trace, new_policy(name)) for name in ("lru", *sorted(set(POLICIES) - {"lru"}))
        }
        outcomes["optimum (Belady)"] = optimum(trace)
        for i, (name, outcome) in enumerate(outcomes.items()):
            shares = [f"{share:.1%}" for share in outcome]
            ratio = outcome.hits / outcomes["lru"].hits if outcomes["lru"].hits else float("inf")
            shown.add_row(trace.name if not i else "", name, *shares, f"{ratio:.2f}")
        shown.add_section()
    return shown
