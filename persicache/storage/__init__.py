"""Named blobs in one place: whole-or-nothing writes, and compare-and-swap where it is exact."""

from persicache.storage.blob import (
    ABSENT,
    ANY,
    Blob,
    BlobInfo,
    Buffer,
    Expectation,
    Identify,
    Known,
    LateHead,
    LoadedBlob,
    Storage,
    Version,
)
from persicache.storage.contents import MAP_FROM_NBYTES
from persicache.storage.identity import place_identity
from persicache.storage.lease import Lease, Leases
from persicache.storage.lease_open import open_leases
from persicache.storage.names import check_name
from persicache.storage.null import NullStorage
from persicache.storage.open import make_bucket, open_storage
from persicache.storage.private_file import is_private_file

__all__ = [
    "ABSENT",
    "ANY",
    "MAP_FROM_NBYTES",
    "Blob",
    "BlobInfo",
    "Buffer",
    "Expectation",
    "Identify",
    "Known",
    "LateHead",
    "Lease",
    "Leases",
    "LoadedBlob",
    "NullStorage",
    "Storage",
    "Version",
    "check_name",
    "is_private_file",
    "make_bucket",
    "open_leases",
    "open_storage",
    "place_identity",
]
