"""zarr's own suite of its stores, over every kind of place."""

from __future__ import annotations

from typing import Any

import pytest
from persicache_zarr import PersiStore
from places import PLACES
from zarr.core.buffer import Buffer, cpu
from zarr.testing.store import StoreTests

from persicache import PersiDict, SpillDict

KINDS = [kind for kind in PLACES if kind.name in {"directory", "memory", "s3", "sqlite", "lmdb"}]


def _key(name: str) -> Any:
    return tuple(name.split("/")) if "/" in name else name


class Suite(StoreTests[PersiStore, cpu.Buffer]):
    store_cls = PersiStore
    buffer_cls = cpu.Buffer

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing


@pytest.mark.parametrize("kind", KINDS, ids=str)
class TestStoreOfPersiDict(Suite):
    @pytest.fixture
    def store_kwargs(self, place):
        return {"place": place.pop("url"), **place}

    async def set(self, store: PersiStore, key: str, value: Buffer) -> None:
        store._mapping[_key(key)] = value.to_bytes()

    async def get(self, store: PersiStore, key: str) -> Buffer:
        return cpu.Buffer.from_bytes(store._mapping[_key(key)])

    def test_store_repr(self, store):
        assert repr(store) == f"PersiStore({PersiDict(store._mapping.url)!r})"


class OfMapping(Suite):
    async def set(self, store: PersiStore, key: str, value: Buffer) -> None:
        store._mapping[key] = value.to_bytes()

    async def get(self, store: PersiStore, key: str) -> Buffer:
        return cpu.Buffer.from_bytes(store._mapping[key])

    def test_store_repr(self, store):
        assert repr(store) == f"PersiStore({store._mapping!r})"

    async def test_serializable_store(self, store):
        with pytest.raises(
            TypeError, match="not pickled: what a copy of its mapping were given would be lost"
        ):
            await super().test_serializable_store(store)


class TestStoreOfSpillDict(OfMapping):
    @pytest.fixture
    def store_kwargs(self):
        with SpillDict(available_memory=3) as c:
            yield {"place": c}
