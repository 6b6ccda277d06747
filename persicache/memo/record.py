"""What an entry says of the call that it holds the result of: `Record`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from zlib import crc32

from persicache.keys import Fingerprint, feed
from persicache.memo.calls import Calls
from persicache.memo.settings import Settings
from persicache.memo.shown import is_shown_whole, shown_argument, type_shown

__all__ = ["CODE_NBYTES", "Record", "Recorder"]

#: Enough to tell one code from another; no result is found by it.
CODE_NBYTES: Final = 16
#: Larger arguments aren't digested a second time, only to explain a miss.
_MOST_NBYTES: Final = 1 << 20
_MOST_ITEMS: Final = 1024
#: The mark of an argument whose text tells it apart from all others.
_WHOLE: Final = 0
_FIXED: Final = frozenset({type(None), bool, int, float, complex})


class Record(NamedTuple):
    """A call, as its entry remembers it.

    Attributes
    ----------
    args : mapping or None
        The arguments as shown, None if they aren't told.
    marks : mapping
        Of each argument a number that differs if the argument does, 0 if the text does; None
        where it is too large.
    types : mapping
        The types of arguments that don't show them.
    code : bytes
        The beginning of the digest of the code.
    version : tuple or None
        What ``version=`` was, as shown, and its mark.
    depends : mapping
        What ``depends_on=`` names, with its mark.
    """

    args: Mapping[str, str] | None
    marks: Mapping[str, int | None]
    types: Mapping[str, str]
    code: bytes
    version: tuple[str, int | None] | None
    depends: Mapping[str, int]

    @classmethod
    def read(cls, extra: Mapping[str, Any]) -> Record:
        """Read what `Recorder.about` made, or another version of it."""
        args = extra.get("args")
        args = {str(name): str(text) for name, text in args.items()} if isinstance(args, dict) else None
        given = extra.get("marks")
        marks = dict(zip(args or (), given, strict=False)) if isinstance(given, list) else {}
        version = extra.get("version")
        return cls(
            args=args,
            marks=marks,
            types=dict(extra.get("types") or {}),
            code=bytes(extra.get("code") or b""),
            version=(str(version[0]), version[1]) if version else None,
            depends=dict(extra.get("depends") or {}),
        )


class Recorder:
    """Makes the records of one function's calls.

    Parameters
    ----------
    calls : Calls
        What the calls are filed under.
    settings : Settings
        What may be told.
    label : str
        What the results are filed under.
    """

    def __init__(self, calls: Calls, settings: Settings, *, label: str) -> None:
        self._calls = calls
        self._settings = settings
        self._label = label
        self._same: tuple[Fingerprint | None, dict[str, Any]] = None, {}

    def about(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an entry says of a call, by the code that it was last located with. Quick."""
        about = self.about_code().copy()
        if self._settings.record_args:
            about["args"] = shown = self._calls.arguments(args, kwargs)
            marks: list[int | None] = []
            about["marks"] = marks
            for name, value in shown.items():
                if is_shown_whole(value):
                    shown[name] = repr(value)
                    marks.append(_WHOLE)
                    continue
                marks.append(_mark(value))
                if (told := type_shown(value)) is not None:
                    about.setdefault("types", {})[name] = told
                shown[name] = shown_argument(value)
        return about

    def is_current(self, about: Mapping[str, Any]) -> bool:
        """Return whether what is filed now is filed by the same code as when this was made."""
        now = self.about_code()
        return all(about.get(name) == now.get(name) for name in ("code", "version", "depends"))

    def about_code(self) -> dict[str, Any]:
        """Return what is the same for all calls of the present code; it is not to be changed."""
        code = self._calls.latest
        known, about = self._same
        if known is not code:
            about = {"function": self._label, "code": code.digest[:CODE_NBYTES]}
            if self._settings.version is not None:
                version = self._settings.version
                about["version"] = [shown_argument(version), _mark(version)]
            depends = self._calls.depends()
            if depends:
                about["depends"] = {name: crc32(digest) for name, digest in depends.items()}
            self._same = code, about
        return about


def _mark(value: object) -> int | None:
    """Return a number that differs between values that do; None for one that is too large."""
    if is_shown_whole(value):
        return _WHOLE
    out = bytearray()
    try:
        if _room_after(value, _MOST_NBYTES, [_MOST_ITEMS]) < 0:
            return None
        feed(out, value)
    except Exception:  # noqa: BLE001 - its own code ran, and not for the call's sake
        return None
    return crc32(out) or 1


def _room_after(value: Any, room: int, items: list[int]) -> int:
    """Return what is left of `room` bytes beside a value, roughly; negative if it is too large."""
    items[0] -= 1
    if items[0] < 0:
        return -1
    cls = type(value)
    if cls in _FIXED:
        return room - 8
    if cls is str or cls is bytes or cls is bytearray:
        return room - len(value)
    held: Iterable[Any]
    if issubclass(cls, (list, tuple, set, frozenset)):
        held = value
    elif issubclass(cls, dict):
        held = (part for item in value.items() for part in item)
    else:
        nbytes = getattr(value, "nbytes", None)
        if nbytes is None and hasattr(value, "shape"):
            nbytes = 8 * getattr(value, "size", 0)  # a table tells how many cells
        if nbytes is not None:
            return room - int(nbytes)
        held = getattr(value, "__dict__", {}).values()
    for part in held:
        room = _room_after(part, room, items)
        if room < 0:
            break
    return room
