"""A gate that can be shut when nobody is inside: `Gate`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType

__all__ = ["Gate"]


class Gate:
    """Lets any number of threads in, and can be shut once all are out.

    Attributes
    ----------
    inside : list of int
        The threads that are inside, each as often as it entered. A path that can't afford the
        context manager does by itself what that does.
    keeper : int or None
        The thread that shut it.

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
        self.inside: list[int] = []
        self.keeper: int | None = None

    def __enter__(self) -> None:
        # Race: whoever enters says so and then looks for a keeper; a keeper says so and then
        # looks who is inside. So one of them sees the other, and no lock is needed to enter.
        me = threading.get_ident()
        self.inside.append(me)
        if self.keeper is not None:
            self.wait(me)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.inside.remove(threading.get_ident())
        if self.keeper is not None:
            self.tell()

    def wait(self, me: int) -> None:
        """Step back until the gate isn't shut, unless thread `me` shut it or was inside before.

        A thread that is interrupted while it waits is not inside.
        """
        if self.inside.count(me) > 1:  # the keeper waits for it
            return
        with self._changed:
            while self.keeper not in {None, me}:
                self.inside.remove(me)
                self._changed.notify_all()
                self._changed.wait()
                self.inside.append(me)

    def tell(self) -> None:
        """Tell the keeper that a thread has left."""
        with self._changed:
            self._changed.notify_all()

    @contextlib.contextmanager
    def shut(self) -> Iterator[bool]:
        """Wait until nobody is inside, and let nobody in until the context ends.

        A thread that is inside itself doesn't wait for that; it is given False.
        """
        me = threading.get_ident()
        with self._changed:
            while self.keeper is not None:
                self._changed.wait()
            alone = me not in self.inside
            self.keeper = me
        try:
            with self._changed:
                while any(thread != me for thread in self.inside.copy()):
                    self._changed.wait()
            yield alone
        finally:
            with self._changed:
                self.keeper = None
                self._changed.notify_all()
