"""How much memory this process takes."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import psutil


def resident_nbytes() -> int:
    """Return what is resident now."""
    return int(psutil.Process().memory_info().rss)


def reset_peak() -> None:
    """Make the kernel forget the peak so far, where it can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_nbytes() -> int:
    """Return the most that was resident since `reset_peak`, mapped pages included."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Not Linux: since the process started.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
