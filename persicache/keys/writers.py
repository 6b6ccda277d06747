"""The table of writers: how a value of each type is written to be digested.

A writer appends bytes to a bytearray so that what it appended can be read back, in
principle, without knowing where it ends: a tag, a length where there is one, the data.
Then different values give different bytes, and the digest of the bytes is the value's.
"""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, TypeAlias, TypeVar

from blake3 import blake3

from persicache.keys.reached import Reached

__all__ = [
    "BIG_NBYTES",
    "EXACT",
    "FAMILIES",
    "FINDERS",
    "SHORT_NBYTES",
    "Seen",
    "Trouble",
    "Writer",
    "begin",
    "class_name",
    "finish",
    "forget_choices",
    "hasher_for",
    "import_writers",
    "safe_name",
    "seal",
    "write",
    "write_buffer",
    "write_leniently",
    "write_text",
    "writes",
    "writes_family",
]

#: Containers by id: those being written map to None, those written to their token and themselves.
Seen: TypeAlias = dict[int, tuple[bytes, object] | None]

#: Appends a value to a bytearray.
Writer: TypeAlias = Callable[[bytearray, Any, Seen], None]

_W = TypeVar("_W", bound=Writer)

#: Writers of exactly one type.
EXACT: Final[dict[type, Writer]] = {}

#: Writers of a type and its subclasses.
FAMILIES: Final[dict[type, Writer]] = {}

#: Asked in turn for the writer of a type that is in neither table.
FINDERS: Final[list[Callable[[type], Writer | None]]] = []

# What was chosen for other types; weak, because notebooks redefine their classes all day. In a
# list, to be replaced.
_chosen: Final[list[weakref.WeakKeyDictionary[type, Writer]]] = [weakref.WeakKeyDictionary()]

# The modules that know the types of what takes long to import, imported once such a type turns up.
_KNOWN_BY: Final = {
    "numpy.ma": "persicache.keys.masked",
    "pandas": "persicache.keys.frames",
    "pyarrow": "persicache.keys.frames",
    "scipy.sparse": "persicache.keys.sparse",
    "xarray": "persicache.keys.labelled",
}

#: From here on a buffer stands for its own digest: it isn't copied, and is hashed where it lies.
BIG_NBYTES: Final = 64 * 1024
# From here on more threads pay.
_THREADS_NBYTES: Final = 1024 * 1024
# A container longer than this stands for its own digest, so that one which is shared a
# thousand times is written once.
_LONG_NBYTES: Final = 128
#: Up to here blake2b is faster, from here on blake3.
SHORT_NBYTES: Final = 2048


class Trouble(Exception):
    """Something that can't be digested, with the steps that lead to it, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    @classmethod
    def of(cls, error: Exception, culprit: str) -> Trouble:
        """Say what the user's own code raised."""
        return cls(f"{culprit} raised {type(error).__name__}: {error}")


def write(out: bytearray, value: object, seen: Seen) -> None:
    """Append a value of any type."""
    (EXACT.get(type(value)) or _choose(type(value)))(out, value, seen)


def write_leniently(out: bytearray, value: object, seen: Reached) -> None:
    """Append a value, or its type if that is all that can be said of it."""
    start, state = len(out), seen.state()
    try:
        write(out, value, seen)
    except RecursionError:
        # How deep the stack is already must not decide what is written.
        raise
    except Exception:  # noqa: BLE001 - the user's own code ran, and anything may come out of it
        seen.restore(state)
        del out[start:]
        write_text(out, b"?", safe_name(type(value)))


def writes(*types: type) -> Callable[[_W], _W]:
    """Register a writer of exactly these types."""

    def register(writer: _W) -> _W:
        EXACT.update(dict.fromkeys(types, writer))
        return writer

    return register


def writes_family(*types: type) -> Callable[[_W], _W]:
    """Register a writer of these types and their subclasses."""

    def register(writer: _W) -> _W:
        FAMILIES.update(dict.fromkeys(types, writer))
        forget_choices()
        return writer

    return register


def forget_choices() -> None:
    """Choose writers anew: a table has changed."""
    # Race: a thread that looked at the old tables notes its choice where nobody looks any more.
    _chosen[0] = weakref.WeakKeyDictionary()


def import_writers(cls: type) -> None:
    """Import the module that knows a class of a large package."""
    for base in cls.__mro__:
        for package, known_by in _KNOWN_BY.items():
            if f"{base.__module__}.".startswith(f"{package}."):
                importlib.import_module(known_by)


def _choose(cls: type) -> Writer:
    chosen = _chosen[0]
    writer = chosen.get(cls)
    if writer is None:
        import_writers(cls)
        if cls in EXACT:
            return EXACT[cls]
        writer = _find(cls)
        chosen[cls] = writer
    return writer


def _find(cls: type) -> Writer:
    for finder in FINDERS:
        writer = finder(cls)
        if writer is not None:
            return writer
    raise Trouble(f"{class_name(cls)} has no writer")


def begin(out: bytearray, value: object, seen: Seen) -> bool:
    """Write a container that was written before; say whether it was.

    Raises
    ------
    Trouble
        If it is being written: it contains itself.
    """
    if type(seen) is Reached:
        return seen.begin(out, value)
    key = id(value)
    if key not in seen:
        seen[key] = None
        return False
    done = seen[key]
    if done is None:
        raise Trouble("it contains itself")
    out += done[0]
    return True


def finish(
    out: bytearray, value: object, seen: Seen, body: bytearray, *, long_nbytes: int = _LONG_NBYTES
) -> None:
    """Append a container's body, or what stands for it from `long_nbytes` on."""
    if len(body) < long_nbytes:
        out += body
        if type(seen) is Reached:
            seen.finish(None, value)
        else:
            del seen[id(value)]
        return
    token = b"#" + seal(body)
    out += token
    if type(seen) is Reached:
        seen.finish(token, value)
    else:
        # With the value itself: an id is its own only as long as it lives.
        seen[id(value)] = (token, value)


def seal(data: bytes | bytearray) -> bytes:
    """Digest what was written: 32 bytes.

    blake2b starts twice as fast as blake3 and is as hard to forge; blake3 is faster from a
    few kilobytes on. A call's arguments are nearly always few bytes, on the path of every hit.
    """
    if len(data) <= SHORT_NBYTES:
        return blake2b(data, digest_size=32).digest()
    return blake3(data).digest()


# One value, replaced in forked children: blake3's pool of threads doesn't survive a fork,
# and whoever waits for it there waits forever. 0 until somebody asks.
_max_threads: Final = [0]

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _max_threads.__setitem__(0, 1))


def hasher_for(nbytes: int) -> blake3:
    """Return a hasher with as many threads as `nbytes` deserve."""
    return blake3(max_threads=_max_threads[0] or _ask()) if nbytes >= _THREADS_NBYTES else blake3()


def _ask() -> int:
    try:
        blake3(bytes(_THREADS_NBYTES), max_threads=blake3.AUTO)
    except BaseException as error:
        # So it says that none can be started, beyond a limit on processes, now and ever.
        if type(error).__name__ != "PanicException":
            raise
        _max_threads[0] = 1
    else:
        _max_threads[0] = blake3.AUTO
    return _max_threads[0]


def write_buffer(out: bytearray, tag: bytes, data: bytes | bytearray | memoryview) -> None:
    """Append bytes, or the digest that stands for many."""
    nbytes = len(data)
    if nbytes < BIG_NBYTES:
        out += b"%b%x;" % (tag, nbytes)
        out += data
    else:
        out += b"%b%x#" % (tag, nbytes)
        out += hasher_for(nbytes).update(data).digest()


def write_text(out: bytearray, tag: bytes, text: str) -> None:
    """Append a str."""
    write_buffer(out, tag, text.encode("utf-8", "surrogatepass"))


def class_name(cls: Any) -> str:
    """Name a class or function as every process names it.

    Examples
    --------
    >>> import collections
    >>> class_name(collections.Counter)
    'collections:Counter'
    """
    module = getattr(cls, "__module__", None)
    # The main module of a spawned child; there and in its parent it is one and the same script.
    module = "__main__" if module == "__mp_main__" else module
    name = getattr(cls, "__qualname__", None) or getattr(cls, "__name__", None)
    if not isinstance(name, str):
        raise Trouble(f"a {type(cls).__qualname__} without a name")
    return f"{module}:{name}"


def safe_name(cls: type) -> str:
    """Name a class, whatever its metaclass does."""
    try:
        return class_name(cls)
    except Exception:  # noqa: BLE001 - the user's own code ran
        return type.__repr__(cls)
