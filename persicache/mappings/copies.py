"""Dictionaries whose values are kept in another one, too: `FirstCopies`, `CurrentCopies`.

Where copies just have to be near, ``PersiDict(near=...)`` is simpler.
"""

# ruff: noqa: D102 - PersiDict has the docstrings

from __future__ import annotations

import contextlib
from abc import abstractmethod
from typing import Any, NoReturn, TypeVar

from persicache.errors import MutationPolicyError
from persicache.mappings.conditions import (
    ALWAYS_RETRIEVE,
    ANY_ETAG,
    IF_ETAG_CHANGED,
    ITEM_NOT_AVAILABLE,
    NEVER_RETRIEVE,
    VALUE_NOT_RETRIEVED,
    ConditionalOperationResult,
    Joker,
    OperationResult,
)
from persicache.mappings.persidict import PersiDict

__all__ = ["CurrentCopies", "FirstCopies"]

V = TypeVar("V")
R = TypeVar("R", bound="ConditionalOperationResult[Any] | OperationResult[Any]")


class _Copies(PersiDict[V]):
    """The entries of `_main`, whose values `_kept` copies."""

    _main: PersiDict[V]
    _cache: PersiDict[V]

    @abstractmethod
    def _kept(self, key: Any, seen: R) -> R: ...

    def get_item_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.get_item_if(key, **asked))

    def set_item_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.set_item_if(key, **asked))

    def setdefault_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self._kept(key, self._main.setdefault_if(key, **asked))


class FirstCopies(_Copies[V]):
    """Append-only: a copy is read without a look at what it is of."""

    def __getitem__(self, key: Any) -> V:
        try:
            return self._cache[key]
        except KeyError:
            return self._keep(key, self._main[key])

    def __contains__(self, key: object) -> bool:
        return key in self._cache or key in self._main

    def __setitem__(self, key: Any, value: V | Joker) -> None:
        self._main[key] = value
        if not isinstance(value, Joker):
            self._keep(key, value)

    def setdefault(self, key: Any, default: V = None) -> V:  # type: ignore[assignment]
        return self._keep(key, super().setdefault(key, default))

    def discard_if(self, key: Any, **asked: Any) -> NoReturn:  # noqa: ARG002 - it never can
        raise MutationPolicyError(place=repr(self), policy="append-only")

    def transform_item(self, key: Any, **asked: Any) -> NoReturn:  # noqa: ARG002 - as above
        raise MutationPolicyError(place=repr(self), policy="append-only")

    def _kept(self, key: Any, seen: R) -> R:
        if seen.new_value is not ITEM_NOT_AVAILABLE and seen.new_value is not VALUE_NOT_RETRIEVED:
            self._keep(key, seen.new_value)
        return seen

    def _keep(self, key: Any, value: V) -> V:
        with contextlib.suppress(MutationPolicyError):  # it is there already
            self._cache[key] = value
        return value


class CurrentCopies(_Copies[V]):
    """A copy is read if it is of the value that is there; `_etags` tells which it is of."""

    _etags: PersiDict[Any]

    def __getitem__(self, key: Any) -> V:
        value, etag = self._copy(key)
        seen = self.get_item_if(key, condition=ANY_ETAG, expected_etag=etag, retrieve_value=IF_ETAG_CHANGED)
        if seen.new_value is ITEM_NOT_AVAILABLE:
            raise self._absent(key)
        return value if seen.new_value is VALUE_NOT_RETRIEVED else seen.new_value

    def __setitem__(self, key: Any, value: V | Joker) -> None:
        asked = {
            "condition": ANY_ETAG,
            "expected_etag": ITEM_NOT_AVAILABLE,
            "retrieve_value": NEVER_RETRIEVE,
        }
        self.set_item_if(key, value=value, **asked)

    def discard(self, key: Any) -> bool:
        self._drop(key)
        return super().discard(key)

    def _take(self, key: Any) -> Any:
        self._drop(key)
        return super()._take(key)

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
        asked: Any = {"condition": ANY_ETAG, "expected_etag": ITEM_NOT_AVAILABLE}
        kept = self._cache.get_item_if(key, **asked, retrieve_value=ALWAYS_RETRIEVE)
        etag, _, own = note.rpartition(" ")
        return (kept.new_value, etag) if own and own == kept.actual_etag else (None, ITEM_NOT_AVAILABLE)

    def _drop(self, key: Any) -> None:
        self._etags.discard(key)
        self._cache.discard(key)
