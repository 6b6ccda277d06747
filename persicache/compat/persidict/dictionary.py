"""What the dictionaries have in common: `PersiDict`."""

# ruff: noqa: D102 - what persicache's dictionary has, it explains

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar

from persicache import mappings
from persicache.keys.safe_strings import NonEmptySafeStrTuple, SafeStrTuple
from persicache.mappings import Entries
from persicache.mappings import conditions as c

__all__ = ["PersiDict"]

V = TypeVar("V")


class PersiDict(mappings.PersiDict[V]):
    """persicache's, with tuples of safe strings as its keys; it pickles by its parameters."""

    serialization_format = property(lambda self: self._codec_options["format"])
    append_only = property(lambda self: self._append_only)
    base_class_for_values = property(lambda self: self._base_class)

    def __init__(self) -> None:
        raise TypeError(
            "PersiDict is what FileDirDict, S3Dict and others have in common: make one of these"
        )

    def _begin(self, entries: Entries, params: dict[str, Any], prefix: tuple[str, ...] = ()) -> None:
        only, base = params["append_only"], params["base_class_for_values"]
        self._codec_options = {"format": params["serialization_format"]}
        self._hold(entries, params, append_only=only, base_class=base)
        self._join(entries, prefix)

    def get_params(self) -> dict[str, Any]:
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
        return self._reopen, (self._params, self._prefix)

    @classmethod
    def _reopen(cls, params: dict[str, Any], prefix: tuple[str, ...]) -> Self:
        made = cls(**params)
        return made.get_subdict(prefix) if prefix else made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if type(other) is type(self) and other.get_params() == self.get_params():
            return True
        try:
            return dict(self.items()) == {NonEmptySafeStrTuple(key): other[key] for key in other}
        except (TypeError, ValueError):  # no key of ours; arrays
            return False

    __hash__ = None  # type: ignore[assignment]  # as of every dictionary

    def _locate(self, key: Any) -> Any:
        return super()._locate(NonEmptySafeStrTuple(key).strings)

    def _found(self, errors: list[Exception] | None = None) -> Iterator[tuple[Any, Any, Any]]:
        return ((NonEmptySafeStrTuple(key), where, info) for key, where, info in super()._found(errors))

    def _absent(self, key: Any) -> KeyError:
        return KeyError(NonEmptySafeStrTuple(key))

    def _check(self, value: Any) -> Any:
        if isinstance(value, mappings.PersiDict):
            raise TypeError("a dictionary is no value to store in one; store its get_params()")
        return super()._check(value)

    def _by_time(self, max_n: int | None, *, newest_first: bool) -> list[Any]:
        return super()._by_time(None if max_n is None else max(0, max_n), newest_first=newest_first)

    def keys(self) -> Iterator[Any]:  # type: ignore[override]  # persidict's are iterators
        return iter(self)

    def values(self) -> Iterator[V]:  # type: ignore[override]  # as above
        return iter(super().values())

    def items(self) -> Iterator[tuple[Any, V]]:  # type: ignore[override]  # as above
        return iter(super().items())

    def get_subdict(self, prefix_key: Any) -> Self:
        return super().get_subdict(SafeStrTuple(prefix_key).strings)

    def subdicts(self) -> dict[Any, Self]:
        return {first: self.get_subdict(first) for first in {key[0] for key, _, _ in self._found()}}

    def setdefault(self, key: Any, default: V = None) -> V:  # type: ignore[assignment]
        with contextlib.suppress(KeyError):
            if not isinstance(default, c.Joker):  # any default will do that isn't needed
                return self[key]
        return super().setdefault(key, default)

    def clear(self, *, force: bool = True) -> None:  # persidict asks nobody
        super().clear(force=force)

    def delete_if_exists(self, key: Any) -> bool:
        """Do as `discard` does; its name in persidict 0.36."""
        return self.discard(key)

    def get_with_etag(self, key: Any) -> c.ConditionalOperationResult[V]:  # type: ignore[override]  # as persidict
        asked: Any = {"condition": c.ANY_ETAG, "expected_etag": c.ITEM_NOT_AVAILABLE}
        return self.get_item_if(key, **asked, retrieve_value=c.ALWAYS_RETRIEVE)

    def transform_item(self, key: Any, *, n_retries: Any = 6, **asked: Any) -> c.OperationResult[V]:
        tries = None if n_retries is None else int(n_retries)
        return super().transform_item(key, n_retries=tries, **asked)
