"""The options of a memoized function, checked: `Settings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from persicache.keys import CodeMode
from persicache.mappings import parse_nbytes
from persicache.memo.dependencies import is_path
from persicache.memo.freshness import Expires, fresh_seconds, parse_expires
from persicache.memo.limits import Limits

__all__ = ["OnError", "PolicyName", "Settings"]

OnError = Literal["warn", "raise"]
PolicyName = Literal["gdsf", "lfu", "lru"]
Names: TypeAlias = str | Iterable[str]
Kinds: TypeAlias = type[Exception] | Iterable[type[Exception]]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a memoized function works, whatever its store; made by `Settings.of`.

    What each means is told at `persistent_memoize`.
    """

    ignore: tuple[str, ...]
    key: Callable[..., Any] | None
    version: object
    depends_on: tuple[Any, ...]
    code: CodeMode
    expires: Expires
    memory_nbytes: int
    single_flight: bool
    lease_seconds: float
    cache_exceptions: tuple[type[Exception], ...]
    on_error: OnError
    record_args: bool
    limits: Limits

    @classmethod
    def of(
        cls,
        *,
        ignore: Names = (),
        key: Callable[..., Any] | None = None,
        version: object = None,
        depends_on: Iterable[Any] = (),
        code: CodeMode = "deep",
        expires: float | str | timedelta | Callable[[Any], Any] | None = None,
        memory: float | str | None = "64 MiB",
        single_flight: bool = True,
        lease: float | str | timedelta = 10.0,
        cache_exceptions: Kinds = (),
        on_error: OnError = "warn",
        record_args: bool = True,
        max_size: int | str | None = None,
        max_entries: int | None = None,
        policy: PolicyName = "gdsf",
    ) -> Settings:
        """Check the options.

        Raises
        ------
        TypeError, ValueError
            That names the option, what was given, and what it can be.
        """
        if code not in get_args(CodeMode):
            raise ValueError(f"code must be one of {get_args(CodeMode)}, not {code!r}")
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error must be one of {get_args(OnError)}, not {on_error!r}")
        ignored = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        if key is not None and not callable(key):
            raise TypeError(f"key must be a function with the same parameters, not {key!r}")
        if key is not None and ignored:
            raise ValueError("give key= or ignore=, not both: what key= returns is all that counts")
        if isinstance(depends_on, (str, bytes)) or not isinstance(depends_on, Iterable):
            raise TypeError(
                f"depends_on must be a list of functions, pathlib.Paths and values, not {depends_on!r}"
            )
        kinds = (cache_exceptions,) if isinstance(cache_exceptions, type) else tuple(cache_exceptions)
        for kind in kinds:
            if not isinstance(kind, type) or not issubclass(kind, Exception):  # type: ignore[redundant-expr]
                raise TypeError(f"cache_exceptions must be classes of exceptions, not {kind!r}")
        lease_seconds = fresh_seconds(lease)
        if not lease_seconds:
            raise ValueError(f"lease must be a duration, neither nothing nor for ever, not {lease!r}")
        for name, flag in (("single_flight", single_flight), ("record_args", record_args)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} must be True or False, not {flag!r}")
        return cls(
            ignore=ignored,
            key=key,
            version=version,
            # Absolute: a worker may have another working directory.
            depends_on=tuple(Path(each).absolute() if is_path(each) else each for each in depends_on),
            code=code,
            expires=parse_expires(expires),
            memory_nbytes=0 if memory is None else parse_nbytes(memory),
            single_flight=single_flight,
            lease_seconds=lease_seconds,
            cache_exceptions=kinds,
            on_error=on_error,
            record_args=record_args,
            limits=Limits.of(max_size=max_size, max_entries=max_entries, policy=policy),
        )
