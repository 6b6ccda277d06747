"""A gate that can be shut when nobody is inside: `Gate`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType

__all__ = ["Gate"]


class Gate:
    """Lets any number of threads in, and can be shut once all are out.

    Examples
    --------
    >>> gate = Gate()
    >>> with gate:
    ...     "something that others may do, too"
    'something that others may do, too'
    >>> with gate.shut():
    ...     "something that nobody else may do anything beside"
    'something that nobody else may do anything beside'
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: set[int] = set()
        self._keeper: int | None = None

    def __enter__(self) -> None:
        # Race: whoever enters says so and then looks for a keeper; a keeper says so and then
        # looks who is inside. So one of them sees the other, and no lock is needed to enter.
        me = threading.get_ident()
        self._inside.add(me)
        if self._keeper is not None and self._keeper != me:
            self._wait(me)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside.discard(threading.get_ident())
        if self._keeper is not None:
            with self._changed:
                self._changed.notify_all()

    def _wait(self, me: int) -> None:
        with self._changed:
            while self._keeper is not None:
                self._inside.discard(me)
                self._changed.notify_all()
                self._changed.wait()
                self._inside.add(me)

    @contextlib.contextmanager
    def shut(self) -> Iterator[bool]:
        """Wait until nobody is inside, and let nobody in until the context ends.

        A thread that is inside itself doesn't wait for that; it is given False.
        """
        me = threading.get_ident()
        with self._changed:
            while self._keeper is not None:
                self._changed.wait()
            alone = me not in self._inside
            self._keeper = me
            while len(self._inside) > (0 if alone else 1):
                self._changed.wait()
        try:
            yield alone
        finally:
            with self._changed:
                self._keeper = None
                self._changed.notify_all()
