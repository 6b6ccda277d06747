"""The places that a PersiDict can lie in, as the suites over all of them know them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Place:
    """A kind of place, and what it promises.

    Attributes
    ----------
    name : str
        What the tests are called by.
    url : str
        Where it is, in a folder of its own.
    options : dict
        Of its filesystem.
    durable : bool
        Whether it is opened as durable.
    near : int, optional
        For how many bytes of copies there is room in front of it.
    swaps : bool
        Whether it can compare and swap.
    is_shared : bool
        Whether other processes see it.
    waits : bool
        Whether what is set can wait for a flush, until which other handles don't see it.
    """

    name: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)
    durable: bool = False
    near: int | None = None
    swaps: bool = True
    is_shared: bool = True
    waits: bool = False

    def __str__(self) -> str:
        return self.name

    def new(self, folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
        """Return the arguments that open a PersiDict in a new place of this kind."""
        own = uuid.uuid4().hex
        options = dict(self.options)
        url = self.url.format(folder=folder / own, own=own)
        if url.startswith("s3:"):
            s3 = request.getfixturevalue("s3")
            url = f"{s3.url}/{own}"
            options |= s3.storage_options
        return {"url": url, "durable": self.durable, "near": self.near, "storage_options": options}


PLACES = [
    Place("directory", "{folder}"),
    Place("durable", "{folder}", durable=True),
    Place("near", "{folder}", near=100_000),
    Place("memory", "memory://{own}", is_shared=False),
    Place("s3", "s3://"),
    Place("sqlite", "{folder}/x.db"),
    Place("waiting", "{folder}/x.db", {"commit_every": 3}, waits=True),
    Place("lmdb", "lmdb://{folder}/env"),
    Place("json", "{folder}/x.json"),
    Place("generic", "dir::file://{folder}", swaps=False),
]
#: Where conditions are exact.
SWAPPING = [kind for kind in PLACES if kind.swaps]
