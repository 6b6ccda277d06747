"""Dictionaries in files and in buckets."""

# ruff: noqa: D102 - as in dictionary

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Unpack

from persicache.compat.persidict.dictionary import PersiDict
from persicache.compat.persidict.parameters import OLD, Options, codec_of, param, settled
from persicache.keys import SignedNames
from persicache.mappings import open_entries
from persicache.storage import make_bucket

__all__ = [
    "BasicS3Dict",
    "FileDirDict",
    "S3Dict",
    "S3Dict_FileDirCached",
]

V = TypeVar("V")


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

    base_dir, digest_len = param("base_dir"), param("digest_len")

    def __init__(
        self,
        base_dir: Any = "__file_dir_dict__",
        *,
        digest_len: int | None = None,
        allow_pickle: bool | None = None,
        **options: Unpack[Options[V]],
    ) -> None:
        length = (8 if options.keys() & OLD.keys() else 4) if digest_len is None else int(digest_len)
        if length < 0:
            raise ValueError(f"digest_len must not be negative, not {digest_len}")
        place = Path(base_dir).absolute()
        params = settled(options, base_dir=str(place), digest_len=length, allow_pickle=allow_pickle)
        if place.is_file():
            raise ValueError(f"{str(base_dir)!r} is a file, not a directory")
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        codec, naming = codec_of(params, compress="lz4"), SignedNames(length)
        self._begin(open_entries(place, codec, durable=True, storage_options=None, naming=naming), params)

    def get_params(self) -> dict[str, Any]:
        folder = Path(self._params["base_dir"], self._entries.naming.prefix(self._prefix))
        return {**super().get_params(), "base_dir": str(folder)}


class BasicS3Dict(PersiDict[V]):
    """Objects of a bucket, where pickles of more than builtins and arrays need ``allow_pickle=True``.

    Also with ``storage_options`` for the fsspec filesystem: credentials, endpoint.
    """

    bucket_name, region, root_prefix = map(param, ("bucket_name", "region", "root_prefix"))
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
        **options: Unpack[Options[V]],
    ) -> None:
        root = f"{root_prefix.rstrip('/')}/" if root_prefix else ""
        params = settled(options, allow_pickle=allow_pickle, storage_options=storage_options)
        params |= {"bucket_name": bucket_name, "region": region, "root_prefix": root}
        opening = dict(storage_options or {})
        if region is not None:
            opening["client_kwargs"] = {**opening.get("client_kwargs", {}), "region_name": region}
        url = f"s3://{bucket_name}/{root}"
        make_bucket(url, storage_options=opening)
        entries = open_entries(
            url,
            codec_of(params),
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

    base_dir, digest_len = param("base_dir"), param("digest_len")

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
