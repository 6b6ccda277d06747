"""Copies of blobs as files in a local directory: `DirectoryCopies`."""

# ruff: noqa: D102 - the Protocol owns the docstrings

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from persicache.codecs import Verified
from persicache.errors import BackendError, BlobNotFound
from persicache.mappings.fork_lock import ForkLock, Mender
from persicache.mappings.near_copies import Copy
from persicache.mappings.near_room import Room
from persicache.mappings.near_seal import Label, seal, unseal
from persicache.mappings.warn import warn_caller
from persicache.storage import Buffer, Version, open_storage

__all__ = ["DirectoryCopies"]

_NAME_NBYTES: Final = 16
#: What share of the limit this process writes until it looks again what others have written.
_RECOUNT_SHARE: Final = 16


class DirectoryCopies:
    """Copies that processes and places share, each in a file.

    Parameters
    ----------
    directory : str
        Where they lie, in a folder of their user's own.
    place : str
        The identity of the place that this one keeps copies of.
    limit_nbytes : int, optional
        How much all the copies in the directory may take, those of other places and
        processes included.

    Notes
    -----
    Several processes at once can go beyond the limit by a sixteenth each: one sees what the
    others have written when it has written that much itself.
    """

    outlives_process: Final = True

    def __init__(self, directory: str, place: str, *, limit_nbytes: int | None = None) -> None:
        self._directory = directory
        self._place = place
        self._limit_nbytes = limit_nbytes
        # Of each user's own, with mode 0700: nobody else can change what is read from it.
        self._folder = Path(directory) / f"persicache-near-{os.geteuid()}"
        self._storage = open_storage(self._folder, durable=False)
        self._verified = Verified()
        self._swept: set[str] = set()
        self._has_warned = False
        self._room: Room | None = None
        self._unseen_nbytes = 0
        self._lock = ForkLock()
        self._keeping = ForkLock()
        self._mender = Mender(self._forget)
        self._forget()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self._directory, self._place, self._limit_nbytes)

    def __repr__(self) -> str:
        limit = "" if self._limit_nbytes is None else f", limit_nbytes={self._limit_nbytes}"
        return f"DirectoryCopies({self._directory!r}{limit})"

    def load(self, name: str) -> Copy | None:
        file = self._file(name)
        try:
            blob = self._storage.read(file)
        except BlobNotFound:
            return None
        except BackendError as error:
            self._trouble(error)
            return None
        if not blob.is_private:
            # Whoever can write it can give it the right seal, too.
            self._trouble("others can write there")
            return None
        stamp = blob.stamp
        is_verified = stamp in self._verified
        opened = unseal(blob.buffer, is_verified=is_verified)
        if opened is None or opened[1][:2] != (self._place, name):
            self.drop(name)
            return None
        if not is_verified:
            self._verified.add(stamp)
        if self._room is not None:
            with self._lock, self._mender:
                self._room.touch(file)
        data, label = opened
        return Copy(data, label.version, stamp, label.is_private)

    def keep(self, name: str, chunks: Sequence[Buffer], version: Version, *, is_private: bool) -> None:
        file = self._file(name)
        sealed = [*chunks, seal(chunks, Label(self._place, name, version, is_private))]
        try:
            self._refuse_planted()
            if self._room is None:
                self._sweep(file)
                self._storage.write(file, sealed)
            else:
                self._keep_within(self._room.limit_nbytes, file, sealed)
        except BackendError as error:
            self.drop(name)
            self._trouble(error)

    def drop(self, name: str) -> None:
        file = self._file(name)
        self._leave(file)
        try:
            self._refuse_planted()
            self._storage.remove(file)
        except BackendError as error:
            self._trouble(error)

    def close(self) -> None:
        self._storage.close()

    def _file(self, name: str) -> str:
        # Not the name itself: one blob can lie under the name of another, a file can't.
        digest = blake3(f"{self._place}/{name}".encode()).hexdigest(length=_NAME_NBYTES)
        return f"{digest[:2]}/{digest[2:]}"

    def _refuse_planted(self) -> None:
        # In a directory that many share: where somebody else's link leads, what lies there would
        # count as copies, and be removed when there is no room.
        try:
            status = self._folder.lstat()
        except OSError:  # as whoever uses it is about to find
            return
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in {0, os.geteuid()}:
            cause = "it is a link of somebody else's"
            raise BackendError(place=str(self._folder), action="keep copies", cause=cause)

    def _sweep(self, file: str) -> None:
        """Have the folder's abandoned drafts removed, once a process: listing it does that."""
        folder = file[:3]
        if folder not in self._swept:
            self._swept.add(folder)
            for _ in self._storage.scan(folder):
                pass

    def _keep_within(self, limit_nbytes: int, file: str, sealed: Sequence[Buffer]) -> None:
        nbytes = sum(map(len, sealed))
        if nbytes > limit_nbytes:
            self._leave(file)
            self._storage.remove(file)
            return
        # One after the other, so that what is counted and what is there are the same.
        with self._keeping, self._mender:
            self._unseen_nbytes += nbytes
            if self._unseen_nbytes * _RECOUNT_SHARE > limit_nbytes:
                self._storage.remove_many(self._count())
                self._unseen_nbytes = nbytes
            with self._lock, self._mender:
                assert self._room is not None
                victims = self._room.take(file, nbytes)
            # Before, not after: the disk may have no more room than that.
            self._storage.remove_many([file, *victims])
            self._storage.write(file, sealed)

    def _count(self) -> list[str]:
        """Make the room agree with the directory; return what has to go."""
        infos = sorted(self._storage.scan(), key=lambda info: info.modified)
        found = {info.name for info in infos}
        victims = []
        with self._lock, self._mender:
            assert self._room is not None
            for file in self._room:
                if file not in found:
                    self._room.leave(file)
            for info in infos:
                if not self._room.fits(info.nbytes):
                    victims.append(info.name)
                elif self._room.nbytes(info.name) != info.nbytes:
                    victims += self._room.take(info.name, info.nbytes)
        return victims

    def _leave(self, file: str) -> None:
        if self._room is not None:
            with self._lock, self._mender:
                self._room.leave(file)

    def _forget(self) -> None:
        if self._limit_nbytes is not None:
            self._room = Room(self._limit_nbytes)
            self._unseen_nbytes = self._limit_nbytes  # so that the first to be kept has all counted

    def _trouble(self, cause: object) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn_caller(f"copies can't be used in {self._directory!r}, going on without them: {cause}")


def _rebuild(directory: str, place: str, limit_nbytes: int | None) -> DirectoryCopies:
    return DirectoryCopies(directory, place, limit_nbytes=limit_nbytes)
