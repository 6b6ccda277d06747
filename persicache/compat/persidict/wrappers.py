"""Dictionaries that have the entries of another one."""

# ruff: noqa: D102 - as in dictionary

from __future__ import annotations

from typing import Any, NoReturn, Self, TypeVar

from persicache import mappings
from persicache.compat.persidict.dictionary import PersiDict
from persicache.compat.persidict.places import FileDirDict
from persicache.errors import MutationPolicyError
from persicache.mappings import conditions as c
from persicache.mappings.copies import CurrentCopies, FirstCopies

__all__ = ["AppendOnlyDictCached", "MutableDictCached", "WriteOnceDict"]

V = TypeVar("V")


class _Over(PersiDict[V]):
    """One that has the entries of another, its main one."""

    def _over(self, main: PersiDict[V], **dicts: PersiDict[Any]) -> None:
        for name, each in dicts.items():
            if not isinstance(each, PersiDict):
                raise TypeError(f"{name} must be a PersiDict, not {type(each).__name__}")
        of_main = ("append_only", "base_class_for_values", "serialization_format")
        self._begin(main._entries, {name: getattr(main, name) for name in of_main}, main._prefix)  # noqa: SLF001 - its own kind
        self._main: mappings.PersiDict[V] = main
        self._params = dicts

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen, (self.get_params(), ())

    def get_subdict(self, prefix_key: Any) -> Self:
        params = self.get_params().items()
        subs = {n: p.get_subdict(prefix_key) if isinstance(p, PersiDict) else p for n, p in params}
        return type(self)(**subs)


class WriteOnceDict(mappings.WriteOnceDict[V], _Over[V]):  # type: ignore[misc]  # iterators, as above
    """persicache's, of a `PersiDict` that is append-only; what differs is a MutationPolicyError."""

    def __init__(
        self, *, wrapped_dict: PersiDict[V] | None = None, p_consistency_checks: float | None = None
    ) -> None:
        wrapped: PersiDict[V] = FileDirDict(append_only=True) if wrapped_dict is None else wrapped_dict
        if not getattr(wrapped, "append_only", True):
            raise ValueError("wrapped_dict must be append-only")
        self._over(wrapped, wrapped_dict=wrapped)
        super().__init__(wrapped, p_consistency_checks=p_consistency_checks or 0.0)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "p_consistency_checks":
            super().__setattr__(name, value)
        elif value is not c.KEEP_CURRENT:
            super().__setattr__(name, value or 0.0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is being made
            raise AttributeError(name)
        return getattr(self._main, name)

    def __repr__(self) -> str:
        return PersiDict.__repr__(self)

    def get_params(self) -> dict[str, Any]:
        return {"p_consistency_checks": self.p_consistency_checks, **super().get_params()}

    def set_item_if(self, key: Any, **asked: Any) -> NoReturn:  # noqa: ARG002 - it never can
        raise MutationPolicyError(place=repr(self), policy="write-once")

    def clear(self, *, force: bool = True) -> NoReturn:  # noqa: ARG002 - as above
        super().clear()

    def _compare(self, key: Any, value: V) -> None:
        try:
            super()._compare(key, value)
        except ValueError:
            raise MutationPolicyError(place=repr(self), policy="write-once") from None


class AppendOnlyDictCached(FirstCopies[V], _Over[V]):
    """An append-only dictionary whose values are kept in another one, too, and read from there."""

    def __init__(self, *, main_dict: PersiDict[V], data_cache: PersiDict[V]) -> None:
        self._over(main_dict, main_dict=main_dict, data_cache=data_cache)
        if not (main_dict.append_only and data_cache.append_only):
            raise ValueError("main_dict and data_cache must be append-only")
        if main_dict.base_class_for_values is not data_cache.base_class_for_values:
            raise ValueError("main_dict and data_cache must have the same base_class_for_values")
        self._cache = data_cache


class MutableDictCached(CurrentCopies[V], _Over[V]):
    """A dictionary whose values are kept in another one, too, and read from there while current."""

    def __init__(
        self, *, main_dict: PersiDict[V], data_cache: PersiDict[V], etag_cache: PersiDict[Any]
    ) -> None:
        self._over(main_dict, main_dict=main_dict, data_cache=data_cache, etag_cache=etag_cache)
        if any(each.append_only for each in (main_dict, data_cache, etag_cache)):
            raise ValueError("main_dict, data_cache and etag_cache can't be append-only")
        self._cache, self._etags = data_cache, etag_cache
