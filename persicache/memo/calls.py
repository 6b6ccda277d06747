"""What the calls of a function are filed under: `Calls`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from persicache.errors import UnreadableDependency
from persicache.keys import CallDigest, Fingerprint, KeyName, encode_prefix, fingerprint
from persicache.memo.binding import Binder
from persicache.memo.dependencies import Dependencies
from persicache.memo.settings import Settings

__all__ = ["Calls"]

#: Types whose equal values of one type are one argument; of floats, 0.0 and -0.0 are not.
_ATOMS: Final = frozenset({int, str, bytes, bool, type(None)})
#: So many kinds of calls are told apart quickly.
_MOST_KINDS: Final = 64

_new = tuple.__new__  # a third of the time of KeyName(...), on the path of every hit


class Calls:
    """Names the calls of one function, by their arguments and the function's code.

    Parameters
    ----------
    function : callable
        The function.
    settings : Settings
        What counts.
    label : str
        What its results are filed under.
    extension : str
        What the names of entries end in.

    Attributes
    ----------
    is_current : callable
        Returns whether the code that the last names were made with is that of now. Quick.
    """

    def __init__(
        self, function: Callable[..., Any], settings: Settings, *, label: str, extension: str
    ) -> None:
        self._function = function
        self._settings = settings
        self._extension = extension
        self.prefix = encode_prefix((label,))
        self._dependencies = Dependencies(settings.depends_on)
        self._bind = Binder(function, ignore=settings.ignore, key=settings.key)
        self._kinds: dict[tuple[type, ...], bool] = {}
        self._fingerprint: Fingerprint | None = None
        self._epoch = object()
        self._state: tuple[bytes, object] | None = None
        self.is_current: Callable[[], bool] = _never

    @property
    def signature(self) -> Any:
        """The signature that calls are bound to."""
        return self._bind.signature

    @property
    def epoch(self) -> object:
        """What stands for the code, and for all else that results depend on, until it changes."""
        if not self.is_current():
            self.renew()
        return self._epoch

    def renew(self) -> None:
        """Look at the code, and at all else that results depend on, as it is now."""
        # Race: two threads may do this at once; both find the same.
        code = fingerprint(self._function, code=self._settings.code)
        depends = self._dependencies.digests() if self._dependencies else None
        state = (code.digest, depends)
        if state != self._state:  # else something was replaced by its like
            self._bind = Binder(self._function, ignore=self._settings.ignore, key=self._settings.key)
            salt = (code.digest, self._settings.version)
            if depends is not None:
                salt = (*salt, depends)  # type: ignore[assignment]
            self._digest = CallDigest(salt, self._bind.names, defaults=self._bind.defaults)
            self._epoch = object()
            self._state = state
        self._fingerprint = code
        is_same = code.is_current
        if depends is not None:
            self.is_current = lambda: is_same() and self._still_depends_on(depends)
        else:
            self.is_current = is_same

    @property
    def latest(self) -> Fingerprint:
        """The code of the last `renew`."""
        assert self._fingerprint is not None
        return self._fingerprint

    def _still_depends_on(self, digests: tuple[bytes, ...]) -> bool:
        try:
            return self._dependencies.digests() == digests
        except UnreadableDependency:
            return False  # and `renew` will say so

    def code_digest(self) -> bytes:
        """Return the digest of the code, as it is now."""
        return self.code().digest

    def code(self) -> Fingerprint:
        """Return the fingerprint of the code, as it is now."""
        if self._fingerprint is None or not self.is_current():
            self.renew()
        assert self._fingerprint is not None
        return self._fingerprint

    def parts(self) -> dict[str, bytes]:
        """Name what the results depend on besides the arguments, each with its digest."""
        return {**self.code().parts, **self._dependencies.parts()}

    def quick(self, args: tuple[Any, ...]) -> object:
        """Return what stands for a call of plain arguments in this process; None for other calls."""
        if len(args) != self._bind.n_plain:
            return None
        kinds = tuple(map(type, args))
        is_plain = self._kinds.get(kinds)
        if is_plain is None:
            is_plain = _ATOMS.issuperset(kinds)
            if len(self._kinds) < _MOST_KINDS:
                self._kinds[kinds] = is_plain
        return (args, kinds, self._epoch) if is_plain else None

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError if the function can't be called so."""
        self._bind.signature.bind(*args, **kwargs)

    def locate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> KeyName:
        """Return what a call is filed under, by the code of the last `renew`.

        Raises
        ------
        TypeError
            If the function can't be called so, or an argument has no digest.
        """
        bind = self._bind
        # Plain calls need no binding, and here not even the call to find that out.
        values = args if not kwargs and len(args) == bind.n_plain else bind(args, kwargs)
        digest = self._digest(values).hex()
        text = f"{self.prefix}{digest[:2]}/{digest[2:]}"
        return _new(KeyName, (text + self._extension, text))

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what counts of a call, by the names of the parameters."""
        return dict(zip(self._bind.names, self._bind(args, kwargs), strict=True))

    def depends(self) -> dict[str, bytes]:
        """Name what ``depends_on=`` names, each with its digest as it is now."""
        return self._dependencies.parts()

    def digests(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the digest of each argument alone."""
        return self._digest.of_each(self._bind(args, kwargs))


def _never() -> bool:
    return False
