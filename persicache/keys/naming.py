"""How the keys of a place are named: the contract, and persicache's own way."""

from __future__ import annotations

from typing import Any, Final, Protocol

from persicache.keys.atoms import Key
from persicache.keys.names import KeyName, decode_name, encode_key, encode_prefix
from persicache.keys.texts import decode_text

__all__ = ["OWN_NAMES", "Naming"]


class Naming(Protocol):
    """Names for keys, and keys for names."""

    def encode(self, key: Any, *, extension: str) -> KeyName:
        """Return the storage name and the full text of a key; raises if it can have none."""

    def decode(self, name: str, *, extension: str) -> KeyName | None:
        """Return what `encode` did for the key of this name; None if no key has it."""

    def key(self, text: str, *, import_modules: bool = False) -> Any:
        """Return the key of a text."""

    def prefix(self, key: tuple[Any, ...]) -> str:
        """Return what the names of all longer tuples begin with; maybe those of others, too."""

    def text_prefix(self, key: tuple[Any, ...]) -> str:
        """Return what the texts of all longer tuples begin with, and of no others."""


class _OwnNames:
    """The names that persicache gives: see `encode_key`."""

    # As they are, so that naming a key costs no call more.
    encode = staticmethod(encode_key)
    decode = staticmethod(decode_name)
    key = staticmethod(decode_text)
    prefix = staticmethod(encode_prefix)

    @staticmethod
    def text_prefix(key: tuple[Key, ...]) -> str:
        """Return the prefix of the texts: that of names is cut where they are."""
        return encode_key((*key, None, None), extension="").text.rsplit("/", 2)[0] + "/"

    def __reduce__(self) -> str:
        return "OWN_NAMES"


OWN_NAMES: Final[Naming] = _OwnNames()
