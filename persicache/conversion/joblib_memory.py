"""The directories of joblib.Memory."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Final

from persicache.conversion.codecs import plain
from persicache.conversion.files import Files
from persicache.conversion.record import Record, Records, lazily

__all__ = ["OUTPUT_FILE", "records"]

#: Where joblib keeps a result.
OUTPUT_FILE: Final = "output.pkl"


def records(files: Files, *, allow_pickle: bool | None) -> Records:
    """Return the results that are cached.

    A key is a tuple: the parts of the function's name as joblib has them, and its digest of
    the arguments, such as ``("package.module", "function", "7f41…")``.
    """
    names = [name for name in files.sizes if name.split("/")[-1] == OUTPUT_FILE and name.count("/") > 1]
    shared = "joblib/" if all(name.startswith("joblib/") for name in names) else ""
    codec = plain("joblib", allow_pickle=allow_pickle)

    def each() -> Generator[Record, None, None]:
        for name in names:
            key = tuple(name.removeprefix(shared).split("/")[:-1])
            load = lazily(codec, partial(files.read, name), key=key, place=files.place)
            yield Record(key, files.sizes[name], load)

    return Records("joblib.Memory", sum(files.sizes[name] for name in names), each())
