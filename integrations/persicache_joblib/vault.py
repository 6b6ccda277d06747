"""What must not be in pickles, for other processes on this machine: `keep` and `fetch`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Final

import persicache

__all__ = ["fetch", "keep"]


@cache
def _directory() -> str:
    # Only this user can look into it; it goes when this process ends.
    path = tempfile.mkdtemp(prefix="persicache-joblib-")
    Finalize(None, shutil.rmtree, (path,), {"ignore_errors": True}, exitpriority=-100)
    return path


#: What was kept or fetched, and where it lies.
_known: Final[dict[str, tuple[str, dict[str, Any]]]] = {}


def keep(secrets: Mapping[str, Any]) -> tuple[str, str]:
    """Put secrets where this user's other processes find them; return what fetches them.

    Examples
    --------
    >>> fetch(keep({"signing_key": "hush"}))
    {'signing_key': 'hush'}
    """
    name = persicache.digest(secrets).hex()
    if name not in _known:
        place = _directory()
        kept: persicache.PersiDict[dict[str, Any]] = persicache.open(place, durable=False)
        kept[name] = dict(secrets)
        _known[name] = place, dict(secrets)
    # A worker passes on whence it has them: that lasts longer than the worker.
    return _known[name][0], name


def fetch(ticket: tuple[str, str]) -> dict[str, Any] | None:
    """Return the secrets, None if they aren't on this machine, or not any more."""
    place, name = ticket
    if name not in _known:
        if not Path(place).is_dir():
            return None
        found: dict[str, Any] | None = persicache.open(place).get(name)
        if found is None:
            return None
        _known[name] = place, found
    return dict(_known[name][1])
