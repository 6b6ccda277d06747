"""The bytes of one file, and what its status tells about them: `FileBlob`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from persicache.storage.blob import Buffer, Identify, Version
from persicache.storage.files import stamp_of, stamp_version

__all__ = ["Facts", "FileBlob"]


class Facts(NamedTuple):
    """How to find out about a file what few readers ask for.

    Attributes
    ----------
    is_private_file : callable
        From status and name to whether nobody but this user could have written the file.
    identify : callable or None
        From the head of a file to the version that it carries.
    """

    is_private_file: Callable[[os.stat_result, str], bool]
    identify: Identify | None


class FileBlob(NamedTuple):
    """A `Blob` that was read from a file.

    Attributes
    ----------
    buffer : Buffer
        The bytes.
    status : os.stat_result
        The file's status when they were read.
    name : str
        Its name.
    facts : Facts
        How to find out more.
    was_private : bool or None
        Whether nobody but this user could have written them, if that was asked when they were
        read.
    """

    buffer: Buffer
    status: os.stat_result
    name: str
    facts: Facts
    was_private: bool | None

    def __repr__(self) -> str:
        return f"<FileBlob of {len(self.buffer)} bytes, version {self.version}>"

    @property
    def version(self) -> Version:
        # Found in the head, which no codec hands out, so that it is what it was when read.
        identify = self.facts.identify
        carried = None if identify is None else identify(self.buffer)
        return stamp_version(stamp_of(self.status)) if carried is None else carried

    @property
    def modified(self) -> float:
        return self.status.st_mtime

    @property
    def stamp(self) -> object:
        # What others can write they can change through a map of theirs, which no time shows.
        return stamp_of(self.status) if self.is_private else None

    @property
    def is_private(self) -> bool:
        if self.was_private is None:
            return self.facts.is_private_file(self.status, self.name)
        return self.was_private
