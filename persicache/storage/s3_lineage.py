"""The lineage of an S3 object: the ids of the conditional writes that led to it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from persicache.storage.blob import Version

__all__ = ["Lineages", "new_write_id"]

_METADATA: Final = "persicache-write-ids"
_MOST_IDS: Final = 40  # of 16 characters; S3 keeps 2 KB of metadata
_MOST_OBJECTS: Final = 4096


def new_write_id() -> str:
    """Return an id that no other write has."""
    return os.urandom(8).hex()


class Lineages:
    """The lineages of the objects that were seen last.

    Notes
    -----
    Race: a request whose answer was lost is sent again, and then it is our own write that
    stands in the way. Its id in the object tells; and if somebody has built upon it
    meanwhile, its id among those before theirs. Without it the writer would take its own
    write for another's, and do its work twice: a counter would count twice.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, Version], tuple[str, ...]] = OrderedDict()

    def note(self, key: str, version: Version, response: Mapping[str, Any]) -> tuple[str, ...]:
        """Remember the lineage in the response to a GET or a HEAD, and return it."""
        ids = tuple(response.get("Metadata", {}).get(_METADATA, "").split())
        self.keep(key, version, ids)
        return ids

    def keep(self, key: str, version: Version, ids: tuple[str, ...]) -> None:
        """Remember that `key` in `version` has the lineage `ids`, the latest first."""
        self._seen[key, version] = ids
        self._seen.move_to_end((key, version))
        if len(self._seen) > _MOST_OBJECTS:
            self._seen.popitem(last=False)

    def of(self, key: str, version: Version) -> tuple[str, ...] | None:
        """Return the lineage of `key` in `version`, None if it wasn't seen."""
        return self._seen.get((key, version))

    @staticmethod
    def after(ids: tuple[str, ...], write_id: str) -> tuple[str, ...]:
        """Return the lineage of what `write_id` makes of an object with the lineage `ids`."""
        return (write_id, *ids)[:_MOST_IDS]

    @staticmethod
    def metadata(ids: tuple[str, ...]) -> dict[str, str]:
        """Return the metadata to store with an object of this lineage."""
        return {_METADATA: " ".join(ids)}
