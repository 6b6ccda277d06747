"""The usage of a function's entries in the store: `UsageBlobs`."""

from __future__ import annotations

import secrets
from typing import Final

from persicache.memo.usage import Usage
from persicache.storage import BlobInfo, Storage

__all__ = ["UsageBlobs"]

#: No key's text begins so, and no entry's name ends so.
FOLDER: Final = "=usage/"
EXTENSION: Final = ".use"
#: So many small ones there may be before they are made one. Larger ones wait for who has to read
#: them all anyway.
MOST_SMALL: Final = 16
SMALL_NBYTES: Final = 1 << 20


class UsageBlobs:
    """Blobs beside the entries of a function, each with the usage that one process saw in some time.

    They are never changed: several are made one by writing that and removing these. What is lost
    or counted twice, when two do so at once, makes an entry a little less or more popular.

    Parameters
    ----------
    storage : Storage
        The place.
    prefix : str
        What the names of the function's entries begin with.
    """

    def __init__(self, storage: Storage, prefix: str) -> None:
        self._storage = storage
        self._prefix = prefix + FOLDER

    def add(self, usage: Usage) -> None:
        """Write down what this process saw."""
        self._storage.write(f"{self._prefix}{secrets.token_hex(16)}{EXTENSION}", [usage.pack()])

    def load(self) -> tuple[Usage, list[str]]:
        """Return all usage that was written down, and the names of the blobs that it is in."""
        names = [info.name for info in self._infos()]
        return self._joined(names), names

    def replace(self, names: list[str], usage: Usage) -> None:
        """Write down a usage in place of the blobs that it was made of."""
        usage.replaces = tuple(name.removeprefix(self._prefix) for name in names)
        # Crash: those replaced are removed last; whoever finds them beside this passes them over.
        self.add(usage)
        self._storage.remove_many(names)

    def tidy(self) -> None:
        """Make one of the small ones, if they are many."""
        small = [info.name for info in self._infos() if info.nbytes <= SMALL_NBYTES]
        if len(small) > MOST_SMALL:
            self.replace(small, self._joined(small))

    def clear(self) -> None:
        """Remove them all."""
        self._storage.remove_many([info.name for info in self._infos()])

    def _infos(self) -> list[BlobInfo]:
        return [info for info in self._storage.scan(self._prefix) if info.name.endswith(EXTENSION)]

    def _joined(self, names: list[str]) -> Usage:
        found: dict[str, Usage] = {}
        for name, blob in self._storage.read_many(names):
            try:
                found[name.removeprefix(self._prefix)] = Usage.unpack(blob.buffer)
            except ValueError:
                continue  # nobody can use it: it goes with those that are replaced
        replaced = {name for usage in found.values() for name in usage.replaces}
        joined = Usage()
        for name, usage in found.items():
            if name not in replaced:
                joined.update(usage)
        return joined
