"""The copying of a cache: `convert`."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeAlias

from persicache.codecs import dump_object, load_object
from persicache.conversion import mapping
from persicache.conversion.record import Record, Records
from persicache.errors import (
    BackendError,
    ConditionsUnsupported,
    ConversionConflict,
    PersicacheError,
    UndigestibleValue,
    UnencodableValue,
)
from persicache.keys import digest
from persicache.mappings import ETAG_IS_THE_SAME, ITEM_NOT_AVAILABLE, NEVER_RETRIEVE, PersiDict
from persicache.mappings.progress import ProgressOption
from persicache.mappings.progress import progress as progress_bar

__all__ = ["Converted", "convert"]

#: How many values are copied at once, and of how many bytes, and one more.
WORKERS: Final = 8
WAITING_NBYTES: Final = 64 * 1024**2

#: Protocols of URLs that are a path, maybe with "?table=" behind it.
TABLES: Final = frozenset({"sqlite", "lmdb", "jsondoc"})

#: Whether a value is new, or why it is not copied.
Outcome: TypeAlias = bool | PersicacheError


class Converted(NamedTuple):
    """What `convert` did.

    Attributes
    ----------
    kind : str
        What the source was, such as "chest".
    copied : int
        How many values were stored.
    present : int
        How many had been stored before, and are the same.
    """

    kind: str
    copied: int
    present: int


def convert(
    source: Any,
    target: str | os.PathLike[str] | PersiDict[Any],
    *,
    allow_pickle: bool = False,
    progress: ProgressOption = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Converted:
    """Copy what another cache has stored into a dictionary of persicache.

    Every value is read back and compared. What is there already is only compared, so that a
    conversion that was interrupted goes on when it is called again. Nothing in the source
    changes; let nobody write to it meanwhile. Nothing in the target is overwritten.

    Parameters
    ----------
    source : str, path-like or mapping
        A directory of chest, persidict, joblib.Memory or diskcache; a bucket of persidict
        (``"s3://bucket/prefix"``); a JSON or SQLite file of persistdict; an LMDB environment of
        stones. Or a dictionary that is open, of any kind, where how it encodes can't be seen.
    target : str, path-like or PersiDict
        Where to: what `persicache.open` takes, or what it returned.
    allow_pickle : bool, default False
        Whether pickles are loaded that others than this user could have written. Unpickling
        runs code.
    progress : bool or callable, optional
        Whether to show a bar, or a function that is called with the bytes that are done and
        those there are. By default a bar is shown on a terminal or in a notebook, if it takes
        more than two seconds.
    storage_options : mapping, optional
        For the fsspec filesystem of the source: credentials, endpoint.

    Raises
    ------
    FileNotFoundError
        If there is no source.
    ValueError
        If it is no such cache, or the target lies in it.
    PersicacheError
        After all else was copied, if there was something that can't be: `UntrustedPickle`,
        `CorruptEntry`, `UnencodableKey`; or `ConversionConflict`, if the target has another value.

    Notes
    -----
    What the keys become:

    ============= ==================================================================
    chest         the same
    persidict     a str if it has one part, else a tuple of them
    persistdict   the same; ``(table, key)`` if the file has several tables
    stones        the same bytes; ``(table, key)`` in a table
    joblib.Memory the function's module and name, and joblib's digest of the arguments
    diskcache     the same; what has expired is left out
    ============= ==================================================================

    Times, tags and when something is to expire are not copied.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> old = pathlib.Path(tempfile.mkdtemp(), "data.json")
    >>> _ = old.write_text('{"age": "42", "scores": "[95, 87]"}')
    >>> convert(old, "memory://doc-convert")
    Converted(kind='persistdict', copied=2, present=0)
    >>> PersiDict("memory://doc-convert")["scores"]
    [95, 87]
    >>> convert(old, "memory://doc-convert")
    Converted(kind='persistdict', copied=0, present=2)
    """
    store = target if isinstance(target, PersiDict) else _opened(target, allow_pickle=allow_pickle)
    found = _found(source, store, allow_pickle or None, storage_options)
    return _copy_all(found, store, shown=progress)


def _opened(target: str | os.PathLike[str], *, allow_pickle: bool) -> PersiDict[Any]:
    return PersiDict(target, verify="always", allow_pickle=allow_pickle or None)


def _found(
    source: Any,
    store: PersiDict[Any],
    allow_pickle: bool | None,  # noqa: FBT001 - as `convert` was given it
    storage_options: Mapping[str, Any] | None,
) -> Records:
    if not isinstance(source, (str, os.PathLike)):
        if not mapping.is_one(source):
            raise TypeError(f"source must be a path, a URL or a dictionary, not {source!r}")
        return mapping.records(source)
    # Each of these reads what most people don't have.
    from persicache.conversion.detect import records_at  # noqa: PLC0415 - as above

    place = os.fspath(source)
    if not place:
        raise ValueError("'' names no place")
    protocol, mark, rest = place.partition("://")
    if mark and protocol in {"file", "local", *TABLES}:
        place = rest  # not by a filesystem of ours: that makes what isn't there, and locks
    if "://" not in place and "::" not in place:
        place = os.path.realpath(os.path.expanduser(place))  # noqa: PTH111 - as in storage
    _refuse_overlap(place, store.url)
    return records_at(place, allow_pickle=allow_pickle, storage_options=storage_options)


def _refuse_overlap(source: str, target: str) -> None:
    """Raise ValueError if to write to the target could change the source."""
    protocol, mark, rest = target.partition("://")
    if mark and protocol in TABLES:
        target = rest.partition("?")[0]
    there = (target if "://" in target else os.path.realpath(target)).rstrip("/") + "/"
    here = source.rstrip("/") + "/"
    if here.startswith(there) or there.startswith(here):
        raise ValueError(f"one of {source!r} and {target!r} lies in the other: convert to another place")


def _copy_all(found: Records, store: PersiDict[Any], *, shown: ProgressOption) -> Converted:
    copied = present = 0
    failed: list[Record] = []
    first: PersicacheError | None = None
    # What is open for it is closed, whatever happens, and not when somebody forgets the error.
    with (
        contextlib.closing(found.records),
        contextlib.closing(_outcomes(found, store)) as outcomes,
        progress_bar(shown, title=f"convert {found.kind}", total_nbytes=found.nbytes) as advance,
    ):
        for record, outcome in outcomes:
            if isinstance(outcome, PersicacheError):
                first = first or outcome
                failed.append(record)
            else:
                copied, present = copied + outcome, present + (not outcome)
            advance(record.nbytes)
    if first is not None:
        keys = ", ".join(repr(record.key) for record in failed[:10])
        first.add_note(f"{len(failed)} were not copied ({keys:.500}), {copied + present} others are")
        raise first
    return Converted(found.kind, copied, present)


def _outcomes(found: Records, store: PersiDict[Any]) -> Generator[tuple[Record, Outcome], None, None]:
    """Copy the records in their order, and yield what became of each."""
    if not found.takes_threads:
        for record in found.records:
            yield record, _copy(record, store)
        return
    # Several at once: most of the time goes by in waiting for a disk or a network.
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="persicache-convert")
    waiting: deque[tuple[Record, Future[Outcome]]] = deque()
    nbytes = 0
    try:
        for record in found.records:
            waiting.append((record, pool.submit(_copy, record, store)))
            nbytes += record.nbytes
            while len(waiting) > WORKERS or (nbytes > WAITING_NBYTES and waiting):
                done, future = waiting.popleft()
                yield done, future.result()
                nbytes -= done.nbytes
        for done, future in waiting:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _copy(record: Record, store: PersiDict[Any]) -> Outcome:
    """Store a value unless it is there, and compare what is.

    Returns
    -------
    bool or PersicacheError
        Whether it is new; or why it is not copied, while others can be.
    """
    try:
        value = record.load()
    except PersicacheError as error:
        return error
    try:
        is_new = _offer(record.key, value, store)
        stored = store[record.key]
    except BackendError:  # the next would fare no better
        raise
    except PersicacheError as error:
        return error
    except TypeError as error:  # of what the target takes, by its base_class_for_values
        return UnencodableValue(key=record.key, reason=str(error))
    if _same(value, stored):
        return is_new
    if not is_new:
        return ConversionConflict(key=record.key, place=store.url)
    store.discard(record.key)
    return UnencodableValue(key=record.key, reason="it comes back as something else")


def _offer(key: Any, value: Any, store: PersiDict[Any]) -> bool:
    try:
        made = store.setdefault_if(
            key,
            default_value=value,
            condition=ETAG_IS_THE_SAME,
            expected_etag=ITEM_NOT_AVAILABLE,
            retrieve_value=NEVER_RETRIEVE,
        )
    except ConditionsUnsupported:
        if key in store:
            return False
        store[key] = value
        return True
    return made.value_was_mutated


def _same(value: Any, stored: Any) -> bool:
    try:
        return digest(value) == digest(stored)
    except UndigestibleValue:
        # A value that was pickled once is pickled the same again, a new one may share parts of it.
        return dump_object(load_object(dump_object(value))) == dump_object(stored)
