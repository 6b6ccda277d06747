"""The walk through the files of a directory tree."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from persicache.storage.draft import DRAFT_PREFIX
from persicache.storage.names import is_component

__all__ = ["walk"]


def walk(root: str, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield the name and status of every regular file below ``root/below``.

    Symbolic links are not followed; hidden files other than drafts, hidden folders and
    names that no blob can have are passed over, as is what vanishes meanwhile. A missing
    root has no files.

    Parameters
    ----------
    root : str
        The directory to which names are relative.
    below : str, default ""
        Where to begin: empty or a name with a slash behind it.
    """
    pending = [below]
    while pending:
        folder = pending.pop()
        try:
            entries = os.scandir(f"{root}/{folder}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                is_draft = entry.name.startswith(DRAFT_PREFIX)
                if not is_draft and is_component(entry.name) is None:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not is_draft:
                        pending.append(f"{folder}{entry.name}/")
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield folder + entry.name, status
