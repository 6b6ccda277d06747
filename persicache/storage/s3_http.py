"""How requests to S3 are sent: `session_class`."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["session_class"]


@functools.cache
def session_class() -> type[Any] | None:
    """Return the class of sessions for aiobotocore that send no request twice by themselves.

    aiohttp sends an idempotent request again when the connection ends before the answer, and
    nobody is told: of a removal that was done the second answer is then that there is nothing.
    botocore repeats it just as well, and says so. None if this aiobotocore takes no such class.
    """
    try:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - an extra
        from aiobotocore.httpsession import AIOHTTPSession  # noqa: PLC0415

        AioConfig(http_session_cls=AIOHTTPSession)
    except (ImportError, TypeError):
        return None

    class OnceSession(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: str | None) -> Any:
            session = await super()._get_session(proxy_url)
            if hasattr(session, "_retry_connection"):
                session._retry_connection = False  # noqa: SLF001 - there is no option for it
            return session

    return OnceSession
