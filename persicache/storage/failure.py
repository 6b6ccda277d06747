"""The error that a place's trouble becomes: a `BackendError` with its cause."""

# ruff: noqa: PTH110, PTH120 - a str is what comes

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from typing import Final

from persicache.errors import BackendError, ReadOnlyPlace
from persicache.storage.secrets import redact_text

__all__ = ["failure", "full_disk"]

_FULL_NBYTES: Final = 256 * 1024  # a file of shared memory that SQLite makes takes 32 KiB
_REFUSALS: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def failure(
    cause: BaseException, *, place: str, action: str, secrets: Collection[str] = ()
) -> BackendError:
    """Return the error to raise from its own ``__cause__``.

    That is `cause`, or its message without the secrets if there are some in it.

    Parameters
    ----------
    cause : BaseException
        What the place said.
    place : str
        Where, without secrets.
    action : str
        What was tried: an infinitive such as ``"write 'a'"``. A refused one that doesn't
        begin with "read" or "list" makes it a `ReadOnlyPlace`.
    secrets : collection of str, optional
        What must not be shown.
    """
    texts = [str(link) for link in _chain(cause)]
    if any(redact_text(text, secrets=secrets) != text for text in texts):
        number = cause.errno if isinstance(cause, OSError) else None
        text = redact_text(texts[0], secrets=secrets)
        cause = OSError(number, text) if number is not None else OSError(text)
    refused = isinstance(cause, PermissionError) or getattr(cause, "errno", None) in _REFUSALS
    kind = ReadOnlyPlace if refused and not action.startswith(("read", "list")) else BackendError
    error = kind(place=place, action=action, cause=cause)
    error.__cause__ = cause
    return error


def full_disk(path: str, error: BaseException) -> OSError | None:
    """Return what to say of a file's trouble if its disk is full; None if it isn't.

    Libraries that keep databases in files take a full disk for a broken one.
    """
    try:
        free_nbytes = shutil.disk_usage(path if os.path.exists(path) else os.path.dirname(path)).free
    except OSError:
        return None
    if free_nbytes >= _FULL_NBYTES:
        return None
    return OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({error})")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
