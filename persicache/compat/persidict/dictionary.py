"""What all of persidict's dictionaries are: `PersiDict`."""

# ruff: noqa: D102 - what persicache's dictionary has, it explains

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar

from persicache import mappings
from persicache.compat.persidict.keys import NonEmptySafeStrTuple, SafeStrTuple, get_safe_chars
from persicache.errors import MutationPolicyError
from persicache.mappings import (
    ALWAYS_RETRIEVE,
    ANY_ETAG,
    ITEM_NOT_AVAILABLE,
    NEVER_RETRIEVE,
    ConditionalOperationResult,
    Entries,
    OperationResult,
)
from persicache.mappings.conditions import Joker

__all__ = ["PersiDict"]

V = TypeVar("V")


class PersiDict(mappings.PersiDict[V]):
    """A dictionary of persicache's as persidict's are: keys come back as tuples of safe strings.

    Unlike those of persidict they pickle, by their parameters, but for a `LocalDict`.
    """

    serialization_format: str

    def __init__(self) -> None:
        raise NotImplementedError("PersiDict is what FileDirDict, S3Dict and others have in common")

    def _begin(self, entries: Entries, params: dict[str, Any], prefix: tuple[str, ...] = ()) -> None:
        """Begin with these entries; `params` are what the constructor was given."""
        self.serialization_format = params["serialization_format"]
        _check_format(self.serialization_format, params["base_class_for_values"])
        self._codec_options = {"format": self.serialization_format}
        only, base = bool(params["append_only"]), params["base_class_for_values"]
        self._hold(entries, params, append_only=only, base_class=base)
        self._join(entries, prefix)

    @property
    def append_only(self) -> bool:
        """Whether what is stored stays as it is."""
        return self._append_only

    @property
    def base_class_for_values(self) -> type[V] | None:
        """Of which every value is an instance."""
        return self._base_class

    def get_params(self) -> dict[str, Any]:
        """Return what the constructor makes this dictionary of."""
        return dict(sorted(self._params.items()))

    def __repr__(self) -> str:
        given = {name: value for name, value in self.get_params().items() if name != "storage_options"}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def __str__(self) -> str:
        return str(dict(self.items()))

    def __copy__(self) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self._params, self._prefix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if (
            isinstance(other, PersiDict)
            and type(self) is type(other)
            and self.get_params() == other.get_params()
        ):
            return True
        try:
            return dict(self.items()) == {NonEmptySafeStrTuple(key): other[key] for key in other}
        except (TypeError, ValueError):  # no key of ours; arrays
            return False

    __hash__ = None  # type: ignore[assignment]  # as of every dictionary

    # Keys

    def _locate(self, key: Any) -> Any:
        return super()._locate(NonEmptySafeStrTuple(key).strings)

    def _found(self, errors: list[Exception] | None = None) -> Iterator[tuple[Any, Any, Any]]:
        for key, where, info in super()._found(errors):
            yield NonEmptySafeStrTuple(key), where, info

    def get_subdict(self, prefix_key: Any) -> Self:
        return super().get_subdict(SafeStrTuple(prefix_key).strings)

    def subdicts(self) -> dict[Any, Self]:
        return {first: self.get_subdict(first) for first in {key[0] for key, _, _ in self._found()}}

    # Who asks for what isn't there hears its key

    def __getitem__(self, key: Any) -> V:
        return super().__getitem__(_key(key))

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(_key(key))

    def pop(self, key: Any, *default: Any) -> Any:
        return super().pop(_key(key), *default)

    def etag(self, key: Any) -> str:
        return super().etag(_key(key))

    def timestamp(self, key: Any) -> float:
        return super().timestamp(_key(key))

    # Values

    def _check(self, value: Any) -> Any:
        if isinstance(value, mappings.PersiDict):
            raise TypeError("a dictionary is no value to store in one; store its get_params()")
        return super()._check(value)

    def keys(self) -> Iterator[Any]:  # type: ignore[override]  # persidict's are iterators
        return iter(self)

    def values(self) -> Iterator[V]:  # type: ignore[override]  # as above
        return iter(super().values())

    def items(self) -> Iterator[tuple[Any, V]]:  # type: ignore[override]  # as above
        return iter(super().items())

    def setdefault(self, key: Any, default: V = None) -> V:  # type: ignore[assignment]
        with contextlib.suppress(KeyError):
            if not isinstance(default, Joker):  # any default will do that isn't needed
                return self[key]
        return super().setdefault(key, default)

    def clear(self, *, force: bool = True) -> None:  # persidict asks nobody
        super().clear(force=force)

    def delete_if_exists(self, key: Any) -> bool:
        """Do as `discard` does; its name in persidict 0.36."""
        return self.discard(key)

    def oldest_keys(self, max_n: int | None = None) -> list[Any]:
        return super().oldest_keys(_amount(max_n))

    def newest_keys(self, max_n: int | None = None) -> list[Any]:
        return super().newest_keys(_amount(max_n))

    def oldest_values(self, max_n: int | None = None) -> list[V]:
        return super().oldest_values(_amount(max_n))

    def newest_values(self, max_n: int | None = None) -> list[V]:
        return super().newest_values(_amount(max_n))

    # Conditions

    def get_with_etag(self, key: Any) -> ConditionalOperationResult[V]:  # type: ignore[override]  # as persidict
        return self.get_item_if(
            key, condition=ANY_ETAG, expected_etag=ITEM_NOT_AVAILABLE, retrieve_value=ALWAYS_RETRIEVE
        )

    def discard_if(self, key: Any, *, condition: Any, expected_etag: Any) -> ConditionalOperationResult[V]:
        asked = {"condition": condition, "expected_etag": expected_etag}
        if not self.append_only:
            return super().discard_if(key, **asked)
        seen = self.get_item_if(key, **asked, retrieve_value=NEVER_RETRIEVE)
        if seen.condition_was_satisfied and seen.new_value is not ITEM_NOT_AVAILABLE:
            raise MutationPolicyError(place=repr(self), policy="append-only")
        return seen

    def transform_item(
        self, key: Any, *, transformer: Any, n_retries: int | None = 6
    ) -> OperationResult[V]:
        tries = None if n_retries is None else int(n_retries)
        return super().transform_item(key, transformer=transformer, n_retries=tries)


def _key(key: Any) -> Any:
    return NonEmptySafeStrTuple(key)


def _amount(max_n: int | None) -> int | None:
    return None if max_n is None else max(0, max_n)


def _reopen(cls: type[PersiDict[Any]], params: dict[str, Any], prefix: tuple[str, ...]) -> PersiDict[Any]:
    made = cls(**params)
    return made.get_subdict(prefix) if prefix else made


def _check_format(name: str, base_class: object) -> None:
    if not name or not get_safe_chars().issuperset(name):
        raise ValueError(f"serialization_format must be of letters, digits and ()_-~.=, not {name!r}")
    if base_class is not None and not isinstance(base_class, type):
        raise TypeError(f"base_class_for_values must be a class or None, not {base_class!r}")
    if name not in {"pkl", "json"} and not (base_class and issubclass(base_class, str)):
        raise ValueError(
            f"{name!r} files hold text: give base_class_for_values=str, or format 'pkl' or 'json'"
        )
