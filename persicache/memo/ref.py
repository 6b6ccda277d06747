"""A result that is elsewhere, or isn't there yet: `Ref`."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from persicache.errors import StaleReference
from persicache.keys import KeyName
from persicache.mappings import nbytes
from persicache.memo.threads import in_thread

if TYPE_CHECKING:
    from persicache.memo.base import Memoized

__all__ = ["Call", "Ref", "awaited", "dereferenced", "result_of"]

R = TypeVar("R")

Call: TypeAlias = tuple[tuple[Any, ...], Mapping[str, Any]]

#: Arguments that weigh more don't travel with a reference to a result that is stored.
LARGE_NBYTES: Final = 64 * 1024


class Ref(Generic[R]):
    """A reference to the result of a call of a memoized function; what ``f.ref(...)`` returns.

    It is small, whatever the result is, and pickles: tasks and processes pass it on, and only
    who needs the result loads it, from the store. It carries the function, by name or with its
    code as the function itself would travel, and the call's arguments, so that a result that
    isn't stored yet is computed by the first who asks for it. Arguments of more than 64 KiB
    stay behind if the result is stored when the reference is pickled.

    As an argument of a memoized function, or in lists, tuples and dicts of arguments, it stands
    for the result: the function gets the result itself, loaded only if it must compute. The
    reference counts by what it refers to, function, code and arguments, and not by the value:
    ``g(f.ref(3))`` computes the same as ``g(f(3))``, and is another call. References to the same
    call are equal. Elsewhere in an argument, in an attribute, and to `key`, it is given as it is.

    Attributes
    ----------
    where : KeyName
        What the result is filed under.
    key : object
        Under which memory holds it in this process.

    Examples
    --------
    >>> from persicache import persistent_memoize
    >>> @persistent_memoize("memory://doc-ref")
    ... def load(day):
    ...     print("loading", day)
    ...     return list(range(day))
    >>> @persistent_memoize("memory://doc-ref")
    ... def total(numbers):
    ...     return sum(numbers)
    >>> ref = load.ref(4)
    >>> ref.is_stored, ref == load.ref(day=4)
    (False, True)
    >>> total(ref), total(ref), ref.get()
    loading 4
    (6, 6, [0, 1, 2, 3])
    """

    __slots__ = ("_call", "_code", "_function", "_shown", "key", "where")

    def __init__(
        self,
        function: Memoized[..., R],
        where: KeyName,
        code: bytes,
        call: Call | None,
        *,
        key: object = None,
        shown: str | None = None,
    ) -> None:
        self._function: Any = function
        self.where = where
        self.key = where.text if key is None else key
        self._code = code
        self._call = call
        self._shown = shown

    @classmethod
    def to(cls, function: Memoized[..., R], call: Call) -> Ref[R]:
        """Return a reference to a call, as the function and the arguments are now."""
        where, key = function.locate(*call)
        return cls(function, where, function.code_digest(), call, key=key)

    def get(self) -> R:
        """Return the result: load it, or compute and store it if it isn't stored.

        Of a coroutine function's call, await what this returns.

        Raises
        ------
        StaleReference
            If it isn't stored, and can't be computed here: the function's code is not that of
            where the reference was made, or an argument has changed since, or stayed behind.
        """
        return self._function.answer(self)  # type: ignore[no-any-return]  # of its kind

    @property
    def is_stored(self) -> bool:
        """Whether the result is in the store, and fresh."""
        return bool(self._function.has(self.where))

    def call(self) -> Call:
        """Return the arguments, for who is about to compute the result.

        Raises
        ------
        StaleReference
            If what they would give is not what the reference is to.
        """
        if self._call is None:
            raise self._stale(
                "its arguments are large, and stayed behind because the result was stored then; "
                "call the function again"
            )
        if self._function.code_digest() != self._code:
            raise self._stale("the function's code is not that of where the reference was made")
        if self._function.locate(*self._call)[0] != self.where:
            raise self._stale(
                "an argument, or what version=, key= or depends_on= says, has changed since the "
                "reference was made"
            )
        return self._call

    def _stale(self, reason: str) -> StaleReference:
        return StaleReference(call=self._told(), place=self._function.url, reason=reason)

    def _told(self) -> str:
        if self._shown is None:
            assert self._call is not None
            self._shown = self._function.describe(*self._call)
        return self._shown

    def __repr__(self) -> str:
        return f"<Ref to {self._told()}>"

    def __eq__(self, other: object) -> bool:
        return self.where == other.where if isinstance(other, Ref) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.where)

    def __persicache_key__(self) -> str:
        """Return what it counts by as an argument: function, code and arguments."""
        return self.where.text

    def __reduce__(self) -> tuple[Any, ...]:
        call = self._call
        is_large = call is not None and nbytes(call) > LARGE_NBYTES
        if is_large and self._function.seems_stored(self.where, in_trouble=False):
            return _arrived, (self._function, tuple(self.where), self._code, None, self._told())
        return _arrived, (self._function, tuple(self.where), self._code, call, self._shown)


def _arrived(
    function: Memoized[..., Any], where: tuple[str, str], code: bytes, call: Call | None, shown: str | None
) -> Ref[Any]:
    return Ref(function, KeyName(*where), code, call, shown=shown)


def result_of(ref: Ref[Any]) -> Any:
    """Return the result that a reference is to, where nobody can await it."""
    result = ref.get()
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"{ref!r} is to a coroutine function's result, which is awaited: await its get() first"
        )
    return result


async def awaited(call: Call) -> Call:
    """Return a call with results in the place of the references among its arguments."""
    refs: list[Ref[Any]] = []
    dereferenced(call, refs.append)
    results = []
    for ref in refs:
        result = await in_thread(ref.get)
        results.append(await result if inspect.iscoroutine(result) else result)
    return dereferenced(call, lambda _: results.pop(0))  # type: ignore[no-any-return]


#: What is a reference, or can hold one for `dereferenced` to find.
_SEEN_INTO: Final = frozenset({Ref, list, tuple, dict})


def dereferenced(value: Any, fetch: Callable[[Ref[Any]], Any]) -> Any:
    """Return arguments with what `fetch` returns in the place of each reference.

    What has none in it is returned as it is, and nothing is changed.

    Examples
    --------
    >>> dereferenced((1, [2, {"a": 3}]), print)
    (1, [2, {'a': 3}])
    """
    return _dereferenced(value, fetch, ())


def _dereferenced(value: Any, fetch: Callable[[Ref[Any]], Any], around: tuple[int, ...]) -> Any:
    kind = type(value)
    if kind is Ref:
        return fetch(value)
    if kind not in _SEEN_INTO or id(value) in around:  # what is ignored can hold itself
        return value
    old = list(value.values()) if kind is dict else value
    if _SEEN_INTO.isdisjoint(map(type, old)):
        return value
    around = (*around, id(value))
    new = [_dereferenced(each, fetch, around) if type(each) in _SEEN_INTO else each for each in old]
    if all(map(operator.is_, old, new)):
        return value
    return dict(zip(value, new, strict=True)) if kind is dict else kind(new)
