"""Folders that only their owner can enter, and whether an existing one is such."""

# ruff: noqa: PTH101, PTH102, PTH120 - plain os calls: a Path costs as much as the call itself

from __future__ import annotations

import os
import stat

__all__ = ["is_private", "make_folders", "sync_folder"]

_PRIVATE_MODE = 0o700
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_folders(path: str, *, durable: bool = False) -> None:
    """Make the folder `path` with what is missing above it, each with mode 0700.

    Folders that exist are left as they are.

    Parameters
    ----------
    path : str
        An absolute path.
    durable : bool, default False
        Whether the new folders survive a power cut.
    """
    parent = os.path.dirname(path)
    try:
        os.mkdir(path, _PRIVATE_MODE)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folders(parent, durable=durable)
        make_folders(path, durable=durable)
        return
    os.chmod(path, _PRIVATE_MODE)  # whatever the umask left of the mode
    if durable:
        sync_folder(parent)


def sync_folder(path: str) -> None:
    """Make the names in the folder `path` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_private(status: os.stat_result) -> bool:
    """Return whether only this user can write what has `status`."""
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE
