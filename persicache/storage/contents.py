"""The contents of an open file: small ones read, large ones mapped."""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import sys
import weakref
from typing import Final

from persicache.storage.blob import Buffer

__all__ = ["MAP_FROM_NBYTES", "contents"]

#: From this size on, mapping is faster than reading: pages come when they are touched.
MAP_FROM_NBYTES: Final = 64 * 1024

_MOST_MAPS: Final = 16_384  # a quarter of the kernel's usual 65,530 a process
_FEW_MAPS: Final = 64  # so many are no trouble under any limit, so that it need not be asked for
_NEEDS_FD: Final = sys.version_info < (3, 13)

# Every live map of the process, since the limits on descriptors and maps are the process's.
_live: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def contents(fd: int, nbytes: int, *, can_map: bool = False) -> Buffer:
    """Return the first `nbytes` bytes of the file open as `fd`, fewer if it is shorter.

    The file position must be at the start. From `MAP_FROM_NBYTES` on the buffer is
    writable, and writing to it leaves the file alone.

    Parameters
    ----------
    fd : int
        The file.
    nbytes : int
        How much.
    can_map : bool, default False
        Whether nobody else can write to the file. A page of a map that wasn't touched yet
        is the file's: others could change it after it was verified, or cut it off, which
        kills the reader.
    """
    if nbytes >= MAP_FROM_NBYTES:
        mapped = _map(fd, nbytes) if can_map else None
        return _read_large(fd, nbytes) if mapped is None else mapped
    data = os.read(fd, nbytes)
    while len(data) < nbytes:
        more = os.read(fd, nbytes - len(data))
        if not more:
            break
        data += more
    return data


def _map(fd: int, nbytes: int) -> Buffer | None:
    if len(_live) >= _FEW_MAPS and len(_live) >= _most_maps():
        return None
    # A map shorter than it should be dies of SIGBUS when touched; but entries are replaced,
    # never truncated. No descriptors or no address space left: reading needs neither.
    with contextlib.suppress(OSError, ValueError):
        mapped = (
            mmap.mmap(fd, nbytes, access=mmap.ACCESS_COPY)
            if _NEEDS_FD
            else mmap.mmap(fd, nbytes, access=mmap.ACCESS_COPY, trackfd=False)  # type: ignore[call-arg, unused-ignore]
        )
        _live.add(mapped)
        return memoryview(mapped)
    return None


def _most_maps() -> int:
    if not _NEEDS_FD:
        return _MOST_MAPS
    # Before Python 3.13 each map keeps a descriptor; the program needs some for itself.
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_MAPS if soft == resource.RLIM_INFINITY else min(_MOST_MAPS, soft // 4)


def _read_large(fd: int, nbytes: int) -> Buffer:
    buffer = bytearray(nbytes)
    view = memoryview(buffer)
    done = 0
    while done < nbytes:
        got = os.readv(fd, [view[done:]])
        if not got:
            break
        done += got
    return buffer if done == nbytes else buffer[:done]
