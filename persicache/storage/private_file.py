"""Files that only their owner can touch, made before a library opens them."""

# ruff: noqa: PTH116, PTH120 - plain os calls, as in folders

from __future__ import annotations

import os
from typing import Final

from persicache.storage.folders import is_private, make_folders, set_mode, sync_folder

__all__ = ["create_private", "is_private_file"]

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def create_private(path: str, *, durable: bool = False) -> None:
    """Make an empty file with mode 0600, and the folders above it, unless there is one.

    Libraries that make their own files leave the mode to the umask. One that exists isn't
    opened: closing it would take away the locks that this process holds on it by `fcntl`.
    """
    folder = os.path.dirname(path)
    if os.path.lexists(path):
        return
    make_folders(folder, durable=durable)
    try:
        fd = os.open(path, _CREATE, 0o600)
    except FileExistsError:  # Race: another made it meanwhile
        return
    try:
        set_mode(fd, 0o600)
    finally:
        os.close(fd)
    if durable:
        sync_folder(folder)


def is_private_file(path: str) -> bool:
    """Return whether nobody but this user can write `path`, or put another file in its place.

    Where there is no file, whether nobody else could make one.
    """
    try:
        folder = os.stat(os.path.dirname(path))
    except FileNotFoundError:  # to be made, with mode 0700
        return True
    except OSError:
        return False
    try:
        return is_private(folder) and is_private(os.stat(path))
    except FileNotFoundError:  # to be made, with mode 0600
        return is_private(folder)
    except OSError:
        return False
