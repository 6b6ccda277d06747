"""The errors and warnings that persicache raises, built from data.

Every error derives from `PersicacheError` and from the builtin that a caller
already catches, carries what it knows as attributes, and says what to do next.
"""

from __future__ import annotations

from typing import ClassVar, Final

__all__ = [
    "BackendError",
    "BadSignature",
    "BlobNotFound",
    "ConcurrencyConflictError",
    "ConditionsUnsupported",
    "ConversionConflict",
    "CorruptEntry",
    "MissingDependency",
    "MutationPolicyError",
    "NewerFormat",
    "PersicacheError",
    "PersicacheWarning",
    "ReadOnlyPlace",
    "StaleReference",
    "UncopyableValue",
    "UndigestibleValue",
    "UnencodableKey",
    "UnencodableValue",
    "UnknownCodec",
    "UnloadableValue",
    "UnreadableDependency",
    "UntrustedPickle",
    "VersionConflict",
]


#: How much of a key an error shows.
MAX_SHOWN: Final = 200
#: What is a sentence, or a name for one, whatever its length.
PROSE: Final = frozenset({"reason", "action", "what", "place", "path", "package", "extra", "policy"})


class PersicacheError(Exception):
    """Base of every error that persicache raises on purpose."""

    _sentence: ClassVar[str] = ""

    def __init__(self, **data: object) -> None:
        super().__init__()
        self.__dict__.update(data)
        self._data = data

    def _shown(self, data: dict[str, object]) -> dict[str, object]:
        """Return the data as the sentence shows it."""
        return {
            name: value if isinstance(value, str) and name in PROSE else Shown(value)
            for name, value in data.items()
        }

    def __str__(self) -> str:
        # Only now: of most misses nobody reads the sentence.
        return self._sentence.format_map(self._shown(self._data))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only constructors don't survive the default pickling of exceptions, and errors
        # do travel, out of worker processes; what they carry may not.
        return (_rebuild, (type(self), {name: _portable(value) for name, value in self._data.items()}))


def _rebuild(cls: type[PersicacheError], data: dict[str, object]) -> PersicacheError:
    return cls(**data)


class Shown:
    """A value in a sentence: its repr, unless that is very long or fails."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        try:
            text = repr(self._value)
        except Exception:  # noqa: BLE001 - of a class's own, or of an int of 5,000 digits
            return f"<{type(self._value).__name__}>"
        return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."

    def __str__(self) -> str:
        return str(self._value) if isinstance(self._value, str) else repr(self)


def _portable(value: object) -> object:
    """Return `value` if it pickles for sure, else what it looks like."""
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(_portable, value))
    is_plain = type(value) in {str, bytes, int, float, bool, type(None)}
    return value if is_plain else repr(Shown(value))


class PersicacheWarning(UserWarning):
    """Something went wrong that a computation could go on without."""


class BlobNotFound(PersicacheError, KeyError):
    """No blob has this name."""

    name: str
    place: str

    _sentence = "nothing is stored as {name!r} in {place}"


class BackendError(PersicacheError, OSError):
    """The place could not be reached, or refused access: not a missing key."""

    place: str
    action: str
    cause: BaseException | str

    _sentence = "could not {action} in {place}: {what}"

    def _shown(self, data: dict[str, object]) -> dict[str, object]:
        cause = data["cause"]
        what = f"{type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else str(cause)
        return super()._shown({**data, "what": what})

    def __reduce__(self) -> tuple[object, ...]:
        # A client library's exception may not pickle; its text does.
        return (_rebuild, (type(self), {**self._data, "cause": self._shown(self._data)["what"]}))


class ReadOnlyPlace(BackendError):
    """The place can be read, not written."""


class ConditionsUnsupported(PersicacheError, OSError):
    """The place can't compare and swap, so a conditional write is refused."""

    place: str

    _sentence = (
        "{place} has no atomic compare-and-swap, so a conditional write there could lose an "
        "update; write without a condition, or use a local directory, a .db, .json or lmdb:// file, or s3://"
    )


class VersionConflict(PersicacheError, RuntimeError):
    """A conditional write found another version than it expected; nothing changed."""

    name: str
    place: str
    expected: object
    actual: object

    _sentence = (
        "{name!r} in {place} was changed by somebody else: expected {expected!r}, found "
        "{actual!r}; read it again and retry"
    )


class ConcurrencyConflictError(PersicacheError, RuntimeError):
    """Others changed a key between every reading and writing, as often as it was tried."""

    key: object
    place: str
    attempts: int

    _sentence = (
        "key {key!r} in {place} was changed by others in each of {attempts} attempts; allow more "
        "(n_retries=), or let fewer change it at once"
    )


class ConversionConflict(PersicacheError, ValueError):
    """What is to be copied has a key that the target has another value for."""

    key: object
    place: str

    _sentence = (
        "key {key!r} has another value in {place} than in the source: it was left as it is; remove it, "
        "or convert to another place"
    )


class MutationPolicyError(PersicacheError, TypeError):
    """The dictionary doesn't allow this change."""

    place: str
    policy: str

    _sentence = "{place} is {policy}: what is stored there is not changed or removed"


class CorruptEntry(PersicacheError, ValueError):
    """The bytes under a key are not what was stored there."""

    key: object
    place: str
    reason: str

    _sentence = "the entry of key {key!r} in {place} can't be trusted: {reason}"


class NewerFormat(CorruptEntry):
    """The entry was written by a newer persicache, in a format that this one can't read."""


class UnknownCodec(CorruptEntry):
    """The entry names a codec or a compression that this persicache doesn't know."""


class BadSignature(CorruptEntry):
    """The entry carries no signature, or one made with another key."""


class UntrustedPickle(PersicacheError, PermissionError):
    """Unpickling runs code, and this place could have been written by somebody else."""

    key: object
    place: str
    reason: str

    _sentence = (
        "key {key!r} in {place}: {reason}. Unpickling runs code, and others may be able to "
        "write there: give signing_key= (a secret that signs every entry), or allow_pickle=True "
        "if you trust everybody who can write to this place"
    )


class UnloadableValue(PersicacheError, ValueError):
    """The entry is intact, but its value can't be rebuilt in this process."""

    key: object
    place: str
    reason: str

    _sentence = "the value of key {key!r} in {place} is intact but can't be rebuilt here: {reason}"


class UnencodableValue(PersicacheError, TypeError):
    """The value can't be stored in this format."""

    key: object
    reason: str

    _sentence = "the value of key {key!r} can't be stored: {reason}"


class UncopyableValue(PersicacheError, TypeError):
    """The value can't be copied for a caller who was promised a copy."""

    key: object
    reason: str

    _sentence = (
        "the value of key {key!r} can't be copied: {reason}. Take the very object, by pop() or from "
        "a dictionary with on_return='view'"
    )


class UnencodableKey(PersicacheError, TypeError):
    """A key of a type that has no storage name."""

    key: object
    reason: str

    _sentence = (
        "{key!r} can't be a key: {reason}. Keys are str, bytes, int, float, bool, None, date, "
        "datetime, UUID, enum members, and tuples or lists of these"
    )


class StaleReference(PersicacheError, LookupError):
    """A reference stands for a result that isn't stored, and can't be computed here."""

    call: str
    place: str
    reason: str

    _sentence = "{call} has no stored result in {place}, and can't be computed here: {reason}"


class UndigestibleValue(PersicacheError, TypeError):
    """An argument has no digest that is the same in every process."""

    path: str
    kind: str
    reason: str

    _sentence = (
        "{path} can't be digested: {reason}. Leave the {kind} out of the key (ignore=), say what "
        "stands for it (key=), give its class a __persicache_key__ method, or call "
        "persicache.register_digest(type, function)"
    )


class UnreadableDependency(PersicacheError, OSError):
    """A file that a function's results depend on can't be read."""

    path: str
    reason: str

    _sentence = "depends_on= names {path}, which can't be read: {reason}"


class MissingDependency(PersicacheError, ImportError):
    """An optional package is not installed."""

    package: str
    extra: str

    _sentence = "{package} is not installed: pip install 'persicache[{extra}]'"
