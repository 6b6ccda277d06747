"""Where results of tasks are, and the tasks that bring them there and back."""

from __future__ import annotations

import functools
import math
import time
import uuid
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from dask._task_spec import GraphNode
from dask.local import get_sync

from persicache import MemoizedFunction, PersicacheError, StaleReference, nbytes, persistent_memoize

__all__ = ["Keeping", "Loading", "Place", "load_seconds"]

T = TypeVar("T")

#: What it takes to read a result back: before the first byte, and for each; of files on this
#: machine, which are mapped, and of what is far away.
_NEAR: Final = (20e-6, 1 / 5e9)
_FAR: Final = (30e-3, 1 / 100e6)
#: How many entries are asked for at once.
_AT_ONCE: Final = 16
_NEAR_PROTOCOLS: Final = frozenset({"file", "local", "memory", "sqlite", "lmdb", "jsondoc"})


def load_seconds(url: str, size: int) -> float:
    """Estimate how long it takes to load a result.

    Parameters
    ----------
    url : str
        Where it is.
    size : int
        How many bytes it has.

    Examples
    --------
    >>> load_seconds("/data", 10**9) < 1 < load_seconds("s3://bucket", 10**9)
    True
    """
    first, each = _FAR if _is_far(url) else _NEAR
    return first + size * each


def _is_far(url: str) -> bool:
    protocol, separator, _ = url.partition("://")
    return bool(separator) and protocol not in _NEAR_PROTOCOLS


def _result(digest: bytes, compute: Callable[[], Any]) -> Any:  # noqa: ARG001 - the key
    """Compute the result of a task."""
    return compute()


def _key(digest: bytes, compute: object) -> bytes:  # noqa: ARG001 - a task is told by what it means
    return digest


class Place:
    """A store of results, opened once in each process that it comes to.

    Parameters
    ----------
    url : str
        Where it is.
    options : mapping
        Of `persicache.persistent_memoize`.
    """

    def __init__(self, url: str, options: Mapping[str, Any], *, token: str | None = None) -> None:
        self.url = url
        self._options = dict(options)
        self._token = token or uuid.uuid4().hex

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and other._token == self._token

    def __hash__(self) -> int:
        return hash(self._token)

    def __reduce__(self) -> tuple[object, ...]:
        return functools.partial(Place, token=self._token), (self.url, self._options)

    @property
    def results(self) -> MemoizedFunction[..., Any]:
        """What stores and loads the results."""
        return _opened(self)

    def stored(self, digests: Collection[bytes]) -> set[bytes]:
        """Return which results there are."""
        return {each for each, found in zip(digests, self._each(self._has, digests), strict=True) if found}

    def seconds(self, digests: Collection[bytes]) -> float:
        """Return what computing results had taken, of those that there still are."""
        return sum(self._each(self._seconds, digests))

    def _has(self, digest: bytes) -> bool:
        found: bool = self.results.contains(digest, None)
        return found

    def _seconds(self, digest: bytes) -> float:
        try:
            seconds: float = self.results.cost_seconds(digest, None)
        except (KeyError, PersicacheError):  # of a place, or an entry, that says nothing now
            return 0.0
        return 0.0 if math.isnan(seconds) else seconds

    def _each(self, ask: Callable[[bytes], T], digests: Collection[bytes]) -> list[T]:
        """Ask of many results at once, if each is a request to another machine."""
        if len(digests) < _AT_ONCE or not _is_far(self.url):
            return list(map(ask, digests))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(ask, digests))

    def open(self) -> MemoizedFunction[..., Any]:
        """Return what `results` is to be."""
        # The digest of a task tells its code already; workers keep results in memory as dask does;
        # and a scheduler gives a task to one worker.
        return persistent_memoize(
            self.url,
            key=_key,
            code="off",
            memory=None,
            single_flight=False,
            record_args=False,
            **self._options,
        )(_result)


@functools.lru_cache(maxsize=64)
def _opened(place: Place) -> MemoizedFunction[..., Any]:
    return place.open()


class _NotKept(Exception):
    def __init__(self, value: object) -> None:
        self.value = value


class Keeping:
    """What a task does whose result is wanted in the store: it computes, and stores what is worth it.

    Parameters
    ----------
    place : Place
        The store.
    digest : bytes
        What the task means.
    node : GraphNode
        The task.
    needs : sequence of key
        The names of what it is called with.
    began : float or None
        When, in POSIX seconds, the tasks were sent off that lead up to this one; None if none do.
    min_seconds : float
        What computes faster isn't stored.
    """

    def __init__(
        self,
        place: Place,
        digest: bytes,
        node: GraphNode,
        needs: Sequence[Hashable],
        *,
        began: float | None,
        min_seconds: float,
    ) -> None:
        self.place = place
        self.digest = digest
        self.node = node
        self._needs = tuple(needs)
        self._began = began
        self._min_seconds = min_seconds

    def __call__(self, *values: Any) -> Any:
        """Return the result of the task."""
        try:
            return self.place.results(self.digest, functools.partial(self._compute, values))
        except _NotKept as passed:
            return passed.value

    def _compute(self, values: tuple[Any, ...]) -> Any:
        start = time.perf_counter()
        value = self.node(dict(zip(self._needs, values, strict=True)))
        seconds = time.perf_counter() - start
        if self._began is not None:
            # What led up to it would have to be computed again, too.
            seconds = max(seconds, time.time() - self._began)
        # What returns nothing was called for something else.
        if value is None or not self._is_worth_it(value, seconds):
            raise _NotKept(value)
        return value

    def _is_worth_it(self, value: object, seconds: float) -> bool:
        # Weighing takes long itself, of some: only if it could tip the scales.
        if seconds < max(self._min_seconds, load_seconds(self.place.url, 0)):
            return False
        return seconds > load_seconds(self.place.url, nbytes(value))


class Loading:
    """What a task does instead, once its result is stored.

    Parameters
    ----------
    place : Place
        The store.
    digest : bytes
        What the task means.
    again : tuple of mapping and key, optional
        What computes the result, if it has gone meanwhile.
    """

    def __init__(
        self,
        place: Place,
        digest: bytes,
        again: tuple[Mapping[Any, GraphNode], Any] | None = None,
    ) -> None:
        self.place = place
        self.digest = digest
        self._again = again

    def __call__(self) -> Any:
        """Return the stored result."""
        return self.place.results(self.digest, self._gone)

    def _gone(self) -> Any:
        if self._again is not None:
            graph, key = self._again
            return get_sync(dict(graph), key, callbacks=())
        raise StaleReference(
            call=self.digest.hex(),
            place=self.place.results.url,
            reason="it was removed or damaged since it was found there; compute again",
        )
