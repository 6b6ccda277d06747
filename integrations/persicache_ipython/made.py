"""What a cell made, as it is kept: `Made`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = ["Made", "without"]


class Made(TypedDict):
    """What a cell made; a plain dict, so that any persicache of this format reads it.

    Attributes
    ----------
    values : dict of str to object
        The variables.
    same : dict of str to str
        Variables that are the same object as another one.
    changed : list of str
        Of the variables those that were there before, and changed in place.
    deleted : list of str
        Variables that the cell deleted.
    not_kept : dict of str to str
        Variables that can't be kept, and why.
    seconds : float
        How long it took.
    outputs : list of tuple
        What it showed, as of `Outputs`.
    shows_all : bool
        Whether that is all that it showed.
    """

    values: dict[str, Any]
    same: dict[str, str]
    changed: list[str]
    deleted: list[str]
    not_kept: dict[str, str]
    seconds: float
    outputs: list[tuple[Any, ...]]
    shows_all: bool


def without(made: Made, refused: Mapping[str, str]) -> Made:
    """Return what a cell made but for some variables, which can't be kept.

    Parameters
    ----------
    made : Made
        What a cell made.
    refused : mapping of str to str
        Names of variables, and why.
    """
    reasons = {name: refused[other] for name, other in made["same"].items() if other in refused}
    reasons = {**refused, **reasons}
    kept = made.copy()
    kept["values"] = {name: value for name, value in made["values"].items() if name not in reasons}
    kept["same"] = {name: other for name, other in made["same"].items() if name not in reasons}
    kept["not_kept"] = {**made["not_kept"], **reasons}
    return kept
