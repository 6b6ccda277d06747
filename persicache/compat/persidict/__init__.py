"""The names of persidict 0.309, and the older ones of 0.36, over persicache.

Code that was written for persidict runs with its import line changed, on the directories and
buckets that it has, which persidict can read as before. What it gains: conditional operations that
lose nothing on local files either, threads that may share a `LocalDict`, JSON that runs no code,
and pickles from buckets that run none unless ``allow_pickle=True`` says so.
"""

from typing import Final

from persicache.compat.persidict import flags
from persicache.compat.persidict.dictionary import PersiDict
from persicache.compat.persidict.flags import *  # noqa: F403 - they are exported
from persicache.compat.persidict.memory import EmptyDict, LocalDict
from persicache.compat.persidict.multi import OverlappingMultiDict
from persicache.compat.persidict.places import BasicS3Dict, FileDirDict, S3Dict, S3Dict_FileDirCached
from persicache.compat.persidict.wrappers import AppendOnlyDictCached, MutableDictCached, WriteOnceDict
from persicache.errors import BackendError, ConcurrencyConflictError, MutationPolicyError
from persicache.keys import safe_strings
from persicache.keys.safe_strings import *  # noqa: F403 - as above
from persicache.mappings import conditions
from persicache.mappings.conditions import *  # noqa: F403 - as above

__all__ = [
    "AppendOnlyDictCached",
    "BackendError",
    "BasicS3Dict",
    "ConcurrencyConflictError",
    "EmptyDict",
    "FileDirDict",
    "LocalDict",
    "MutableDictCached",
    "MutationPolicyError",
    "OverlappingMultiDict",
    "PersiDict",
    "S3Dict",
    "S3Dict_FileDirCached",
    "WriteOnceDict",
    "__version__",
]
__all__ += conditions.__all__
__all__ += flags.__all__
__all__ += safe_strings.__all__

#: The version whose names these are.
__version__: Final = "0.309.0"
