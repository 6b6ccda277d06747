"""Why a call hits or misses: `Explanation`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from persicache.codecs import Metadata
from persicache.errors import BackendError, BlobNotFound, CorruptEntry, UnloadableValue, UntrustedPickle
from persicache.keys import KeyName
from persicache.mappings.html import moment, summary
from persicache.memo import flights
from persicache.memo.calls import Calls
from persicache.memo.difference import Difference, between_codes
from persicache.memo.freshness import shown_seconds
from persicache.memo.inventory import Inventories
from persicache.memo.nearest import Nearest, find_nearest
from persicache.memo.record import Record, Recorder
from persicache.memo.results import Expired, Raised, Results
from persicache.memo.shown import shown_argument

__all__ = ["Explainer", "Explanation"]

_INCOMPLETE: Final = (
    "the code refers to large containers, or to objects of libraries: what changes inside them is not "
    "noticed (give version= or depends_on=)"
)
_AHEAD: Final = "its result is dated so far ahead of the clock that it isn't taken for fresh"
_NONE_TELLS: Final = "no entry of this function tells what it is for"
_UNSURE: Final = "looks the same, and is too large to be compared: if nothing else is, it is another"


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """Why a call hits or misses.

    Attributes
    ----------
    call : str
        The call, as people read it.
    is_hit : bool
        Whether its result is at hand.
    differences : tuple of Difference
        If it isn't: what is not as it was in the nearest entry.
    notes : tuple of str
        What else there is to say.

    Examples
    --------
    >>> from persicache import persistent_memoize
    >>> @persistent_memoize("memory://doc-explain")
    ... def cube(x):
    ...     return x**3
    >>> cube(2)
    8
    >>> print(cube.explain(3))
    persicache.memo.explain.cube(x=3) is a miss
      argument x: was 2, is 3
      the nearest of 1 entry is persicache.memo.explain.cube(x=2)
      computed ...
    >>> cube.explain(2).is_hit
    True
    """

    call: str
    is_hit: bool
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.call} is a {self._kind}", *map(str, self.differences), *self.notes]
        return "\n  ".join(lines)

    def __repr__(self) -> str:
        return str(self)

    @property
    def _kind(self) -> str:
        return "hit" if self.is_hit else "miss"

    def _repr_html_(self) -> str:
        rows = [*self.differences, *(("note", "", note) for note in self.notes)]
        return summary(self.call, {"result": self._kind}, ("what", "name", "how"), rows)


class Explainer:
    """Explains calls of one function.

    Parameters
    ----------
    calls : Calls
        What its calls are filed under.
    results : Results
        Where its results are.
    recorder : Recorder
        What entries say of calls.
    inventories : Inventories
        What is known of other code.
    label : str
        What the function is called.
    clock : callable
        Returns POSIX seconds.
    """

    def __init__(
        self,
        calls: Calls,
        results: Results,
        recorder: Recorder,
        inventories: Inventories,
        *,
        label: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._calls = calls
        self._results = results
        self._recorder = recorder
        self._inventories = inventories
        self._label = label
        self._clock = clock

    def explain(
        self,
        where: KeyName,
        held: object,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        paused_seconds: float,
    ) -> Explanation:
        """Explain a call.

        Parameters
        ----------
        where : KeyName
            Where its result is, or would be.
        held : object
            What memory holds of it, None if nothing.
        args, kwargs
            The call.
        paused_seconds : float
            For how long the store is left alone.
        """
        record = Record.read(self._recorder.about(args, kwargs))
        is_hit, differences, notes = held is not None, list[Difference](), list[str]()
        if is_hit:
            notes.append("its result is in the memory of this process")
        if paused_seconds > 0:
            pause = shown_seconds(paused_seconds)
            notes.append(f"the store is left alone for another {pause}, because it took long to fail")
        else:
            is_stored = self._look(where, record, differences, notes)
            is_hit = is_hit or is_stored
        if not is_hit and flights.is_under_way((self._results.entries.place, where.name)):
            notes.append("it is being computed in this process just now")
        if not self._calls.code().is_complete:
            notes.append(_INCOMPLETE)
        return Explanation(_call(self._label, record), is_hit, tuple(differences), tuple(notes))

    def _look(
        self, where: KeyName, record: Record, differences: list[Difference], notes: list[str]
    ) -> bool:
        """Look into the store as a call does; tell what there is, and return whether it is a result."""
        entries, now = self._results.entries, self._clock()
        try:
            value = self._results.load(where).value
            about = entries.metadata(where.text, where)
        except Expired as error:
            is_late = error.until <= now
            notes.append(f"its result expired {_ago(error.until, now)}" if is_late else _AHEAD)
            return False
        except BlobNotFound:
            try:
                nearest = find_nearest(entries, self._calls.prefix, record)
            except BackendError as error:
                notes.append(f"the store can't be listed: {error}")
            else:
                self._compare(nearest, record, differences, notes)
            return False
        except (CorruptEntry, UnloadableValue) as error:
            notes.append(f"there is an entry, which will be replaced, because {error}")
            return False
        except (BackendError, UntrustedPickle) as error:
            notes.append(f"the store can't be used: {error}")
            return False
        notes.append(_history(about, now))
        until = self._results.until(about, value)
        if until < math.inf:
            notes.append(f"it expires in {shown_seconds(until - now)}")
        if isinstance(value, Raised):
            notes.append(f"it is an exception: {shown_argument(value.error)}")
        return True

    def _compare(
        self, nearest: Nearest, call: Record, differences: list[Difference], notes: list[str]
    ) -> None:
        """Tell how a call differs from the nearest that has an entry."""
        if nearest.about is None:
            notes.append("nothing is stored of this function" if not nearest.n_entries else _NONE_TELLS)
            return
        was = Record.read(nearest.about.extra)
        differences += nearest.arguments
        for other in nearest.others:
            differences += self._parts_changed(was.code) if other.kind == "code" else [other]
        if not differences:
            differences += [Difference("argument", name, _UNSURE) for name in nearest.unsure]
        seen = "" if nearest.n_seen == nearest.n_entries else f"the {nearest.n_seen:,} newest of "
        count = f"{nearest.n_entries:,} entries" if nearest.n_entries > 1 else "1 entry"
        notes.append(f"the nearest of {seen}{count} is {_call(self._label, was)}")
        notes.append(_history(nearest.about, self._clock()))
        if was.args is None or call.args is None:
            notes.append("which arguments it is for is not recorded (record_args=False)")

    def _parts_changed(self, digest: bytes) -> list[Difference]:
        """Tell what has changed since other code."""
        was = self._inventories.load(digest)
        if was is None:
            return [Difference("code", "", "has changed, and what it consisted of is not recorded")]
        return between_codes(was, self._inventories.of(self._calls.code()))


def _call(label: str, record: Record) -> str:
    if record.args is None:
        return f"{label}(...)"
    return f"{label}({', '.join(f'{name}={text}' for name, text in record.args.items())})"


def _history(about: Metadata, now: float) -> str:
    took = f" in {shown_seconds(about.cost_seconds)}" if about.cost_seconds > 0 else ""
    return f"computed {_ago(about.created, now)} ({moment(about.created)}){took} by {about.writer}"


def _ago(then: float, now: float) -> str:
    return f"{shown_seconds(max(now - then, 0.0))} ago"
