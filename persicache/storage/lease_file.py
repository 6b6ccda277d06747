"""A file in which the kernel keeps leases as locks on ranges of bytes: `LeaseFile`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import struct
import sys
import threading
import weakref
from collections.abc import Callable
from io import FileIO
from typing import Final

from persicache.errors import ConditionsUnsupported
from persicache.storage.held import let_go, take
from persicache.storage.machine import machine
from persicache.storage.owner import Owner

__all__ = ["HAS_RANGE_LOCKS", "N_SLOTS", "Grip", "LeaseFile"]

#: Whether this system has locks that belong to an open file, not to a process: those of a process
#: go when any of its threads closes the file.
HAS_RANGE_LOCKS: Final = (
    sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK") and struct.calcsize("l") == 8  # noqa: PLR2004 - below
)

# Type, whence, start, length, process: see struct flock of fcntl(2), with 64 bits.
_FLOCK: Final = struct.Struct("hhqqi4x")
_BUSY: Final = frozenset({errno.EAGAIN, errno.EACCES})
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})

# A slot is a range of possible bytes; none of them need exist. Its holder locks the byte in the
# middle, as many before that as the number of its process, and as many behind it as say on which
# machine that is: whoever is refused can ask the kernel for the range, and so knows who was faster.
_SIDE_BITS: Final = 22
_SIDE: Final = 1 << _SIDE_BITS
_WIDTH: Final = 2 * _SIDE
#: How many slots a file has.
N_SLOTS: Final = 1 << 39

_PASSED: Final = struct.Struct("<Q")

_live: weakref.WeakSet[LeaseFile] = weakref.WeakSet()


def _disown() -> None:
    for file in list(_live):
        file.is_ours = False


os.register_at_fork(after_in_child=_disown)


class Grip:
    """A slot that this process has.

    Parameters
    ----------
    slot : int
        Which.
    """

    __slots__ = ("has_ended", "opened", "slot", "start")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.opened: _Opened | None = None
        self.start = 0  # how long the file was then
        self.has_ended = False


class _Opened:
    """An open file, and the grips that keep it open."""

    __slots__ = ("fd", "grips", "held")

    def __init__(self, held: FileIO) -> None:
        self.held = held
        self.fd = held.fileno()
        self.grips: set[Grip] = set()


class LeaseFile:
    """Slots, each of which one thread of one process can have; it is free when the process ends.

    The file is open while a slot is had. What is written in it are the slots that were passed
    over, since their holders stood still: few, ever.

    Parameters
    ----------
    opened : callable
        Returns a descriptor of the file to read and write, which it makes if there is none.

    Attributes
    ----------
    is_ours : bool
        Whether this is still the process that made it.

    Notes
    -----
    For this process only: a forked child makes its own. Its copies of the descriptors are closed,
    so it doesn't keep the locks of a parent that is killed.

    Nothing is waited for under the lock within, so a finalizer can let go of a grip anywhere.
    """

    def __init__(self, opened: Callable[[], int]) -> None:
        self._open = opened
        self.is_ours = True
        self._before, self._behind = _sides(os.getpid())
        self._guard = threading.RLock()
        self._had: dict[int, Grip] = {}
        self._current: _Opened | None = None
        _live.add(self)

    def lock(self, slot: int) -> Grip | Owner | None:
        """Return a grip on `slot`, or who has it, None if they have just let it go.

        Raises
        ------
        ConditionsUnsupported
            If the filesystem has no such locks.
        OSError
            If the file can't be opened.
        """
        grip = Grip(slot)
        # To the kernel all threads that share a descriptor are one.
        if self._had.setdefault(slot, grip) is not grip:
            return Owner.me()
        is_locked = False
        try:
            fd = self._enter(grip)
            # Before it is locked: nobody passes a slot over that isn't.
            grip.start = os.lseek(fd, 0, os.SEEK_END)
            is_locked = self._try_lock(fd, slot)
            return grip if is_locked else _holder(fd, slot)
        finally:
            if not is_locked:
                self._leave(grip)

    def unlock(self, grip: Grip) -> None:
        """Let go of a grip, unless that was done before or in another process."""
        if not self.is_ours:
            return
        with self._guard:
            if grip.has_ended or grip.opened is None:
                return
            grip.has_ended = True
        try:
            # Race: closing alone leaves the lock to a program being started.
            fcntl.fcntl(grip.opened.fd, fcntl.F_OFD_SETLK, self._range(fcntl.F_UNLCK, grip.slot))
        except OSError:
            pass  # the file is closed soon
        finally:
            self._leave(grip)

    def pass_over(self, slot: int, grip: Grip) -> None:
        """Write down, by whoever has `grip` instead, that the holder of `slot` was passed over."""
        assert grip.opened is not None
        with contextlib.suppress(OSError):  # a full disk doesn't stop a computation
            fcntl.fcntl(grip.opened.fd, fcntl.F_SETFL, os.O_APPEND)
            os.write(grip.opened.fd, _PASSED.pack(slot))

    def is_passed_over(self, grip: Grip) -> bool:
        """Return whether a grip was let go, or passed over since it was taken."""
        if not self.is_ours:
            return True
        with self._guard:
            if grip.has_ended or grip.opened is None:
                return True
            try:
                fd = grip.opened.fd
                nbytes = os.lseek(fd, 0, os.SEEK_END) - grip.start
                return nbytes > 0 and _PASSED.pack(grip.slot) in os.pread(fd, nbytes, grip.start)
            except OSError:
                return True

    def _enter(self, grip: Grip) -> int:
        """Return the descriptor of the file, which stays open until `grip` leaves."""
        spare = None
        try:
            while True:
                with self._guard:
                    if self._current is None and spare is not None:
                        self._current, spare = _Opened(spare), None
                    grip.opened = opened = self._current
                    if opened is not None:
                        # Race: at once, or a finalizer that lets go of the last other grip closes it.
                        opened.grips.add(grip)
                if opened is None:
                    spare = take(self._open)
                elif os.fstat(opened.fd).st_nlink:
                    return opened.fd
                else:
                    # Whoever opens a file that was removed, and made again, doesn't meet those who
                    # had it open before.
                    with self._guard:
                        if self._current is opened:
                            self._current = None
                    self._part(grip)
        finally:
            if spare is not None:  # Race: another thread opened it meanwhile
                let_go(spare)

    def _try_lock(self, fd: int, slot: int) -> bool:
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, self._range(fcntl.F_WRLCK, slot))
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise ConditionsUnsupported(place="a file of leases") from error
            if error.errno not in _BUSY:
                raise
            return False
        return True

    def _range(self, kind: int, slot: int) -> bytes:
        nbytes = self._before + 1 + self._behind
        return _FLOCK.pack(kind, os.SEEK_SET, _middle(slot) - self._before, nbytes, 0)

    def _leave(self, grip: Grip) -> None:
        try:
            self._part(grip)
        finally:
            # Race: not earlier, or the next one's lock would be taken for this one's, and undone.
            del self._had[grip.slot]

    def _part(self, grip: Grip) -> None:
        """Take `grip` from the file, which is closed with the last one."""
        unused = None
        with self._guard:
            opened, grip.opened = grip.opened, None
            if opened is not None:
                opened.grips.discard(grip)
                if not opened.grips:
                    unused = opened.held
                    if self._current is opened:
                        self._current = None
        if unused is not None:
            let_go(unused)


def _holder(fd: int, slot: int) -> Owner | None:
    """Return who has `slot`, not by way of `fd`; None if nobody has."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _middle(slot), 1, 0)
    kind, _, start, length, _ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    if kind == fcntl.F_UNLCK:
        return None
    pid = _middle(slot) - start
    is_here = pid > 0 and length - pid - 1 == _machine_bits()
    return Owner(machine() if is_here else "", pid)


def _middle(slot: int) -> int:
    return slot * _WIDTH + _SIDE


def _sides(pid: int) -> tuple[int, int]:
    """Return how many bytes the process `pid` of this machine locks before and behind the middle."""
    # Two slots never touch, or the kernel would make one range of them.
    return (pid, _machine_bits()) if 0 < pid < _SIDE else (0, 0)


@functools.cache
def _machine_bits() -> int:
    """Return enough of what tells this machine from others, 0 if nothing does."""
    return int(machine() or "0", 16) % _SIDE
