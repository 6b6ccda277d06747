"""What a function's code consisted of when results were stored, to tell later what changed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from persicache.errors import BlobNotFound, PersicacheError
from persicache.keys import Fingerprint, KeyName
from persicache.mappings import Entries
from persicache.memo.record import CODE_NBYTES
from persicache.memo.shown import shown_argument
from persicache.memo.travel import named

__all__ = ["Inventories", "Inventory"]

#: No entry's, so that nobody takes one for a result.
_EXTENSION: Final = ".code"
_MOST_VALUES: Final = 1000
_NUMBERS: Final = frozenset({bool, int, float, complex})


class Inventory(NamedTuple):
    """What code consists of.

    Attributes
    ----------
    parts : mapping
        As `Fingerprint.parts`.
    values : mapping
        Of those parts that are numbers, which.
    """

    parts: Mapping[str, bytes]
    values: Mapping[str, str]


class Inventories:
    """The inventories of one function, each in a blob beside the results of that code.

    Parameters
    ----------
    entries : Entries
        The store.
    prefix : str
        What the names of the function's results begin with.
    tells_values : bool
        Whether numbers among the constants are told.
    """

    def __init__(self, entries: Entries, prefix: str, *, tells_values: bool) -> None:
        self._entries = entries
        self._prefix = f"{prefix}=code/"
        self._tells_values = tells_values
        self._noted: Fingerprint | None = None

    def note(self, code: Fingerprint) -> None:
        """See to it that the store has the inventory of this code. Quick if it was seen to before."""
        if code is self._noted:
            return
        self._noted = code
        # Whatever is wrong here, the result is stored.
        with contextlib.suppress(PersicacheError):
            where = self._where(code.digest[:CODE_NBYTES])
            storage = self._entries.storage
            try:
                # Each process asks once; the inventory itself costs more to make than to look for.
                storage.stat(where.name)
            except BlobNotFound:
                made = self.of(code)
                body = {"parts": dict(made.parts), "values": dict(made.values)}
                storage.write(where.name, self._entries.encode(where.text, where, body))

    def of(self, code: Fingerprint) -> Inventory:
        """Return the inventory of the present code."""
        parts = code.parts
        return Inventory(parts, _numbers(parts) if self._tells_values else {})

    def load(self, digest: bytes) -> Inventory | None:
        """Return what the store knows of other code, None if that is nothing to rely on."""
        where = self._where(digest[:CODE_NBYTES])
        try:
            body: Any = self._entries.load(where.text, where).value
            return Inventory(body["parts"], body["values"])
        except (PersicacheError, LookupError, TypeError):
            return None

    def clear(self) -> None:
        """Remove all."""
        self._noted = None
        storage = self._entries.storage
        storage.remove_many([info.name for info in storage.scan(self._prefix)])

    def _where(self, digest: bytes) -> KeyName:
        text = self._prefix + digest.hex()
        return KeyName(text + _EXTENSION, text)


def _numbers(parts: Mapping[str, bytes]) -> dict[str, str]:
    """Show the constants that are numbers; texts may be secrets."""
    found = {}
    for label in list(parts)[:_MOST_VALUES]:
        module, _, name = label.rpartition(":" if ":" in label else ".")  # of a class, or of a module
        value = named(module, name)
        if type(value) in _NUMBERS:
            found[label] = shown_argument(value)
    return found
