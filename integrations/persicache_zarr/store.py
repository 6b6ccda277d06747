"""A store of zarr over a dictionary: `PersiStore`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from persicache import PersiDict
from persicache_zarr.keys import key_of, names_among, prefix_of

__all__ = ["PersiStore"]

#: What a process and those that it forks know each other by; with the pid, the process alone.
_LINEAGE: Final = uuid.uuid4().hex
#: How many names' etags are asked for at once.
_AT_ONCE: Final = 16


class PersiStore(Store):
    """A zarr 3 store whose chunks and metadata are the entries of a dictionary.

    Each is written whole or not at all, and its checksum is verified when it is read, so that a
    damaged chunk is an error: zarr would fill in for one that is missing.

    Parameters
    ----------
    place : str, path-like or MutableMapping
        Where a `PersiDict` lies, or one (also `get_subdict` of one). The chunk ``run/c/0`` is
        the value of its key ``("run", "c", "0")``. Any other mapping gets the names as zarr has
        them, and bytes.
    read_only : bool, default False
        Whether writing raises ValueError.
    **options
        With a URL: those of `PersiDict`, such as `storage_options`, ``near="1 GiB"`` for copies
        in front of a bucket, and ``durable=False`` where arrays that a power cut takes are made again.

    Raises
    ------
    TypeError
        If `place` is neither, or options come with a mapping.

    Notes
    -----
    Of a part of a chunk that is asked for, as shards are read, the whole is read, as a part has
    no checksum; for sharded arrays that are far away give `near`. What lies below a group is
    found by a listing of all that does; zarr's consolidated metadata saves that.

    Stores over a PersiDict pickle, except to another process when it lies in ``memory://``, which
    each process has its own of. Those over other mappings don't.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> store = PersiStore("memory://doc-zarr")
    >>> z = zarr.create_array(store, name="run/loss", data=np.arange(6.0), chunks=3)
    >>> zarr.open_array(PersiStore("memory://doc-zarr", read_only=True), path="run/loss")[2:5]
    array([2., 3., 4.])
    >>> d = PersiDict("memory://doc-zarr")
    >>> ("run", "loss", "c", "0") in d
    True
    >>> d.clear()
    """

    _mapping: MutableMapping[Any, Any]

    def __init__(
        self,
        place: str | os.PathLike[str] | MutableMapping[Any, Any],
        *,
        read_only: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(read_only=read_only)
        self._is_own = not isinstance(place, MutableMapping)
        self._process = _this_process()
        if isinstance(place, MutableMapping):
            if options:
                raise TypeError(f"options are for a URL, not for a mapping that is open: {sorted(options)}")
            self._mapping = place
        else:
            self._mapping = PersiDict(place, **options)

    def __getstate__(self) -> dict[str, Any]:
        if not isinstance(self._mapping, PersiDict):
            raise TypeError(
                f"{self!r} is not pickled: what a copy of its mapping were given would be lost; make the "
                "store of a PersiDict, or of a URL"
            )
        return self.__dict__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PersiStore) or self.read_only != other.read_only:
            return False
        ours, theirs = self._mapping, other._mapping
        if isinstance(ours, PersiDict) and isinstance(theirs, PersiDict):
            # Not by ==, which compares all values.
            return ours.get_params() == theirs.get_params() and ours.prefix == theirs.prefix
        return ours is theirs

    __hash__ = None  # type: ignore[assignment]  # as zarr's own stores: equal ones needn't be one

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._mapping!r}{', read_only=True' if self.read_only else ''})"

    def __str__(self) -> str:
        if isinstance(self._mapping, PersiDict):
            return "/".join([self._mapping.url, *map(str, self._mapping.prefix)])
        return f"{type(self._mapping).__name__}-{id(self._mapping)}"

    def with_read_only(self, read_only: bool = False) -> Self:  # noqa: FBT001, FBT002 - zarr's signature
        """Return a store of the same place that can, or can't, be written."""
        store = type(self)(self._mapping, read_only=read_only)
        store._process = self._process  # noqa: SLF001 - its own kind
        return store

    def close(self) -> None:
        """Give back what is open, unless the mapping was given, and so is its giver's."""
        super().close()
        if self._is_own and isinstance(self._mapping, PersiDict):
            self._mapping.close()

    @property
    def supports_writes(self) -> bool:
        """Whether there is writing: yes."""
        return True

    @property
    def supports_deletes(self) -> bool:
        """Whether there is deleting: yes."""
        return True

    @property
    def supports_listing(self) -> bool:
        """Whether there is listing: yes."""
        return True

    def etags(self, path: str) -> dict[str, str] | None:
        """Return what differs after every write, of each name below a path.

        So that `persicache_dask.ResultCache` sees whether an array has changed; a small request
        each, some at a time.

        Parameters
        ----------
        path : str
            Of an array or group; "" for the whole store.

        Returns
        -------
        dict of str to str, or None
            None if the mapping is no PersiDict, and tells none.

        Examples
        --------
        >>> import zarr
        >>> store = PersiStore("memory://doc-zarr-etags")
        >>> a = zarr.create_array(store, name="a", shape=4, chunks=2, dtype="i4")
        >>> before = store.etags("a")
        >>> a[3] = 7
        >>> set(store.etags("a").items()) - set(before.items())
        {('a/c/1', '...')}
        >>> PersiDict("memory://doc-zarr-etags").clear()
        """
        if not isinstance(self._mapping, PersiDict):
            return None
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            names = list(self._names(_folder(path)))
            return {
                name: etag
                for name, etag in zip(names, pool.map(self._etag, names), strict=True)
                if etag is not None
            }

    def _etag(self, name: str) -> str | None:
        assert isinstance(self._mapping, PersiDict)
        try:
            return self._mapping.etag(key_of(name))
        except KeyError:  # deleted since it was listed
            return None

    # The work, which waits for disk or network

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return what is stored as `key`, or a part of it; None if there is nothing."""
        value = self._value(key)
        return None if value is None else _part(value, prototype, byte_range)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Store `value` as `key`, whole or not at all."""
        self._check_writable()
        # zarr goes on using the memory of a buffer, and a mapping in memory would see that.
        self._mapping[self._key(key)] = _bytes(value)

    def delete_sync(self, key: str) -> None:
        """Remove `key` if it is there."""
        self._check_writable()
        with contextlib.suppress(KeyError):
            del self._mapping[self._key(key)]

    def _check_here(self) -> None:
        # Where nobody sees it a chunk isn't stored. Not said when a store is unpickled, which would
        # take a dask worker down, and the next one.
        is_shared = isinstance(self._mapping, PersiDict) and "memory://" not in self._mapping.url
        if not is_shared and self._process != _this_process():
            raise ValueError(
                f"{self!r} lies in the memory of another process; use a directory, or s3://, to share it"
            )

    def _key(self, name: str) -> str | tuple[str, ...]:
        self._check_here()
        if not isinstance(name, str):
            raise TypeError(f"zarr's keys are str, not {name!r}")
        return key_of(name) if isinstance(self._mapping, PersiDict) else name

    def _value(self, name: str) -> memoryview | None:
        try:
            value = self._mapping[self._key(name)]
        except KeyError:
            return None
        try:
            return memoryview(value).cast("B")
        except TypeError:
            kind = type(value).__qualname__
            raise TypeError(f"{name!r} in {self!r} is of type {kind}: not bytes, and not of zarr") from None

    def _names(self, prefix: str) -> Iterator[str]:
        """Return the names that begin with `prefix`."""
        self._check_here()
        keys: Iterable[Any] = self._mapping
        folder: tuple[str, ...] = ()
        if isinstance(self._mapping, PersiDict):
            folder = prefix_of(prefix.rpartition("/")[0])
            keys = self._mapping.get_subdict(folder) if folder else keys
            names = names_among(keys, folder)
        else:
            names = (key for key in keys if isinstance(key, str))
        return (name for name in names if name.startswith(prefix))

    def _delete_dir(self, prefix: str) -> None:
        names = list(self._names(prefix))
        if isinstance(self._mapping, PersiDict):
            # The whole of a bucket or home is left to its owner; an array or group in one isn't that.
            self._mapping.discard_many(map(key_of, names), force=bool(prefix))
            return
        for name in names:
            self.delete_sync(name)

    # The same for zarr's event loop

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what `get_sync` does."""
        await self._ensure_open()
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of several values; each value is read once."""
        await self._ensure_open()
        wanted = list(key_ranges)
        names = list(dict.fromkeys(name for name, _ in wanted))
        values = await asyncio.gather(*(asyncio.to_thread(self._value, name) for name in names))
        by_name = dict(zip(names, values, strict=True))
        return [
            None if (value := by_name[name]) is None else _part(value, prototype, byte_range)
            for name, byte_range in wanted
        ]

    async def exists(self, key: str) -> bool:
        """Return whether there is a value called `key`."""
        return await asyncio.to_thread(self._mapping.__contains__, self._key(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Do what `set_sync` does."""
        self._check_writable()
        await self._ensure_open()
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store `value` unless there is one; of several who do so at once, one does.

        Where a place can't compare and swap, the last one may win.
        """
        self._check_writable()
        await self._ensure_open()
        await asyncio.to_thread(self._mapping.setdefault, self._key(key), _bytes(value))

    async def delete(self, key: str) -> None:
        """Do what `delete_sync` does."""
        self._check_writable()
        await asyncio.to_thread(self.delete_sync, key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all whose names go on after `prefix` and a slash; those of a PersiDict at once."""
        self._check_writable()
        await asyncio.to_thread(self._delete_dir, _folder(prefix))

    async def is_empty(self, prefix: str) -> bool:
        """Return whether there is nothing below `prefix`."""
        found = await asyncio.to_thread(lambda: next(self._names(_folder(prefix)), None))
        return found is None

    async def list(self) -> AsyncIterator[str]:
        """Yield all names."""
        async for name in self.list_prefix(""):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names that begin with `prefix`, as they are now: they may be deleted meanwhile."""
        for name in await asyncio.to_thread(lambda: [*self._names(prefix)]):
            yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield what stands next in the names below `prefix`, each once."""
        folder = _folder(prefix)
        start = len(folder)
        for part in await asyncio.to_thread(
            lambda: {name[start:].partition("/")[0] for name in self._names(folder)}
        ):
            yield part


def _this_process() -> tuple[str, int]:
    return _LINEAGE, os.getpid()


def _folder(prefix: str) -> str:
    prefix = prefix.rstrip("/")
    return f"{prefix}/" if prefix else ""


def _bytes(value: Buffer) -> bytes:
    if not isinstance(value, Buffer):
        raise TypeError(f"a zarr Buffer is stored, not {type(value).__qualname__}")
    return value.to_bytes()


def _part(value: memoryview, prototype: BufferPrototype | None, byte_range: ByteRequest | None) -> Buffer:
    match byte_range:
        case None:
            part = value
        case RangeByteRequest(start, end):
            part = value[start:end]
        case OffsetByteRequest(offset):
            part = value[offset:]
        case SuffixByteRequest(suffix):
            part = value[max(0, len(value) - suffix) :]
        case _:
            raise ValueError(f"Unexpected byte_range, got {byte_range}.")
    return (prototype or default_buffer_prototype()).buffer.from_bytes(part)
