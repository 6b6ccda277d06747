"""How one call differs from another that was recorded: `Difference`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from persicache.memo.inventory import Inventory
from persicache.memo.record import Record

__all__ = ["Difference", "between_calls", "between_codes"]

_COUNT: Final = re.compile(r" \(\d+\)\Z")
_REFERENCES: Final = "references"


class Difference(NamedTuple):
    """One thing that is not as it was.

    Attributes
    ----------
    kind : str
        "argument", "code", "constant", "library", "version" or "depends_on".
    name : str
        Which.
    change : str
        How it changed.

    Examples
    --------
    >>> print(Difference("argument", "x", "was 3, is 4"))
    argument x: was 3, is 4
    """

    kind: str
    name: str
    change: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.change}" if self.name else f"{self.kind}: {self.change}"


def between_calls(was: Record, now: Record) -> tuple[list[Difference], list[Difference], list[str]]:
    """Compare two calls.

    Returns
    -------
    list of Difference
        The arguments that differ.
    list of Difference
        What else does; of the code no more than that it does.
    list of str
        The arguments that look the same, and of which no more is known.
    """
    others = [] if was.code == now.code else [Difference("code", "", "has changed")]
    if was.version != now.version:
        others.append(Difference("version", "", _change(_version(was), _version(now))))
    others += [
        Difference("depends_on", name, _fate(name, was.depends, now.depends))
        for name in {**was.depends, **now.depends}
        if was.depends.get(name) != now.depends.get(name)
    ]
    arguments: list[Difference] = []
    unsure: list[str] = []
    if was.args is not None and now.args is not None:
        for name in {**now.args, **was.args}:
            change = _argument(name, was, now)
            if change:
                arguments.append(Difference("argument", name, change))
            elif change is None:
                unsure.append(name)
    return arguments, others, unsure


def between_codes(was: Inventory, now: Inventory) -> list[Difference]:
    """Compare what two codes consist of."""
    labels = [name for name in {**was.parts, **now.parts} if was.parts.get(name) != now.parts.get(name)]
    found: list[Difference] = []
    libraries: dict[str, dict[str, str]] = {}
    for label in labels:
        base = _COUNT.sub("", label)
        if base == _REFERENCES:
            continue
        if " " in base and ":" not in base:
            # Name and version are one label, so another version is another part.
            name, _, version = base.partition(" ")
            libraries.setdefault(name, {}).update(
                {
                    side: version
                    for side, parts in (("was", was.parts), ("now", now.parts))
                    if label in parts
                }
            )
        elif label in was.values and label in now.values:
            found.append(Difference("constant", label, _change(was.values[label], now.values[label])))
        else:
            kind = "option" if base.startswith("code=") else "code" if ":" in base else "constant"
            found.append(Difference(kind, label, _fate(label, was.parts, now.parts)))
    found += [
        Difference("library", name, _change(sides.get("was"), sides.get("now")))
        for name, sides in libraries.items()
    ]
    return found or [Difference("code", "", "uses the same parts in another way")]


def _argument(name: str, was: Record, now: Record) -> str | None:
    """Tell how an argument differs: nothing if it doesn't, None if that is unknown."""
    assert was.args is not None
    assert now.args is not None
    texts = was.args.get(name), now.args.get(name)
    marks = was.marks.get(name), now.marks.get(name)
    # A mark of 0 says that the text tells all.
    if marks[0] == marks[1] and (marks[0] or (marks[0] == 0 and texts[0] == texts[1])):
        return ""
    if texts[0] != texts[1]:
        return _change(*texts)
    if None in marks:
        return None
    types = was.types.get(name), now.types.get(name)
    return f"looks the same, {texts[1]}, and differs " + (
        "inside" if types[0] == types[1] else f"in type: was {types[0]}, is {types[1]}"
    )


def _version(record: Record) -> str:
    return "None" if record.version is None else record.version[0]


def _change(was: str | None, now: str | None) -> str:
    if was is None:
        return f"is new: {now}"
    if now is None:
        return f"is gone, was {was}"
    return f"was {was}, is {now}" if was != now else f"looks the same, {now}, and differs inside"


def _fate(name: str, was: Mapping[str, object], now: Mapping[str, object]) -> str:
    return "is new" if name not in was else "is gone" if name not in now else "has changed"
