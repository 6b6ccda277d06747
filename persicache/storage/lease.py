"""The contract of a right that one at a time has, and that runs out: `Lease`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

__all__ = ["Lease", "Leases"]


class Lease(Protocol):
    """The right to do what nobody else does meanwhile; to be given back with `release`.

    It belongs to the process that took it: in a forked child it is lost, and releasing it
    there does nothing.
    """

    @property
    def is_lost(self) -> bool:
        """Whether somebody else may have it: it was released, or taken over from a stopped holder."""

    def release(self) -> None:
        """Give it back, if it is not lost; any number of times, from any thread.

        It never raises: a lease that can't be given back runs out.
        """


class Leases(Protocol):
    """The leases of one place, by name.

    Whoever takes a lease when its holder has shown no sign of life for long can compute beside
    that holder. So a lease saves work; that no result is lost is up to conditional writes.
    """

    def tries(self, name: str) -> Generator[float, None, Lease]:
        """Try to take the lease `name`, as often as the generator is advanced.

        Threads exclude one another as processes do. The steps may run in different threads,
        and the generator may be closed at any of them.

        Parameters
        ----------
        name : str
            That of a blob; the blob has nothing to do with it.

        Yields
        ------
        float
            Somebody else has it: how many seconds to wait before the next try.

        Returns
        -------
        Lease
            It is taken.

        Raises
        ------
        BackendError
            If the place can't hold leases now.
        """
