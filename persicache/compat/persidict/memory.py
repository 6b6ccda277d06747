"""Dictionaries in memory, and nowhere."""

# ruff: noqa: D102 - as in dictionary

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeVar, Unpack

from persicache.codecs import codec_for
from persicache.compat.persidict.dictionary import PersiDict
from persicache.compat.persidict.parameters import Options, param, settled
from persicache.mappings import Entries, open_entries
from persicache.mappings import conditions as c
from persicache.storage import NullStorage
from persicache.storage.memory_room import MemoryRoom

__all__ = ["EmptyDict", "LocalDict"]

V = TypeVar("V")


@dataclass(frozen=True)
class _Backend:
    """What LocalDicts share, or a part of it."""

    room: MemoryRoom = field(default_factory=MemoryRoom)
    prefix: tuple[str, ...] = ()


class LocalDict(PersiDict[V]):
    """Values in this process's memory, shared by threads; copied when they are set and read.

    There is nothing to prune, and any value can be stored in any format but text.

    Examples
    --------
    >>> d = LocalDict()
    >>> d["a"] = [1]
    >>> d["a"].append(2)
    >>> d["a"]
    [1]
    """

    def __init__(
        self, *, backend: Any = None, prune_interval: int | None = 64, **options: Unpack[Options[V]]
    ) -> None:
        held = _Backend() if backend is None else backend
        params = {**settled(options), "backend": held, "prune_interval": prune_interval or None}
        url = f"{held.room.url}/{params['serialization_format']}"
        entries = open_entries(url, codec_for(), durable=False, storage_options=None)
        self._begin(entries, params, held.prefix)

    def get_params(self) -> dict[str, Any]:
        held = self._params["backend"]
        if held.prefix != self._prefix:
            held = _Backend(held.room, self._prefix)
        return {**super().get_params(), "backend": held}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a LocalDict is in this process's memory, and can't be pickled")


class EmptyDict(PersiDict[V]):
    """Takes everything, and is always empty."""

    append_only = param("append_only")

    def __init__(self, **options: Unpack[Options[V]]) -> None:
        self._begin(Entries(NullStorage(), codec_for()), settled(options))
        self._append_only = False  # there is nothing to keep as it is

    def __contains__(self, key: object) -> bool:
        return False

    def __getitem__(self, key: Any) -> V:
        raise KeyError(key)

    def set_item_if(self, key: Any, **asked: Any) -> c.ConditionalOperationResult[V]:
        return _gone(super().set_item_if(key, **asked))

    def setdefault_if(self, key: Any, *, default_value: V, **asked: Any) -> c.ConditionalOperationResult[V]:
        return _gone(super().setdefault_if(key, default_value=default_value, **asked))

    def transform_item(self, key: Any, **asked: Any) -> c.OperationResult[V]:  # noqa: ARG002 - it has none
        return c.OperationResult(c.ITEM_NOT_AVAILABLE, c.ITEM_NOT_AVAILABLE)


def _gone(seen: c.ConditionalOperationResult[V]) -> c.ConditionalOperationResult[V]:
    return replace(seen, resulting_etag=c.ITEM_NOT_AVAILABLE, new_value=c.ITEM_NOT_AVAILABLE)
