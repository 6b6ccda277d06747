"""Bugs to plant, which the kit must find."""

from __future__ import annotations

import os
import stat
from typing import Any

_fsync = os.fsync


def write_in_place(source: Any, target: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None) -> None:
    """Be an `os.replace` that copies the bytes over the old ones."""
    new = os.open(source, os.O_RDONLY, dir_fd=src_dir_fd)
    old = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=dst_dir_fd)
    while part := os.read(new, 1 << 20):
        os.write(old, part)
    os.close(new)
    os.close(old)
    os.unlink(source, dir_fd=src_dir_fd)


def forget_folders(fd: int) -> None:
    """Be an `os.fsync` that leaves folders out."""
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        _fsync(fd)


def forget_files(fd: int) -> None:
    """Be an `os.fsync` that leaves files out."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        _fsync(fd)
