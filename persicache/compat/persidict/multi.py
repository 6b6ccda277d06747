"""Dictionaries of several formats in one place: `OverlappingMultiDict`."""

from __future__ import annotations

from typing import Any, NoReturn

from persicache.compat.persidict.dictionary import PersiDict

__all__ = ["OverlappingMultiDict"]


class OverlappingMultiDict:
    """Dictionaries of a class in one place, of several formats; each is an attribute by its format."""

    def __init__(
        self,
        *,
        dict_type: type[PersiDict[Any]],
        shared_subdicts_params: dict[str, Any],
        **individual_subdicts_params: dict[str, Any],
    ) -> None:
        if not issubclass(dict_type, PersiDict):
            raise TypeError(f"dict_type must be a class of PersiDict, not {dict_type!r}")
        for params in (shared_subdicts_params, *individual_subdicts_params.values()):
            if not isinstance(params, dict):
                raise TypeError(f"the parameters of dictionaries must be a dict, not {params!r}")
        self.dict_type = dict_type
        self.shared_subdicts_params = shared_subdicts_params
        self.individual_subdicts_params = individual_subdicts_params
        self.subdicts_names = list(individual_subdicts_params)
        for name, own in individual_subdicts_params.items():
            setattr(
                self, name, dict_type(**{**shared_subdicts_params, **own, "serialization_format": name})
            )

    def __getitem__(self, key: Any, *value: Any) -> NoReturn:
        raise TypeError(f"{key!r} is in one of the attributes of this, which are {self.subdicts_names}")

    __setitem__ = __delitem__ = __getitem__
