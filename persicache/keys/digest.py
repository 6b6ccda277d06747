"""The digest of a value: equal for equal values in every process, different for others."""

from __future__ import annotations

import enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from persicache.errors import UndigestibleValue

# For their writers.
from persicache.keys import arrays, callables, containers, objects, scalars  # noqa: F401 - each fills the table
from persicache.keys.parts import PART_NBYTES
from persicache.keys.writers import EXACT, SHORT_NBYTES, Trouble, seal, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from persicache.keys.writers import Seen

__all__ = ["CallDigest", "digest", "feed"]


def digest(value: object, *, path: str = "value") -> bytes:
    """Digest a value by what it means.

    Equal values have equal digests in every process, whatever the hash seed, the memory
    layout, or what is shared inside them; different values, and values of different types,
    have different ones. Dicts are equal whatever the order of their items; an OrderedDict's
    order counts. An object of the user's own class counts with the code of the class.

    Parameters
    ----------
    value : object
        Builtins, numpy arrays, pandas and pyarrow tables, functions, classes, and objects of
        any class that pickle could take apart.
    path : str, default "value"
        What an error calls the value.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    UndigestibleValue
        If something in it has no meaning beyond this process: a file handle, a lock, a bare
        ``object()``; or if it contains itself.

    Notes
    -----
    Zeros of either sign are different. One NaN is like any other, but in arrays and tables, which
    are digested as they lie in memory, it counts with its bits. Of an object of any class counts
    what it tells pickle, without what a ``cached_property`` keeps; one that remembers results in
    other attributes has another digest afterwards, unless `register_digest` or a method
    ``__persicache_key__`` says what counts.

    Examples
    --------
    >>> digest({"a": 1, "b": {2, 3}}) == digest({"b": {3, 2}, "a": 1})
    True
    >>> digest(1) == digest(1.0)
    False
    >>> digest([1, {"file": open(0, closefd=False)}], path="argument 'x'")
    Traceback (most recent call last):
    persicache.errors.UndigestibleValue: argument 'x'[1]['file'] can't be digested: a TextIOWrapper...
    """
    out = bytearray()
    feed(out, value, path=path)
    return seal(out)


def feed(out: bytearray, value: object, *, path: str = "value") -> None:
    """Append a value's canonical bytes, to be digested together with others.

    What is appended tells where it ends, so that several values fed one after the other are
    as good as a tuple of them.

    Parameters
    ----------
    out : bytearray
        What to append to. Large values append a digest.
    value : object
        As for `digest`.
    path : str, default "value"
        What an error calls the value.

    Raises
    ------
    UndigestibleValue
        As for `digest`; then `out` holds a part of it.
    """
    seen: Seen = {}
    try:
        writer = EXACT.get(type(value))
        if writer is not None:
            writer(out, value, seen)
        else:
            write(out, value, seen)
    except Exception as error:
        # Any exception: the object's own code ran.
        raise _undigestible(path, value, error) from error


class CallDigest:
    """Digests the arguments of a function's calls.

    Parameters
    ----------
    salt : object
        What is the same for all calls of the function: the digest of its code, a version.
    names : tuple of str
        The parameters.
    defaults : mapping, optional
        Their default values. One that is a bare ``object()``, as is used to tell that nothing was
        given, stands for just that.

    Examples
    --------
    >>> digest_call = CallDigest("f", ("x", "y"))
    >>> digest_call((1, 2)) == digest_call((2, 1))
    False
    >>> digest_call((1, [2, object()]))
    Traceback (most recent call last):
    persicache.errors.UndigestibleValue: argument 'y'[1] can't be digested: one bare object()...
    """

    __slots__ = ("_names", "_start", "_started", "_unset")

    def __init__(
        self, salt: object, names: tuple[str, ...], *, defaults: Mapping[str, object] | None = None
    ) -> None:
        self._names = names
        self._unset = {name: value for name, value in (defaults or {}).items() if type(value) is object}
        self._start = digest((salt, names), path="the salt of the call")
        # What all calls have in common is hashed once.
        self._started = blake2b(self._start, digest_size=32)

    def __call__(self, values: tuple[object, ...]) -> bytes:
        """Return the digest of a call, 32 bytes.

        Parameters
        ----------
        values : tuple of object
            As many arguments as there are names.

        Raises
        ------
        UndigestibleValue
            As for `digest`, naming the argument.
        """
        if self._unset:
            values = self._stood_for(values)
        out = bytearray()
        seen: Seen = {}
        index = -1
        try:
            for value in values:
                index += 1
                writer = EXACT.get(type(value))
                if writer is not None:
                    writer(out, value, seen)
                else:
                    write(out, value, seen)
        except Exception as error:
            raise _undigestible(f"argument {self._names[index]!r}", values[index], error) from error
        if len(out) > SHORT_NBYTES:
            return seal(self._start + out)
        hasher = self._started.copy()
        hasher.update(out)
        return hasher.digest()

    def of_each(self, values: tuple[object, ...]) -> dict[str, bytes]:
        """Digest each argument alone, to tell later which of them differs.

        Parameters
        ----------
        values : tuple of object
            As many arguments as there are names.

        Returns
        -------
        dict of str to bytes
            16 bytes for each name. Calls of one function have equal digests exactly if all
            of these are equal.

        Raises
        ------
        UndigestibleValue
            As for a call.

        Examples
        --------
        >>> digest_call = CallDigest("f", ("x", "y"))
        >>> one, other = digest_call.of_each((1, 2)), digest_call.of_each((1, 3))
        >>> [name for name in one if one[name] != other[name]]
        ['y']
        """
        named = zip(self._names, self._stood_for(values), strict=True)
        return {name: digest(value, path=f"argument {name!r}")[:PART_NBYTES] for name, value in named}

    def _stood_for(self, values: tuple[object, ...]) -> tuple[object, ...]:
        named = zip(self._names, values, strict=True)
        return tuple(_UNSET if self._unset.get(name, _UNSET) is value else value for name, value in named)


class _Unset(enum.Enum):
    """What stands for an argument that wasn't given."""

    UNSET = "unset"


_UNSET: Final = _Unset.UNSET


def _undigestible(path: str, value: object, error: Exception) -> UndigestibleValue:
    kind = type(value).__qualname__
    if isinstance(error, RecursionError):
        return UndigestibleValue(path=path, kind=kind, reason="it is nested too deep")
    trouble = error if isinstance(error, Trouble) else Trouble.of(error, "it")
    return UndigestibleValue(path=path + "".join(reversed(trouble.steps)), kind=kind, reason=trouble.reason)
