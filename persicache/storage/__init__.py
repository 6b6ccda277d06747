"""Named blobs in one place: whole-or-nothing writes, and compare-and-swap where it is exact."""

from persicache.storage.blob import (
    ABSENT,
    ANY,
    Blob,
    BlobInfo,
    Buffer,
    Expectation,
    Identify,
    Storage,
    Version,
)
from persicache.storage.null import NullStorage
from persicache.storage.open import open_storage

__all__ = [
    "ABSENT",
    "ANY",
    "Blob",
    "BlobInfo",
    "Buffer",
    "Expectation",
    "Identify",
    "NullStorage",
    "Storage",
    "Version",
    "open_storage",
]
