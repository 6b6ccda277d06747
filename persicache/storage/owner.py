"""Which process has something, and whether that process runs: `Owner`."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from persicache.storage.machine import machine

__all__ = ["Owner"]


class Owner(NamedTuple):
    """A process.

    Attributes
    ----------
    machine : str
        Where it is, "" if nobody knows.
    pid : int
        Its number there.
    """

    machine: str
    pid: int

    @classmethod
    def me(cls) -> Owner:
        """Return this process."""
        return cls(machine(), os.getpid())

    def state(self) -> Literal["runs", "stopped", "gone", "unknown"]:
        """Return what the process does; "unknown" if that can't be seen from here.

        Examples
        --------
        >>> Owner.me().state()
        'runs'
        >>> Owner("elsewhere", 1).state()
        'unknown'
        """
        if not self.machine or self.machine != machine():
            return "unknown"
        if self.pid == os.getpid():
            return "runs"
        # Only those who wait ask.
        import psutil  # noqa: PLC0415 - as above

        try:
            os.kill(self.pid, 0)
            status = psutil.Process(self.pid).status()
        except ProcessLookupError:
            return "gone"
        except (OSError, OverflowError, psutil.Error):
            return "unknown"  # somebody else's, and hidden; or it is going at this moment
        if status in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
            return "gone"
        return "stopped" if status in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP} else "runs"
