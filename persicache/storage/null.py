"""A place that keeps nothing: `NullStorage`."""

# ruff: noqa: D102, ARG002 - the Protocol owns the docstrings and the parameters

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from persicache.errors import BlobNotFound, VersionConflict
from persicache.storage.blob import ABSENT, ANY, Blob, BlobInfo, Buffer, Expectation, Known, Version
from persicache.storage.names import check_expectation, check_name, check_prefix

__all__ = ["NullStorage"]


class NullStorage:
    """What is written here is gone, as in the null device of an operating system.

    Examples
    --------
    >>> storage = NullStorage()
    >>> version = storage.write("a", [b"gone"])
    >>> list(storage.scan())
    []
    """

    url = "null://"
    can_compare_and_swap = True
    is_durable = True
    is_private = True

    def __repr__(self) -> str:
        return "NullStorage()"

    def read(self, name: str) -> Blob:
        return self._nothing(name)

    def write(self, name: str, chunks: Sequence[Buffer], *, expect: Expectation | Version = ANY) -> Version:
        self._compare(name, expect)
        return os.urandom(16).hex()

    def remove(self, name: str, *, expect: Expectation | Version = ANY) -> bool:
        self._compare(name, expect)
        return False

    def stat(self, name: str) -> BlobInfo:
        return self._nothing(name)

    def version(self, name: str) -> Version:
        return self._nothing(name)

    def read_head(self, name: str, nbytes: int) -> bytes:
        return self._nothing(name)

    def is_private_for(self, name: str) -> bool:
        check_name(name)
        return True

    def scan(self, prefix: str = "") -> Iterator[BlobInfo]:
        check_prefix(prefix)
        return iter(())

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        for name in names:
            check_name(name)
        return iter(())

    def read_changed(self, known: Iterable[Known]) -> Iterator[tuple[str, Blob | None]]:
        return self.read_many(name for name, _ in known)

    def write_many(self, items: Mapping[str, Sequence[Buffer]]) -> dict[str, Version]:
        return {name: self.write(name, chunks) for name, chunks in items.items()}

    def remove_many(self, names: Iterable[str]) -> None:
        for name in names:
            check_name(name)

    def flush(self) -> None:
        """Let nothing wait, so have nothing to write."""

    def close(self) -> None:
        """Hold nothing open, so give nothing back."""

    def _nothing(self, name: str) -> NoReturn:
        check_name(name)
        raise BlobNotFound(name=name, place=self.url)

    def _compare(self, name: str, expect: Expectation | Version) -> None:
        check_name(name)
        check_expectation(expect)
        if expect is not ANY and expect is not ABSENT:
            raise VersionConflict(name=name, place=self.url, expected=expect, actual=None)
