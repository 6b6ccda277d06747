"""The error that a place's trouble becomes: a `BackendError` with its cause."""

from __future__ import annotations

import errno

from persicache.errors import BackendError, ReadOnlyPlace

__all__ = ["failure"]

_REFUSALS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def failure(cause: BaseException, *, place: str, action: str) -> BackendError:
    """Return the error to raise from `cause`.

    Parameters
    ----------
    cause : BaseException
        What the place said.
    place : str
        Where, without secrets.
    action : str
        What was tried: an infinitive such as ``"write 'a'"``. A refused one that doesn't
        begin with "read" or "list" makes it a `ReadOnlyPlace`.
    """
    is_refusal = isinstance(cause, OSError) and cause.errno in _REFUSALS
    if is_refusal and not action.startswith(("read", "list")):
        return ReadOnlyPlace(place=place, action=action, cause=cause)
    return BackendError(place=place, action=action, cause=cause)
