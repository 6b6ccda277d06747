"""Blobs as the objects of an S3 bucket: `S3Storage`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from persicache.errors import (
    BackendError,
    BlobNotFound,
    ConditionsUnsupported,
    MissingDependency,
    VersionConflict,
)
from persicache.storage.blob import ABSENT, ANY, Blob, BlobInfo, Buffer, Expectation, Known, Version
from persicache.storage.failure import failure
from persicache.storage.inflight import in_flight
from persicache.storage.names import check_expectation, check_name, check_prefix, is_name
from persicache.storage.process import PerProcess
from persicache.storage.s3_client import Bucket, etag_of
from persicache.storage.s3_probe import Conditions, probe

__all__ = ["S3Storage"]

_URL: Final = re.compile(
    r"s3a?://(?P<bucket>arn:[^/]+[:/](?:accesspoint|outpost)[:/][^/]+|[^/@?#:]+)(?:/(?P<prefix>.*))?"
)
_MOST_KEY_NBYTES: Final = 1024
_MOST_REMOVED: Final = 1000

# What each server was found to heed, by its buckets: five requests, not to be repeated by every
# dictionary that a program opens in the same one.
_probed: dict[str, Conditions] = {}


class S3Storage:
    """Blobs as objects: one request to read one, one to write one.

    Parameters
    ----------
    url : str
        ``s3://bucket`` or ``s3://bucket/prefix``.
    storage_options : mapping, optional
        What the s3fs filesystem is made with.

    Notes
    -----
    The version is the ETag. Without encryption by KMS it is the digest of the bytes: after
    A, B and A again, one who expects A's version is not told of B. Blobs with a random id in
    their bytes, as entries have, are free of that.

    S3 doesn't tell whether it removed anything, so `remove` asks before. A conditional
    removal whose answer got lost is a BackendError if the object is gone: nobody can tell who
    removed it.
    """

    def __init__(self, url: str, *, storage_options: Mapping[str, Any] | None = None) -> None:
        parts = _URL.fullmatch(url)
        if parts is None or "@" in url:
            # Not shown: a key and a secret, with whatever characters, may be anywhere in it.
            raise ValueError(
                "the S3 URL names no bucket: give s3://bucket/prefix, without @, and with no : but those "
                "of an ARN; key and secret belong in storage_options"
            )
        if importlib.util.find_spec("s3fs") is None:
            raise MissingDependency(package="s3fs", extra="s3")
        self._bucket: str = parts["bucket"]
        prefix = (parts["prefix"] or "").strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        if len(self._prefix.encode()) >= _MOST_KEY_NBYTES:
            raise ValueError(
                f"{self.url!r} leaves no room for names: S3 takes keys of {_MOST_KEY_NBYTES} bytes"
            )
        self._options = dict(storage_options or {})
        self._client = PerProcess(self._connect)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.url, self._options)

    def __repr__(self) -> str:
        return f"S3Storage({self.url!r})"

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def can_compare_and_swap(self) -> bool:
        try:
            return self._conditions().on_write
        except BackendError as error:
            # Without a bucket whatever comes next says so. But where a trial is refused, or the
            # server is away, nobody may go on as if there were no conditions, without them.
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise

    @property
    def is_durable(self) -> bool:
        return True

    @property
    def is_private(self) -> bool:
        return False

    def read(self, name: str) -> Blob:
        key = self._key(name)
        client = self._client.get()
        return client.run(lambda: client.get(key, name=name))

    def read_head(self, name: str, nbytes: int) -> bytes:
        key = self._key(name)
        client = self._client.get()
        return client.run(lambda: client.get_head(key, nbytes, name=name))

    def is_private_for(self, name: str) -> bool:
        check_name(name)
        return False

    def write(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version = ANY) -> Version:
        key = self._key(name)
        check_expectation(expect)
        client = self._client.get()
        if expect is ANY:
            return client.run(lambda: client.put(key, chunks, name=name))
        if not self._conditions().on_write:
            raise ConditionsUnsupported(place=self.url)
        return client.run(lambda: client.put_if(key, chunks, name=name, expect=expect))

    def remove(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        key = self._key(name)
        check_expectation(expect)
        client = self._client.get()
        if expect is ANY or expect is ABSENT:
            actual = client.run(lambda: client.version(key, name=name))
            if actual is None:
                return False
            if expect is ABSENT:
                raise VersionConflict(name=name, place=self.url, expected=expect, actual=actual)
        elif not self._conditions().on_remove:
            raise ConditionsUnsupported(place=self.url)
        client.run(lambda: client.delete(key, name=name, expect=expect))
        return True

    def stat(self, name: str) -> BlobInfo:
        response = self._head(name)
        return BlobInfo(name, response["ContentLength"], response["LastModified"].timestamp())

    def version(self, name: str) -> Version:
        return etag_of(self._head(name))

    def scan(self, prefix: str = "") -> Iterator[BlobInfo]:
        check_prefix(prefix)
        return self._scan(prefix)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        for name, blob in self.read_changed((name, None) for name in names):
            assert blob is not None  # no version was known
            yield name, blob

    def read_changed(self, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
        client = self._client.get()

        async def read(each: Known) -> tuple[str, Blob | None] | None:
            name, version = each
            try:
                return name, await client.get_changed(self._key(name), version, name=name)
            except BlobNotFound:
                return None

        for found in in_flight(client.loop, read, known):
            if found is not None:
                yield found

    def write_many(self, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
        client = self._client.get()

        async def write(name: str) -> tuple[str, Version | BackendError]:
            try:
                return name, await client.put(self._key(name), items[name], name=name)
            except BackendError as error:
                return name, error

        for name in items:
            self._key(name)
        versions = {}
        errors = []
        for name, result in in_flight(client.loop, write, items):
            if isinstance(result, BackendError):
                errors.append(result)
            else:
                versions[name] = result
        if errors:
            raise errors[0]
        return versions

    def remove_many(self, names: Iterable[str]) -> None:
        client = self._client.get()

        async def remove(keys: list[str]) -> BackendError | None:
            try:
                await client.delete_many(keys)
            except BackendError as error:
                return error
            return None

        keys = (self._key(name) for name in names)
        batches = iter(lambda: list(islice(keys, _MOST_REMOVED)), [])
        for error in list(in_flight(client.loop, remove, batches, limit=4)):
            if error is not None:
                raise error

    def make_bucket(self) -> None:
        """Make the bucket, unless it is there."""
        client = self._client.get()
        client.run(client.make)

    def flush(self) -> None:
        """Let nothing wait, so have nothing to write."""

    def close(self) -> None:
        client = self._client.pop()
        if client is not None:
            client.close()

    def _connect(self) -> Bucket:
        return Bucket(self._bucket, place=self.url, options=self._options)

    def _key(self, name: str) -> str:
        check_name(name)
        key = self._prefix + name
        if len(key.encode()) > _MOST_KEY_NBYTES:
            raise ValueError(
                f"{name!r} is too long for {self.url!r}: it makes a key of {len(key.encode())} bytes, and "
                f"S3 takes {_MOST_KEY_NBYTES}; use a shorter prefix"
            )
        return key

    def _head(self, name: str) -> dict[str, Any]:
        key = self._key(name)
        client = self._client.get()
        return client.run(lambda: client.head(key, name=name))

    def _scan(self, prefix: str) -> Iterator[BlobInfo]:
        client = self._client.get()
        below = self._prefix + prefix
        token: str | None = None
        while True:
            objects, token = client.run(client.page, below, token)
            for item in objects:
                name = item["Key"][len(self._prefix) :]
                if is_name(name) is not None:
                    yield BlobInfo(name, item["Size"], item["LastModified"].timestamp())
            if token is None:
                return

    def _conditions(self) -> Conditions:
        client = self._client.get()
        if client.identity not in _probed:
            try:
                _probed[client.identity] = client.run(probe, client, self._prefix)
            except BackendError as error:
                action = "write the object that tells whether conditions are heeded"
                trouble = failure(error.__cause__ or error, place=self.url, action=action)
                raise trouble from trouble.__cause__
        return _probed[client.identity]


def _rebuild(url: str, options: Mapping[str, Any]) -> S3Storage:
    return S3Storage(url, storage_options=options)
