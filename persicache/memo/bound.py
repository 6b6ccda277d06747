"""A memoized method of an object, with its verbs: `Bound`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any

__all__ = ["Bound"]


class Bound:
    """What ``obj.method`` is, if the method is memoized: a call, or a verb, of it takes `obj` first.

    Parameters
    ----------
    memoized : Memoized
        The method.
    instance : object
        The object.
    """

    def __init__(self, memoized: Any, instance: object) -> None:
        self.__func__ = memoized
        self.__self__ = instance
        self.__name__: str = memoized.__name__
        self.__qualname__: str = memoized.__qualname__
        self.__module__ = memoized.__module__
        self.__doc__ = memoized.__doc__

    @property
    def __wrapped__(self) -> Any:
        """The method that is not memoized."""
        return self.__func__.__wrapped__.__get__(self.__self__)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method of the object."""
        return self.__func__(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.__func__, name)
        return functools.partial(verb, self.__self__) if name in self.__func__.CALLS else verb

    def map(self, iterable: Iterable[Any], /, *iterables: Iterable[Any], **options: Any) -> Any:
        """Return an iterator over the results of many calls: see `MemoizedFunction.map`."""
        return self.__func__.map(itertools.repeat(self.__self__), iterable, *iterables, **options)

    def put(self, result: Any, /, *args: Any, **kwargs: Any) -> None:
        """Store a result for this call, computed elsewhere: see `MemoizedFunction.put`."""
        self.__func__.put(result, self.__self__, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<memoized method {self.__qualname__} of {self.__self__!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bound):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by its name, which a class derived from that of the method can give to another.
        return Bound, (self.__func__, self.__self__)

    def __persicache_code__(self) -> tuple[Any, ...]:
        """Return what another function depends on that calls this one."""
        return self.__func__, self.__self__
