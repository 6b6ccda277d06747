"""Where a table is: the URLs of SQLite files, LMDB environments and JSON documents."""

# ruff: noqa: PTH100, PTH111 - Path.expanduser fails where a name merely begins with a tilde

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote

if TYPE_CHECKING:
    from persicache.storage.table import Table

__all__ = [
    "DEFAULT_TABLE",
    "PROTOCOLS",
    "TablePlace",
    "check_options",
    "make_table",
    "place_at",
    "place_of_path",
    "place_of_url",
]

#: The table of those who don't name one.
DEFAULT_TABLE: Final = "persicache"

_MOST_NAME: Final = 100
_PROTOCOLS: Final = {
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".json": "jsondoc",
}
_OPTIONS: Final = {
    "sqlite": {"commit_every"},
    "lmdb": {"commit_every", "map_nbytes"},
    "jsondoc": {"commit_every"},
}
#: The protocols of the filesystems that are made over tables.
PROTOCOLS: Final = tuple(_OPTIONS)


class TablePlace(NamedTuple):
    """A table in a file.

    Attributes
    ----------
    protocol : {"sqlite", "lmdb", "jsondoc"}
        What kind of file.
    path : str
        The file, absolute.
    table : str
        The table; a JSON document has but one.
    """

    protocol: str
    path: str
    table: str

    @property
    def url(self) -> str:
        """The URL that leads here."""
        # A path with a question mark needs a query, or its own end would be taken for one.
        if self.table == DEFAULT_TABLE and "?" not in self.path:
            return f"{self.protocol}://{self.path}"
        return f"{self.protocol}://{self.path}?table={quote(self.table, safe='')}"


def place_of_url(url: str, options: dict[str, Any]) -> TablePlace | None:
    """Return where `url` leads, None if that is no table; take ``table`` out of `options`.

    Raises
    ------
    ValueError
        If the URL or the name of the table makes no sense.

    Examples
    --------
    >>> place_of_url("lmdb:///data/env?table=runs", {})
    TablePlace(protocol='lmdb', path='/data/env', table='runs')
    """
    protocol, _, rest = url.partition("://")
    if protocol not in _OPTIONS or "::" in url:
        return None
    path, mark, query = rest.rpartition("?")
    if not mark:
        return place_at(protocol, rest, options.pop("table", None))
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        pairs = []
    if [name for name, _ in pairs] != ["table"]:
        raise ValueError(f"{url!r} has an unknown query: give ?table=name, percent-encoded, or none")
    named = pairs[0][1]
    if options.pop("table", named) != named:
        raise ValueError(f"{url!r} names another table than storage_options do")
    return place_at(protocol, path, named)


def place_of_path(path: str, options: dict[str, Any]) -> TablePlace | None:
    """Return the place at a path that ends as such files do, else None.

    Examples
    --------
    >>> place_of_path("/data/results.db", {})
    TablePlace(protocol='sqlite', path='/data/results.db', table='persicache')
    >>> place_of_path("/data/results", {})
    """
    protocol = _PROTOCOLS.get(os.path.splitext(path)[1].lower())  # noqa: PTH122 - a str is what it is
    return None if protocol is None else place_at(protocol, path, options.pop("table", None))


def place_at(protocol: str, path: str, table: object = None) -> TablePlace:
    """Return the place with these parts, checked; a relative path is resolved now.

    Raises
    ------
    ValueError
        If they make no sense together.
    """
    if not path or path[-1] == "/":
        raise ValueError(f"{protocol}://{path} names no file")
    if protocol == "jsondoc" and table not in {None, DEFAULT_TABLE}:
        raise ValueError(f"a JSON document has no tables, got table={table!r}")
    if table is None:
        table = DEFAULT_TABLE
    if not isinstance(table, str) or not 0 < len(table) <= _MOST_NAME or "\0" in table:
        raise ValueError(f"a table's name is a str of 1 to {_MOST_NAME} characters, not {table!r}")
    try:
        table.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a table's name must have an encoding, {table!r} has none") from None
    return TablePlace(protocol, os.path.abspath(os.path.expanduser(path)), table)


def check_options(place: TablePlace, options: Mapping[str, Any]) -> None:
    """Raise ValueError if `place` takes no such options."""
    unknown = sorted(options.keys() - _OPTIONS[place.protocol])
    if unknown:
        known = ", ".join(sorted({*_OPTIONS[place.protocol], "table"} - _without(place)))
        raise ValueError(f"{place.protocol} takes the storage_options {known}, not {', '.join(unknown)}")
    for name, value in options.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be a positive int, not {value!r}")


def make_table(place: TablePlace, *, durable: bool, options: Mapping[str, Any]) -> Table:
    """Return the table at `place`; nothing is opened yet."""
    # Each imports what the others don't need.
    options = dict(options)
    every = options.pop("commit_every", None) or 1
    table: Table
    if place.protocol == "sqlite":
        from persicache.storage.sqlite_table import SqliteTable  # noqa: PLC0415 - as above

        table = SqliteTable(place.path, table=place.table, durable=durable)
    elif place.protocol == "lmdb":
        from persicache.storage.lmdb_table import LmdbTable  # noqa: PLC0415 - as above

        table = LmdbTable(place.path, table=place.table, durable=durable, **options)
    else:
        from persicache.storage.json_table import JsonTable  # noqa: PLC0415 - as above

        table = JsonTable(place.path, durable=durable)
    if every == 1:
        return table
    from persicache.storage.batched_table import BatchedTable  # noqa: PLC0415 - as above

    return BatchedTable(table, every=every)


def _without(place: TablePlace) -> set[str]:
    return {"table"} if place.protocol == "jsondoc" else set()
