"""The directories and buckets of persidict."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Final

from persicache.conversion.codecs import plain
from persicache.conversion.files import Files
from persicache.conversion.record import Record, Records, lazily
from persicache.keys import SignedNames

__all__ = ["ENDINGS", "is_one", "records"]

#: What is written by whom, by the extension.
CODECS: Final = {"pkl": "joblib", "json": "jsonpickle", "txt": "text"}
ENDINGS: Final = tuple(f".{extension}" for extension in CODECS)
#: What files begin with until they are written.
UNFINISHED: Final = ".__tmp__"
#: How many characters of digests there are at least, of all names: fewer may be there by chance.
LEAST_DIGEST: Final = 4
MOST_DIGEST: Final = 26


def is_one(files: Files) -> bool:
    """Return whether all files have the extensions that persidict gives, or digests in their names."""
    names = _names(files)
    return bool(names) and (all(name.endswith(ENDINGS) for name in names) or _naming(names) is not None)


def records(files: Files, *, allow_pickle: bool | None) -> Records:
    """Return what is stored.

    A key of one part becomes a str, one of several a tuple of them, without the digests at the
    end of names. Where several formats share a place, the format is the first part.
    """
    names = _names(files)
    extensions = {_extension(name) for name in names}
    codecs = {each: plain(CODECS.get(each, "text"), allow_pickle=allow_pickle) for each in extensions}
    naming = _naming(names) or SignedNames()

    def each() -> Generator[Record, None, None]:
        for name in names:
            extension = _extension(name)
            parts = list(naming.key(_text(name)))
            if len(extensions) > 1:
                parts.insert(0, extension)
            key = parts[0] if len(parts) == 1 else tuple(parts)
            read = partial(files.read, name)
            yield Record(
                key, files.sizes[name], lazily(codecs[extension], read, key=key, place=files.place)
            )

    return Records("persidict", sum(files.sizes[name] for name in names), each())


def _names(files: Files) -> list[str]:
    """Return the names of the files that hold a value, and not a part of one that was not finished.

    Nor what a desktop hides, such as ``.DS_Store``; a key can begin with a dot, too.
    """
    last = {name: name.rpartition("/")[2] for name in files.sizes}
    return [
        name
        for name, end in last.items()
        if not end.startswith(UNFINISHED) and (not end.startswith(".") or end.endswith(ENDINGS))
    ]


def _extension(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2]


def _text(name: str) -> str:
    return name.rpartition(".")[0]


def _naming(names: list[str]) -> SignedNames | None:
    """Return what gives these names, with digests behind every part; None if not all have them."""
    parts = {part for name in names for part in _text(name).split("/")}
    for ndigest in range(MOST_DIGEST, 0, -1):
        naming = SignedNames(ndigest)
        if ndigest * len(parts) >= LEAST_DIGEST and all(naming.key(part) != (part,) for part in parts):
            return naming
    return None
