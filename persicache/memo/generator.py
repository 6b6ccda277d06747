"""Generators that are replayed: `MemoizedGenerator`, `MemoizedAsyncGenerator`."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

from persicache.keys import KeyName
from persicache.mappings import nbytes, parse_nbytes
from persicache.mappings.warn import warn_caller
from persicache.memo.base import Memoized
from persicache.memo.computation import Outcome
from persicache.memo.memory import is_immutable
from persicache.memo.ref import Ref, awaited, dereferenced, result_of
from persicache.storage import Expectation, Version

__all__ = ["MemoizedAsyncGenerator", "MemoizedGenerator"]

P = ParamSpec("P")
R = TypeVar("R")

_NOT_SENT: Final = (
    "a stored generator is replayed, and can't be sent values: call its function's __wrapped__"
)


class _Record:
    """What a generator yielded so far, as it was when it did."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        #: Why it will not be stored, if it won't.
        self.spoiled: str | None = None
        self._room = parse_nbytes("auto")

    def add(self, item: object) -> None:
        if self.spoiled is not None:
            return
        if not is_immutable(item):
            try:
                item = copy.deepcopy(item)  # whoever gets it may change it
            except Exception as error:  # noqa: BLE001 - of its own
                self.spoil(f"an item can't be copied: {error}")
                return
        self._room -= nbytes(item)
        if self._room < 0:
            self.spoil("its items take too much memory")
            return
        self.items.append(item)

    def spoil(self, reason: str) -> None:
        self.items, self.spoiled = [], reason


class _Replaying(Memoized[P, R]):
    """What both kinds of generators have in common."""

    def _end(
        self,
        record: _Record,
        returned: object,
        where: KeyName,
        about: Mapping[str, Any],
        seconds: float,
        expect: Expectation | Version,
    ) -> None:
        """Store what a generator yielded, once it is exhausted."""
        outcome = Outcome([record.items, returned], None, seconds)
        if record.spoiled is None:
            self.keep(where, None, outcome, about, expect)
            return
        self._counted(outcome)
        if record.spoiled not in self._warned:
            self._warned.add(record.spoiled)
            warn_caller(f"what {self._label} yielded is not stored: {record.spoiled}")

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
    that is sent values, or has exceptions thrown into it, isn't stored.

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
        about = self._about(args, kwargs)
        record, seconds = _Record(), 0.0
        args, kwargs = dereferenced((args, kwargs), result_of)
        generator = self.__wrapped__(*args, **kwargs)
        step, sent = generator.send, None
        try:
            while True:
                start = self._clock()
                item = step(sent)
                seconds += self._clock() - start
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
        except StopIteration as end:
            seconds += self._clock() - start
            self._end(record, end.value, where, about, seconds, expect)
            return end.value


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
        found, _ = await asyncio.to_thread(self.at_hand, ref)
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
            found, expect = None, await asyncio.to_thread(self.version_of, where)
        else:
            found, expect = await asyncio.to_thread(self._look_up, where, None)
        if found is not None:
            async for item in _replayed_async(found.value):
                yield item
            return
        about = self._about(args, kwargs)
        record, seconds = _Record(), 0.0
        args, kwargs = await awaited((args, kwargs))
        generator = self.__wrapped__(*args, **kwargs)
        step, sent = generator.asend, None
        try:
            while True:
                start = self._clock()
                item = await step(sent)
                seconds += self._clock() - start
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
        except StopAsyncIteration:
            seconds += self._clock() - start
            await asyncio.to_thread(self._end, record, None, where, about, seconds, expect)


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
