"""A dictionary that persists: `PersiDict`."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
    ValuesView,
)
from heapq import nlargest, nsmallest
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from persicache.codecs import SigningKey, Verify, codec_for
from persicache.errors import (
    BlobNotFound,
    CorruptEntry,
    MutationPolicyError,
    PersicacheError,
    Shown,
    UnencodableKey,
    UnloadableValue,
    UntrustedPickle,
    VersionConflict,
)
from persicache.keys import Key, KeyName
from persicache.mappings.conditions import (
    DELETE_CURRENT,
    IF_ETAG_CHANGED,
    ITEM_NOT_AVAILABLE,
    KEEP_CURRENT,
    NEVER_RETRIEVE,
    Condition,
    ConditionalOperationResult,
    ETag,
    Joker,
    Missing,
    OperationResult,
    Retrieval,
)
from persicache.mappings.entries import Entries, open_entries
from persicache.mappings.html import moment, shown, summary
from persicache.mappings.near_option import NearOption
from persicache.mappings.precious import is_precious
from persicache.mappings.swaps import Swaps
from persicache.storage import ABSENT, BlobInfo, Buffer, LateHead

__all__ = ["PersiDict"]

V = TypeVar("V")

#: How many entries are asked for, or written, at once; of so many bytes, and one more.
BATCH: Final = 1024
BATCH_NBYTES: Final = 32 * 1024 * 1024
#: Larger values from a generator are written at once, rather than copied to wait for others.
BATCH_ITEM_NBYTES: Final = 256 * 1024
#: What an entry's metadata calls what `put` was told.
_ABOUT: Final = "about"
#: How many entries a notebook shows, and how many it counts.
MOST_SHOWN: Final = 10
MOST_COUNTED: Final = 1000


class PersiDict(MutableMapping[Any, V]):
    """A dictionary whose values lie in files, in a bucket, or in any other fsspec place.

    Every value is an entry of its own, written whole or not at all. Several dictionaries,
    threads, processes and hosts can share a place. A value that is read is the reader's own:
    to keep a change, assign it again. Iteration is in no particular order.

    Parameters
    ----------
    url : str or path-like
        The place: a directory, ``memory://…``, ``s3://bucket/prefix``, or any other fsspec
        URL. It is made when the first value is set.
    format : str, default "auto"
        "auto" for entries that carry checksum and metadata, and choose the codec by value; or
        a plain format for files that other tools read: "pickle", "json", "text", "bytes",
        "cbor", "msgpack", "npy". A dictionary sees the entries of its own format only.
    dump, load : callable, optional
        A plain format of your own: functions such as `pickle.dump` and `pickle.load`.
    extension : str, default ".dat"
        With `dump` and `load`: what its files end in.
    append_only : bool, default False
        Whether values, once set, can't be changed or removed: that raises MutationPolicyError.
    base_class_for_values : type, optional
        Of which every value must be an instance: others raise TypeError, set or read.
    durable : bool, default True
        Whether a value that was set survives a power cut. If not, it survives the process; and a
        power cut can cost what was set in the last half minute, the values that it replaced
        included. Files of plain formats can then be cut short, which "text" and "bytes" can't
        tell; an LMDB environment can be lost as a whole.
    compression : {None, "lz4", "zstd"}, default None
        For large parts of new values.
    signing_key : str, bytes or a sequence of these, optional
        A secret that signs every entry; entries without a valid signature are refused. Of
        several, the first signs and all are accepted.
    allow_pickle : bool, optional
        Whether values that need pickle are stored and loaded. Unpickling runs code, so by
        default only where nobody else can write, or with a `signing_key`.
    verify : {"first", "always", "header"}, default "first"
        When the checksums of large arrays are verified: when this process first reads them
        and after their file has changed, on every read, or never. All else always is.
    namespace : str, default ""
        Entries of one namespace are not valid in another.
    near : str, path-like, int, or a pair of these; optional
        Where to keep copies, in front of a place that is far away: a directory (``"~/copies"``,
        or a Path), so many bytes of this process's memory (``"256 MiB"`` or a number), or a pair
        of the two for a directory of at most that size. A copy is read if the place says, in
        one small request, that nothing has changed; with `append_only`, without asking, so that
        what others change or remove in spite of it is not seen. What goes wrong with copies is
        a warning.
    storage_options : mapping, optional
        For the fsspec filesystem: credentials, endpoint.

    Raises
    ------
    ValueError
        If an option or the URL makes no sense.

    Notes
    -----
    Besides what every dictionary raises, a value that is not what was stored raises
    `CorruptEntry`, a place that can't be reached `BackendError`, a pickle that others could
    have written `UntrustedPickle`. None of these is a KeyError: they are never a miss. Going
    through the dictionary they are raised last, after all that can be read.

    Don't change an array while another thread stores it: its checksum and its bytes aren't taken at
    one moment, so that the entry could be found damaged.

    Examples
    --------
    >>> d = PersiDict("memory://doc-persidict")
    >>> d["greeting"] = "hello"
    >>> d["runs", 7] = {"loss": 0.25}
    >>> PersiDict("memory://doc-persidict")["runs", 7]
    {'loss': 0.25}
    >>> sorted(d, key=str)
    [('runs', 7), 'greeting']
    >>> d.clear()
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        format: str = "auto",  # noqa: A002 - the field's name for it
        dump: Callable[..., object] | None = None,
        load: Callable[..., Any] | None = None,
        extension: str = ".dat",
        append_only: bool = False,
        base_class_for_values: type[V] | None = None,
        durable: bool = True,
        compression: str | None = None,
        signing_key: SigningKey | None = None,
        allow_pickle: bool | None = None,
        verify: Verify = "first",
        namespace: str = "",
        near: NearOption | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._codec_options: dict[str, Any] = {
            "format": format,
            "dump": dump,
            "load": load,
            "extension": extension,
            "namespace": namespace,
            "compression": compression,
            "signing_key": signing_key,
            "allow_pickle": allow_pickle,
            "verify": verify,
        }
        codec = codec_for(**self._codec_options)
        entries = open_entries(
            url,
            codec,
            durable=durable,
            storage_options=storage_options,
            near=near,
            append_only=append_only,
        )
        params = {
            "url": url,
            **self._codec_options,
            "append_only": append_only,
            "base_class_for_values": base_class_for_values,
            "durable": durable,
            "near": near,
            "storage_options": storage_options,
        }
        self._hold(entries, params, append_only=append_only, base_class=base_class_for_values)

    def _hold(
        self,
        entries: Entries,
        params: dict[str, Any],
        *,
        append_only: bool = False,
        base_class: type[V] | None = None,
    ) -> None:
        """Begin as the dictionary of these entries, all keys of them."""
        self._append_only = append_only
        self._base_class = base_class
        self._params = params
        self._join(entries, ())

    def _join(self, entries: Entries, prefix: tuple[Any, ...]) -> None:
        self._entries = entries
        self._prefix = prefix
        self._swaps = Swaps(entries, locate=self._locate, check=self._check)

    def __getstate__(self) -> dict[str, Any]:
        # The place and the options travel; what is open stays here.
        state = {k: v for k, v in self.__dict__.items() if k not in {"_entries", "_swaps", "_prefix"}}
        return {**state, "storage": self._entries.storage, "prefix": self._prefix}

    def __setstate__(self, state: dict[str, Any]) -> None:
        storage, prefix = state.pop("storage"), state.pop("prefix")
        self.__dict__.update(state)
        self._join(Entries(storage, codec_for(**self._codec_options)), prefix)

    def __repr__(self) -> str:
        extension = self._entries.extension
        plain = "" if extension == ".pc" else f", extension={extension!r}"
        return f"{type(self).__name__}({self._entries.storage.url!r}{plain})"

    def _repr_html_(self) -> str:
        options = self._codec_options
        facts: dict[str, object] = {
            "format": self._entries.extension if options.get("dump") else options.get("format", "none"),
            "append-only": self._append_only,
            "durable": self._entries.storage.is_durable,
        }
        rows: list[tuple[object, ...]] = []
        title = f"{type(self).__name__} {self._entries.storage.url}"
        try:
            # So much of a listing as costs a request or two, however many entries there are.
            found = list(islice(self._found([]), MOST_COUNTED + 1))
        except PersicacheError as error:
            return summary(title, {**facts, "can't be listed": error}, [], [])
        for key, _, info in found[:MOST_SHOWN]:
            rows.append((repr(Shown(key)), shown(info.nbytes), moment(info.modified)))
        if len(found) > len(rows):
            rows.append(("…", "", ""))
        count = len(found) if len(found) <= MOST_COUNTED else f"more than {MOST_COUNTED:,}"
        return summary(title, {"entries": count, **facts}, ["key", "stored", "written"], rows)

    @property
    def url(self) -> str:
        """The place, without secrets."""
        return self._entries.storage.url

    @property
    def prefix(self) -> tuple[Any, ...]:
        """What `get_subdict` was given: with it the whole keys begin; () for the whole dictionary."""
        return self._prefix

    def get_params(self) -> dict[str, Any]:
        """Return the options that make this dictionary again: ``PersiDict(**d.get_params())``.

        They hold the secrets that were given; don't print them.
        """
        return dict(self._params)

    # Keys: those of a sub-dictionary go on where its prefix ends.

    def _locate(self, key: Key) -> KeyName:
        if not self._prefix:
            return self._entries.locate(key)
        rest = key if isinstance(key, (tuple, list)) else (key,)
        if not rest:  # the prefix itself doesn't lie below it
            raise UnencodableKey(key=key, reason="of a sub-dictionary it would name what is outside")
        return self._entries.locate((*self._prefix, *rest))

    def _found(self, errors: list[Exception] | None = None) -> Iterator[tuple[Key, KeyName, BlobInfo]]:
        """Yield key, place and status of every entry, from one listing.

        What can't be told is raised at the end, or put into `errors`.
        """
        depth = len(self._prefix)
        caught: list[Exception] = [] if errors is None else errors
        for full, where, info in self._below(caught):
            key = full[depth:] if depth else full
            is_part = depth and len(key) == 1 and not isinstance(key[0], tuple)
            yield (key[0] if is_part else key), where, info
        if errors is None and caught:
            raise caught[0]

    def _below(self, errors: list[Exception]) -> Iterator[tuple[Any, KeyName, BlobInfo]]:
        """Yield what `_found` does, with whole keys."""
        found = self._entries.keys(self._entries.naming.prefix(self._prefix), errors)
        if not self._prefix:
            return found
        # Under a prefix of hundreds of characters there are others' names, too. Told by the text:
        # 1 equals True, and NaN not even itself.
        begin = self._entries.naming.text_prefix(self._prefix)
        return (each for each in found if each[1].text.startswith(begin))

    def _names(self) -> Iterator[str]:
        """Yield the name of every entry, without looking into any where names are enough."""
        prefix = self._entries.naming.prefix(self._prefix)
        if prefix.count("/") == len(self._prefix):
            return (where.name for where, _ in self._entries.names(prefix))
        return (where.name for _, where, _ in self._found())

    # Values

    def _check(self, value: Any) -> Any:
        if type(value) is Missing:  # who read it would take it for nothing, and never remove it
            raise TypeError(f"{value!r} stands for what isn't there, and is no value to store")
        if self._base_class is not None and not isinstance(value, self._base_class):
            wanted, given = self._base_class.__qualname__, type(value).__qualname__
            raise TypeError(f"{self!r} holds values of type {wanted}, not {given}")
        return value

    def _absent(self, key: Any) -> KeyError:
        return KeyError(key)

    def _refuse_change(self) -> None:
        if self._append_only:
            raise MutationPolicyError(place=repr(self), policy="append-only")

    def _refuse_precious(self, method: str, *, force: bool) -> None:
        if not force and not self._prefix and is_precious(self.url):
            raise ValueError(
                f"{self.url!r} is a whole disk, home or bucket: {method} there needs force=True"
            )

    # One key

    def __getitem__(self, key: Key) -> V:
        where = self._locate(key)
        try:
            value: V = self._entries.load(key, where).value
        except BlobNotFound:
            raise self._absent(key) from None
        return value if self._base_class is None else self._check(value)

    def __setitem__(self, key: Key, value: V | Joker) -> None:
        where = self._locate(key)
        if isinstance(value, Joker):
            if value is DELETE_CURRENT:
                self.discard(key)
            return
        self._save(key, where, value)

    def _save(self, key: Key, where: KeyName, value: Any, extra: Mapping[str, Any] | None = None) -> None:
        self._check(value)
        if not self._append_only:
            self._entries.save(key, where, value, extra=extra)
            return
        try:
            self._entries.save(key, where, value, extra=extra, expect=ABSENT)
        except VersionConflict:
            self._refuse_change()

    def put(self, key: Key, value: V, *, about: Mapping[str, Any]) -> None:
        """Set `key`, and what its entry says about the value, in one write.

        Parameters
        ----------
        key : Key
            The key.
        value : object
            The value.
        about : mapping of str to object
            Numbers, texts, lists and dicts of these. It lies in the entry's head, in front of the
            value; up to some 16 KB are read by `about` in one small request.

        Raises
        ------
        ValueError
            If the dictionary's format is a plain one, whose files hold values only.

        Examples
        --------
        >>> d = PersiDict("memory://doc-put")
        >>> d.put("model", [0.5, 2.0], about={"seconds": 12.5})
        >>> d["model"], d.about("model"), d.get_with_about("model")
        ([0.5, 2.0], {'seconds': 12.5}, ([0.5, 2.0], {'seconds': 12.5}))
        >>> d.clear()
        """
        if not self._entries.codec.keeps_keys:
            raise ValueError(f"{self!r} has a plain format, whose files hold values and nothing about them")
        if isinstance(value, Joker):
            raise TypeError(f"put takes a value, not {value!r}")
        self._save(key, self._locate(key), value, {_ABOUT: dict(about)})

    def about(self, key: Key) -> dict[str, Any]:
        """Return what the entry of `key` says about its value, without reading the value.

        Empty if it says nothing. Unlike values it isn't verified, unless it comes with one, from
        `get_with_about`.

        Raises
        ------
        KeyError
            If there is no such key.
        """
        try:
            return dict(self._entries.peek(self._locate(key)).extra.get(_ABOUT, {}))
        except BlobNotFound:
            raise self._absent(key) from None

    def get_with_about(self, key: Key) -> tuple[V, dict[str, Any]]:
        """Return the value of `key` and what its entry says about it, by one read; or raise KeyError."""
        where = self._locate(key)
        try:
            blob = self._entries.storage.read(where.name)
        except BlobNotFound:
            raise self._absent(key) from None
        value = self._check(self._entries.decode(key, where, blob).value)
        return value, dict(self._entries.told(key, where, blob).extra.get(_ABOUT, {}))

    def __delitem__(self, key: Key) -> None:
        if not self.discard(key):
            raise self._absent(key)

    def discard(self, key: Key) -> bool:
        """Remove `key` if it is there; return whether it was."""
        where = self._locate(key)
        self._refuse_change()
        return self._entries.storage.remove(where.name)

    def __contains__(self, key: object) -> bool:
        try:
            self._entries.storage.stat(self._locate(key).name)  # type: ignore[arg-type]
        except BlobNotFound:
            return False
        return True

    def pop(self, key: Key, *default: Any) -> Any:
        """Remove `key` and return its value; or the default, if there is one and no such key.

        Where the place can compare and swap, of several who pop a value at once one gets it.
        """
        if len(default) > 1:
            raise TypeError(f"pop takes one default, not {len(default)}")
        self._refuse_change()
        value = self._take(key)
        if value is not ITEM_NOT_AVAILABLE:
            return value
        if default:
            return default[0]
        raise self._absent(key)

    def popitem(self) -> tuple[Any, V]:
        """Remove some item and return it; KeyError if there is none."""
        self._refuse_change()
        for key, _, _ in self._found():
            value = self._take(key)
            if value is not ITEM_NOT_AVAILABLE:
                return key, value
        raise KeyError("the dictionary is empty")

    def _take(self, key: Key) -> Any:
        """Remove a key and return its value; ITEM_NOT_AVAILABLE if there is none."""
        if self._entries.storage.can_compare_and_swap:
            taken: list[Any] = []

            def take(value: Any) -> Any:
                taken[:] = [value]
                return KEEP_CURRENT if value is ITEM_NOT_AVAILABLE else DELETE_CURRENT

            self._swaps.transform(key, take, None)
            return taken[0]
        value, _ = self._swaps.get(key)
        return value if self.discard(key) else ITEM_NOT_AVAILABLE

    def setdefault(self, key: Key, default: V = None) -> V:  # type: ignore[assignment]
        """Return the value of `key`, after storing `default` there if there was none.

        Where the place can compare and swap, one of several who do so at once wins, and all
        return its value.
        """
        where = self._locate(key)
        if isinstance(default, Joker):
            raise TypeError("default must be a value, not KEEP_CURRENT or DELETE_CURRENT")
        self._check(default)
        while True:
            try:
                return self[key]
            except KeyError:
                if not self._entries.storage.can_compare_and_swap:
                    self[key] = default
                    return default
            try:
                self._entries.save(key, where, default, expect=ABSENT)
            except VersionConflict:
                continue
            return default

    def etag(self, key: Key) -> str:
        """Return a token that differs after every write of `key`.

        Raises
        ------
        KeyError
            If there is no such key.

        Examples
        --------
        >>> d = PersiDict("memory://doc-etag")
        >>> d["a"] = 1
        >>> before = d.etag("a")
        >>> d["a"] = 1
        >>> d.etag("a") == before
        False
        >>> d.clear()
        """
        try:
            return self._entries.storage.version(self._locate(key).name)
        except BlobNotFound:
            raise self._absent(key) from None

    def timestamp(self, key: Key) -> float:
        """Return when `key` was last written, in POSIX seconds by the clock of the place.

        Raises
        ------
        KeyError
            If there is no such key.
        """
        try:
            return self._entries.storage.stat(self._locate(key).name).modified
        except BlobNotFound:
            raise self._absent(key) from None

    def get_with_etag(self, key: Key) -> tuple[V, str]:
        """Return the value of `key` and its etag, of one moment; KeyError if there is none."""
        value, etag = self._swaps.get(key)
        if etag is ITEM_NOT_AVAILABLE:
            raise self._absent(key)
        return value, etag

    # One key, on a condition

    def get_item_if(
        self,
        key: Key,
        *,
        condition: Condition,
        expected_etag: ETag,
        retrieve_value: Retrieval = IF_ETAG_CHANGED,
    ) -> ConditionalOperationResult[V]:
        """Look at `key`, and compare its etag with the expected one.

        Parameters
        ----------
        key : Key
            The key.
        condition : ANY_ETAG, ETAG_IS_THE_SAME or ETAG_HAS_CHANGED
            What `condition_was_satisfied` of the result tells.
        expected_etag : str or ITEM_NOT_AVAILABLE
            The etag to compare with.
        retrieve_value : IF_ETAG_CHANGED, ALWAYS_RETRIEVE or NEVER_RETRIEVE
            Whether the value is fetched.

        Examples
        --------
        >>> import persicache as p
        >>> d = p.PersiDict("memory://doc-get-if")
        >>> d["a"] = 1
        >>> d.get_item_if("a", condition=p.ETAG_HAS_CHANGED, expected_etag=d.etag("a")).new_value
        VALUE_NOT_RETRIEVED
        >>> d.clear()
        """
        return self._swaps.get_if(key, condition, expected_etag, retrieve_value)

    def set_item_if(
        self,
        key: Key,
        *,
        value: V | Joker,
        condition: Condition,
        expected_etag: ETag,
        retrieve_value: Retrieval = IF_ETAG_CHANGED,
    ) -> ConditionalOperationResult[V]:
        """Set `key` if the condition holds at that very moment.

        Parameters
        ----------
        key : Key
            The key.
        value : object
            What to set; KEEP_CURRENT changes nothing, DELETE_CURRENT removes the item.
        condition : ANY_ETAG, ETAG_IS_THE_SAME or ETAG_HAS_CHANGED
            What must hold between the etag and the expected one.
        expected_etag : str or ITEM_NOT_AVAILABLE
            The etag to compare with.
        retrieve_value : IF_ETAG_CHANGED, ALWAYS_RETRIEVE or NEVER_RETRIEVE
            Whether the value that is there is fetched, if it stays.

        Raises
        ------
        ConditionsUnsupported
            If the place can't compare and swap.
        MutationPolicyError
            If the dictionary is append-only and there is an item to change.

        Examples
        --------
        >>> import persicache as p
        >>> d = p.PersiDict("memory://doc-set-if")
        >>> options = {"condition": p.ETAG_IS_THE_SAME, "expected_etag": p.ITEM_NOT_AVAILABLE}
        >>> d.set_item_if("a", value=1, **options).condition_was_satisfied
        True
        >>> d.set_item_if("a", value=2, **options).new_value
        1
        >>> d.clear()
        """
        if self._append_only and value is not KEEP_CURRENT:
            if value is DELETE_CURRENT:
                self._refuse_change()
            made = self._swaps.setdefault_if(key, value, condition, expected_etag, retrieve_value)
            if made.condition_was_satisfied and not made.value_was_mutated:
                self._refuse_change()
            return made
        return self._swaps.set_if(key, value, condition, expected_etag, retrieve_value)

    def setdefault_if(
        self,
        key: Key,
        *,
        default_value: V,
        condition: Condition,
        expected_etag: ETag,
        retrieve_value: Retrieval = IF_ETAG_CHANGED,
    ) -> ConditionalOperationResult[V]:
        """Set `key` if it is absent and the condition holds; what is there stays in any case.

        Parameters and errors are those of `set_item_if`; `default_value` is no joker.
        """
        if isinstance(default_value, Joker):
            raise TypeError("default_value must be a value, not KEEP_CURRENT or DELETE_CURRENT")
        return self._swaps.setdefault_if(key, default_value, condition, expected_etag, retrieve_value)

    def discard_if(
        self, key: Key, *, condition: Condition, expected_etag: ETag
    ) -> ConditionalOperationResult[V]:
        """Remove `key` if the condition holds at that very moment.

        Parameters and errors are those of `set_item_if`.
        """
        if self._append_only:
            seen = self._swaps.get_if(key, condition, expected_etag, NEVER_RETRIEVE)
            if seen.condition_was_satisfied and seen.new_value is not ITEM_NOT_AVAILABLE:
                self._refuse_change()
            return seen
        return self._swaps.discard_if(key, condition, expected_etag)

    def transform_item(
        self, key: Key, *, transformer: Callable[[Any], Any], n_retries: int | None = 6
    ) -> OperationResult[V]:
        """Replace the value of `key` by what a function makes of it; no update is lost.

        Parameters
        ----------
        key : Key
            The key.
        transformer : callable
            From the value, or ITEM_NOT_AVAILABLE, to the new one, KEEP_CURRENT or
            DELETE_CURRENT. It is called again after others changed the value meanwhile.
        n_retries : int or None, default 6
            How often; None for as often as it takes.

        Raises
        ------
        ConcurrencyConflictError
            If others were faster each time.
        ConditionsUnsupported
            If the place can't compare and swap.
        MutationPolicyError
            If the dictionary is append-only and there is an item to change.

        Examples
        --------
        >>> import persicache as p
        >>> d = p.PersiDict("memory://doc-transform")
        >>> def count(n): return 1 if n is p.ITEM_NOT_AVAILABLE else n + 1
        >>> [d.transform_item("n", transformer=count).new_value for _ in range(3)]
        [1, 2, 3]
        >>> d.clear()
        """
        if n_retries is not None and (isinstance(n_retries, bool) or not isinstance(n_retries, int)):
            raise TypeError(f"n_retries must be an int or None, not {n_retries!r}")
        if n_retries is not None and n_retries < 0:
            raise ValueError(f"n_retries must not be negative, not {n_retries}")

        def only_adding(value: Any) -> Any:
            new = transformer(value)
            if value is not ITEM_NOT_AVAILABLE and new is not KEEP_CURRENT:
                self._refuse_change()
            return new

        return self._swaps.transform(key, only_adding if self._append_only else transformer, n_retries)

    # All keys

    def __iter__(self) -> Iterator[Key]:
        for key, _, _ in self._found():
            yield key

    def __len__(self) -> int:
        return sum(1 for _ in self._names())

    def __bool__(self) -> bool:
        return next(self._names(), None) is not None

    def items(self) -> ItemsView[Any, V]:
        """Return a view of the items; going through it reads in batches."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the values; going through it reads in batches."""
        return _Values(self)

    def _stream(self) -> Iterator[tuple[Key, V, float]]:
        """Yield key, value and timestamp of every item, reading ahead by a batch at most.

        Places that read concurrently go on with a batch while its first values are used.

        An entry that can't be read is raised at the end: it hides no other.
        """
        errors: list[Exception] = []
        for batch in _batches(self._found(errors)):
            by_name = {where.name: (key, info) for key, where, info in batch}
            for where, blob in self._entries.load_many(where for _, where, _ in batch):
                key, info = by_name[where.name]
                try:
                    value = self._check(self._entries.decode(key, where, blob).value)
                except (CorruptEntry, UnloadableValue, UntrustedPickle) as error:
                    errors.append(error)
                    continue
                yield key, value, info.modified
        if errors:
            raise errors[0]

    def clear(self, *, force: bool = False) -> None:
        """Remove every entry of this dictionary; other files of the place stay.

        Parameters
        ----------
        force : bool, default False
            Do so in a whole disk, a home directory or a whole bucket, too.

        Raises
        ------
        ValueError
            If the place is one of these and `force` is not given.
        """
        self._refuse_change()
        self._refuse_precious("clear", force=force)
        names = self._names()
        while batch := list(islice(names, 1000)):
            self._entries.storage.remove_many(batch)

    def random_key(self) -> Key | None:
        """Return one of the keys, each as likely as another; None if there are none."""
        chosen = None
        # One pass, one key held: the i-th replaces the choice with probability 1 / i.
        for i, (key, _, _) in enumerate(self._found(), start=1):
            if random.randrange(i) == 0:  # noqa: S311 - nothing secret depends on it
                chosen = (key,)
        return None if chosen is None else chosen[0]

    # By time

    def keys_and_timestamps(self) -> Iterator[tuple[Key, float]]:
        """Yield every key and when it was last written, in POSIX seconds; one listing."""
        return ((key, info.modified) for key, _, info in self._found())

    def keys_sizes_and_timestamps(self) -> Iterator[tuple[Key, int, float]]:
        """Yield every key, the bytes of its entry, and when it was last written; one listing.

        Examples
        --------
        >>> d = PersiDict("memory://doc-sizes")
        >>> d["a"] = bytes(1000)
        >>> [(key, nbytes > 1000) for key, nbytes, _ in d.keys_sizes_and_timestamps()]
        [('a', True)]
        >>> d.clear()
        """
        return ((key, info.nbytes, info.modified) for key, _, info in self._found())

    def values_and_timestamps(self) -> Iterator[tuple[V, float]]:
        """Yield every value and when it was last written, in POSIX seconds."""
        return ((value, modified) for _, value, modified in self._stream())

    def items_and_timestamps(self) -> Iterator[tuple[Key, V, float]]:
        """Yield every key, its value, and when it was last written, in POSIX seconds."""
        return self._stream()

    def oldest_keys(self, max_n: int | None = None) -> list[Key]:
        """Return the keys that were written longest ago, the oldest first; one listing."""
        return [key for key, _ in self._by_time(max_n, newest_first=False)]

    def newest_keys(self, max_n: int | None = None) -> list[Key]:
        """Return the keys that were written last, the newest first; one listing."""
        return [key for key, _ in self._by_time(max_n, newest_first=True)]

    def oldest_values(self, max_n: int | None = None) -> list[V]:
        """Return the values that were written longest ago, the oldest first."""
        return self._values_of(self._by_time(max_n, newest_first=False))

    def newest_values(self, max_n: int | None = None) -> list[V]:
        """Return the values that were written last, the newest first."""
        return self._values_of(self._by_time(max_n, newest_first=True))

    def _by_time(self, max_n: int | None, *, newest_first: bool) -> list[tuple[Key, KeyName]]:
        if max_n is not None and max_n < 0:
            raise ValueError(f"max_n must not be negative, not {max_n}")
        times = ((info.modified, key, where) for key, where, info in self._found())
        if max_n is None:
            ordered = sorted(times, key=lambda each: each[0], reverse=newest_first)
        else:
            best = nlargest if newest_first else nsmallest
            ordered = best(max_n, times, key=lambda each: each[0])
        return [(key, where) for _, key, where in ordered]

    def _values_of(self, located: list[tuple[Key, KeyName]]) -> list[V]:
        keys = {where.name: key for key, where in located}
        found = {
            where.name: self._check(self._entries.decode(keys[where.name], where, blob).value)
            for where, blob in self._entries.load_many(where for _, where in located)
        }
        return [found[where.name] for _, where in located if where.name in found]

    # A part of it

    def get_subdict(self, prefix: Key) -> Self:
        """Return the dictionary of the keys that begin with a prefix; it shares the place.

        Parameters
        ----------
        prefix : tuple, or a key that stands for a tuple of one
            What the tuples begin with. The keys of the sub-dictionary go on from there: a key
            that is left with one part is that part, and () is none: the prefix itself is outside.

        Examples
        --------
        >>> d = PersiDict("memory://doc-subdict")
        >>> d["runs", 7, "loss"] = 0.25
        >>> runs = d.get_subdict("runs")
        >>> list(runs), list(runs.get_subdict(7)), runs[7, "loss"]
        ([(7, 'loss')], ['loss'], 0.25)
        >>> runs.get_subdict(7).prefix
        ('runs', 7)
        >>> d.clear()
        """
        parts = tuple(prefix) if isinstance(prefix, (tuple, list)) else (prefix,)
        self._entries.naming.prefix(parts)  # refuses what is no key
        sub = copy.copy(self)
        sub._join(self._entries, (*self._prefix, *parts))  # noqa: SLF001 - its own kind
        return sub

    def subdicts(self) -> dict[Any, Self]:
        """Return the sub-dictionaries by the first part of their keys; one listing.

        Raises
        ------
        ValueError
            If two of these parts are one key of a dict, such as 1 and True.
        """
        depth = len(self._prefix)
        firsts: dict[str, Any] = {}
        for key, _, _ in self._below([]):
            if isinstance(key, tuple) and len(key) > depth + 1:
                firsts.setdefault(self._entries.naming.prefix(key[depth : depth + 1]), key[depth])
        found = {first: self.get_subdict((first,)) for first in firsts.values()}
        if len(found) < len(firsts):
            raise ValueError(
                "some of these parts are different here, but one key of the dict to be returned (such as "
                "1, 1.0 and True); ask for them one by one, by get_subdict"
            )
        return found

    # Many keys

    def get_many(self, keys: Iterable[Key]) -> dict[Any, V]:
        """Return the values of those of `keys` that exist, read concurrently where it pays.

        Examples
        --------
        >>> d = PersiDict("memory://doc-many")
        >>> d.set_many({"a": 1, "b": 2})
        >>> d.get_many(["b", "a", "c"])
        {'b': 2, 'a': 1}
        >>> d.discard_many(["a", "b", "c"])
        """
        wheres: dict[KeyName, Key] = {}
        for key in keys:
            wheres[self._locate(key)] = _hashable(key)
        if len(set(wheres.values())) < len(wheres):
            raise ValueError(
                "some of these keys are different here, but one key of the dict to be returned (such as 1, "
                "1.0 and True); ask for them one by one"
            )
        found = {
            where.name: self._check(self._entries.decode(wheres[where], where, blob).value)
            for where, blob in self._entries.load_many(wheres)
        }
        return {key: found[where.name] for where, key in wheres.items() if where.name in found}

    def set_many(self, items: Mapping[Any, V] | Iterable[tuple[Any, V]]) -> None:
        """Set several items, written concurrently where it pays; each whole or not at all.

        Parameters
        ----------
        items : mapping or iterable of (key, value)
            What to set. It is gone through once, and only some 32 MiB of it are held at a time.
        """
        pairs = items.items() if isinstance(items, Mapping) else items
        # A generator may use one array for all of its items; a mapping holds each.
        own = not isinstance(items, (Mapping, list, tuple))
        batch: dict[str, Sequence[Buffer]] = {}
        nbytes = 0
        try:
            for key, value in pairs:
                if isinstance(value, Joker) or self._append_only:
                    self[key] = value
                    continue
                where = self._locate(key)
                chunks = self._entries.encode(key, where, self._check(value))
                # Its head need not be made for its length; asking a Protocol takes 30 us.
                if type(chunks) is not list and isinstance(chunks, LateHead):
                    size = chunks.head_nbytes + sum(map(len, chunks.tail))
                else:
                    size = sum(map(len, chunks))
                if own and size < BATCH_ITEM_NBYTES:
                    chunks = [bytes(chunk) for chunk in chunks]
                batch[where.name] = chunks
                nbytes += size
                if len(batch) >= BATCH or nbytes >= BATCH_NBYTES or (own and size >= BATCH_ITEM_NBYTES):
                    # Race: what failed must not be written again below, over what others set since.
                    whole, batch, nbytes = batch, {}, 0
                    self._entries.storage.write_many(whole)
                    del whole
        finally:
            # What came before an item that can't be stored is stored, as in dict.update.
            if batch:
                self._entries.storage.write_many(batch)

    def discard_many(self, keys: Iterable[Key], *, force: bool = False) -> None:
        """Remove those of `keys` that exist, concurrently where it pays.

        Parameters
        ----------
        keys : iterable of Key
            The keys.
        force : bool, default False
            Do so in a whole disk, a home directory or a whole bucket, too.

        Raises
        ------
        ValueError
            If the place is one of these and `force` is not given.
        """
        self._refuse_change()
        self._refuse_precious("discard_many", force=force)
        self._entries.storage.remove_many([self._locate(key).name for key in keys])

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def update(self, other: Any = (), /, **more: V) -> None:
        """Set the items of a mapping, of an object with keys(), or of pairs, as `set_many` does."""
        if not isinstance(other, Mapping) and hasattr(other, "keys"):
            other = [(key, other[key]) for key in other.keys()]  # noqa: SIM118 - not a mapping
        self.set_many(other)
        if more:
            self.set_many(more)

    # The dictionary itself

    def flush(self) -> None:
        """See that everything set so far is where `durable` says.

        It always is, but where `commit_every` among the storage options lets sets wait for others.
        """
        self._entries.storage.flush()

    def close(self) -> None:
        """Give back what this process holds open; the dictionary opens again when it is used."""
        self._entries.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _hashable(key: Key) -> Key:
    """Return `key` with its lists as tuples, which they are the same key as."""
    return tuple(map(_hashable, key)) if isinstance(key, (list, tuple)) else key


def _batches(
    found: Iterable[tuple[Key, KeyName, BlobInfo]],
) -> Iterator[list[tuple[Key, KeyName, BlobInfo]]]:
    batch, nbytes = [], 0
    for each in found:
        batch.append(each)
        nbytes += each[2].nbytes
        if len(batch) >= BATCH or nbytes >= BATCH_NBYTES:
            yield batch
            batch, nbytes = [], 0
    if batch:
        yield batch


class _Items(ItemsView[Any, V]):
    _mapping: PersiDict[V]

    def __iter__(self) -> Iterator[tuple[Any, V]]:
        # A view is a part of its mapping.
        return ((key, value) for key, value, _ in self._mapping._stream())  # noqa: SLF001 - as said


class _Values(ValuesView[V]):
    _mapping: PersiDict[V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value, _ in self._mapping._stream())  # noqa: SLF001 - as above

    def __contains__(self, value: object) -> bool:
        return any(value is each or value == each for each in self)
