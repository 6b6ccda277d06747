"""The walk through the files of a directory tree."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from persicache.storage.draft import DRAFT_PREFIX
from persicache.storage.folders import Folders, Spot
from persicache.storage.names import is_component

__all__ = ["walk"]


def walk(folders: Folders, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield the name and status of every regular file below `below`.

    Symbolic links are not followed; hidden files other than drafts, hidden folders and
    names that no blob can have are passed over, as is what vanishes meanwhile. A missing
    root has no files.

    Parameters
    ----------
    folders : Folders
        Those below the root, to which names are relative.
    below : str, default ""
        Where to begin: empty or a name with a slash behind it.
    """
    pending = [below]
    while pending:
        folder = pending.pop()
        try:
            with folders.entered(folder.rstrip("/")) as spot:
                for name, status in _files_at(spot):
                    if status is None:
                        pending.append(f"{folder}{name}/")
                    else:
                        yield folder + name, status
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise


def _files_at(spot: Spot) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield the names of files with their status, those of folders with None."""
    with os.scandir(spot.directory if spot.fd is None else spot.fd) as entries:
        for entry in entries:
            is_draft = entry.name.startswith(DRAFT_PREFIX)
            if not is_draft and is_component(entry.name) is None:
                continue
            if entry.is_dir(follow_symlinks=False):
                if not is_draft:
                    yield entry.name, None
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield entry.name, status
