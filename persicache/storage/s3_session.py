"""The s3fs filesystems of a process: one for all buckets that are reached with the same options."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final

import fsspec
from fsspec.utils import tokenize

from persicache.errors import MissingDependency
from persicache.storage.inflight import IN_FLIGHT
from persicache.storage.s3_http import session_class

__all__ = ["Session", "enter"]

_guard: Final = threading.Lock()
# Race: a fork while another thread holds it would leave it locked in the child for ever.
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release)


class Session:
    """A filesystem, and who uses it.

    Attributes
    ----------
    filesystem : s3fs.S3FileSystem
        The filesystem.
    """

    def __init__(self, filesystem: Any) -> None:
        self.filesystem = filesystem
        self.users: weakref.WeakSet[object] = weakref.WeakSet()

    def leave(self, user: object) -> None:
        """Give it back; the last one closes the connections."""
        with _guard:
            self.users.discard(user)
            if self.users:
                return
            # Whoever comes from now on gets another.
            for token in [token for token, session in _made.items() if session is self]:
                del _made[token]
        client = self.filesystem._s3  # noqa: SLF001 - set once the first request was sent
        if client is not None:
            with contextlib.suppress(Exception):  # as good as closed
                self.filesystem.close_session(self.filesystem.loop, client)


# Making a client takes a tenth of a second, and each keeps connections of its own.
_made: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()


def enter(options: Mapping[str, Any], user: object) -> Session:
    """Return the session for these options, made if there is none.

    Parameters
    ----------
    options : mapping
        What the s3fs filesystem is made with.
    user : object
        Stands for whoever asks; if it is forgotten it needn't leave.
    """
    # Credentials, endpoint and region can come from the environment, too.
    surroundings = sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
    token = tokenize(os.getpid(), options, surroundings)
    with _guard:
        session = _made.get(token)
        if session is None:
            session = _made[token] = Session(_make(options))
        session.users.add(user)
    return session


def _make(options: Mapping[str, Any]) -> Any:
    # An earlier listing would hide what was written since, and an instance of somebody else's
    # would bring its own; the default of 10 connections would keep our requests waiting.
    config = {"max_pool_connections": IN_FLIGHT, **options.get("config_kwargs", {})}
    sends = session_class()
    if sends is not None:
        config.setdefault("http_session_cls", sends)
    uncached = {"use_listings_cache": False, "skip_instance_cache": True}
    try:
        filesystem = fsspec.filesystem("s3", **{**options, **uncached, "config_kwargs": config})
    except ImportError as error:
        raise MissingDependency(package="s3fs", extra="s3") from error
    filesystem.retries = 1  # `Bucket.call` does it, with a fresh body
    return filesystem
