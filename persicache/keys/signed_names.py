"""Names in the manner of persidict: `SignedNames`."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from persicache.keys.names import KeyName

__all__ = ["SignedNames"]

_PART: Final = re.compile(r"[A-Za-z0-9()_~=-][A-Za-z0-9()_~.=-]*", re.ASCII)


@dataclass(frozen=True)
class SignedNames:
    """Names keys, strings or sequences of them, by their parts and a few letters of each one's digest.

    The letters keep ``"Loss"`` and ``"loss"`` apart where case is ignored.

    Parameters
    ----------
    digest_len : int, default 0
        How many letters of the base32 MD5 go behind each part.

    Examples
    --------
    >>> SignedNames(4).encode(("runs", "Loss"), extension=".pkl").name
    'runs_q6ey/Loss_cr4b.pkl'
    """

    digest_len: int = 0

    def encode(self, key: str | Iterable[str], *, extension: str) -> KeyName:
        """Return name and text; ValueError if a part can be none of a file's name here."""
        text = "/".join(map(self._signed, (key,) if isinstance(key, str) else key))
        return KeyName(text + extension, text)

    def decode(self, name: str, *, extension: str) -> KeyName | None:
        """Return name and text; None for another extension, or what no key is named."""
        text = name.removesuffix(extension)
        if text == name or not all(map(_PART.fullmatch, text.split("/"))):
            return None
        return KeyName(name, text)

    def key(self, text: str, *, import_modules: bool = False) -> tuple[str, ...]:  # noqa: ARG002 - the protocol's
        """Return the parts without the letters."""
        return tuple(map(self._unsigned, text.split("/")))

    def prefix(self, key: tuple[str, ...]) -> str:
        """Return the parts as folders."""
        return "".join(f"{self._signed(part)}/" for part in key)

    text_prefix = prefix

    def _signed(self, part: str) -> str:
        if _PART.fullmatch(part) is None:
            raise ValueError(
                f"{part!r} can't be part of a key here: parts are of letters, digits and ()_-~.=, without "
                "a dot in front, as hidden files are the storage's own"
            )
        return part if self._unsigned(part) != part else part + self._letters(part)

    def _unsigned(self, part: str) -> str:
        bare = part[: -1 - self.digest_len]
        return bare if bare and self.digest_len and part == bare + self._letters(bare) else part

    def _letters(self, part: str) -> str:
        if not self.digest_len:
            return ""
        digest = hashlib.md5(part.encode(), usedforsecurity=False).digest()
        return "_" + base64.b32encode(digest).decode()[: self.digest_len].lower()
