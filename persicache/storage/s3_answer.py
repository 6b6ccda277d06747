"""What S3 said when it refused a request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

__all__ = ["Kind", "is_out_of_range", "is_passing", "is_unsupported", "kind_of", "was_repeated"]

Kind = Literal["absent", "conflict", "unchanged", "busy", "other"]

_SERVER_ERRORS: Final = 500
_ABSENT: Final = frozenset({"NoSuchKey", "404"})
_CONFLICT: Final = frozenset({"PreconditionFailed", "412"})
_UNCHANGED: Final = frozenset({"NotModified", "304"})
_UNSUPPORTED: Final = frozenset({"NotImplemented", "501", "InvalidArgument", "InvalidRequest"})
_OUT_OF_RANGE: Final = frozenset({"InvalidRange", "416"})
_PASSING: Final = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"})


def kind_of(error: BaseException) -> Kind:
    """Return what a client's `error` means.

    Returns
    -------
    str
        "absent": there is no such object (or, after a HEAD, no such bucket). "conflict":
        a condition of a write didn't hold. "unchanged": that of a read. "busy": another
        conditional write is under way, try again.
    """
    code, _ = _answer(error)
    if code in _ABSENT:
        return "absent"
    if code in _CONFLICT:
        return "conflict"
    if code in _UNCHANGED:
        return "unchanged"
    return "busy" if code == "ConditionalRequestConflict" else "other"


def is_passing(error: BaseException) -> bool:
    """Return whether the same request may succeed later: an overload, a broken connection."""
    from s3fs.core import S3_RETRYABLE_ERRORS  # noqa: PLC0415 - an extra, and here it is installed

    code, status = _answer(error)
    if code:
        return code in _PASSING or status >= _SERVER_ERRORS
    return any(isinstance(link, S3_RETRYABLE_ERRORS) for link in _chain(error))


def is_out_of_range(error: BaseException) -> bool:
    """Return whether the object has none of the bytes that were asked for."""
    return _answer(error)[0] in _OUT_OF_RANGE


def is_unsupported(error: BaseException) -> bool:
    """Return whether the server says that it doesn't know such a request."""
    return _answer(error)[0] in _UNSUPPORTED


def was_repeated(error: BaseException) -> bool:
    """Return whether the client had sent the request before, and got no answer that it liked."""
    responses: Iterator[Any] = (getattr(link, "response", None) for link in _chain(error))
    return any(
        response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
        for response in responses
        if isinstance(response, dict)
    )


def _answer(error: BaseException) -> tuple[str, int]:
    # s3fs makes OSErrors of most answers; the answer itself is in the cause.
    for link in _chain(error):
        response: Any = getattr(link, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
    return "", 0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
