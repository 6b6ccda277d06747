"""The requests to one S3 bucket, with errors of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeVar

import fsspec
import fsspec.asyn

from persicache.errors import BackendError, BlobNotFound, VersionConflict
from persicache.storage import s3_session
from persicache.storage.blob import ABSENT, ANY, Blob, Buffer, Expectation, LoadedBlob, Version
from persicache.storage.failure import failure
from persicache.storage.identity import place_identity
from persicache.storage.s3_answer import is_out_of_range, is_passing, kind_of, was_repeated
from persicache.storage.s3_body import body_of, received
from persicache.storage.s3_lineage import Lineages, new_write_id
from persicache.storage.secrets import secrets_in

__all__ = ["Bucket", "etag_of"]

_MOST_NBYTES: Final = 5 * 1024**3
_READ_TRIES: Final = 4
_CONFLICT_TRIES: Final = 8
_CONFLICT_WAIT_SECONDS: Final = 0.05
#: How long to wait before another try; None ends them. botocore has tried each several times.
_WAITS_SECONDS: Final = (0.1, 0.4, None)
_PAGE: Final = 1000
#: Where S3 wants to hear of no region when a bucket is made.
_NO_REGION: Final = frozenset({None, "us-east-1", "aws-global"})

R = TypeVar("R")


class Bucket:
    """An S3 bucket, as one process reaches it. Its coroutines run on the loop of its filesystem.

    Parameters
    ----------
    name : str
        The bucket, or the ARN of an access point.
    place : str
        The URL that errors show.
    options : mapping
        What the s3fs filesystem is made with.

    Attributes
    ----------
    identity : str
        What tells it from a bucket of the same name on another server.
    """

    def __init__(self, name: str, *, place: str, options: Mapping[str, Any]) -> None:
        self.identity = place_identity(f"s3://{name}", options)
        self._name = name
        self._place = place
        self._secrets = secrets_in(options)
        self._exists = False
        self._lineages = Lineages()
        self._session = s3_session.enter(options, self)
        self._fs = self._session.filesystem

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the coroutines run on, in a thread of fsspec's."""
        loop: asyncio.AbstractEventLoop = self._fs.loop
        return loop

    def run(self, request: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> R:
        """Run one of the coroutine functions and wait for its result."""
        result: R = fsspec.asyn.sync(self.loop, request, *args)
        return result

    def close(self) -> None:
        """Close the connections, unless others use them."""
        self._session.leave(self)

    async def make(self) -> None:
        """Make the bucket, unless it is there; in the region of the client."""
        try:
            await self.call("head_bucket")
        except Exception as error:  # noqa: BLE001 - as in get
            if kind_of(error) != "absent":
                return  # who may write there may not be one who may look: the first write will tell
            region = self._fs._s3.meta.region_name  # noqa: SLF001 - where its requests go
            where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            try:
                await self.call("create_bucket", **({} if region in _NO_REGION else where))
            except Exception as trouble:  # noqa: BLE001 - as in get
                try:
                    await self.call("head_bucket")  # Race: another may have made it meanwhile
                except Exception:  # noqa: BLE001 - as in get
                    await self.refuse(trouble, name=self._name, action="make the bucket")

    async def call(
        self,
        method: str,
        *,
        chunks: Sequence[Buffer] | None = None,
        passed: list[Exception] | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Send one request with `chunks` as its body; again if that may help.

        What went wrong before it was sent again is put into `passed`.

        Raises
        ------
        Exception
            Whatever the client raises: `refuse` makes it an error of ours.
        """
        send = self._fs._call_s3  # noqa: SLF001 - the only form of it that can be awaited
        for again in _WAITS_SECONDS:
            # A body is for one try: s3fs would send what an earlier one left unread of it.
            body = {} if chunks is None else {"Body": body_of(chunks)}
            try:
                response: dict[str, Any] = await send(method, Bucket=self._name, **body, **arguments)
            except Exception as error:
                if again is None or not is_passing(error):
                    raise
                if passed is not None:
                    passed.append(error)
                await asyncio.sleep(again)
            else:
                self._exists = True
                return response
        raise AssertionError

    async def get(self, key: str, *, name: str) -> Blob:
        """Return the object `key`: bytes, ETag and time from one and the same response."""
        blob = await self.get_changed(key, None, name=name)
        assert blob is not None
        return blob

    async def get_changed(self, key: str, version: Version | None, *, name: str) -> Blob | None:
        """Return the object `key`, or None if it has the version given.

        The version is a digest of the bytes, unless they are encrypted: an object that was
        replaced, and then replaced by what it had been, is the same one here.
        """
        unless = {} if version is None else {"IfNoneMatch": f'"{version}"'}
        try:
            response, buffer = await self._received(key, **unless)
        except Exception as error:  # noqa: BLE001 - aiohttp, botocore and s3fs share no base
            if version is not None and kind_of(error) == "unchanged":
                return None
            await self.refuse(error, name=name, action="read")
        version = etag_of(response)
        self._lineages.note(key, version, response)
        return LoadedBlob(buffer, version, response["LastModified"].timestamp())

    async def get_head(self, key: str, nbytes: int, *, name: str) -> bytes:
        """Return the first `nbytes` bytes of the object `key`, fewer if it is shorter."""
        try:
            _, buffer = await self._received(key, Range=f"bytes=0-{nbytes - 1}")
        except Exception as error:  # noqa: BLE001 - as in get
            if is_out_of_range(error):  # where there are no bytes, there are no first ones
                return b""
            await self.refuse(error, name=name, action="read")
        return bytes(buffer[:nbytes])

    async def _received(self, key: str, **arguments: Any) -> tuple[dict[str, Any], Buffer]:
        for left in reversed(range(_READ_TRIES)):
            response = await self.call("get_object", Key=key, **arguments)
            try:
                return response, await received(response)
            except Exception:
                if not left:
                    raise
                # Again from the start: never the end of another version.
        raise AssertionError

    async def head(self, key: str, *, name: str) -> dict[str, Any]:
        """Return what is known about the object `key` without its bytes."""
        try:
            response = await self.call("head_object", Key=key)
        except Exception as error:  # noqa: BLE001 - as in get
            await self.refuse(error, name=name, action="read")
        self._lineages.note(key, etag_of(response), response)
        return response

    async def put(self, key: str, chunks: Sequence[Buffer], *, name: str) -> Version:
        """Store `chunks`, whatever is there, in a single request."""
        await self._check_nbytes(chunks, name)
        try:
            response = await self.call("put_object", chunks=chunks, Key=key)
        except Exception as error:  # noqa: BLE001 - as in get
            await self.refuse(error, name=name, action="write")
        version = etag_of(response)
        self._lineages.keep(key, version, ())
        return version

    async def put_if(
        self,
        key: str,
        chunks: Sequence[Buffer],
        *,
        name: str,
        expect: Expectation | Version,
        before: tuple[str, ...] | None = None,
    ) -> Version:
        """Store `chunks` if `expect` holds, in a single request: S3 heeds no condition on more.

        The lineage of what is to be replaced is looked up unless `before` gives it.
        """
        await self._check_nbytes(chunks, name)
        write_id = new_write_id()
        if before is None:
            before = await self._lineage(key, name, expect)
        ids = Lineages.after(before, write_id)
        arguments = {"Key": key, "Metadata": Lineages.metadata(ids), **condition(expect)}
        for left in reversed(range(_CONFLICT_TRIES)):
            try:
                response = await self.call("put_object", chunks=chunks, **arguments)
            except Exception as error:  # noqa: BLE001 - as in get
                kind = kind_of(error)
                if kind == "busy" and left:
                    await asyncio.sleep(_CONFLICT_WAIT_SECONDS)
                    continue
                if kind not in {"conflict", "absent"}:
                    await self.refuse(error, name=name, action="write")
                return await self._own_or_conflict(key, name, expect, write_id)
            version = etag_of(response)
            self._lineages.keep(key, version, ids)
            return version
        raise AssertionError

    async def _lineage(self, key: str, name: str, expect: Expectation | Version) -> tuple[str, ...]:
        if isinstance(expect, Expectation):
            return ()
        seen = self._lineages.of(key, expect)
        if seen is None:  # the version comes from another process
            actual = await self.version(key, name=name)
            seen = self._lineages.of(key, expect)
            if actual != expect or seen is None:
                raise self._conflict(name, expect, actual)
        return seen

    async def _own_or_conflict(
        self, key: str, name: str, expect: Expectation | Version, write_id: str
    ) -> Version:
        # Race: see Lineages.
        actual = await self.version(key, name=name)
        ids = () if actual is None else self._lineages.of(key, actual) or ()
        if actual is None or write_id not in ids:
            raise self._conflict(name, expect, actual)
        # Overwritten already: no version is left to give, but one that never comes again.
        return actual if ids[0] == write_id else write_id

    def _conflict(self, name: str, expected: object, actual: object) -> VersionConflict:
        return VersionConflict(name=name, place=self._place, expected=expected, actual=actual)

    async def _check_nbytes(self, chunks: Sequence[Buffer], name: str) -> None:
        if sum(map(len, chunks)) > _MOST_NBYTES:
            await self.refuse(ValueError("S3 takes 5 GiB in one request"), name=name, action="write")

    async def delete(self, key: str, *, name: str, expect: Expectation | Version = ANY) -> None:
        """Remove the object `key`, if `expect` holds; S3 doesn't tell whether there was one."""
        passed: list[Exception] = []
        try:
            await self.call("delete_object", Key=key, passed=passed, **condition(expect))
        except Exception as error:
            if expect is ANY or kind_of(error) not in {"conflict", "absent"}:
                await self.refuse(error, name=name, action="remove")
            actual = await self.version(key, name=name)
            if actual is None and (passed or was_repeated(error)):
                # Race: whose removal it was nobody can tell. That there was nothing would be wrong
                # if it was this one: who takes a value by removing it would lose it unseen.
                cause = "an answer was lost; it is gone, by this request or by somebody else's"
                raise BackendError(place=self._place, action=f"remove {name!r}", cause=cause) from error
            raise self._conflict(name, expect, actual) from None

    async def version(self, key: str, *, name: str) -> Version | None:
        """Return the ETag of the object `key`, None if there is none."""
        try:
            return etag_of(await self.head(key, name=name))
        except BlobNotFound:
            return None

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove up to 1000 objects; BackendError if some could not be removed."""
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        try:
            response = await self.call("delete_objects", Delete=wanted)
        except Exception as error:  # noqa: BLE001 - as in get
            await self.refuse(error, name=f"{len(keys)} blobs", action="remove")
        # The answer is a success even if no key was removed.
        errors = [error for error in response.get("Errors", []) if error.get("Code") != "NoSuchKey"]
        if errors:
            first = errors[0]
            reason = (
                f"{len(errors)} of {len(keys)} refused, first: {first.get('Code')} {first.get('Message')}"
            )
            await self.refuse(OSError(reason), name=f"{len(keys)} blobs", action="remove")

    async def page(self, prefix: str, token: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """Return up to 1000 objects below `prefix`, and the token of the next page."""
        more: dict[str, Any] = {} if token is None else {"ContinuationToken": token}
        try:
            response = await self.call("list_objects_v2", Prefix=prefix, MaxKeys=_PAGE, **more)
        except Exception as error:  # noqa: BLE001 - as in get
            await self.refuse(error, name=prefix, action="list")
        return response.get("Contents", []), response.get("NextContinuationToken")

    async def refuse(self, error: BaseException, *, name: str, action: str) -> NoReturn:
        """Raise the error of ours that `error` means."""
        if kind_of(error) == "absent" and not self._exists:
            # The answer to a HEAD has no body, so it is the same for a missing bucket.
            try:
                await self.call("head_bucket")
            except Exception as missing:  # noqa: BLE001 - as in get
                error = missing
        if kind_of(error) == "absent" and self._exists:
            raise BlobNotFound(name=name, place=self._place) from None
        what = f"{action} {name!r}"
        trouble = failure(error, place=self._place, action=what, secrets=self._secrets)
        raise trouble from trouble.__cause__


def condition(expect: Expectation | Version) -> dict[str, Any]:
    """Return the argument of a request that makes it depend on `expect`."""
    if expect is ANY:
        return {}
    return {"IfNoneMatch": "*"} if expect is ABSENT else {"IfMatch": f'"{expect}"'}


def etag_of(response: Mapping[str, Any]) -> Version:
    """Return the ETag in a response, without its quotes."""
    etag: str = response["ETag"]
    return etag.strip('"')
