"""Never compute the same thing twice, and hold more data than memory.

`open` makes a persistent dictionary, a `PersiDict`; `SpillDict` is one that spills to disk;
`persistent_memoize` makes a function remember. All work over one engine and any fsspec storage.
"""

from persicache.errors import (
    BackendError,
    BadSignature,
    BlobNotFound,
    ConcurrencyConflictError,
    ConditionsUnsupported,
    CorruptEntry,
    MissingDependency,
    MutationPolicyError,
    NewerFormat,
    PersicacheError,
    PersicacheWarning,
    ReadOnlyPlace,
    UndigestibleValue,
    UnencodableKey,
    UnencodableValue,
    UnknownCodec,
    UnloadableValue,
    UntrustedPickle,
    VersionConflict,
)
from persicache.keys import register_digest
from persicache.mappings import PersiDict, SpillDict, nbytes
from persicache.mappings import PersiDict as open  # noqa: A004 - persicache.open("s3://...") reads well
from persicache.memo import MemoizedFunction, Stats, persistent_memoize

__all__ = [
    "BackendError",
    "BadSignature",
    "BlobNotFound",
    "ConcurrencyConflictError",
    "ConditionsUnsupported",
    "CorruptEntry",
    "MemoizedFunction",
    "MissingDependency",
    "MutationPolicyError",
    "NewerFormat",
    "PersiDict",
    "PersicacheError",
    "PersicacheWarning",
    "ReadOnlyPlace",
    "SpillDict",
    "Stats",
    "UndigestibleValue",
    "UnencodableKey",
    "UnencodableValue",
    "UnknownCodec",
    "UnloadableValue",
    "UntrustedPickle",
    "VersionConflict",
    "nbytes",
    "open",
    "persistent_memoize",
    "register_digest",
]
