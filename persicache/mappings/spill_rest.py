"""What a SpillDict has in memory only when nobody closes it: stored in the end, or told of."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Hashable, Iterable, Mapping
from typing import Final

from persicache.codecs import PicklingError
from persicache.errors import PersicacheWarning, Shown, UntrustedPickle
from persicache.mappings.spill_item import Item
from persicache.mappings.spill_place import SpillPlace
from persicache.mappings.worker_exit import also_in_workers

__all__ = ["REFUSALS", "lost", "store_rest_of"]

#: What says that a value or its key can't be stored. Anything else is trouble with the place, which
#: may pass: if it pinned values, memory would fill while it lasts.
REFUSALS: Final = (
    TypeError,
    ValueError,
    OverflowError,
    AttributeError,
    RecursionError,
    PicklingError,
    UntrustedPickle,
)
#: How many keys a warning names.
MOST_NAMED: Final = 5
#: How long a collection waits for what is being stored.
PATIENCE_SECONDS: Final = 5.0


def store_rest_of(owner: object, items: Mapping[Hashable, Item], place: SpillPlace) -> None:
    """See that a place gets what is in memory only when its owner is collected, or the process exits.

    Parameters
    ----------
    owner : object
        Whose items they are.
    items : mapping
        What it has, now and later.
    place : SpillPlace
        Where they are to be stored.
    """
    finalizer = weakref.finalize(owner, _end, weakref.ref(owner), items, place, os.getpid())
    also_in_workers(owner, finalizer)


def lost(keys: Iterable[Hashable], place: SpillPlace) -> str:
    """Return a sentence on values that the place hasn't got when their dictionary ends."""
    names = [repr(Shown(key)) for key in keys]
    rest = ["..."] if len(names) > MOST_NAMED else []
    return (
        f"{len(names)} value{' is' if len(names) == 1 else 's are'} lost with a SpillDict, as "
        f"{place!r} could not store {'it' if len(names) == 1 else 'them'}: "
        f"{', '.join(names[:MOST_NAMED] + rest)}"
    )


def _end(owner: weakref.ref[object], items: Mapping[Hashable, Item], place: SpillPlace, pid: int) -> None:
    # A forked child inherits the finalizer, and values that its parent may have replaced since.
    if os.getpid() != pid or all(item.is_clean for item in items.values()):
        return
    if owner() is None:
        # Race: the garbage collector comes at any moment, in a thread that may just hold a lock of
        # the place, or be the one that its requests are made in. So another thread does it.
        storing = threading.Thread(target=_store, args=(items, place), name="persicache-spill-rest")
        try:
            storing.start()
        except RuntimeError:  # at exit no thread begins any more
            pass
        else:
            storing.join(PATIENCE_SECONDS)
            return
    _store(items, place)


def _store(items: Mapping[Hashable, Item], place: SpillPlace) -> None:
    waiting = [item for item in list(items.values()) if not item.is_clean]
    trouble: Exception | None = None
    # Full disk: the smallest first, so that it takes as many as it can. A server that is down is
    # not asked for each.
    for item in sorted(waiting, key=lambda item: item.weight):
        if trouble is None and not item.is_pinned:
            try:
                _store_one(item, place)
            except Exception as error:  # noqa: BLE001 - of any mapping
                trouble = error
    missing = [item.key for item in waiting if not item.is_clean]
    try:
        place.flush()
    except Exception as error:  # noqa: BLE001 - as above
        trouble, missing = error, [item.key for item in waiting]
    if missing:
        reason = "" if trouble is None else f"; {type(trouble).__name__}: {trouble}"
        warnings.warn(lost(missing, place) + reason, PersicacheWarning, stacklevel=2)


def _store_one(item: Item, place: SpillPlace) -> None:
    try:
        item.copy = place.write(item.key, item.value, old=item.copy)
        item.is_clean = True
    except REFUSALS:
        if item.copy is not None:  # of an older value, which this one can't overwrite
            place.remove(item.copy)
            item.copy = None
