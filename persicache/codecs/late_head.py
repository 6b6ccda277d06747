"""The chunks of a large entry, whose head is made while the others are written: `LateHead`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, overload

from persicache.codecs.buffer import Buffer

__all__ = ["LATE_FROM_NBYTES", "LateHead"]

#: From here on hashing takes longer than starting a thread for it.
LATE_FROM_NBYTES: Final = 1 << 20


class LateHead(Sequence[Buffer]):
    """Chunks of which the first holds the checksums of the others.

    Hashing takes about as long as writing. Who can write the first chunk last says `start`, and
    writes `tail` meanwhile; to all others it is a sequence, made when its head is looked at.

    Parameters
    ----------
    head_nbytes : int
        How long the first chunk will be.
    tail : sequence of Buffer
        The other chunks.
    make_head : callable
        Makes the first one.

    Examples
    --------
    >>> chunks = LateHead(4, [b"tail"], lambda: b"head")
    >>> chunks.start()
    >>> chunks.tail, list(chunks), len(chunks)
    ([b'tail'], [b'head', b'tail'], 2)
    """

    def __init__(self, head_nbytes: int, tail: Sequence[Buffer], make_head: Callable[[], bytes]) -> None:
        self.head_nbytes = head_nbytes
        self.tail = tail
        self._make_head = make_head
        self._maker: threading.Thread | None = None
        self._head: bytes | None = None

    def start(self) -> None:
        """Begin to make the head, in a thread of its own."""
        if self._maker is None and self._head is None:
            maker = threading.Thread(target=self._make, name="persicache-hash")
            try:
                maker.start()
            except RuntimeError:  # no thread begins once the interpreter ends, or beyond a limit
                return
            self._maker = maker

    def __len__(self) -> int:
        return 1 + len(self.tail)

    @overload
    def __getitem__(self, index: int) -> Buffer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Buffer]: ...
    def __getitem__(self, index: int | slice) -> Buffer | Sequence[Buffer]:
        return [*self][index]

    def __iter__(self) -> Iterator[Buffer]:
        if self._maker is not None:
            # Not only until it is made: a thread that lives on holds the buffers, and worries forks.
            self._maker.join()
        if self._head is None:
            self._head = self._make_head()
        yield self._head
        yield from self.tail

    def _make(self) -> None:
        # What goes wrong here goes wrong again, and is raised, where the head is asked for.
        with contextlib.suppress(Exception):
            self._head = self._make_head()
