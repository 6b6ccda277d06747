"""Generators that are replayed: `MemoizedGenerator`, `MemoizedAsyncGenerator`."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

from persicache.errors import UndigestibleValue
from persicache.keys import KeyName
from persicache.mappings import nbytes, parse_nbytes
from persicache.memo.base import Memoized
from persicache.memo.computation import Outcome
from persicache.memo.memory import is_immutable
from persicache.memo.ref import Call, Ref, awaited, dereferenced, result_of
from persicache.memo.threads import in_thread

__all__ = ["MemoizedAsyncGenerator", "MemoizedGenerator"]

P = ParamSpec("P")
R = TypeVar("R")

#: An infinite generator's items are held up to this share of the memory, but this much at least.
_SHARE: Final = 0.1
_SMALL_NBYTES: Final = 16 * 1024 * 1024
_NOT_SENT: Final = (
    "a stored generator is replayed, and can't be sent values: call its function's __wrapped__"
)


class _Record:
    """What a generator yielded so far, as it was when it did."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        #: Why it will not be stored, if it won't.
        self.spoiled: str | None = None
        self.seconds = 0.0
        self._nbytes = 0
        self._most = _SMALL_NBYTES

    def add(self, item: object) -> None:
        """Note an item, unless it is one too many: what never ends would take all memory."""
        if self.spoiled is not None:
            return
        if not is_immutable(item):
            try:
                item = copy.deepcopy(item)  # whoever gets it may change it
            except Exception as error:  # noqa: BLE001 - of its own
                self.spoil(f"an item can't be copied: {error}")
                return
        self._nbytes += nbytes(item)
        if self._nbytes > self._most == _SMALL_NBYTES:
            self._most = max(parse_nbytes(_SHARE), _SMALL_NBYTES + 1)
        if self._nbytes > self._most:
            self.spoil(f"its items take more than a share of {_SHARE} of the memory")
            return
        self.items.append(item)

    def spoil(self, reason: str) -> None:
        """Forget the items; they won't be stored, for this reason."""
        self.items, self.spoiled = [], self.spoiled or reason


class _Replaying(Memoized[P, R]):
    """What both kinds of generators have in common."""

    def _is_whole(self, record: _Record, where: KeyName, about: Mapping[str, Any], call: Call) -> bool:
        """Return whether what was yielded can be stored; else count it, and tell why it can't."""
        if record.spoiled is None and not self._is_still(where, about, call):
            record.spoil("its arguments were changed before it came to its end")
        if record.spoiled is None:
            return True
        self._counters.miss(record.seconds)
        self._trouble.warn_once(
            record.spoiled, f"what {self._label} yielded is not stored: {record.spoiled}"
        )
        return False

    def _is_still(self, where: KeyName, about: Mapping[str, Any], call: Call) -> bool:
        """Return whether a call has the arguments that it began with; others can change them meanwhile."""
        args, kwargs = call
        if all(map(is_immutable, (*args, *kwargs.values()))) or not self._recorder.is_current(about):
            return True
        try:
            return self._calls.locate(args, kwargs) == where
        except UndigestibleValue:
            return False

    def _result_of(self, stored: Any) -> Any:
        return stored[0]

    def map(self, *iterables: object, **options: object) -> NoReturn:  # noqa: ARG002
        """Refuse: a generator looks into the store when it is begun."""
        raise TypeError(f"{self._label} is a generator function, which the builtin map is good for")

    def put(self, result: Any, /, *args: Any, **kwargs: Any) -> None:
        """Store what this call yields, in place of any there is.

        Parameters
        ----------
        result : iterable
            All that it shall yield.
        *args, **kwargs
            The call.
        """
        super().put([list(result), None], *args, **kwargs)  # type: ignore[arg-type]


class MemoizedGenerator(_Replaying[P, R]):
    """A generator function whose items are kept in a store; what `persistent_memoize` returns for one.

    Calling it returns a generator, which looks into the store when its first item is asked for.
    What it yields is stored when it is exhausted, so a part is never taken for the whole. One
    that is sent values, or has exceptions thrown into it, isn't stored; nor is one whose
    arguments change between two items, or whose items take a tenth of the memory.

    Examples
    --------
    >>> from persicache import persistent_memoize
    >>> @persistent_memoize("memory://doc-generator")
    ... def squares(n):
    ...     for i in range(n):
    ...         print("computing", i)
    ...         yield i * i
    >>> next(squares(2))
    computing 0
    0
    >>> list(squares(2)), list(squares(2))
    computing 0
    computing 1
    ([0, 1], [0, 1])
    """

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return a generator of what this call yields, stored or computed."""
        self._calls.check(args, kwargs)
        return self._generate(args, kwargs, anew=False)  # type: ignore[return-value]

    def answer(self, ref: Ref[R]) -> R:
        """Return a generator of what the call of a reference yields."""
        found, _ = self.at_hand(ref)
        if found is not None:
            return _replayed(found.value)  # type: ignore[return-value]
        args, kwargs = ref.call()
        return self._generate(args, kwargs, anew=False)  # type: ignore[return-value]

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return a generator that computes anew; what it yields is stored in place of any there is."""
        self._calls.check(args, kwargs)
        return self._generate(args, kwargs, anew=True)  # type: ignore[return-value]

    def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return a generator of what is stored for this call; KeyError if nothing is."""
        return _replayed(super().lookup(*args, **kwargs))  # type: ignore[arg-type, return-value]

    def _generate(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, anew: bool
    ) -> Generator[Any, Any, Any]:
        # Not before: it begins with the arguments as they are now.
        where = self._where(args, kwargs)
        found, expect = (None, self.version_of(where)) if anew else self._look_up(where, None)
        if found is not None:
            return (yield from _replayed(found.value))
        about, call = self._about(args, kwargs), (args, kwargs)
        record = _Record()
        args, kwargs = dereferenced(call, result_of)
        generator = self.__wrapped__(*args, **kwargs)
        step, sent = generator.send, None
        start = self._clock()
        try:
            while True:
                item = step(sent)
                record.seconds += self._clock() - start
                record.add(item)
                try:
                    step, sent = generator.send, (yield item)
                    if sent is not None:
                        record.spoil("it was sent values")
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's
                    record.spoil("exceptions were thrown into it")
                    step, sent = generator.throw, error
                start = self._clock()
        except StopIteration as end:
            record.seconds += self._clock() - start
            if self._is_whole(record, where, about, call):
                outcome = Outcome([record.items, end.value], None, record.seconds)
                self.keep(where, None, outcome, about, expect)
            return end.value
        except BaseException:
            self._counters.miss(record.seconds)
            raise


class MemoizedAsyncGenerator(_Replaying[P, R]):
    """An asynchronous generator function whose items are kept in a store.

    As `MemoizedGenerator`; the store is read and written in threads.
    """

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return an asynchronous generator of what this call yields, stored or computed."""
        self._calls.check(args, kwargs)
        return self._generate(args, kwargs, anew=False)  # type: ignore[return-value]

    async def answer(self, ref: Ref[R]) -> Any:
        """Yield what the call of a reference yields."""
        found, _ = await in_thread(self.at_hand, ref)
        if found is not None:
            items = _replayed_async(found.value)
        else:
            args, kwargs = ref.call()
            items = self._generate(args, kwargs, anew=False)
        async for item in items:
            yield item

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return one that computes anew; what it yields is stored in place of any there is."""
        self._calls.check(args, kwargs)
        return self._generate(args, kwargs, anew=True)  # type: ignore[return-value]

    def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return an asynchronous generator of what is stored for this call; KeyError if nothing is."""
        return _replayed_async(super().lookup(*args, **kwargs))  # type: ignore[arg-type, return-value]

    async def _generate(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, anew: bool
    ) -> AsyncGenerator[Any, Any]:
        where = self._where(args, kwargs)
        if anew:
            found, expect = None, await in_thread(self.version_of, where)
        else:
            found, expect = await in_thread(self._look_up, where, None)
        if found is not None:
            for item in found.value[0]:
                if (yield item) is not None:
                    raise TypeError(_NOT_SENT)
            return
        about, call = self._about(args, kwargs), (args, kwargs)
        record = _Record()
        args, kwargs = await awaited(call)
        generator = self.__wrapped__(*args, **kwargs)
        step, sent = generator.asend, None
        start = self._clock()
        try:
            while True:
                item = await step(sent)
                record.seconds += self._clock() - start
                record.add(item)
                try:
                    step, sent = generator.asend, (yield item)
                    if sent is not None:
                        record.spoil("it was sent values")
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's
                    record.spoil("exceptions were thrown into it")
                    step, sent = generator.athrow, error
                start = self._clock()
        except StopAsyncIteration:
            record.seconds += self._clock() - start
            if self._is_whole(record, where, about, call):
                outcome = Outcome([record.items, None], None, record.seconds)
                await in_thread(self.keep, where, None, outcome, about, expect)
        except BaseException:
            self._counters.miss(record.seconds)
            raise


def _replayed(stored: list[Any]) -> Generator[Any, Any, Any]:
    items, returned = stored
    for item in items:
        if (yield item) is not None:
            raise TypeError(_NOT_SENT)
    return returned


async def _replayed_async(stored: list[Any]) -> AsyncGenerator[Any, Any]:
    items, _ = stored
    for item in items:
        if (yield item) is not None:
            raise TypeError(_NOT_SENT)
