"""Classes whose instances only say where to find what they hold, which can change there unseen.

A pickle of such an object is its place. Its place is no key: after a change there, a function
would be given the result of what was there before. Known by name, so that nothing is imported.
"""

from __future__ import annotations

from typing import Final

from persicache.keys.writers import safe_name

__all__ = ["is_elsewhere"]

#: With whatever derives from them.
_ELSEWHERE: Final = frozenset(
    {
        "dbm.dumb:_Database",
        "dbm.sqlite3:_Database",
        "diskcache.core:Cache",
        "diskcache.fanout:FanoutCache",
        "diskcache.persistent:Deque",
        "diskcache.persistent:Index",
        "distributed.actor:Actor",
        "distributed.client:Future",
        "distributed.queues:Queue",
        "distributed.variable:Variable",
        "fsspec.core:OpenFile",
        "fsspec.implementations.local:LocalFileOpener",
        "fsspec.mapping:FSMap",
        "fsspec.spec:AbstractBufferedFile",
        "joblib.memory:MemorizedResult",
        "multiprocessing.managers:BaseProxy",
        "multiprocessing.shared_memory:ShareableList",
        "multiprocessing.shared_memory:SharedMemory",
        "persicache.mappings.persidict:PersiDict",
        "pyarrow._dataset:Dataset",
        "pyarrow._dataset:Fragment",
        "shelve:Shelf",
        "xarray.backends.common:BackendArray",
        "xarray.backends.file_manager:FileManager",
        "zarr.abc.store:Store",
        "zict.file:File",
    }
)
#: But for these, which hold it themselves.
_HERE: Final = frozenset({"zarr.storage._memory:MemoryStore"})


def is_elsewhere(cls: type) -> bool | None:
    """Return whether instances of this class hold things elsewhere; None if it doesn't say."""
    name = safe_name(cls)
    if name in _HERE:
        return False
    return True if name in _ELSEWHERE else None
