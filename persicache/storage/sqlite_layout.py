"""The columns of a SQLite table, and the statements about them: `SqliteLayout`."""

# ruff: noqa: S608 - the one thing put into statements is the table's name, and it is quoted

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from persicache.storage.table import PAGE, Change, joined

__all__ = ["ENTRIES", "TEXTS", "SqliteLayout", "Statements"]


class Statements(NamedTuple):
    """The statements about one table; each gives, or takes, what its name says."""

    make: str
    get: str
    stat: str
    put: str
    delete: str
    page: str
    last_pages: str


class SqliteLayout(NamedTuple):
    """How rows lie in a table.

    Attributes
    ----------
    columns : tuple of str
        Their names; the first is that of the key.
    types : str
        Their definitions.
    shown : str
        What a row is in a query: data, version, modified.
    has_versions : bool
        Whether rows have versions, so that one can be compared and swapped.
    values : callable
        From a name and a change to what goes into the columns.
    identifier : callable
        From the name of a table as people give it to that in the file.
    """

    columns: tuple[str, ...]
    types: str
    shown: tuple[str, str, str]
    has_versions: bool
    values: Callable[[str, Change], tuple[object, ...]]
    identifier: Callable[[str], str]

    def statements(self, table: str) -> Statements:
        """Return the statements about a table, by its name in the file."""
        quoted = '"' + table.replace('"', '""') + '"'
        key, *rest = self.columns
        data, version, modified = self.shown
        about = f"length({data}), {version}, {modified}"
        page = f"SELECT {key}, {about} FROM {quoted} WHERE {key} >= ?"
        return Statements(
            make=f"CREATE TABLE IF NOT EXISTS {quoted} ({self.types})",
            get=f"SELECT {data}, {version}, {modified} FROM {quoted} WHERE {key} = ?",
            stat=f"SELECT {about} FROM {quoted} WHERE {key} = ?",
            put=f"INSERT INTO {quoted} ({', '.join(self.columns)}) "
            f"VALUES ({', '.join('?' * len(self.columns))}) ON CONFLICT ({key}) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in rest),
            delete=f"DELETE FROM {quoted} WHERE {key} = ?",
            page=f"{page} AND {key} < ? ORDER BY {key} LIMIT {PAGE}",
            last_pages=f"{page} ORDER BY {key} LIMIT {PAGE}",
        )


def _entry(name: str, change: Change) -> tuple[object, ...]:
    return (name, change.version, change.modified, joined(change))


def _text(name: str, change: Change) -> tuple[object, ...]:
    return (name, bytes(joined(change)).decode())


def _identifier(table: str) -> str:
    # SQLite doesn't tell upper from lower case in names, and keeps "sqlite_" for itself.
    return re.sub(r"[A-Z%]|^s(?=qlite_)", lambda match: f"%{ord(match[0]):02x}", table)


#: Entries with their versions and times.
ENTRIES: Final = SqliteLayout(
    columns=("name", "version", "modified", "data"),
    types="name TEXT PRIMARY KEY NOT NULL, version TEXT NOT NULL, modified REAL NOT NULL, "
    "data BLOB NOT NULL",
    shown=("data", "version", "modified"),
    has_versions=True,
    values=_entry,
    identifier=_identifier,
)

#: Texts and nothing else, as other programs have them.
TEXTS: Final = SqliteLayout(
    columns=("key", "value"),
    types="key TEXT PRIMARY KEY, value TEXT NOT NULL",
    shown=("CAST(value AS BLOB)", "''", "0.0"),
    has_versions=False,
    values=_text,
    identifier=str,
)
