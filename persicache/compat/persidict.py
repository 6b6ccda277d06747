"""The names of persidict 0.309, and the older ones of 0.36, over persicache.

Code that was written for persidict runs with its import line changed, on the directories and
buckets that it has, which persidict can read as before. What it gains: conditional operations that
lose nothing on local files either, threads that may share a `LocalDict`, JSON that runs no code,
and pickles from buckets that run none unless ``allow_pickle=True`` says so.
"""

# ruff: noqa: D102 - what persicache's dictionary has, it explains

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import (
    Any,
    Final,
    Generic,
    NewType,
    NoReturn,
    Protocol,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    runtime_checkable,
)

from persicache import mappings
from persicache.codecs import FORMATS, PlainCodec, codec_for, joblib_format, jsonpickle_format
from persicache.errors import BackendError, ConcurrencyConflictError, MutationPolicyError
from persicache.keys import SignedNames, safe_strings
from persicache.keys.safe_strings import *  # noqa: F403 - they are exported
from persicache.keys.safe_strings import NonEmptySafeStrTuple, SafeStrTuple, get_safe_chars
from persicache.mappings import Entries, conditions, open_entries
from persicache.mappings import conditions as c
from persicache.mappings.conditions import *  # noqa: F403 - as above
from persicache.mappings.copies import CurrentCopies, FirstCopies
from persicache.storage import NullStorage, make_bucket
from persicache.storage.memory_room import MemoryRoom

__all__ = [
    "AlwaysRetrieveFlag",
    "AnyETagFlag",
    "AppendOnlyDictCached",
    "BackendError",
    "BasicS3Dict",
    "ConcurrencyConflictError",
    "DeleteCurrentFlag",
    "ETagConditionFlag",
    "ETagHasChangedFlag",
    "ETagIfExists",
    "ETagIsTheSameFlag",
    "ETagValue",
    "EmptyDict",
    "FileDirDict",
    "IfETagChangedRetrieveFlag",
    "ItemNotAvailableFlag",
    "KeepCurrentFlag",
    "LocalDict",
    "MutableDictCached",
    "MutationPolicyError",
    "NeverRetrieveFlag",
    "OverlappingMultiDict",
    "PersiDict",
    "RetrieveValueFlag",
    "S3Dict",
    "S3Dict_FileDirCached",
    "TransformingFunction",
    "ValueNotRetrievedFlag",
    "ValueType",
    "WriteOnceDict",
    "__version__",
]
__all__ += conditions.__all__
__all__ += safe_strings.__all__

#: The version whose names these are.
__version__ = "0.309.0"
V = TypeVar("V")

# Flags: each class has one instance, persicache's sentinel.


class _OfOne(type):
    it: Any

    def __call__(cls) -> Any:
        return cls.it

    def __instancecheck__(cls, instance: object) -> bool:
        return instance is cls.it


KeepCurrentFlag = _OfOne("KeepCurrentFlag", (), {"it": c.KEEP_CURRENT})
DeleteCurrentFlag = _OfOne("DeleteCurrentFlag", (), {"it": c.DELETE_CURRENT})
AnyETagFlag = _OfOne("AnyETagFlag", (), {"it": c.ANY_ETAG})
ETagIsTheSameFlag = _OfOne("ETagIsTheSameFlag", (), {"it": c.ETAG_IS_THE_SAME})
ETagHasChangedFlag = _OfOne("ETagHasChangedFlag", (), {"it": c.ETAG_HAS_CHANGED})
AlwaysRetrieveFlag = _OfOne("AlwaysRetrieveFlag", (), {"it": c.ALWAYS_RETRIEVE})
NeverRetrieveFlag = _OfOne("NeverRetrieveFlag", (), {"it": c.NEVER_RETRIEVE})
IfETagChangedRetrieveFlag = _OfOne("IfETagChangedRetrieveFlag", (), {"it": c.IF_ETAG_CHANGED})
ItemNotAvailableFlag = _OfOne("ItemNotAvailableFlag", (), {"it": c.ITEM_NOT_AVAILABLE})
ValueNotRetrievedFlag = _OfOne("ValueNotRetrievedFlag", (), {"it": c.VALUE_NOT_RETRIEVED})
ETagConditionFlag, RetrieveValueFlag, ETagIfExists = c.Condition, c.Retrieval, c.ETag
ETagValue = NewType("ETagValue", str)
ValueType = TypeVar("ValueType")


@runtime_checkable
class TransformingFunction(Protocol[ValueType]):
    """What `transform_item` calls: from a value, or ITEM_NOT_AVAILABLE, to the next or a joker."""

    def __call__(self, current: ValueType | c.Missing, /) -> ValueType | c.Joker:
        """Return the next value."""


# Parameters


class _Options(TypedDict, Generic[V], total=False):
    """What all constructors take, by its names of today and of 0.36."""

    serialization_format: str
    append_only: bool
    base_class_for_values: type[V] | None
    file_type: str
    immutable_items: bool


_OLD: Final = {"file_type": "serialization_format", "immutable_items": "append_only"}


def _settled(options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the options by their names of today, with defaults, and those of `more` that were given."""
    params: dict[str, Any] = {
        "serialization_format": "pkl",
        "append_only": False,
        "base_class_for_values": None,
    }
    for name, value in options.items():
        if _OLD.get(name, name) not in params:
            raise TypeError(f"there is no parameter {name!r}")
        params[_OLD.get(name, name)] = value
    form, base = params["serialization_format"], params["base_class_for_values"]
    if not form or not get_safe_chars().issuperset(form):
        raise ValueError(f"serialization_format must be of letters, digits and ()_-~.=, not {form!r}")
    if base is not None and not isinstance(base, type):
        raise TypeError(f"base_class_for_values must be a class or None, not {base!r}")
    if form not in {"pkl", "json"} and not (base and issubclass(base, str)):
        raise ValueError(
            f"{form!r} files hold text: give base_class_for_values=str, or format 'pkl' or 'json'"
        )
    params["append_only"] = bool(params["append_only"])
    return params | {name: value for name, value in more.items() if value is not None}


def _codec(params: Mapping[str, Any], *, compress: str | None = None) -> PlainCodec:
    name, text = params["serialization_format"], FORMATS["text"]
    if name == "pkl":
        plain = joblib_format(".pkl", compress=compress)
    elif name == "json":
        plain = jsonpickle_format(".json")
    else:
        plain = replace(text, extension=f".{name}", dump=lambda value: text.dump(str(value)))
    return PlainCodec(plain, allow_pickle=params.get("allow_pickle"))


def _param(name: str) -> Any:
    return property(lambda self: self.get_params()[name])


class PersiDict(mappings.PersiDict[V]):
    """persicache's, with tuples of safe strings as its keys; it pickles by its parameters."""

    serialization_format = property(lambda self: self._codec_options["format"])
    append_only = property(lambda self: self._append_only)
    base_class_for_values = property(lambda self: self._base_class)

    def __init__(self) -> None:
        raise TypeError(
            "PersiDict is what FileDirDict, S3Dict and others have in common: make one of these"
        )

    def _begin(self, entries: Entries, params: dict[str, Any], prefix: tuple[str, ...] = ()) -> None:
        only, base = params["append_only"], params["base_class_for_values"]
        self._codec_options = {"format": params["serialization_format"]}
        self._hold(entries, params, append_only=only, base_class=base)
        self._join(entries, prefix)

    def get_params(self) -> dict[str, Any]:
        return dict(sorted(self._params.items()))

    def __repr__(self) -> str:
        given = {name: value for name, value in self.get_params().items() if name != "storage_options"}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def __str__(self) -> str:
        return str(dict(self.items()))

    def __copy__(self) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self._params, self._prefix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if type(other) is type(self) and other.get_params() == self.get_params():
            return True
        try:
            return dict(self.items()) == {NonEmptySafeStrTuple(key): other[key] for key in other}
        except (TypeError, ValueError):  # no key of ours; arrays
            return False

    __hash__ = None  # type: ignore[assignment]  # as of every dictionary

    def _locate(self, key: Any) -> Any:
        return super()._locate(NonEmptySafeStrTuple(key).strings)

    def _found(self, errors: list[Exception] | None = None) -> Iterator[tuple[Any, Any, Any]]:
        return ((NonEmptySafeStrTuple(key), where, info) for key, where, info in super()._found(errors))

    def _absent(self, key: Any) -> KeyError:
        return KeyError(NonEmptySafeStrTuple(key))

    def _check(self, value: Any) -> Any:
        if isinstance(value, mappings.PersiDict):
            raise TypeError("a dictionary is no value to store in one; store its get_params()")
        return super()._check(value)

    def _by_time(self, max_n: int | None, *, newest_first: bool) -> list[Any]:
        return super()._by_time(None if max_n is None else max(0, max_n), newest_first=newest_first)

    def keys(self) -> Iterator[Any]:  # type: ignore[override]  # persidict's are iterators
        return iter(self)

    def values(self) -> Iterator[V]:  # type: ignore[override]  # as above
        return iter(super().values())

    def items(self) -> Iterator[tuple[Any, V]]:  # type: ignore[override]  # as above
        return iter(super().items())

    def get_subdict(self, prefix_key: Any) -> Self:
        return super().get_subdict(SafeStrTuple(prefix_key).strings)

    def subdicts(self) -> dict[Any, Self]:
        return {first: self.get_subdict(first) for first in {key[0] for key, _, _ in self._found()}}

    def setdefault(self, key: Any, default: V = None) -> V:  # type: ignore[assignment]
        with contextlib.suppress(KeyError):
            if not isinstance(default, c.Joker):  # any default will do that isn't needed
                return self[key]
        return super().setdefault(key, default)

    def clear(self, *, force: bool = True) -> None:  # persidict asks nobody
        super().clear(force=force)

    def delete_if_exists(self, key: Any) -> bool:
        """Do as `discard` does; its name in persidict 0.36."""
        return self.discard(key)

    def get_with_etag(self, key: Any) -> c.ConditionalOperationResult[V]:  # type: ignore[override]  # as persidict
        asked: Any = {"condition": c.ANY_ETAG, "expected_etag": c.ITEM_NOT_AVAILABLE}
        return self.get_item_if(key, **asked, retrieve_value=c.ALWAYS_RETRIEVE)

    def transform_item(self, key: Any, *, n_retries: Any = 6, **asked: Any) -> c.OperationResult[V]:
        tries = None if n_retries is None else int(n_retries)
        return super().transform_item(key, n_retries=tries, **asked)


def _reopen(cls: type[PersiDict[Any]], params: dict[str, Any], prefix: tuple[str, ...]) -> PersiDict[Any]:
    made = cls(**params)
    return made.get_subdict(prefix) if prefix else made


class FileDirDict(PersiDict[V]):
    """Files of a directory, also with ``allow_pickle``: whether to trust them where others can write.

    By default `digest_len` is 4, or 8 where a parameter has its name of persidict 0.36.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     d = FileDirDict(base_dir=directory, serialization_format="json")
    ...     d["runs", "Loss"] = {"mean": 0.25}
    ...     list(d), d["runs", "Loss"]
    ([NonEmptySafeStrTuple(('runs', 'Loss'))], {'mean': 0.25})
    """

    base_dir, digest_len = _param("base_dir"), _param("digest_len")

    def __init__(
        self,
        base_dir: Any = "__file_dir_dict__",
        *,
        digest_len: int | None = None,
        allow_pickle: bool | None = None,
        **options: Unpack[_Options[V]],
    ) -> None:
        length = (8 if options.keys() & _OLD.keys() else 4) if digest_len is None else int(digest_len)
        if length < 0:
            raise ValueError(f"digest_len must not be negative, not {digest_len}")
        place = Path(base_dir).absolute()
        params = _settled(options, base_dir=str(place), digest_len=length, allow_pickle=allow_pickle)
        if place.is_file():
            raise ValueError(f"{str(base_dir)!r} is a file, not a directory")
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        codec, naming = _codec(params, compress="lz4"), SignedNames(length)
        self._begin(open_entries(place, codec, durable=True, storage_options=None, naming=naming), params)

    def get_params(self) -> dict[str, Any]:
        folder = Path(self._params["base_dir"], self._entries.naming.prefix(self._prefix))
        return {**super().get_params(), "base_dir": str(folder)}


class BasicS3Dict(PersiDict[V]):
    """Objects of a bucket, where pickles of more than builtins and arrays need ``allow_pickle=True``.

    Also with ``storage_options`` for the fsspec filesystem: credentials, endpoint.
    """

    bucket_name, region, root_prefix = map(_param, ("bucket_name", "region", "root_prefix"))
    base_url = property(lambda self: f"s3://{self.bucket_name}/{self.root_prefix}")
    _near: Path | None = None

    def __init__(
        self,
        bucket_name: str = "my_bucket",
        *,
        region: str | None = None,
        root_prefix: str = "",
        allow_pickle: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **options: Unpack[_Options[V]],
    ) -> None:
        root = f"{root_prefix.rstrip('/')}/" if root_prefix else ""
        params = _settled(options, allow_pickle=allow_pickle, storage_options=storage_options)
        params |= {"bucket_name": bucket_name, "region": region, "root_prefix": root}
        opening = dict(storage_options or {})
        if region is not None:
            opening["client_kwargs"] = {**opening.get("client_kwargs", {}), "region_name": region}
        url = f"s3://{bucket_name}/{root}"
        make_bucket(url, storage_options=opening)
        entries = open_entries(
            url,
            _codec(params),
            durable=True,
            storage_options=opening,
            near=self._near,
            append_only=params["append_only"],
            naming=SignedNames(),
        )
        self._begin(entries, params)

    def get_params(self) -> dict[str, Any]:
        root = self._params["root_prefix"] + self._entries.naming.prefix(self._prefix)
        return {**super().get_params(), "root_prefix": root}


class S3Dict_FileDirCached(BasicS3Dict[V]):  # noqa: N801 - persidict's name
    """A `BasicS3Dict` with copies in a local directory, by names of their own, whatever `digest_len` is."""

    base_dir, digest_len = _param("base_dir"), _param("digest_len")

    def __init__(
        self,
        bucket_name: str = "my_bucket",
        *,
        base_dir: Any = "__s3_dict__",
        digest_len: int = 8,
        **options: Any,
    ) -> None:
        self._near = Path(base_dir).absolute()
        super().__init__(bucket_name, **options)
        self._params |= {"base_dir": str(self._near), "digest_len": digest_len}


S3Dict = S3Dict_FileDirCached


@dataclass(frozen=True)
class _Backend:
    """What LocalDicts share, or a part of it."""

    room: MemoryRoom = field(default_factory=MemoryRoom)
    prefix: tuple[str, ...] = ()


class LocalDict(PersiDict[V]):
    """Values in this process's memory, shared by threads; copied when they are set and read.

    There is nothing to prune, and any value can be stored in any format but text.

    Examples
    --------
    >>> d = LocalDict()
    >>> d["a"] = [1]
    >>> d["a"].append(2)
    >>> d["a"]
    [1]
    """

    def __init__(
        self, *, backend: Any = None, prune_interval: int | None = 64, **options: Unpack[_Options[V]]
    ) -> None:
        held = _Backend() if backend is None else backend
        params = {**_settled(options), "backend": held, "prune_interval": prune_interval or None}
        url = f"{held.room.url}/{params['serialization_format']}"
        entries = open_entries(url, codec_for(), durable=False, storage_options=None)
        self._begin(entries, params, held.prefix)

    def get_params(self) -> dict[str, Any]:
        held = self._params["backend"]
        if held.prefix != self._prefix:
            held = _Backend(held.room, self._prefix)
        return {**super().get_params(), "backend": held}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a LocalDict is in this process's memory, and can't be pickled")


class EmptyDict(PersiDict[V]):
    """Takes everything, and is always empty."""

    append_only = _param("append_only")

    def __init__(self, **options: Unpack[_Options[V]]) -> None:
        self._begin(Entries(NullStorage(), codec_for()), _settled(options))
        self._append_only = False  # there is nothing to keep as it is

    def __contains__(self, key: object) -> bool:
        return False

    def __getitem__(self, key: Any) -> V:
        raise KeyError(key)

    def set_item_if(self, key: Any, **asked: Any) -> c.ConditionalOperationResult[V]:
        seen = super().set_item_if(key, **asked)
        return replace(seen, resulting_etag=c.ITEM_NOT_AVAILABLE, new_value=c.ITEM_NOT_AVAILABLE)

    def setdefault_if(self, key: Any, *, default_value: V, **asked: Any) -> c.ConditionalOperationResult[V]:
        seen = super().setdefault_if(key, default_value=default_value, **asked)
        return replace(seen, resulting_etag=c.ITEM_NOT_AVAILABLE, new_value=c.ITEM_NOT_AVAILABLE)

    def transform_item(self, key: Any, **asked: Any) -> c.OperationResult[V]:  # noqa: ARG002 - it has none
        return c.OperationResult(c.ITEM_NOT_AVAILABLE, c.ITEM_NOT_AVAILABLE)


class _Over(PersiDict[V]):
    """One that has the entries of another, its main one."""

    def _over(self, main: PersiDict[V], **dicts: PersiDict[Any]) -> None:
        for name, each in dicts.items():
            if not isinstance(each, PersiDict):
                raise TypeError(f"{name} must be a PersiDict, not {type(each).__name__}")
        of_main = ("append_only", "base_class_for_values", "serialization_format")
        self._begin(main._entries, {name: getattr(main, name) for name in of_main}, main._prefix)  # noqa: SLF001 - its own kind
        self._main: mappings.PersiDict[V] = main
        self._params = dicts

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.get_params(), ())

    def get_subdict(self, prefix_key: Any) -> Self:
        params = self.get_params().items()
        subs = {n: p.get_subdict(prefix_key) if isinstance(p, PersiDict) else p for n, p in params}
        return type(self)(**subs)


class WriteOnceDict(mappings.WriteOnceDict[V], _Over[V]):  # type: ignore[misc]  # iterators, as above
    """persicache's, of a `PersiDict` that is append-only; what differs is a MutationPolicyError."""

    def __init__(
        self, *, wrapped_dict: PersiDict[V] | None = None, p_consistency_checks: float | None = None
    ) -> None:
        wrapped: PersiDict[V] = FileDirDict(append_only=True) if wrapped_dict is None else wrapped_dict
        if not getattr(wrapped, "append_only", True):
            raise ValueError("wrapped_dict must be append-only")
        self._over(wrapped, wrapped_dict=wrapped)
        super().__init__(wrapped, p_consistency_checks=p_consistency_checks or 0.0)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "p_consistency_checks":
            super().__setattr__(name, value)
        elif value is not c.KEEP_CURRENT:
            super().__setattr__(name, value or 0.0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is being made
            raise AttributeError(name)
        return getattr(self._main, name)

    def __repr__(self) -> str:
        return PersiDict.__repr__(self)

    def get_params(self) -> dict[str, Any]:
        return {"p_consistency_checks": self.p_consistency_checks, **super().get_params()}

    def set_item_if(self, key: Any, **asked: Any) -> NoReturn:  # noqa: ARG002 - it never can
        raise MutationPolicyError(place=repr(self), policy="write-once")

    def clear(self, *, force: bool = True) -> NoReturn:  # noqa: ARG002 - as above
        super().clear()

    def _compare(self, key: Any, value: V) -> None:
        try:
            super()._compare(key, value)
        except ValueError:
            raise MutationPolicyError(place=repr(self), policy="write-once") from None


class AppendOnlyDictCached(FirstCopies[V], _Over[V]):
    """An append-only dictionary whose values are kept in another one, too, and read from there."""

    def __init__(self, *, main_dict: PersiDict[V], data_cache: PersiDict[V]) -> None:
        self._over(main_dict, main_dict=main_dict, data_cache=data_cache)
        if not (main_dict.append_only and data_cache.append_only):
            raise ValueError("main_dict and data_cache must be append-only")
        if main_dict.base_class_for_values is not data_cache.base_class_for_values:
            raise ValueError("main_dict and data_cache must have the same base_class_for_values")
        self._cache = data_cache


class MutableDictCached(CurrentCopies[V], _Over[V]):
    """A dictionary whose values are kept in another one, too, and read from there while current."""

    def __init__(
        self, *, main_dict: PersiDict[V], data_cache: PersiDict[V], etag_cache: PersiDict[Any]
    ) -> None:
        self._over(main_dict, main_dict=main_dict, data_cache=data_cache, etag_cache=etag_cache)
        if any(each.append_only for each in (main_dict, data_cache, etag_cache)):
            raise ValueError("main_dict, data_cache and etag_cache can't be append-only")
        self._cache, self._etags = data_cache, etag_cache


class OverlappingMultiDict:
    """Dictionaries of a class in one place, of several formats; each is an attribute by its format."""

    def __init__(
        self,
        *,
        dict_type: type[PersiDict[Any]],
        shared_subdicts_params: dict[str, Any],
        **individual_subdicts_params: dict[str, Any],
    ) -> None:
        if not issubclass(dict_type, PersiDict):
            raise TypeError(f"dict_type must be a class of PersiDict, not {dict_type!r}")
        for params in (shared_subdicts_params, *individual_subdicts_params.values()):
            if not isinstance(params, dict):
                raise TypeError(f"the parameters of dictionaries must be a dict, not {params!r}")
        self.dict_type = dict_type
        self.shared_subdicts_params = shared_subdicts_params
        self.individual_subdicts_params = individual_subdicts_params
        self.subdicts_names = list(individual_subdicts_params)
        for name, own in individual_subdicts_params.items():
            setattr(
                self, name, dict_type(**{**shared_subdicts_params, **own, "serialization_format": name})
            )

    def __getitem__(self, key: Any) -> NoReturn:
        raise TypeError(f"{key!r} is in one of the attributes of this, which are {self.subdicts_names}")

    def __setitem__(self, key: Any, value: Any) -> None:
        self[key]

    def __delitem__(self, key: Any) -> None:
        self[key]
