"""Dictionaries of several formats in one place: `OverlappingMultiDict`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from persicache.mappings.persidict import PersiDict

__all__ = ["OverlappingMultiDict"]


class OverlappingMultiDict:
    """One place seen through several formats; each is a `PersiDict`, an attribute by its name.

    Parameters
    ----------
    url : str or path-like
        The place.
    formats : iterable of str, or mapping of str to mapping
        The formats; a mapping gives each options of its own.
    **options
        Options of `PersiDict` that all share.

    Raises
    ------
    ValueError
        If a format is unknown, or there is none.

    Examples
    --------
    >>> m = OverlappingMultiDict("memory://doc-multi", ["json", "text"])
    >>> m.json["run", "result"] = {"loss": 0.25}
    >>> m.text["run", "log"] = "done"
    >>> list(m.json), list(m.text), m.formats
    ([('run', 'result')], [('run', 'log')], ('json', 'text'))
    >>> m.json.clear(); m.text.clear()
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        formats: Iterable[str] | Mapping[str, Mapping[str, Any]],
        **options: Any,
    ) -> None:
        if isinstance(formats, str):
            raise TypeError(f"formats is a list of formats, not one: give [{formats!r}]")
        own = formats if isinstance(formats, Mapping) else {name: {} for name in formats}
        if not own:
            raise ValueError("give at least one format")
        self._dicts: dict[str, PersiDict[Any]] = {
            name: PersiDict(url, **{**options, **dict(more), "format": name}) for name, more in own.items()
        }

    def __repr__(self) -> str:
        first = next(iter(self._dicts.values()))
        return f"{type(self).__name__}({first.url!r}, {list(self._dicts)})"

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of the formats."""
        return tuple(self._dicts)

    def __getattr__(self, name: str) -> PersiDict[Any]:
        try:
            return self.__dict__["_dicts"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"there is no format {name!r} here") from None

    def __getitem__(self, name: str) -> PersiDict[Any]:
        return self._dicts[name]
