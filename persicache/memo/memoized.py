"""A function that remembers: `MemoizedFunction`."""

from __future__ import annotations

import contextlib
import functools
import time
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar

from persicache.errors import (
    BackendError,
    BlobNotFound,
    CorruptEntry,
    PersicacheWarning,
    UnencodableValue,
    UnloadableValue,
    UntrustedPickle,
    VersionConflict,
)
from persicache.keys import CallDigest, Fingerprint, KeyName, encode_prefix, fingerprint
from persicache.mappings import Entries
from persicache.memo.binding import Binder
from persicache.memo.callables import check_function, label_of
from persicache.memo.stats import Counters, Stats
from persicache.memo.travel import reduced
from persicache.storage import ABSENT, ANY, Expectation

__all__ = ["CodeMode", "MemoizedFunction", "OnError"]

P = ParamSpec("P")
R = TypeVar("R")

CodeMode = Literal["deep", "own", "off"]
OnError = Literal["warn", "raise"]

#: After trouble that took longer, the store is left alone for PAUSE_RATIO times as long.
SLOW_SECONDS: Final = 1.0
PAUSE_RATIO: Final = 10.0

_new = tuple.__new__  # a third of the time of KeyName(...), on the path of every hit


class MemoizedFunction(Generic[P, R]):
    """A function whose results are kept in a store; what `persistent_memoize` returns.

    Calling it returns the stored result of the same call by the same code, or computes and
    stores it. What a call means, its key, is the digest of its arguments, bound to the
    signature, and of the function's code.

    Parameters
    ----------
    function : callable
        The function.
    entries : Entries
        The store.
    ignore : iterable of str
        Parameters that don't count.
    version : object
        Part of the key: another one makes new entries.
    code : {"deep", "own", "off"}
        What of the code is part of the key: the function and all that it reaches, the
        function alone, or nothing.
    on_error : {"warn", "raise"}
        What trouble with the store does.
    label : str, optional
        What the results are filed under; by default the function's full name.
    clock : callable
        Returns seconds, to measure with.

    Raises
    ------
    TypeError
        If `function` is anything but a plain function.

    Examples
    --------
    >>> from persicache import persistent_memoize
    >>> @persistent_memoize("memory://doc-memoized")
    ... def cube(x):
    ...     return x**3
    >>> cube(2), cube.contains(2), cube.contains(3), cube.lookup(x=2)
    (8, True, False, 8)
    >>> cube.forget(2), cube.forget(2), cube.clear()
    (True, False, 0)
    """

    def __init__(
        self,
        function: Callable[P, R],
        entries: Entries,
        *,
        ignore: Iterable[str] = (),
        version: object = None,
        code: CodeMode = "deep",
        on_error: OnError = "warn",
        label: str | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        check_function(function)
        functools.update_wrapper(self, function, updated=())  # its attributes could hide the verbs
        self.__wrapped__ = function
        self._entries = entries
        self._ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        self._bind = Binder(function, ignore=self._ignore)
        self._paused_until = 0.0
        self._extension = entries.extension
        self._version = version
        self._code: CodeMode = code
        self._on_error = on_error
        self._clock = clock
        self._counters = Counters()
        self._warned: set[str] = set()
        self._label = label or label_of(function)
        self._prefix = encode_prefix((self._label,))
        self._fingerprint: Fingerprint | None = None
        self._digest_call = CallDigest(version, self._bind.names)

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<memoized {self._label} in {self._entries.place!r}: {stats.hits} hits, {stats.misses} misses>"
        )

    def __reduce__(self) -> str | tuple[Any, ...]:
        options = (self._ignore, self._version, self._code, self._on_error, self._label)
        return reduced(self, _rebuild, (self.__wrapped__, self._entries, *options))

    @property
    def url(self) -> str:
        """The place of the store, without secrets."""
        return self._entries.place

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __persicache_code__(self) -> tuple[Any, ...]:
        """Return what another function depends on that calls this one."""
        return self.__wrapped__, self._version, self._ignore, self._code

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of this call, or compute and store it."""
        code = self._fingerprint
        if code is None or not code.is_current():
            code = self._current_code()
        where = self._locate(args, kwargs)
        expect: Expectation = ABSENT
        start = self._clock()
        try:
            if start < self._paused_until:
                return self._compute(None, expect, code, args, kwargs)
            found = self._entries.load(where.text, where)
        except BlobNotFound:
            pass
        except (CorruptEntry, UnloadableValue) as error:
            # Not what on_error= is about: the entry is replaced, and the trouble is over.
            self._counters.error()
            message = f"{self._label} computes again, because {error}"
            warnings.warn(message, PersicacheWarning, stacklevel=2)
            expect = ANY
        except (BackendError, UntrustedPickle) as error:
            self._trouble(error, f"{self._label} could not look up a result: {error}", start, stacklevel=3)
        else:
            self._counters.hit(found.cost_seconds)
            return found.value  # type: ignore[no-any-return]
        return self._compute(where, expect, code, args, kwargs)

    def _compute(
        self,
        where: KeyName | None,
        expect: Expectation,
        code: Fingerprint,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> R:
        start = self._clock()
        result = self.__wrapped__(*args, **kwargs)
        end = self._clock()
        self._counters.miss(end - start)
        # Race: a helper that was replaced meanwhile may have had a part in the result, which
        # then is not that of the code in the key.
        if where is None or not code.is_current():
            return result
        try:
            self._save(where, result, end - start, expect)
        except (BackendError, UnencodableValue, UntrustedPickle) as error:
            message = f"a result of {self._label} could not be stored: {error}"
            self._trouble(error, message, end, stacklevel=4)
        return result

    def _save(self, where: KeyName, result: R, seconds: float, expect: Expectation) -> None:
        if not self._entries.storage.can_compare_and_swap:
            expect = ANY
        # Race: if somebody else computed the same meanwhile, the first result stays, so that all
        # who read it see one.
        with contextlib.suppress(VersionConflict):
            self._entries.save(
                where.text,
                where,
                result,
                cost_seconds=seconds,
                extra={"function": self._label},
                expect=expect,
            )

    def _locate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> KeyName:
        bind = self._bind
        # Plain calls need no binding, and here not even the call to find that out.
        values = args if not kwargs and len(args) == bind.n_plain else bind(args, kwargs)
        digest = self._digest_call(values).hex()
        text = f"{self._prefix}{digest[:2]}/{digest[2:]}"
        return _new(KeyName, (text + self._extension, text))

    def _current_code(self) -> Fingerprint:
        code = self._fingerprint
        if code is None or not code.is_current():
            # Race: two threads may do this at once; both find the same.
            code = fingerprint(self.__wrapped__, code=self._code)
            self._bind = Binder(self.__wrapped__, ignore=self._ignore)
            self._digest_call = CallDigest((code.digest, self._version), self._bind.names)
            self._fingerprint = code
        return code

    def _where(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> KeyName:
        self._current_code()
        return self._locate(args, kwargs)

    def code_digest(self) -> bytes:
        """Return the digest of the code that is part of the key, as it is now."""
        return self._current_code().digest

    def _trouble(self, error: Exception, message: str, start: float, *, stacklevel: int) -> None:
        """Raise, or warn once a kind: trouble with a place tends to stay."""
        self._counters.error()
        if self._on_error == "raise":
            raise error
        now = self._clock()
        if now - start > SLOW_SECONDS:
            # A place that nobody answers for takes many seconds to say so, in every call.
            self._paused_until = now + PAUSE_RATIO * (now - start)
        if type(error).__name__ not in self._warned:
            self._warned.add(type(error).__name__)
            warnings.warn(message, PersicacheWarning, stacklevel=stacklevel)

    # Verbs

    def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of this call.

        Raises
        ------
        KeyError
            If there is none; nothing is computed.
        """
        where = self._where(args, kwargs)
        try:
            return self._entries.load(where.text, where).value  # type: ignore[no-any-return]
        except BlobNotFound:
            raise KeyError(f"{self._label} has no stored result for this call") from None

    def contains(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Return whether this call has a stored result, without loading it."""
        try:
            self._entries.storage.stat(self._where(args, kwargs).name)
        except BlobNotFound:
            return False
        return True

    def forget(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the stored result of this call; return whether there was one."""
        return self._entries.storage.remove(self._where(args, kwargs).name)

    def clear(self) -> int:
        """Remove all stored results of this function, by whatever code; return how many."""
        names = [where.name for where, _ in self._entries.names(self._prefix)]
        self._entries.storage.remove_many(names)
        return len(names)

    def stats(self) -> Stats:
        """Return what happened since the function was decorated, in this process."""
        return self._counters.stats()


def _rebuild(
    function: Callable[..., Any],
    entries: Entries,
    ignore: tuple[str, ...],
    version: object,
    code: CodeMode,
    on_error: OnError,
    label: str,
) -> MemoizedFunction[..., Any]:
    return MemoizedFunction(
        function, entries, ignore=ignore, version=version, code=code, on_error=on_error, label=label
    )
