"""The probe: whether an S3 server heeds conditions, or ignores them as some do."""

from __future__ import annotations

import contextlib
import os
from typing import Final, NamedTuple

from persicache.errors import BackendError, VersionConflict
from persicache.storage.blob import ABSENT, Expectation, Version
from persicache.storage.s3_answer import is_unsupported
from persicache.storage.s3_client import Bucket

__all__ = ["Conditions", "probe"]

_WRONG: Final = "0" * 32


class Conditions(NamedTuple):
    """The conditional requests that a server answers exactly."""

    on_write: bool
    on_remove: bool


async def probe(bucket: Bucket, prefix: str) -> Conditions:
    """Try conditions that don't hold on a hidden object below `prefix`, and remove it again.

    Raises
    ------
    BackendError
        If the object can't be written at all.
    """
    name = f".persicache/probe-{os.urandom(8).hex()}"
    key = prefix + name
    await bucket.put(key, [b"probe"], name=name)
    on_write = await _refuses_write(bucket, key, name, expect=ABSENT)
    on_write = on_write and await _refuses_write(bucket, key, name, expect=_WRONG)
    on_remove = on_write and await _refuses_removal(bucket, key, name)
    with contextlib.suppress(BackendError):  # who may write may not be one who may remove
        await bucket.delete(key, name=name)
    return Conditions(on_write, on_remove)


async def _refuses_write(bucket: Bucket, key: str, name: str, *, expect: Expectation | Version) -> bool:
    try:
        await bucket.put_if(key, [b"probe"], name=name, expect=expect, before=())
    except VersionConflict:
        return True
    except BackendError as error:
        if is_unsupported(error):
            return False
        raise
    return False


async def _refuses_removal(bucket: Bucket, key: str, name: str) -> bool:
    try:
        await bucket.delete(key, name=name, expect=_WRONG)
    except VersionConflict:
        return True
    except BackendError:  # not allowed, or not known: either way it can't be relied on
        return False
    return False
