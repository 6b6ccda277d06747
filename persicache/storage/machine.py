"""What tells this machine, and its processes' numbers, from all others: `machine`."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from pathlib import Path

__all__ = ["machine"]


@functools.cache
def machine() -> str:
    """Return what tells this machine, since it was started, from others; "" if nothing does.

    Containers of one machine can share a directory and a name, but not their process numbers.
    """
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no path, but a name for a namespace
    except OSError:
        return ""
    told = f"{platform.node()} {started} {numbers}"
    return hashlib.blake2s(told.encode(), digest_size=6).hexdigest()
