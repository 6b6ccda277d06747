"""The trust rule: when a pickle may be loaded, or stored."""

from __future__ import annotations

from dataclasses import dataclass

from persicache.errors import UntrustedPickle

__all__ = ["NeedsCode", "Trust"]


class NeedsCode(Exception):
    """Only code that a file chooses could rebuild the value in it."""


@dataclass(frozen=True)
class Trust:
    """Decides whether pickles are trusted.

    Unpickling runs code, so a pickle is loaded only if nobody else can have written it: it
    lies in a private place, or carries a valid signature.

    Parameters
    ----------
    allow_pickle : bool, optional
        True trusts everybody who can write to the place; False trusts nobody, a private
        place and a signature included. By default the rule decides.
    signs : bool, default False
        Whether entries are signed.
    """

    allow_pickle: bool | None = None
    signs: bool = False

    def can_store(self, *, is_private: bool) -> bool:
        """Whether a pickle that is stored here could be loaded again."""
        return (is_private or self.signs) if self.allow_pickle is None else self.allow_pickle

    def check_load(self, *, is_private: bool, is_signed: bool, key: object, place: str) -> None:
        """Raise UntrustedPickle unless a pickle found here may be loaded.

        Parameters
        ----------
        is_private : bool
            Whether nobody but this user could have written it.
        is_signed : bool
            Whether it carries a signature that was verified.
        key : object
            Its key, for the error.
        place : str
            Its place, for the error.
        """
        trusted = (is_private or is_signed) if self.allow_pickle is None else self.allow_pickle
        if not trusted:
            why = "allow_pickle=False was given" if self.allow_pickle is False else "it is a pickle"
            raise UntrustedPickle(key=key, place=place, reason=why)
