"""What of a collection is stored, and why the rest isn't: `ResultExplanation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from persicache_dask.plan import Plan

__all__ = ["ResultExplanation"]

#: How many results, or files, are shown.
_MOST_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, repr=False)
class ResultExplanation:
    """What of a collection is stored.

    Attributes
    ----------
    stored, missing : tuple of str
        The results that would be loaded, and those that would be computed, by their names.
    unkeyed : mapping of str to str
        Those that would be computed because nothing tells what they mean, and why.
    tasks, tasks_skipped : int
        How many tasks there are, and how many of them needn't run.
    files : tuple of str
        The files that are read, and whose changes are noticed.
    """

    stored: tuple[str, ...]
    missing: tuple[str, ...]
    unkeyed: Mapping[str, str]
    tasks: int
    tasks_skipped: int
    files: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Tell what a plan says."""
        return cls(
            tuple(map(_shown, plan.hits)),
            tuple(map(_shown, plan.misses)),
            {_shown(key): reason for key, reason in plan.unkeyed.items()},
            plan.tasks_skipped + len(plan.graph),
            plan.tasks_skipped + len(plan.hits),
            tuple(sorted(plan.inputs.files)),
        )

    @property
    def is_hit(self) -> bool:
        """Whether nothing need be computed."""
        return not self.missing and not self.unkeyed

    def __str__(self) -> str:
        count = len(self.stored) + len(self.missing) + len(self.unkeyed)
        head = (
            f"{len(self.stored)} of {_counted(count, 'result')} {'is' if count == 1 else 'are'} stored; "
            f"{self.tasks_skipped} of {_counted(self.tasks, 'task')} needn't run"
        )
        lines = [head]
        lines += [f"to be computed: {name}" for name in self.missing]
        lines += [f"always computed: {name}: {reason}" for name, reason in self.unkeyed.items()]
        lines += [f"reads {name}" for name in self.files]
        more = len(lines) - 2 * _MOST_SHOWN
        if more > 0:
            lines = [*lines[: 2 * _MOST_SHOWN], f"and {more} more"]
        return "\n  ".join(lines)

    def __repr__(self) -> str:
        return str(self)


def _shown(key: object) -> str:
    return str(key) if isinstance(key, str) else repr(key)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
