"""persidict's dictionaries over others: write-once, cached, of several formats."""

# ruff: noqa: D102 - what persicache's dictionary has, it explains

from __future__ import annotations

import contextlib
from typing import Any, NoReturn, Self, TypeVar

from persicache import mappings
from persicache.compat.persidict.dictionary import PersiDict
from persicache.compat.persidict.stores import FileDirDict
from persicache.errors import MutationPolicyError
from persicache.mappings import (
    ANY_ETAG,
    IF_ETAG_CHANGED,
    ITEM_NOT_AVAILABLE,
    NEVER_RETRIEVE,
    VALUE_NOT_RETRIEVED,
    ConditionalOperationResult,
    OperationResult,
)
from persicache.mappings.conditions import Joker

__all__ = ["AppendOnlyDictCached", "MutableDictCached", "OverlappingMultiDict", "WriteOnceDict"]

V = TypeVar("V")
R = TypeVar("R", bound="ConditionalOperationResult[Any] | OperationResult[Any]")


class _Over(PersiDict[V]):
    """One that has the entries of another, its main one."""

    def _over(self, main: PersiDict[V], **params: Any) -> None:
        for name, each in params.items():
            if name != "p_consistency_checks" and not isinstance(each, PersiDict):
                raise TypeError(f"{name} must be a PersiDict, not {type(each).__name__}")
        of_main = ("append_only", "base_class_for_values", "serialization_format")
        self._begin(main._entries, {name: getattr(main, name) for name in of_main}, main._prefix)  # noqa: SLF001 - its own kind
        self._params = params
        self._main = main

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), self._params)

    def __getitem__(self, key: Any) -> V:
        return self._main[key]

    def get_subdict(self, prefix_key: Any) -> Self:
        return type(self)(
            **{
                name: each.get_subdict(prefix_key) if isinstance(each, PersiDict) else each
                for name, each in self.get_params().items()
            }
        )


class WriteOnceDict(_Over[V]):
    """Keeps the first value of each key; others are ignored, and compared with it now and then.

    Parameters
    ----------
    wrapped_dict : PersiDict, optional
        Where the values lie; append-only. By default a `FileDirDict`.
    p_consistency_checks : float, optional
        The probability of a comparison, by default 0; MutationPolicyError if one fails.
    """

    def __init__(
        self, *, wrapped_dict: PersiDict[V] | None = None, p_consistency_checks: float | None = None
    ) -> None:
        wrapped: PersiDict[V] = FileDirDict(append_only=True) if wrapped_dict is None else wrapped_dict
        if not getattr(wrapped, "append_only", True):
            raise ValueError("wrapped_dict must be append-only")
        self._once = mappings.WriteOnceDict(wrapped, p_consistency_checks=p_consistency_checks or 0.0)
        self._over(wrapped, wrapped_dict=wrapped, p_consistency_checks=self.p_consistency_checks)

    @property
    def p_consistency_checks(self) -> float:
        """The probability of a comparison."""
        return self._once.p_consistency_checks

    @p_consistency_checks.setter
    def p_consistency_checks(self, value: float | Joker | None) -> None:
        if isinstance(value, Joker):  # KEEP_CURRENT
            return
        checked = mappings.WriteOnceDict(self._main, p_consistency_checks=value or 0.0)
        self._once.p_consistency_checks = self._params["p_consistency_checks"] = (
            checked.p_consistency_checks
        )

    @property
    def consistency_checks_attempted(self) -> int:
        """How many comparisons were made."""
        return self._once.consistency_checks_attempted

    @property
    def consistency_checks_passed(self) -> int:
        """How many found the same value."""
        return self._once.consistency_checks_passed

    @property
    def consistency_checks_failed(self) -> int:
        """How many found another."""
        return self._once.consistency_checks_failed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is being made
            raise AttributeError(name)
        return getattr(self._main, name)

    def __setitem__(self, key: Any, value: V | Joker) -> None:
        if isinstance(value, Joker):
            super().__setitem__(key, value)
            return
        failed = self.consistency_checks_failed
        try:
            self._once[key] = self._check(value)
        except ValueError:
            if self.consistency_checks_failed == failed:
                raise
            self._refuse()

    def __delitem__(self, key: Any) -> None:
        self._refuse()

    def set_item_if(self, key: Any, **asked: Any) -> NoReturn:  # noqa: ARG002 - it never can
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise MutationPolicyError(place=repr(self), policy="write-once")


class AppendOnlyDictCached(_Over[V]):
    """An append-only dictionary whose values are kept in another one, too, and read from there.

    Parameters
    ----------
    main_dict : PersiDict
        Where the values are.
    data_cache : PersiDict
        Where they are kept, too.
    """

    def __init__(self, *, main_dict: PersiDict[V], data_cache: PersiDict[V]) -> None:
        self._over(main_dict, main_dict=main_dict, data_cache=data_cache)
        if not (main_dict.append_only and data_cache.append_only):
            raise ValueError("main_dict and data_cache must be append-only")
        if main_dict.base_class_for_values is not data_cache.base_class_for_values:
            raise ValueError("main_dict and data_cache must have the same base_class_for_values")
        self._cache = data_cache

    def __getitem__(self, key: Any) -> V:
        try:
            return self._cache[key]
        except KeyError:
            return self._keep(key, self._main[key])

    def __contains__(self, key: object) -> bool:
        return key in self._cache or key in self._main

    def setdefault(self, key: Any, default: V = None) -> V:  # type: ignore[assignment]
        return self._keep(key, super().setdefault(key, default))

    def __setitem__(self, key: Any, value: V | Joker) -> None:
        self._main[key] = value
        if not isinstance(value, Joker):
            self._keep(key, value)

    def get_item_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.get_item_if(key, **asked))

    def set_item_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.set_item_if(key, **asked))

    def setdefault_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.setdefault_if(key, **asked))

    def discard_if(self, key: Any, **asked: Any) -> NoReturn:  # noqa: ARG002 - it never can
        raise MutationPolicyError(place=repr(self), policy="append-only")

    def transform_item(self, key: Any, **asked: Any) -> NoReturn:  # noqa: ARG002 - as above
        raise MutationPolicyError(place=repr(self), policy="append-only")

    def _kept(self, key: Any, seen: ConditionalOperationResult[V]) -> ConditionalOperationResult[V]:
        if seen.new_value is not ITEM_NOT_AVAILABLE and seen.new_value is not VALUE_NOT_RETRIEVED:
            self._keep(key, seen.new_value)
        return seen

    def _keep(self, key: Any, value: V) -> V:
        with contextlib.suppress(MutationPolicyError):  # it is there already
            self._cache[key] = value
        return value


class MutableDictCached(_Over[V]):
    """A dictionary whose values are kept in another one, too, and read from there while they are current.

    Parameters
    ----------
    main_dict : PersiDict
        Where the values are.
    data_cache : PersiDict
        Where they are kept, too.
    etag_cache : PersiDict
        Which value of the main dictionary a copy is of, and which copy.
    """

    def __init__(
        self, *, main_dict: PersiDict[V], data_cache: PersiDict[V], etag_cache: PersiDict[Any]
    ) -> None:
        self._over(main_dict, main_dict=main_dict, data_cache=data_cache, etag_cache=etag_cache)
        if any(each.append_only for each in (main_dict, data_cache, etag_cache)):
            raise ValueError("main_dict, data_cache and etag_cache can't be append-only")
        self._cache, self._etags = data_cache, etag_cache

    def __getitem__(self, key: Any) -> V:
        value, etag = self._copy(key)
        seen = self.get_item_if(key, condition=ANY_ETAG, expected_etag=etag, retrieve_value=IF_ETAG_CHANGED)
        if seen.new_value is ITEM_NOT_AVAILABLE:
            raise KeyError(key)
        return value if seen.new_value is VALUE_NOT_RETRIEVED else seen.new_value

    def __setitem__(self, key: Any, value: V | Joker) -> None:
        self.set_item_if(
            key,
            value=value,
            condition=ANY_ETAG,
            expected_etag=ITEM_NOT_AVAILABLE,
            retrieve_value=NEVER_RETRIEVE,
        )

    def discard(self, key: Any) -> bool:
        self._drop(key)
        return super().discard(key)

    def _take(self, key: Any) -> Any:
        self._drop(key)
        return super()._take(key)

    def get_item_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.get_item_if(key, **asked))

    def set_item_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.set_item_if(key, **asked))

    def setdefault_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.setdefault_if(key, **asked))

    def discard_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.discard_if(key, **asked))

    def transform_item(self, key: Any, **asked: Any) -> OperationResult[V]:
        return self._kept(key, self._main.transform_item(key, **asked))

    def _kept(self, key: Any, seen: R) -> R:
        if seen.new_value is ITEM_NOT_AVAILABLE:
            self._drop(key)
        elif seen.new_value is not VALUE_NOT_RETRIEVED:
            copied = self._cache.set_item_if(
                key, value=seen.new_value, condition=ANY_ETAG, expected_etag=ITEM_NOT_AVAILABLE
            )
            # Race: another may write its copy meanwhile, so it is noted which copy is of which value.
            self._etags[key] = f"{seen.resulting_etag} {copied.resulting_etag}"
        return seen

    def _copy(self, key: Any) -> tuple[Any, Any]:
        note = str(self._etags.get(key, ""))
        kept = self._cache.get_with_etag(key)
        etag, _, own = note.rpartition(" ")
        return (kept.new_value, etag) if own and own == kept.actual_etag else (None, ITEM_NOT_AVAILABLE)

    def _drop(self, key: Any) -> None:
        self._etags.discard(key)
        self._cache.discard(key)


class OverlappingMultiDict:
    """Dictionaries in one place, of several formats; each is an attribute by its format.

    Parameters
    ----------
    dict_type : type
        Their class.
    shared_subdicts_params : dict
        Parameters of all.
    **individual_subdicts_params
        Parameters of each, by its format.
    """

    def __init__(
        self,
        *,
        dict_type: type[PersiDict[Any]],
        shared_subdicts_params: dict[str, Any],
        **individual_subdicts_params: dict[str, Any],
    ) -> None:
        if not issubclass(dict_type, PersiDict):
            raise TypeError(f"dict_type must be a class of PersiDict, not {dict_type!r}")
        if not isinstance(shared_subdicts_params, dict):
            raise TypeError(f"shared_subdicts_params must be a dict, not {shared_subdicts_params!r}")
        self.dict_type = dict_type
        self.shared_subdicts_params = shared_subdicts_params
        self.individual_subdicts_params = individual_subdicts_params
        self.subdicts_names = list(individual_subdicts_params)
        for name, own in individual_subdicts_params.items():
            if not isinstance(own, dict):
                raise TypeError(f"the parameters of {name} must be a dict, not {own!r}")
            made = dict_type(**{**shared_subdicts_params, **own, "serialization_format": name})
            setattr(self, name, made)

    def __getitem__(self, key: Any) -> NoReturn:
        raise TypeError(
            f"{key!r} is in one of the dictionaries that this has as attributes: {self.subdicts_names}"
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        self[key]

    def __delitem__(self, key: Any) -> None:
        self[key]


def _remake(cls: type[Any], params: dict[str, Any]) -> Any:
    return cls(**params)
