"""Where persidict's dictionaries lie: in files, in a bucket, in memory, nowhere."""

# ruff: noqa: D102 - what persicache's dictionary has, it explains

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from uuid import uuid4

from persicache.codecs import FORMATS, PlainCodec, codec_for, joblib_format, jsonpickle_format
from persicache.compat.persidict.dictionary import PersiDict
from persicache.keys import SignedNames
from persicache.mappings import (
    ITEM_NOT_AVAILABLE,
    NEVER_RETRIEVE,
    ConditionalOperationResult,
    Entries,
    OperationResult,
    open_entries,
)
from persicache.mappings.conditions import Joker
from persicache.storage import NullStorage, make_bucket, open_storage

__all__ = ["BasicS3Dict", "EmptyDict", "FileDirDict", "LocalDict", "S3Dict_FileDirCached"]

V = TypeVar("V")
#: What parameters were called in persidict 0.36.
_OLD: Final = {"file_type": "serialization_format", "immutable_items": "append_only"}


class FileDirDict(PersiDict[V]):
    """Values as files of a directory, named by their keys.

    Parameters
    ----------
    base_dir : str or path-like
        The directory; made if it is missing.
    serialization_format : str, default "pkl"
        What the files end in: "pkl" for pickles as joblib writes them, "json" as jsonpickle does
        (reading runs no code, so there are no objects of classes of one's own), else text.
    append_only : bool, default False
        Whether what is stored stays as it is.
    digest_len : int, default 4
        How many letters of its digest are behind each part of a name; 8 in persidict 0.36, and if
        its names of parameters are used: ``file_type`` and ``immutable_items``.
    base_class_for_values : type, optional
        Of which every value is an instance.
    allow_pickle : bool, optional
        Whether pickles of more than builtins and arrays are stored and loaded; by default where
        nobody else can write.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     d = FileDirDict(base_dir=directory, serialization_format="json")
    ...     d["runs", "Loss"] = {"mean": 0.25}
    ...     list(d), d["runs", "Loss"]
    ([NonEmptySafeStrTuple(('runs', 'Loss'))], {'mean': 0.25})
    """

    def __init__(
        self,
        base_dir: Any = "__file_dir_dict__",
        *,
        serialization_format: str = "pkl",
        append_only: bool = False,
        digest_len: int | None = None,
        base_class_for_values: type[V] | None = None,
        allow_pickle: bool | None = None,
        **old: Any,
    ) -> None:
        params = _params(old, serialization_format, append_only, base_class_for_values)
        length = (8 if old else 4) if digest_len is None else int(digest_len)
        if length < 0:
            raise ValueError(f"digest_len must not be negative, not {digest_len}")
        place = Path(base_dir).absolute()
        if place.is_file():
            raise ValueError(f"{str(base_dir)!r} is a file, not a directory")
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        params |= {"base_dir": str(place), "digest_len": length, **_given(allow_pickle=allow_pickle)}
        codec = _codec(params, compress="lz4")
        naming = SignedNames(length)
        self._begin(open_entries(place, codec, durable=True, storage_options=None, naming=naming), params)

    @property
    def base_dir(self) -> str:
        """The directory."""
        return str(self.get_params()["base_dir"])

    @property
    def digest_len(self) -> int:
        """How many letters of its digest are behind each part of a name."""
        return int(self._params["digest_len"])

    def get_params(self) -> dict[str, Any]:
        params = super().get_params()
        return {
            **params,
            "base_dir": str(Path(params["base_dir"], self._entries.naming.prefix(self._prefix))),
        }


class BasicS3Dict(PersiDict[V]):
    """Values as objects of a bucket, which is made if it is missing.

    Parameters
    ----------
    bucket_name : str
        The bucket.
    region : str, optional
        Its region.
    root_prefix : str, default ""
        What the names of the objects begin with, a slash behind it.
    serialization_format, append_only, base_class_for_values, allow_pickle
        As for `FileDirDict`. Others may write to a bucket, so pickles of more than builtins and
        arrays need ``allow_pickle=True``.
    storage_options : mapping, optional
        For the fsspec filesystem: credentials, endpoint.
    """

    _near: Path | None = None

    def __init__(
        self,
        bucket_name: str = "my_bucket",
        *,
        region: str | None = None,
        root_prefix: str = "",
        serialization_format: str = "pkl",
        append_only: bool = False,
        base_class_for_values: type[V] | None = None,
        allow_pickle: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **old: Any,
    ) -> None:
        params = _params(old, serialization_format, append_only, base_class_for_values)
        root = f"{root_prefix.rstrip('/')}/" if root_prefix else ""
        params |= {"bucket_name": bucket_name, "region": region, "root_prefix": root}
        params |= _given(allow_pickle=allow_pickle, storage_options=storage_options)
        options = dict(storage_options or {})
        if region is not None:
            options["client_kwargs"] = {**options.get("client_kwargs", {}), "region_name": region}
        url = f"s3://{bucket_name}/{root}"
        make_bucket(url, storage_options=options)
        entries = open_entries(
            url,
            _codec(params),
            durable=True,
            storage_options=options,
            near=self._near,
            append_only=params["append_only"],
            naming=SignedNames(),
        )
        self._begin(entries, params)

    @property
    def bucket_name(self) -> str:
        """The bucket."""
        return str(self._params["bucket_name"])

    @property
    def region(self) -> str | None:
        """The region that was given."""
        region: str | None = self._params["region"]
        return region

    @property
    def root_prefix(self) -> str:
        """What the names of the objects begin with."""
        return str(self.get_params()["root_prefix"])

    @property
    def base_url(self) -> str:
        """Where the objects are."""
        return f"s3://{self.bucket_name}/{self.root_prefix}"

    def get_params(self) -> dict[str, Any]:
        params = super().get_params()
        return {**params, "root_prefix": params["root_prefix"] + self._entries.naming.prefix(self._prefix)}


class S3Dict_FileDirCached(BasicS3Dict[V]):  # noqa: N801 - persidict's name
    """A `BasicS3Dict` with copies in a local directory: what hasn't changed isn't fetched again.

    Parameters
    ----------
    bucket_name : str
        The bucket.
    base_dir : str or path-like
        Where the copies lie.
    digest_len : int, default 8
        Accepted, as copies have names of their own.
    region, root_prefix, serialization_format, append_only, base_class_for_values, **more
        As for `BasicS3Dict`.
    """

    def __init__(
        self,
        bucket_name: str = "my_bucket",
        *,
        region: str | None = None,
        root_prefix: str = "",
        base_dir: Any = "__s3_dict__",
        serialization_format: str = "pkl",
        digest_len: int = 8,
        append_only: bool = False,
        base_class_for_values: type[V] | None = None,
        **more: Any,
    ) -> None:
        self._near = Path(base_dir).absolute()
        super().__init__(
            bucket_name,
            region=region,
            root_prefix=root_prefix,
            serialization_format=serialization_format,
            append_only=append_only,
            base_class_for_values=base_class_for_values,
            **more,
        )
        self._params |= {"base_dir": str(self._near), "digest_len": digest_len}

    @property
    def base_dir(self) -> str:
        """Where the copies lie."""
        return str(self._near)

    @property
    def digest_len(self) -> int:
        """What was given."""
        return int(self._params["digest_len"])


#: Places of backends that nobody can reach any more. Emptied when another is made, and not when one
#: is collected: that can be in the middle of anything.
_left: Final[deque[str]] = deque()


class _Room:
    """A place in memory that is a `LocalDict`'s own."""

    def __init__(self) -> None:
        while _left:
            storage = open_storage(_left.popleft())
            storage.remove_many([info.name for info in storage.scan()])
        self.url = f"memory://persidict-{uuid4().hex}"
        weakref.finalize(self, _left.append, self.url).atexit = False


@dataclass(frozen=True)
class _Backend:
    """What LocalDicts share, or a part of it."""

    room: _Room = field(default_factory=_Room)
    prefix: tuple[str, ...] = ()


class LocalDict(PersiDict[V]):
    """Values in this process's memory, shared by threads; copied when they are set and read.

    Parameters
    ----------
    backend : object, optional
        Where they are: of the ``get_params()`` of another. Each format has its own keys there.
    serialization_format, append_only, base_class_for_values
        As for `FileDirDict`; any value can be stored in any format but text.
    prune_interval : int, optional
        Accepted, as nothing has to be pruned.

    Examples
    --------
    >>> d = LocalDict()
    >>> d["a"] = [1]
    >>> d["a"].append(2)
    >>> d["a"]
    [1]
    """

    def __init__(
        self,
        *,
        backend: Any = None,
        serialization_format: str = "pkl",
        append_only: bool = False,
        base_class_for_values: type[V] | None = None,
        prune_interval: int | None = 64,
        **old: Any,
    ) -> None:
        params = _params(old, serialization_format, append_only, base_class_for_values)
        held = _Backend() if backend is None else backend
        params |= {"backend": held, "prune_interval": prune_interval or None}
        url = f"{held.room.url}/{params['serialization_format']}"
        self._begin(
            open_entries(url, codec_for(), durable=False, storage_options=None), params, held.prefix
        )

    def get_params(self) -> dict[str, Any]:
        params = super().get_params()
        held = params["backend"]
        return (
            params
            if held.prefix == self._prefix
            else {**params, "backend": _Backend(held.room, self._prefix)}
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a LocalDict is in this process's memory, and can't be pickled")


class EmptyDict(PersiDict[V]):
    """Takes everything, and is always empty.

    Examples
    --------
    >>> d = EmptyDict()
    >>> d["a"] = 1
    >>> len(d), d.get("a", "nothing")
    (0, 'nothing')
    """

    def __init__(
        self,
        *,
        serialization_format: str = "pkl",
        append_only: bool = False,
        base_class_for_values: type[V] | None = None,
        **old: Any,
    ) -> None:
        params = _params(old, serialization_format, append_only, base_class_for_values)
        self._begin(Entries(NullStorage(), codec_for()), params)

    def __contains__(self, key: object) -> bool:
        return False

    def __getitem__(self, key: Any) -> V:
        raise KeyError(key)

    def set_item_if(self, key: Any, *, value: Any, **asked: Any) -> ConditionalOperationResult[V]:
        self._check(value)
        return self.get_item_if(key, **asked)

    def setdefault_if(self, key: Any, *, default_value: Any, **asked: Any) -> ConditionalOperationResult[V]:
        if isinstance(default_value, Joker):
            raise TypeError("default_value must be a value, not KEEP_CURRENT or DELETE_CURRENT")
        self._check(default_value)
        return self.get_item_if(key, **asked)

    def discard_if(self, key: Any, **asked: Any) -> ConditionalOperationResult[V]:
        return self.get_item_if(key, **asked, retrieve_value=NEVER_RETRIEVE)

    def discard(self, key: Any) -> bool:  # noqa: ARG002 - there is none
        return False

    def clear(self, *, force: bool = True) -> None:
        """Have nothing to remove."""

    def transform_item(self, key: Any, **asked: Any) -> OperationResult[V]:  # noqa: ARG002 - it has none
        return OperationResult(ITEM_NOT_AVAILABLE, ITEM_NOT_AVAILABLE)


def _params(old: Mapping[str, Any], format_: str, only: Any, base: Any) -> dict[str, Any]:
    """Return the parameters that all have, by their names of today."""
    params = {"serialization_format": format_, "append_only": only, "base_class_for_values": base}
    for name, value in old.items():
        if name not in _OLD:
            raise TypeError(f"there is no parameter {name!r}")
        params[_OLD[name]] = value
    return {**params, "append_only": bool(params["append_only"])}


def _given(**optional: Any) -> dict[str, Any]:
    return {name: value for name, value in optional.items() if value is not None}


def _codec(params: Mapping[str, Any], *, compress: str | None = None) -> PlainCodec:
    name = params["serialization_format"]
    text = FORMATS["text"]
    if name == "pkl":
        plain = joblib_format(".pkl", compress=compress)
    elif name == "json":
        plain = jsonpickle_format(".json")
    else:
        plain = replace(text, extension=f".{name}", dump=lambda value: text.dump(str(value)))
    return PlainCodec(plain, allow_pickle=params.get("allow_pickle"))
