"""The opening of a storage by its URL."""

from __future__ import annotations

import os
from collections.abc import Mapping

from persicache.storage.blob import Identify, Storage
from persicache.storage.local import LocalStorage

__all__ = ["open_storage"]


def open_storage(
    url: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, object] | None = None,
    durable: bool = True,
    identify: Identify | None = None,
) -> Storage:
    """Return the storage at `url`; nothing is read or written yet."""
    return LocalStorage(os.path.expanduser(os.fspath(url)), durable=durable, identify=identify)
