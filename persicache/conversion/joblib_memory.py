"""The directories of joblib.Memory."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Final

from persicache.conversion.codecs import plain
from persicache.conversion.files import Files
from persicache.conversion.record import Record, Records, lazily

__all__ = ["is_one", "records"]

#: Where joblib keeps a result, what it tells of it, and the code of a function.
OUTPUT_FILE: Final = "output.pkl"
METADATA_FILE: Final = "metadata.json"
CODE_FILE: Final = "func_code.py"


def is_one(files: Files) -> bool:
    """Return whether there is a result, or a function's code; persidict can have an "output" too."""

    def belongs(name: str) -> bool:
        folder, mark, last = name.rpartition("/")
        return last == CODE_FILE or (last == OUTPUT_FILE and folder + mark + METADATA_FILE in files.sizes)

    return any(map(belongs, files.sizes))


def records(files: Files, *, allow_pickle: bool | None) -> Records:
    """Return the results that are cached.

    A key is a tuple: the parts of the function's name as joblib has them, and its digest of
    the arguments, such as ``("package.module", "function", "7f41…")``.

    Raises
    ------
    ValueError
        If it is the directory of a function, of which the name isn't known.
    """
    names = [name for name in files.sizes if name.rpartition("/")[2] == OUTPUT_FILE]
    if CODE_FILE in files.sizes or any(name.count("/") < 2 for name in names):  # noqa: PLR2004 - below a function and its arguments
        raise ValueError(f"{files.place!r} is a part of a joblib.Memory: give the directory of all of it")
    shared = "joblib/" if all(name.startswith("joblib/") for name in names) else ""
    codec = plain("joblib", allow_pickle=allow_pickle)

    def each() -> Generator[Record, None, None]:
        for name in names:
            key = tuple(name.removeprefix(shared).split("/")[:-1])
            load = lazily(codec, partial(files.read, name), key=key, place=files.place)
            yield Record(key, files.sizes[name], load)

    return Records("joblib.Memory", sum(files.sizes[name] for name in names), each())
