"""A dictionary in a JSON or SQLite file, as persistdict (of zerodep) has it: `open`, `PersistDict`.

Code for persistdict runs with ``from persicache.compat.persistdict import open``, on the same files.
Besides, several processes can write to one file without losing what the others wrote, and what
waits to be written is stored when the process ends.
"""

# ruff: noqa: A001 - persistdict's name for it
# ruff: noqa: D102 - the Protocols' docstrings say it all

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import weakref
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, Final, Protocol, Self, runtime_checkable

from persicache.errors import BackendError
from persicache.storage.json_table import JsonTable
from persicache.storage.sqlite_layout import TEXTS
from persicache.storage.sqlite_table import SqliteTable
from persicache.storage.table_texts import TableTexts

__all__ = [
    "Backend",
    "JsonFileBackend",
    "JsonSerializer",
    "PersistDict",
    "Serializer",
    "SqliteBackend",
    "open",
]

_KINDS: Final = {".json": "json", ".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite"}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@runtime_checkable
class Serializer(Protocol):
    """Makes a text of a value, and a value of the text."""

    def dumps(self, obj: Any) -> str:
        """Return the text of a value."""

    def loads(self, s: str) -> Any:
        """Return the value of a text."""


@runtime_checkable
class Backend(Protocol):
    """Keeps texts under keys; `get` and `delete` of a key that isn't there are a KeyError.

    What was set is stored at `flush` and `close` at the latest.
    """

    def get(self, key: str) -> str: ...
    def set(self, key: str, value: str) -> None: ...
    def delete(self, key: str) -> None: ...
    def contains(self, key: str) -> bool: ...
    def keys(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def clear(self) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class JsonSerializer:
    """Makes JSON of a value.

    Parameters
    ----------
    ensure_ascii : bool, default False
        Whether other characters than those of ASCII are escaped.
    **kwargs
        More options of `json.dumps`.
    """

    def __init__(self, *, ensure_ascii: bool = False, **kwargs: Any) -> None:
        self._options = {"ensure_ascii": ensure_ascii, **kwargs}

    def dumps(self, obj: Any) -> str:
        """Return the JSON of a value."""
        return json.dumps(obj, **self._options)

    def loads(self, s: str) -> Any:
        """Return the value of its JSON."""
        return json.loads(s)


class JsonFileBackend(TableTexts):
    """Texts in a JSON object, written at `flush` and `close`; beside what others have written there.

    Parameters
    ----------
    path : str or path-like
        The file.

    Raises
    ------
    ValueError
        If it holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(
            path,
            lambda place: JsonTable(place, durable=False, is_blank_empty=True),
            every=sys.maxsize,
            encode=lambda text: json.dumps(text, ensure_ascii=False),
            decode=json.loads,
        )
        try:
            self.contains("")
        except BackendError as error:
            if isinstance(error.__cause__, OSError):
                raise
            what = "expected JSON object" if error.__cause__ is None else "corrupt JSON file"
            raise ValueError(f"{what}: {error}") from error


class SqliteBackend(TableTexts):
    """Texts in a table of a SQLite file: its columns are key and value.

    Parameters
    ----------
    path : str or path-like
        The file.
    table : str, default "items"
        The table, a name of letters, digits and underscores.
    commit_every : int, default 0
        How many writes to commit at once; those that wait are lost with the process. 0 for each.
    """

    def __init__(self, path: str | os.PathLike[str], table: str = "items", commit_every: int = 0) -> None:
        if not _IDENTIFIER.fullmatch(table):
            raise ValueError(f"invalid table name {table!r}: give letters, digits and underscores")
        self._name = table
        super().__init__(
            path,
            lambda place: SqliteTable(place, table=table, durable=False, layout=TEXTS),
            every=commit_every or 1,
        )

    def __repr__(self) -> str:
        return f"SqliteBackend({str(self._path)!r}, table={self._name!r})"


class PersistDict(MutableMapping[str, Any]):
    """A dictionary of texts as keys, and of what a serializer makes texts of.

    Parameters
    ----------
    backend : Backend
        Keeps the texts.
    serializer : Serializer, optional
        Makes them; by default `JsonSerializer`.
    lock : Lock or bool, default True
        What the backend is used under: a new lock, none, or the given one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     with open(f"{directory}/data.json") as d:
    ...         d["scores"] = [95, 87, 92]
    ...     with open(f"{directory}/data.json") as d:
    ...         print(d["scores"], len(d))
    [95, 87, 92] 1
    """

    def __init__(
        self,
        backend: Backend,
        *,
        serializer: Serializer | None = None,
        lock: threading.Lock | bool = True,
    ) -> None:
        self._backend = backend
        self._serializer = serializer or JsonSerializer()
        self._lock: Any = lock
        if isinstance(lock, bool):
            self._lock = threading.Lock() if lock else contextlib.nullcontext()
        self._end = weakref.finalize(self, backend.close)

    def __repr__(self) -> str:
        return f"PersistDict({self._backend!r})"

    def __getitem__(self, key: str) -> Any:
        with self._lock:
            text = self._backend.get(_checked(key))
        return self._serializer.loads(text)

    def __setitem__(self, key: str, value: Any) -> None:
        _checked(key)
        text = self._serializer.dumps(value)
        with self._lock:
            self._backend.set(key, text)

    def __delitem__(self, key: str) -> None:
        with self._lock:
            self._backend.delete(_checked(key))

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        with self._lock:
            return self._backend.contains(key)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(self._backend.keys())

    def __len__(self) -> int:
        with self._lock:
            return len(self._backend)

    def clear(self) -> None:
        """Remove every item, without reading any."""
        with self._lock:
            self._backend.clear()

    def flush(self) -> None:
        """Write what waits to be written."""
        with self._lock:
            self._backend.flush()

    def close(self) -> None:
        """Write what waits, and close the backend."""
        with self._lock:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    serializer: Serializer | None = None,
    lock: threading.Lock | bool = True,
    table: str = "items",
    commit_every: int = 0,
) -> PersistDict:
    """Return the dictionary in a file.

    Parameters
    ----------
    path : str or path-like
        The file.
    backend : {"auto", "json", "sqlite"}, default "auto"
        What kind of file: by its extension, ``.json``, or ``.db``, ``.sqlite`` and ``.sqlite3``.
    serializer, lock
        See `PersistDict`.
    table, commit_every
        For SQLite: see `SqliteBackend`.

    Raises
    ------
    ValueError
        If there is no such kind of file.
    """
    extension = Path(path).suffix.lower()
    kind = _KINDS.get(extension, "") if backend == "auto" else backend
    if not kind:
        raise ValueError(
            f"cannot auto-detect backend for extension {extension!r}: give backend='json' or 'sqlite'"
        )
    if kind not in _KINDS.values():
        raise ValueError(f"unknown backend {backend!r}: give 'auto', 'json' or 'sqlite'")
    texts: Backend = (
        JsonFileBackend(path)
        if kind == "json"
        else SqliteBackend(path, table=table, commit_every=commit_every)
    )
    return PersistDict(texts, serializer=serializer, lock=lock)


def _checked(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys must be str, got {type(key).__name__}")
    return key
