"""How long to wait between tries: `pauses`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

__all__ = ["pauses"]


def pauses(least: float, most: float, *, draw: Callable[[], float] = random.random) -> Iterator[float]:
    """Yield waits in seconds that double from `least` to `most`, each within a half of that.

    Those who began to wait together would come together each time.

    Examples
    --------
    >>> waits = pauses(1.0, 4.0, draw=lambda: 0.5)
    >>> [next(waits) for _ in range(4)]
    [1.0, 2.0, 4.0, 4.0]
    """
    pause = least
    while True:
        yield pause * (0.5 + draw())
        pause = min(2 * pause, most)
