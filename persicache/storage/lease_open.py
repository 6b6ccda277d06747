"""The leases of a place: `open_leases`."""

# ruff: noqa: PTH119, PTH120 - a str is what comes and goes

from __future__ import annotations

import os

from persicache.storage.blob import Storage
from persicache.storage.folders import Folders
from persicache.storage.lease import Leases
from persicache.storage.lease_file import HAS_RANGE_LOCKS
from persicache.storage.lease_granted import GrantedLeases
from persicache.storage.lease_kernel import KernelLeases
from persicache.storage.lease_memory import MemoryLeases
from persicache.storage.lease_record import RecordLeases
from persicache.storage.local import LocalStorage
from persicache.storage.locks import StripedLocks
from persicache.storage.null import NullStorage
from persicache.storage.table_place import place_of_url

__all__ = ["open_leases"]


def open_leases(storage: Storage, *, seconds: float = 10.0) -> Leases:
    """Return the leases of the place where `storage` is; nothing is read or written yet.

    On a local disk they are locks that the kernel keeps: for a directory in its hidden folder,
    for a SQLite, LMDB or JSON file in a hidden file beside it, where it costs no transaction
    and no rewriting of the document. In other places they are records.

    Parameters
    ----------
    storage : Storage
        The place. Where it can't compare and swap nobody can be kept out, and every lease is
        granted at once.
    seconds : float, default 10
        How long a holder may show no sign of life before its lease is taken over.

    Examples
    --------
    >>> from persicache.storage import open_storage
    >>> leases = open_leases(open_storage("memory://leases"))
    >>> def take(name):
    ...     tries = leases.tries(name)
    ...     try:
    ...         return f"wait for {next(tries):.0f} seconds"
    ...     except StopIteration as taken:
    ...         return taken.value
    >>> lease = take("a")
    >>> take("a")
    'wait for 0 seconds'
    >>> lease.release()
    >>> take("a").is_lost
    False
    """
    if not seconds > 0:
        raise ValueError(f"a lease holds for more than 0 seconds, not {seconds!r}")
    # What comes from copies may be old.
    while isinstance(inner := getattr(storage, "inner", None), Storage):
        storage = inner
    if isinstance(storage, NullStorage):
        return GrantedLeases()
    url = storage.url
    if url.startswith("memory://"):
        return MemoryLeases(url) if storage.can_compare_and_swap else GrantedLeases()
    table = place_of_url(url, {})
    if not HAS_RANGE_LOCKS or (table is None and not isinstance(storage, LocalStorage)):
        return RecordLeases(storage, seconds=seconds)
    if table is None:
        # A record that is lost in a power cut is one that nobody holds any more.
        plain = LocalStorage(url, durable=False)
        locks = StripedLocks(".persicache", below=Folders(url), durable=storage.is_durable)
        return KernelLeases(
            lambda: locks.open_file("leases"),
            place=url,
            otherwise=lambda: RecordLeases(plain, seconds=seconds),
            seconds=seconds,
        )
    path = os.path.realpath(table.path)
    beside = StripedLocks(os.path.dirname(path), durable=storage.is_durable)
    return KernelLeases(
        lambda: beside.open_file(f".{os.path.basename(path)}.leases"),
        place=url,
        otherwise=lambda: RecordLeases(storage, seconds=seconds),
        salt=table.table,
        seconds=seconds,
    )
