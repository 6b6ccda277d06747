"""Texts under keys, and nothing else, in a file of tables: `TableTexts`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from persicache.errors import CorruptEntry
from persicache.storage.batched_table import BatchedTable
from persicache.storage.process import PerProcess
from persicache.storage.table import Change, Table

__all__ = ["TableTexts"]

_GONE: Final = Change(None, "", 0.0)


class TableTexts:
    """Texts under keys, in the rows of a table; each process has a table of its own.

    Parameters
    ----------
    path : str or path-like
        The table's file.
    make : callable
        From the absolute path to the table.
    every : int
        How many changes to make at once.
    encode, decode : callable, optional
        From a text to what is stored in a row, and back.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        make: Callable[[str], Table],
        *,
        every: int,
        encode: Callable[[str], str] = str,
        decode: Callable[[str], Any] = str,
    ) -> None:
        self._path = Path(path)
        place = str(self._path.absolute())
        self._made: PerProcess[Table] = PerProcess(
            lambda: make(place) if every == 1 else BatchedTable(make(place), every=every)
        )
        self._encode, self._decode = encode, decode

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is open in this process and can't be sent to another: open the file there"
        )

    @property
    def _table(self) -> Table:
        return self._made.get()

    def __len__(self) -> int:
        return sum(1 for _ in self._table.scan())

    def get(self, key: str) -> str:
        """Return a text; KeyError if there is none."""
        row = self._table.get(key)
        if row is None:
            raise KeyError(key)
        try:
            text = self._decode(str(row.data, "utf-8"))
        except UnicodeDecodeError as error:
            raise CorruptEntry(key=key, place=str(self._path), reason=str(error)) from error
        if not isinstance(text, str):
            reason = f"it is a {type(text).__name__}, not the text of a value"
            raise CorruptEntry(key=key, place=str(self._path), reason=reason)
        return text

    def set(self, key: str, value: str) -> None:
        """Store a text."""
        key.encode()  # what has no encoding must not wait among what has
        self._table.put(key, Change([self._encode(value).encode()], "", 0.0))

    def delete(self, key: str) -> None:
        """Remove a text; KeyError if there is none."""
        if not self._table.delete(key):
            raise KeyError(key)

    def contains(self, key: str) -> bool:
        """Return whether there is a text."""
        return self._table.stat(key) is not None

    def keys(self) -> Iterator[str]:
        """Return an iterator over the keys as they are now."""
        return iter([row.name for row in self._table.scan()])

    def clear(self) -> None:
        """Remove every text."""
        self._table.apply(dict.fromkeys(self.keys(), _GONE))

    def flush(self) -> None:
        """Write what waits to be written."""
        self._table.flush()

    def close(self) -> None:
        """Write what waits, and close the file; it opens again when it is used."""
        if self._made.own is not None:
            self._table.close()
