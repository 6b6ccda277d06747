"""The directories and buckets of persidict."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator
from functools import partial
from typing import Final

from persicache.conversion.codecs import plain
from persicache.conversion.files import Files
from persicache.conversion.record import Record, Records, lazily

__all__ = ["is_one", "records"]

#: What is written by whom, by the extension.
CODECS: Final = {"pkl": "joblib", "json": "jsonpickle", "txt": "text"}
#: What files begin with until they are written.
UNFINISHED: Final = ".__tmp__"
#: The shortest suffix of names that is taken for a digest: a shorter one may be there by chance.
LEAST_DIGEST: Final = 4
MOST_DIGEST: Final = 26


def is_one(files: Files) -> bool:
    """Return whether all files have the extensions that persidict gives."""
    names = _names(files)
    return bool(names) and all(_extension(name) in CODECS for name in names)


def records(files: Files, *, allow_pickle: bool | None) -> Records:
    """Return what is stored.

    A key of one part becomes a str, one of several a tuple of them, without the digests at the
    end of names. Where several formats share a place, the format is the first part.
    """
    codecs = {extension: plain(name, allow_pickle=allow_pickle) for extension, name in CODECS.items()}
    names = _names(files)
    extensions = {_extension(name) for name in names}
    nsuffix = _suffix_length(names)

    def each() -> Generator[Record, None, None]:
        for name in names:
            extension = _extension(name)
            parts = [part[: len(part) - nsuffix] for part in _parts(name)]
            if len(extensions) > 1:
                parts.insert(0, extension)
            key = parts[0] if len(parts) == 1 else tuple(parts)
            read = partial(files.read, name)
            yield Record(
                key, files.sizes[name], lazily(codecs[extension], read, key=key, place=files.place)
            )

    return Records("persidict", sum(files.sizes[name] for name in names), each())


def _names(files: Files) -> list[str]:
    """Return the names of the files that hold a value, and not a part of one that was not finished."""
    return [name for name in files.sizes if not name.rpartition("/")[2].startswith(UNFINISHED)]


def _extension(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2]


def _parts(name: str) -> list[str]:
    return name.rpartition(".")[0].split("/")


def _suffix_length(names: list[str]) -> int:
    """Return how much of every name is "_" and the digest of the rest; 0 if that isn't so."""
    parts = {part for name in names for part in _parts(name)}
    for ndigest in range(MOST_DIGEST, LEAST_DIGEST - 1, -1):
        if all(_is_signed(part, ndigest) for part in parts):
            return ndigest + 1
    return 0


def _is_signed(part: str, ndigest: int) -> bool:
    plain_part, mark, given = part[: -ndigest - 1], part[-ndigest - 1 : -ndigest], part[-ndigest:]
    digest = hashlib.md5(plain_part.encode(), usedforsecurity=False).digest()
    return bool(plain_part) and mark == "_" and base64.b32encode(digest).decode()[:ndigest].lower() == given
