"""joblib's store of results over a persicache dictionary: `PersicacheBackend`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from joblib._store_backends import CacheItemInfo, StoreBackendBase, StoreBackendMixin
from joblib.memory import MemorizedFunc, Memory

from persicache import BackendError, CorruptEntry, PersicacheError, PersiDict
from persicache_joblib import vault
from persicache_joblib.callers import caller, warn_caller
from persicache_joblib.functions import adopt
from persicache_joblib.options import check_mmap_mode, dictionary_options, place_of
from persicache_joblib.readonly import readonly
from persicache_joblib.uses import ResultKey, Uses

__all__ = ["PersicacheBackend"]

#: The options that stay on this machine.
SECRET: Final[tuple[str, ...]] = ("signing_key", "storage_options")
#: What the keys of results, and of notes of their use, begin with.
RESULTS: Final = "results"
USES: Final = "uses"


class PersicacheBackend(StoreBackendBase, StoreBackendMixin):  # type: ignore[misc]  # joblib isn't typed
    """Keeps the results of a `joblib.Memory` in any place.

    joblib makes it for ``backend="persicache"``. One entry holds a result and its metadata, so it is
    there as a whole or not at all. What goes wrong with the place is a PersicacheWarning, and the
    call is computed.

    Attributes
    ----------
    location : str
        The place, without secrets.
    """

    def configure(
        self, location: str, verbose: int = 1, backend_options: dict[str, Any] | None = None
    ) -> None:
        """Open a place; parameters are those of joblib's own backends."""
        given = dict(backend_options or {})
        check_mmap_mode(given.get("mmap_mode"))
        self._given_location = location
        self._given = given
        self.verbose = verbose
        self.compress = given.get("compress")
        self.mmap_mode = given.get("mmap_mode")
        self._open()
        memory = caller(Memory)
        if memory is not None and memory.__dict__.get("backend_options"):
            # It travels in pickles of the Memory, which has no use for it any more.
            memory.backend_options = {k: v for k, v in memory.backend_options.items() if k not in SECRET}
        if memory is not None and self._has_secret_location():
            memory.location = self.location

    def _open(self) -> None:
        options = dictionary_options(self._given)
        everything: PersiDict[Any] = PersiDict(place_of(self._given_location), **options)
        self.location = everything.url
        self._results = everything.get_subdict(RESULTS)
        self._uses = Uses(everything.get_subdict(USES))
        self._told: set[tuple[type[Exception], str | None]] = set()

    def _has_secret_location(self) -> bool:
        return "***" in self.location

    # What joblib's functions ask, here and after the journey of a pickle

    def store_cached_func_code(self, call_id: Sequence[str], func_code: str | None = None) -> None:  # noqa: ARG002 - joblib's
        """Take over the function that is being decorated: its code will be in its keys."""
        function = caller(MemorizedFunc)
        if function is not None:
            adopt(function)

    def get_cached_func_code(self, call_id: Sequence[str]) -> NoReturn:
        """Refuse: who asks for a function's code doesn't have it in the key, and would mix up results."""
        raise TypeError(f"{call_id[0]} was decorated by a joblib that persicache_joblib doesn't know")

    def find(self, call_id: Sequence[str], *, mmap_mode: str | None) -> tuple[Any, dict[str, Any]] | None:
        """Return a result and its metadata, by one read; None if there is none."""
        key = _key(call_id)
        try:
            value, metadata = self._results.get_with_about(key)
        except KeyError:
            return None
        except PersicacheError as error:
            self._tell(f"{key[0]} is computed again: {error}", error, key)
            return None
        self._uses.note(key)
        return (readonly(value) if mmap_mode == "r" else value), metadata

    def about(self, call_id: Sequence[str]) -> dict[str, Any] | None:
        """Return the metadata of a result, without reading it; None if there is none."""
        key = _key(call_id)
        try:
            return self._results.about(key)
        except KeyError:
            return None
        except PersicacheError as error:
            self._tell(f"{key[0]} is computed again: {error}", error, key)
            return None

    def store(self, call_id: Sequence[str], value: Any, metadata: dict[str, Any]) -> bool:
        """Store a result and its metadata, by one write; return whether that went well."""
        key = _key(call_id)
        try:
            self._results.put(key, value, about=_printable(metadata))
        except (PersicacheError, TypeError) as error:
            self._tell(f"a result of {key[0]} isn't kept: {error}", error, key)
            return False
        self._uses.note(key)
        return True

    def _tell(self, message: str, error: Exception, key: ResultKey) -> None:
        """Warn: once of the place, once a function of what its results are, and of all that is damaged."""
        about = (type(error), None if isinstance(error, BackendError) else key[0])
        if isinstance(error, CorruptEntry) or about not in self._told:
            self._told.add(about)
            warn_caller(message)

    # joblib's contract

    def load_item(
        self,
        call_id: Sequence[str],
        verbose: int = 1,  # noqa: ARG002 - joblib's
        timestamp: float | None = None,  # noqa: ARG002 - joblib's
        metadata: dict[str, Any] | None = None,  # noqa: ARG002 - joblib's
    ) -> Any:
        """Return a result; KeyError if there is none, CorruptEntry if it is damaged."""
        key = _key(call_id)
        value = self._results[key]
        self._uses.note(key)
        return readonly(value) if self.mmap_mode == "r" else value

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:  # noqa: ARG002 - joblib's
        """Store a result about which nothing is known."""
        self.store(call_id, item, {})

    def store_metadata(self, call_id: Sequence[str], metadata: dict[str, Any]) -> None:
        """Store a result again, with its metadata."""
        self.store(call_id, self._results[_key(call_id)], metadata)

    def get_metadata(self, call_id: Sequence[str]) -> dict[str, Any]:
        """Return the metadata of a result, empty if there is none."""
        return self.about(call_id) or {}

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Return whether there is a result."""
        return _key(call_id) in self._results

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Remove a result."""
        self._results.discard(_key(call_id))

    def contains_path(self, call_id: Sequence[str]) -> bool:
        """Return whether there are results of a function, of whatever code."""
        return bool(self._results.get_subdict(_label(call_id)))

    def clear_path(self, call_id: Sequence[str]) -> None:
        """Remove all results of a function, of whatever code."""
        self._results.get_subdict(_label(call_id)).clear()

    def clear(self) -> None:
        """Remove all results; other files in the place stay."""
        self._results.clear()
        self._uses.clear()

    def get_items(self) -> list[CacheItemInfo]:
        """Return key, size and time of the last use of every result."""
        used = self._uses.load()
        keys: Iterator[tuple[Any, int, float]] = self._results.keys_sizes_and_timestamps()
        return [
            CacheItemInfo(key, nbytes, dt.datetime.fromtimestamp(max(stored, used.get(key, 0.0))))  # noqa: DTZ006 - joblib's are naive
            for key, nbytes, stored in keys
        ]

    def enforce_store_limits(
        self,
        bytes_limit: int | str | None,
        items_limit: int | None = None,
        age_limit: dt.timedelta | None = None,
    ) -> None:
        """Remove the results that were not used for longest, until what is left is within the limits."""
        leaving = {each.path for each in self._get_items_to_delete(bytes_limit, items_limit, age_limit)}
        if leaving:
            self._results.discard_many(leaving)
            self._uses.forget(leaving)

    # What the base class wants of files: here are none.

    def create_location(self, location: str) -> None:
        """Do nothing: a place is made when something is stored."""

    def clear_location(self, location: Any) -> None:
        """Remove the result with this key, or all if it is the place itself."""
        if location == self.location:
            self.clear()
        else:
            self._results.discard(location)

    def _item_exists(self, location: Any) -> bool:
        return location in self._results

    def _open_item(self, f: Any, mode: str) -> NoReturn:
        raise TypeError(f"{f!r} is an entry of {self.location}, and not opened as a file ({mode!r})")

    def _move_item(self, src: Any, dst: Any) -> NoReturn:
        raise TypeError(f"{src!r} is an entry of {self.location}, and stays there ({dst!r})")

    # Pickles

    def __getstate__(self) -> dict[str, Any]:
        secret = {name: self._given[name] for name in SECRET if name in self._given}
        if self._has_secret_location():
            secret["location"] = self._given_location
        return {
            "location": self.location if "location" in secret else self._given_location,
            "verbose": self.verbose,
            "options": {name: value for name, value in self._given.items() if name not in SECRET},
            "ticket": vault.keep(secret) if secret else None,
            "secret": tuple(secret),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        secret: dict[str, Any] = {}
        if state["ticket"] is not None:
            secret = vault.fetch(state["ticket"]) or {}
            needed = [name for name in state["secret"] if name not in secret]
            missing = [name for name in needed if name not in dictionary_options({})]
            if missing:
                raise BackendError(
                    place=state["location"],
                    action=f"open the results without {' and '.join(missing)}",
                    cause="they aren't pickled; call persicache_joblib.register(...) with them here",
                )
        location = secret.pop("location", state["location"])
        self.configure(location, state["verbose"], {**state["options"], **secret})

    def __persicache_key__(self) -> str:
        """Return what it counts by as an argument."""
        return self.location


def _key(call_id: Sequence[str]) -> ResultKey:
    function, args_id = call_id
    label, _, code = function.rpartition("/")
    return label, code, args_id


def _label(call_id: Sequence[str]) -> str:
    label, _, code = call_id[0].rpartition("/")
    return label or code


def _printable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as an entry takes it: a repr may have half of a character in it."""
    shown = metadata.get("input_args")
    if not isinstance(shown, dict):
        return metadata
    texts = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in shown.items()}
    return {**metadata, "input_args": texts}
