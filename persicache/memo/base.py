"""What all kinds of memoized functions have in common: `Memoized`."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, ParamSpec, TypeVar

from persicache.errors import (
    BackendError,
    BlobNotFound,
    CorruptEntry,
    StaleReference,
    UndigestibleValue,
    UnencodableValue,
    UnloadableValue,
    UnreadableDependency,
    UntrustedPickle,
)
from persicache.keys import KeyName
from persicache.mappings import Entries
from persicache.mappings.html import shown, summary
from persicache.memo.bound import Bound
from persicache.memo.bounds import Bounds
from persicache.memo.callables import label_of
from persicache.memo.calls import Calls
from persicache.memo.computation import Computation, Compute, Outcome, Steps
from persicache.memo.entries import EntryListing
from persicache.memo.explain import Explainer, Explanation
from persicache.memo.inventory import Inventories
from persicache.memo.memory import Held
from persicache.memo.record import Recorder
from persicache.memo.ref import Ref
from persicache.memo.results import Raised, Read, Results, Saved
from persicache.memo.settings import Settings
from persicache.memo.shown import shown_arguments
from persicache.memo.stats import Counters, Stats
from persicache.memo.travel import arrived, reduced
from persicache.memo.trouble import TROUBLES, Trouble
from persicache.memo.usage_log import usage_log
from persicache.storage import ABSENT, ANY, Expectation, Leases, Version, open_leases

if TYPE_CHECKING:
    import asyncio

__all__ = ["Memoized"]

P = ParamSpec("P")
R = TypeVar("R")

_new: Final = tuple.__new__  # a third of the time of Outcome(...), on the path of every hit


class Memoized(Generic[P, R]):
    """A function whose results are kept in a store.

    Parameters
    ----------
    function : callable
        The function.
    entries : Entries
        The store.
    settings : Settings
        How it works.
    label : str, optional
        What the results are filed under; by default the function's full name.
    clock : callable
        Returns seconds, to measure with.
    """

    #: The verbs that take a call's arguments.
    CALLS: ClassVar[frozenset[str]] = frozenset(
        {"contains", "cost_seconds", "explain", "forget", "lookup", "ref", "refresh"}
    )

    def __init__(
        self,
        function: Callable[..., Any],
        entries: Entries,
        settings: Settings,
        *,
        label: str | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        functools.update_wrapper(self, function, updated=())  # type: ignore[arg-type]  # its attributes could hide the verbs
        self.__wrapped__ = function
        if getattr(function, "__isabstractmethod__", False):
            self.__isabstractmethod__ = True
        # What is no method as it is, a partial or an object with a __call__, is none when it remembers.
        self._binds = hasattr(function, "__get__")
        self._entries = entries
        self._settings = settings
        self._label = label or label_of(function)
        self._calls = Calls(function, settings, label=self._label, extension=entries.extension)
        self._results = Results(
            entries,
            expires=settings.expires,
            memory_nbytes=settings.memory_nbytes,
            result_of=self._result_of,
        )
        self._recorder = Recorder(self._calls, settings, label=self._label)
        self._inventories = Inventories(entries, self._calls.prefix, tells_values=settings.record_args)
        self._usage = usage_log(entries.storage, self._calls.prefix)
        self._counters = Counters(self._usage)
        self._bounds = self._new_bounds() if settings.limits else None
        self._clock = clock
        self._trouble = Trouble(settings, self._counters, label=self._label, clock=clock)
        self._leases: Leases | None = None

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<memoized {self._label} in {self._entries.place!r}: {stats.hits} hits, {stats.misses} misses>"
        )

    def _repr_html_(self) -> str:
        stats = self.stats()
        facts = {
            "place": self._entries.place,
            "hits": stats.hits,
            "misses": stats.misses,
            "errors": stats.errors,
            "seconds saved": f"{stats.seconds_saved:.3g}",
            "read instead of computed": shown(stats.nbytes_saved),
        }
        return summary(f"memoized {self._label}", facts, (), ())

    def __reduce__(self) -> str | tuple[Any, ...]:
        return reduced(self, (self.__wrapped__, self._entries, self._settings, self._label))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not vars(self):  # else it was here already
            token, (function, entries, settings, label) = state
            type(self).__init__(self, function, entries, settings, label=label)
            arrived(self, token)

    @property
    def url(self) -> str:
        """The place of the store, without secrets."""
        return self._entries.place

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return Bound(self, instance) if instance is not None and self._binds else self

    def __persicache_code__(self) -> tuple[Any, ...]:
        """Return what another function depends on that calls this one."""
        settings = self._settings
        return self.__wrapped__, settings.version, settings.ignore, settings.code, settings.key

    def code_digest(self) -> bytes:
        """Return the digest of the code that is part of the key, as it is now."""
        return self._calls.code_digest()

    # Verbs

    def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of this call.

        Raises
        ------
        KeyError
            If there is none, or none that is fresh; nothing is computed.
        """
        where = self._where(args, kwargs)
        try:
            found = self._results.load(where)
        except BlobNotFound:
            raise KeyError(f"{self._label} has no stored result for this call") from None
        self._counters.hit(where.text, found.cost_seconds, found.nbytes)
        return self._unwrapped(Outcome(found.value, None, 0.0))  # type: ignore[no-any-return]

    def contains(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Return whether this call has a stored result that is fresh, without loading it if it can."""
        return self.has(self._where(args, kwargs))

    def cost_seconds(self, /, *args: P.args, **kwargs: P.kwargs) -> float:
        """Return what it took to compute the stored result of this call, in seconds; NaN if unknown.

        Raises
        ------
        KeyError
            If there is none.

        Examples
        --------
        >>> from persicache import persistent_memoize
        >>> @persistent_memoize("memory://doc-cost")
        ... def cube(x):
        ...     return x**3
        >>> cube(2), 0 < cube.cost_seconds(2) < 60
        (8, True)
        """
        try:
            return self._entries.peek(self._where(args, kwargs)).cost_seconds
        except BlobNotFound:
            raise KeyError(f"{self._label} has no stored result for this call") from None

    def has(self, where: KeyName) -> bool:
        """Return whether a result is stored, and fresh."""
        try:
            if self._settings.expires is None:
                self._entries.storage.stat(where.name)
            else:
                self._results.load(where)
        except BlobNotFound:
            return False
        return True

    def seems_stored(self, where: KeyName, *, in_trouble: bool) -> bool:
        """Return whether a result is stored, and fresh; `in_trouble` if the store doesn't tell."""
        if self._trouble.is_paused:
            return in_trouble
        start = self._clock()
        try:
            return self.has(where)
        except BackendError as error:
            with contextlib.suppress(BackendError):  # who needs the result raises it
                self._trouble.missed(error, start)
        except TROUBLES:
            pass  # who needs the result says so
        return in_trouble

    def forget(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the stored result of this call; return whether there was one."""
        return self._results.forget(self._where(args, kwargs))

    def put(self, result: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Store a result for this call, computed elsewhere, in place of any there is.

        Parameters
        ----------
        result : object
            What the call shall return.
        *args, **kwargs
            The call.
        """
        where = self._where(args, kwargs)
        about = self._about(args, kwargs)
        # Nobody told what it cost.
        saved = self._results.save(where, result, seconds=math.nan, about=about, expect=ANY)
        self._stored(where, saved, math.nan)
        self._inventories.note(self._calls.code())

    def ref(self, /, *args: P.args, **kwargs: P.kwargs) -> Ref[R]:
        """Return a reference to the result of this call, which is not computed or loaded yet.

        It is small, travels to other processes, and stands for the result as an argument of
        memoized functions.
        """
        return Ref.to(self, (args, kwargs))

    def clear(self) -> int:
        """Remove all stored results of this function, by whatever code; return how many."""
        self._inventories.clear()
        self._usage.clear()
        return self._results.clear(self._calls.prefix)

    def stats(self) -> Stats:
        """Return what happened since the function was decorated, in this process."""
        return self._counters.stats()

    def entries(self) -> EntryListing:
        """Return an iterable of what is stored, each an `EntryInfo`; in a notebook, a table of some.

        The store is listed, and the head of each entry is read, as the iteration goes on.
        """
        self._calls.code()
        return EntryListing(
            self._entries,
            self._usage,
            prefix=self._calls.prefix,
            label=self._label,
            is_current=self._recorder.is_current,
            expires=self._settings.expires,
            forget=self._results.forget,
        )

    def flush(self) -> None:
        """Write what waits, and bring the store within its limits now, whoever stored too much.

        Raises
        ------
        BackendError
            If the place can't be read or written.
        """
        self._usage.flush()
        if self._bounds is not None:
            self._bounds.enforce()
        self._entries.storage.flush()

    def explain(self, /, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Tell why this call hits or misses: what differs from the nearest call that is stored.

        Nothing is computed, and nothing is stored.

        Returns
        -------
        Explanation
            Print it; its attributes are ``is_hit``, ``differences``, ``notes``.
        """
        where = self._where(args, kwargs)
        key = (None if kwargs else self._calls.quick(args)) or where.text
        explainer = Explainer(
            self._calls, self._results, self._recorder, self._inventories, label=self._label
        )
        return explainer.explain(
            where,
            self._results.recall(key),
            args,
            kwargs,
            paused_seconds=self._trouble.paused_until - self._clock(),
        )

    # A call

    def _recall(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Outcome | None, KeyName, object]:
        """Return what memory holds of a call; where its result is, and under which key to hold it."""
        calls = self._calls
        if not calls.is_current():
            calls.renew()
        results = self._results
        if results.memory is None:
            return None, calls.locate(args, kwargs), None
        key = None if kwargs else calls.quick(args)
        where = None
        if key is None:
            where = calls.locate(args, kwargs)
            key = where.text
        held = results.recall(key)
        if held is not None and (outcome := self._hit(held)) is not None:
            return outcome, held.where, key
        return None, where or calls.locate(args, kwargs), key

    def _hit(self, held: Held) -> Outcome | None:
        try:
            value = self._results.value_of(held)
        except (CorruptEntry, UnloadableValue):
            # A class that can't be rebuilt: the store has the same, and what is wrong is said there.
            self._results.forget_held(held.where)
            return None
        self._counters.hit(held.where.text, held.cost_seconds, held.nbytes)
        return _new(Outcome, (value, None, 0.0))

    def at_hand(
        self, ref: Ref[Any], read: Read | None = None, *, is_missing: bool = False
    ) -> tuple[Outcome | None, Expectation | Version]:
        """Return what memory or the store has, or what was read from there before."""
        held = self._results.recall(ref.key)
        if held is not None and (outcome := self._hit(held)) is not None:
            return outcome, ABSENT
        if is_missing:
            return None, ABSENT
        return self._look_up(ref.where, ref.key, read)

    def _look_up(
        self, where: KeyName, key: object, read: Read | None = None
    ) -> tuple[Outcome | None, Expectation | Version]:
        """Return what the store has; and if it has nothing good, what to expect in its place."""
        start = self._clock()
        if start < self._trouble.paused_until:
            return None, ABSENT
        try:
            found = self._results.load(where, key, read)
        except TROUBLES as error:
            return None, self._trouble.missed(error, start)
        self._counters.hit(where.text, found.cost_seconds, found.nbytes)
        return _new(Outcome, (found.value, None, 0.0)), ABSENT

    def _where(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> KeyName:
        if not self._calls.is_current():
            self._calls.renew()
        return self._calls.locate(args, kwargs)

    def is_held(self, ref: Ref[Any]) -> bool:
        """Return whether memory has what a reference is to."""
        return self._results.recall(ref.key) is not None

    def read_many(self, wheres: Iterable[KeyName]) -> Iterator[tuple[KeyName, Read]]:
        """Yield what the store has of several results, read at once where that pays."""
        if self._trouble.is_paused:
            return
        changes = self._results.changes
        start = self._clock()
        try:
            for where, blob in self._entries.load_many(wheres):
                yield where, Read(blob, changes)
        except BackendError as error:
            self._trouble.missed(error, start)
            raise

    def adopt(self, ref: Ref[Any], outcome: Outcome) -> None:
        """Store what was computed where this store could not be reached."""
        with contextlib.suppress(StaleReference):  # the code has changed since
            self.keep(ref.where, ref.key, outcome, self._about(*ref.call()), ABSENT)

    def epoch(self) -> object:
        """Return what stands for the code, and for all else that results depend on, as they are now."""
        return self._calls.epoch

    def locate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[KeyName, object]:
        """Return where the result of a call is, by the code as it is now; under which key memory has it."""
        where = self._where(args, kwargs)
        return where, (None if kwargs else self._calls.quick(args)) or where.text

    def describe(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return a call as a person reads it, without arguments if they are not to be shown."""
        if not self._settings.record_args:
            return f"{self._label}(...)"
        shown = shown_arguments(self._calls.arguments(args, kwargs))
        return f"{self._label}({', '.join(f'{name}={text}' for name, text in shown.items())})"

    def _steps(
        self,
        where: KeyName,
        key: object,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        expect: Expectation | Version,
        *,
        anew: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Steps:
        """Return the steps to a result that is not at hand; see `Computation`."""
        if self._trouble.is_paused:
            return self._unstored()
        about = self._about(args, kwargs)
        computation = Computation(self, where, key, about, expect, anew=anew, loop=loop)
        return computation.together() if self._settings.single_flight else computation.alone()

    def _unstored(self) -> Steps:
        return self._counted((yield Compute(None)))

    def found(self, where: KeyName, key: object) -> Outcome | None:
        """Return a stored result, if there is a good one."""
        try:
            found = self._results.load(where, key)
        except TROUBLES:
            return None  # what there is to say of it was said, or will be
        self._counters.hit(where.text, found.cost_seconds, found.nbytes)
        return Outcome(found.value, None, found.cost_seconds)

    def keep(
        self,
        where: KeyName,
        key: object,
        outcome: Outcome,
        about: Mapping[str, Any],
        expect: Expectation | Version,
    ) -> bool:
        """Count a computation, and store what came of it; return whether it is stored."""
        value, error, seconds = self._counted(outcome)
        if error is not None:
            if not isinstance(error, self._settings.cache_exceptions):
                return False
            value = Raised(error)
        # Race: a helper that was replaced meanwhile may have had a part in the result, which
        # then is not that of the code in the key.
        if not self._calls.is_current():
            try:
                # What looked changed may be as it was: classes keep caches of their own.
                self._calls.renew()
            except (UnreadableDependency, UndigestibleValue):
                return False  # the next call will say so; this one has its result
        if not self._recorder.is_current(about):
            return False
        start = self._clock()
        try:
            saved = self._results.save(where, value, seconds=seconds, about=about, expect=expect, key=key)
        except (BackendError, UnencodableValue, UntrustedPickle) as trouble:
            self._trouble.tell(trouble, f"a result of {self._label} could not be stored: {trouble}", start)
            return False
        self._stored(where, saved, seconds)
        self._inventories.note(self._calls.latest)
        return True

    def version_of(self, where: KeyName) -> Expectation | Version:
        """Return what is in the store now, for a write that nobody shall come before."""
        try:
            return self._entries.storage.version(where.name)
        except BlobNotFound:
            return ABSENT
        except BackendError:
            return ANY  # what writing says of it will be said

    def _new_bounds(self) -> Bounds:
        return Bounds(
            self._entries,
            self._usage,
            self._settings.limits,
            prefix=self._calls.prefix,
            label=self._label,
            leases=functools.partial(open_leases, self._entries.storage),
            expires=self._settings.expires,
        )

    def _stored(self, where: KeyName, saved: Saved | None, cost_seconds: float) -> None:
        if self._bounds is not None and saved is not None:
            self._bounds.stored(where, nbytes=saved.nbytes, cost_seconds=cost_seconds, until=saved.until)

    def _counted(self, outcome: Outcome) -> Outcome:
        self._counters.miss(outcome.seconds)
        return outcome

    def _unwrapped(self, outcome: Outcome) -> Any:
        """Return what a call returns, or raise what it raises."""
        value, error, _ = outcome
        if error is not None:
            raise error
        if type(value) is Raised:
            value.error.add_note(f"(stored when {self._label} raised it; forget() the call to try again)")
            raise value.error
        return value

    def _result_of(self, stored: Any) -> object:
        """Return what `stored` is in place of: a result, or an exception."""
        return stored.error if type(stored) is Raised else stored

    def _about(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an entry says of the call that it holds the result of."""
        return self._recorder.about(args, kwargs)

    @property
    def leases(self) -> Leases:
        """Who computes what, among the processes that share the store."""
        if self._leases is None:
            self._leases = open_leases(self._entries.storage, seconds=self._settings.lease_seconds)
        return self._leases

    def could_not_lease(self, error: BackendError) -> None:
        """Tell that others may compute the same at the same time."""
        message = f"{self._label} can't keep others from computing the same: {error}"
        self._trouble.tell(error, message, self._clock())
