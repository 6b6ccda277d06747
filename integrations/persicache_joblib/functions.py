"""Functions that a Memory over persicache has decorated: `PersistentFunc`."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from joblib import hashing
from joblib.func_inspect import filter_args, format_signature
from joblib.memory import AsyncMemorizedFunc, MemorizedFunc, NotMemorizedResult

from persicache import Fingerprint, PersicacheError, UndigestibleValue, digest, fingerprint
from persicache_joblib.options import check_mmap_mode

__all__ = ["AsyncPersistentFunc", "PersistentFunc", "adopt"]

#: Beside the attributes of the function that is decorated, which joblib takes over.
_CODE: Final = "_persicache_fingerprint"
#: The object whose method is called.
_digested: Final[ContextVar[Any]] = ContextVar("persicache_joblib_digested", default=None)


class _Persistent(MemorizedFunc):  # type: ignore[misc]  # joblib isn't typed
    """What differs from joblib's own: the code is in the key, and a hit is one read.

    joblib notes a function's code in its folder. Whoever runs old code after that was noted stores
    old results among the new ones; a helper's code isn't noted at all; and every hit asks the place
    for the code, the result and its metadata in turn.
    """

    @property
    def func_id(self) -> str:
        """The function's name and the digest of its code, as it is now."""
        code: Fingerprint | None = self.__dict__.get(_CODE)
        if code is None or not code.is_current():
            # The object of a method is an argument.
            function: Any = getattr(self.func, "__func__", self.func)
            code = self.__dict__[_CODE] = fingerprint(function)
        return f"{self.__dict__['func_id']}/{code.digest.hex()}"

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        state.pop(_CODE, None)
        return state

    def __persicache_code__(self) -> tuple[Any, ...]:
        """Return what another function depends on that calls this one."""
        owner = getattr(self.func, "__self__", None)
        # An object whose method was decorated holds what holds the object.
        is_digested = owner is not None and owner is _digested.get()
        return getattr(self.func, "__func__", self.func) if is_digested else self.func, tuple(self.ignore)

    def _get_args_id(self, *args: Any, **kwargs: Any) -> str:
        named = filter_args(self.func, self.ignore, args, kwargs)
        token = _digested.set(getattr(self.func, "__self__", None))
        try:
            return digest(dict(named), path="the arguments").hex()
        except UndigestibleValue:  # as long as joblib can: another length, so never the same
            found: str = hashing.hash(named, coerce_mmap=self.mmap_mode is not None)
            return found
        finally:
            _digested.reset(token)

    def check_call_in_cache(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether there is a valid result for these arguments, without reading it."""
        return self._is_in_cache_and_valid((self.func_id, self._get_args_id(*args, **kwargs)))

    def _is_in_cache_and_valid(self, call_id: tuple[str, str]) -> bool:
        return self._is_valid(call_id, self.store_backend.about(call_id))

    def _is_valid(self, call_id: tuple[str, str], metadata: dict[str, Any] | None) -> bool:
        if metadata is None:
            return False
        if self.cache_validation_callback is None or self.cache_validation_callback(metadata):
            return True
        with contextlib.suppress(PersicacheError):  # it will be replaced
            self.store_backend.clear_item(call_id)
        return False

    def _cached_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], shelving: bool) -> Any:  # noqa: FBT001 - joblib's
        call_id = self.func_id, self._get_args_id(*args, **kwargs)
        if shelving:
            metadata = self.store_backend.about(call_id)
            if self._is_valid(call_id, metadata):
                return self._get_memorized_result(call_id, metadata), {}
        else:
            start = time.time()
            found = self.store_backend.find(call_id, mmap_mode=self.mmap_mode)
            if found is not None and self._is_valid(call_id, found[1]):
                self._tell_loaded(args, kwargs, time.time() - start)
                return found[0], {}
        return self._call(call_id, args, kwargs, shelving)

    def _tell_loaded(self, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float) -> None:
        if self._verbose > 1:
            _, signature = format_signature(self.func, *args, **kwargs)
            print(f"[Memory]: Loading {signature}...")  # noqa: T201 - what verbose= asks for
        if self._verbose > 4:  # noqa: PLR2004 - joblib's
            self._print_duration(seconds, context="cache loaded ")

    def _after_call(
        self,
        call_id: tuple[str, str],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        shelving: bool,  # noqa: FBT001 - joblib's
        output: Any,
        start_time: float,
    ) -> Any:
        # joblib writes the result, and then a file about it. Here both are one entry.
        now = time.time()
        if self._verbose > 0:
            self._print_duration(now - start_time)
        named = filter_args(self.func, self.ignore, args, kwargs)
        shown = {name: repr(value) for name, value in named.items()}
        metadata = {"duration": now - start_time, "input_args": shown, "time": now}
        is_stored = self.store_backend.store(call_id, output, metadata)
        if shelving:
            is_there = is_stored and self._get_memorized_result(call_id, metadata)
            return is_there or NotMemorizedResult(output), metadata
        if is_stored and self.mmap_mode is not None:  # the same as the next call will return
            found = self.store_backend.find(call_id, mmap_mode=self.mmap_mode)
            output = output if found is None else found[0]
        return output, metadata


class PersistentFunc(_Persistent):
    """A function that a Memory over persicache has decorated; ``memory.cache(f)`` makes it.

    It is used as joblib's `MemorizedFunc`. Its results are kept by the arguments and by the code
    of the function and of all functions, classes and constants of yours that it reaches; edit
    any of these, and it computes again; undo the edit, and the old results are found.
    """


class AsyncPersistentFunc(_Persistent, AsyncMemorizedFunc):  # type: ignore[misc]  # as above
    """The same for a coroutine function."""


def adopt(function: MemorizedFunc) -> None:
    """Turn a function that joblib is making into a persistent one.

    Raises
    ------
    TypeError
        If it is of a kind that joblib doesn't make.
    """
    kinds = {MemorizedFunc: PersistentFunc, AsyncMemorizedFunc: AsyncPersistentFunc}
    if isinstance(function, _Persistent):
        return
    if type(function) not in kinds:
        kind = type(function).__qualname__
        raise TypeError(f"backend='persicache' can't tell what {kind} does otherwise than MemorizedFunc")
    check_mmap_mode(function.mmap_mode)
    function.__class__ = kinds[type(function)]
    function.__dict__["func_id"] = _label(function.func)


def _label(function: Any) -> str:
    """Name a function for people: its code tells it from others that are called the same."""
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None) or "__main__"
    file = getattr(sys.modules.get(module), "__file__", None)
    if module == "__main__" and file is not None:
        module = Path(file).stem
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}".replace("/", "_").replace(os.sep, "_")
