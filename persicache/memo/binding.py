"""From the arguments of a call to what they mean: bound to the signature, defaults included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

__all__ = ["Binder"]

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Binder:
    """Binds calls of one function, so that calls that mean the same bind alike.

    Parameters
    ----------
    function : callable
        The function.
    ignore : iterable of str, optional
        Parameters that don't count.
    key : callable, optional
        Is called with the same arguments, defaults included; what it returns is all that counts.

    Raises
    ------
    ValueError
        If `ignore` names a parameter that the function doesn't have.

    Examples
    --------
    >>> bind = Binder(lambda x, y=2, *, verbose=False: None, ignore=["verbose"])
    >>> bind((1,), {"verbose": True}) == bind((), {"y": 2, "x": 1}) == (1, 2)
    True
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        ignore: Iterable[str] = (),
        key: Callable[..., Any] | None = None,
    ) -> None:
        try:
            self.signature = _signature(function)
        except ValueError as error:
            raise TypeError(f"{function!r} tells no signature, so its calls can't be compared") from error
        parameters = self.signature.parameters
        ignored = set(ignore)
        if unknown := ignored - parameters.keys():
            raise ValueError(f"ignore names {sorted(unknown)}, but {self.signature} has no such parameter")
        self._key = key
        self.names: tuple[str, ...] = (
            tuple(name for name in parameters if name not in ignored) if key is None else ("key",)
        )
        #: What parameters are when they are not given.
        self.defaults: dict[str, Any] = {
            name: parameter.default
            for name, parameter in parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }
        kinds = [parameter.kind for parameter in parameters.values()]
        # Most functions take plain parameters, and most calls are positional and complete.
        #: How many positional arguments are all there can be; -1 if a call needs a closer look.
        is_plain = not ignored and key is None and all(kind in _POSITIONAL for kind in kinds)
        self.n_plain = len(kinds) if is_plain else -1

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the value of each parameter that counts, in the order of `names`.

        Raises
        ------
        TypeError
            If the function can't be called so.
        """
        if not kwargs and len(args) == self.n_plain:
            return args
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if self._key is not None:
            return (self._key(*bound.args, **bound.kwargs),)
        arguments = bound.arguments
        return tuple([arguments[name] for name in self.names])


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        # The function's own: what it passes on to the one it wraps is its own affair.
        return inspect.signature(function, follow_wrapped=False)
    except ValueError:
        # It isn't written in Python and has none, as one of functools.lru_cache: it passes on all.
        return inspect.signature(function)
