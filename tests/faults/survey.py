"""The survey after a fault: what is wrong with a dictionary, said in sentences."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from faults.operations import BEFORE, Operation

from persicache import ITEM_NOT_AVAILABLE, BackendError, CorruptEntry, PersiDict

_ABSENT = object()
_TWO_DAYS_SECONDS = 172_800.0


def survey(
    d: PersiDict[Any], operation: Operation, *, acknowledged: bool, may_tear: bool = False
) -> list[str]:
    """Return what is wrong after an operation: nothing, if all promises are kept.

    Parameters
    ----------
    d : PersiDict
        Opened after the fault.
    operation : Operation
        What was under way.
    acknowledged : bool
        Whether it had returned: then all of it must be there.
    may_tear : bool, default False
        Whether the place writes in place, so that a changed entry can be torn: it must raise
        CorruptEntry, and never be a value.
    """
    return _contents(d, operation, acknowledged=acknowledged, may_tear=may_tear) or _next_writer(
        d, operation
    )


def _contents(d: PersiDict[Any], operation: Operation, *, acknowledged: bool, may_tear: bool) -> list[str]:
    wrong = []
    there = set()
    for key in BEFORE.keys() | operation.after.keys():
        old, new = BEFORE.get(key, _ABSENT), operation.after.get(key, _ABSENT)
        try:
            found = d.get(key, _ABSENT)
        except CorruptEntry as error:
            there.add(key)
            if not (may_tear and key in operation.touched and not acknowledged):
                wrong.append(f"{key!r} is torn: {error}")
            continue
        except BackendError as error:
            return [f"nothing can be read: {error}"]
        if found is not _ABSENT:
            there.add(key)
        if found != new and (acknowledged or found != old):
            said = "lost" if found is _ABSENT else f"{found!r}"
            wrong.append(
                f"{key!r} is {said}, " + ("not the new" if acknowledged else "neither old nor new")
            )
    if (listed := set(d)) != there:
        wrong.append(f"listed are {listed ^ there}, or not, unlike what can be read")
    return wrong


def _next_writer(d: PersiDict[Any], operation: Operation) -> list[str]:
    """Let the next one write what the operation changed, and look at all the rest."""
    written = operation.touched or {"a"}
    for key in written:
        d[key] = "next"
        if d._entries.storage.can_compare_and_swap:
            d.transform_item(key, transformer=lambda value: f"{value} one")
    wrong = [
        f"the next write of {key!r} made it {found!r}"
        for key in written
        if (found := d.get(key, ITEM_NOT_AVAILABLE)) not in ("next", "next one")
    ]
    others = BEFORE.keys() - written
    return wrong + [f"{key!r} went with the next write" for key in others if d.get(key) != BEFORE[key]]


def never_swept(folder: Path, d: PersiDict[Any]) -> list[str]:
    """Return the leftovers in `folder` that stay although they are old, and somebody writes and lists."""
    drafts = [path for path in folder.rglob("*") if ".tmp" in path.name]
    then = time.time() - _TWO_DAYS_SECONDS
    for path in drafts:
        os.utime(path, (then, then))
    d["next"] = 1
    list(d)
    return [path.name for path in drafts if path.exists()]
