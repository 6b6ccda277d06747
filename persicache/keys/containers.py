"""Writers of the builtin containers."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING

from persicache.errors import Shown
from persicache.keys.reached import Alike, Parts, Reached
from persicache.keys.writers import EXACT, Trouble, begin, finish, write, write_leniently, writes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persicache.keys.writers import Seen

__all__ = ["write_each", "write_pairs", "write_unordered"]


@writes(tuple)
def _write_tuple(out: bytearray, value: tuple[object, ...], seen: Seen) -> None:
    if not value:
        out += b"()"
    elif not begin(out, value, seen):
        body = bytearray(b"t%x;" % len(value))
        write_each(body, value, seen)
        finish(out, value, seen, body)


@writes(list)
def _write_list(out: bytearray, value: list[object], seen: Seen) -> None:
    if not begin(out, value, seen):
        body = bytearray(b"l%x;" % len(value))
        write_each(body, value, seen)
        finish(out, value, seen, body)


@writes(dict)
def _write_dict(out: bytearray, value: dict[object, object], seen: Seen) -> None:
    if not begin(out, value, seen):
        body = bytearray()
        write_pairs(body, value.items(), seen)
        finish(out, value, seen, body)


@writes(set)
def _write_set(out: bytearray, value: set[object], seen: Seen) -> None:
    out += b"{"
    write_unordered(out, value, seen)


@writes(frozenset)
def _write_frozenset(out: bytearray, value: frozenset[object], seen: Seen) -> None:
    if not begin(out, value, seen):
        body = bytearray(b"}")
        write_unordered(body, value, seen)
        finish(out, value, seen, body)


@writes(type(iter(set())))
def _refuse_set_iterator(_out: bytearray, _value: object, _: Seen) -> None:
    raise Trouble("the order of an iterator over a set differs between processes")


def write_each(out: bytearray, items: Iterable[object], seen: Seen) -> None:
    """Append items in their order. Their number, or their end, is for the caller to write."""
    if type(seen) is Reached:
        for item in items:
            write_leniently(out, item, seen)
        return
    index = -1
    try:
        for index, item in enumerate(items):  # noqa: B007 - the handler tells where it stopped
            # What `write` does, without a frame for it: nesting is as deep as the stack allows.
            writer = EXACT.get(type(item))
            if writer is not None:
                writer(out, item, seen)
            else:
                write(out, item, seen)
    except Trouble as trouble:
        trouble.steps.append(f"[{index}]")
        raise


def write_pairs(out: bytearray, pairs: Iterable[tuple[object, object]], seen: Seen) -> None:
    """Append the items of a mapping, in an order that doesn't depend on theirs."""
    if type(seen) is Reached:
        _write_sorted(out, pairs, seen)
        return
    written = []
    key: object = None
    try:
        for key, item in pairs:
            # Key and value together: two NaN are different keys that are written alike.
            entry = bytearray()
            write(entry, key, seen)
            write(entry, item, seen)
            written.append(bytes(entry))
    except Trouble as trouble:
        trouble.steps.append(f"[{Shown(key)!r}]")
        raise
    written.sort()
    out += b"k%x;" % len(written)
    out += b"".join(written)


def write_unordered(out: bytearray, items: Iterable[object], seen: Seen) -> None:
    """Append the members of a set, in an order that doesn't depend on theirs."""
    if type(seen) is Reached:
        _write_sorted(out, ((item,) for item in items), seen)
        return
    written = []
    try:
        for item in items:
            entry = bytearray()
            write(entry, item, seen)
            written.append(bytes(entry))
    except Trouble as trouble:
        trouble.steps.append("{...}")
        raise
    written.sort()
    out += b"k%x;" % len(written)
    out += b"".join(written)


def _write_sorted(out: bytearray, entries: Iterable[tuple[object, ...]], seen: Reached) -> None:
    written = []
    # At once: another thread may change what is iterated over.
    for entry in list(entries):
        data, outer = bytearray(), seen.noted
        seen.noted = Parts()
        for item in entry:
            write_leniently(data, item, seen)
        written.append((bytes(data), seen.noted))
        seen.noted = outer
    written.sort(key=operator.itemgetter(0))
    out += b"k%x;" % len(written)
    for data, alike in itertools.groupby(written, key=operator.itemgetter(0)):
        parts = [noted for _, noted in alike]
        out += data * len(parts)
        if len(parts) == 1:
            seen.noted += parts[0]
        elif any(parts):
            seen.noted.append(Alike(parts))
