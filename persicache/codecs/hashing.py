"""blake3 with as many threads as the bytes deserve and this process has."""

from __future__ import annotations

import os
from typing import Final

from blake3 import blake3

__all__ = ["hasher"]

#: Below it, one thread hashes faster than several.
MANY_THREADS_NBYTES: Final = 1 << 20


class _Threads:
    """The most threads that a hasher may use here; None until somebody asks."""

    most: int | None = None

    @classmethod
    def only_one(cls) -> None:
        cls.most = 1

    @classmethod
    def asked(cls) -> int:
        if cls.most is None:
            try:
                blake3(bytes(MANY_THREADS_NBYTES), max_threads=blake3.AUTO)
            except BaseException as error:
                # So it says that none can be started, beyond a limit on processes, now and ever.
                if type(error).__name__ != "PanicException":
                    raise
                cls.most = 1
            else:
                cls.most = blake3.AUTO
        return cls.most


# blake3's threads are a pool of the process that a forked child doesn't inherit: it would wait
# for them for ever.
os.register_at_fork(after_in_child=_Threads.only_one)


def hasher(nbytes: int) -> blake3:
    """Return a hasher for so many bytes.

    Examples
    --------
    >>> hasher(3).update(b"abc").digest() == hasher(1 << 30).update(b"abc").digest()
    True
    """
    return blake3(max_threads=_Threads.asked() if nbytes >= MANY_THREADS_NBYTES else 1)
