"""What a task means, whatever it is called: a digest of its code, its arguments and its inputs."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from dask._task_spec import Alias, DataNode, GraphNode, NestedContainer, Task, TaskRef
from dask._task_spec import Set as NodeSet
from dask.utils import SerializableLock, apply

from persicache import UndigestibleValue, digest
from persicache_dask.effects import has_effects
from persicache_dask.inputs import Inputs, Unnoticed
from persicache_dask.stored import Keeping, Loading

__all__ = ["Contents", "Key", "Unkeyed"]

#: What dask calls a task: strings, numbers and tuples of these.
Key: TypeAlias = Any
Graph: TypeAlias = Mapping[Key, GraphNode]

#: Objects of these packages are taken apart, as they hold the files that are read.
_OPEN: Final = ("dask.", "distributed.", "xarray.", "tlz.", "toolz.")
_ATOMS: Final = frozenset({type(None), bool, int, float, complex, bytes, type(...)})
#: In longer lists of strings nobody looks for names of files.
_MOST_STRINGS: Final = 10_000
#: What of an fsspec OpenFile makes its contents be others.
_OPENED_BY: Final = ("mode", "compression", "encoding", "errors", "newline")
#: What a filesystem is opened with, and its files don't depend on.
_SECRETS: Final = frozenset({"key", "secret", "token", "password", "username", "session"})
_CONTAINERS: Final = (dict, list, tuple)
#: What dask makes names unique with.
_TOKEN: Final = re.compile(r"[0-9a-f]{32}")


class Unkeyed(NamedTuple):
    """A task whose result can't be kept.

    Attributes
    ----------
    reason : str
        Why.
    is_trouble : bool
        Whether that is a pity: what writes a file has no result to be kept.
    """

    reason: str
    is_trouble: bool = True


class _CantTellError(Exception):
    """A task has no digest."""

    def __init__(self, reason: str, *, is_trouble: bool = True) -> None:
        super().__init__(reason)
        self.found = Unkeyed(reason, is_trouble)


class Contents:
    """The digests of the tasks of one graph.

    Parameters
    ----------
    graph : mapping of key to GraphNode
        The tasks.
    known : mapping of key to bytes
        Digests of futures.
    inputs : Inputs
        What is known of files.

    Notes
    -----
    The digest of a task is made of its function's, with all code that that reaches, of its
    arguments', and of the digests of the tasks that it depends on; not of names. So it is the
    same however tasks are called, fused or scheduled.
    """

    def __init__(self, graph: Graph, known: Mapping[Key, bytes], inputs: Inputs) -> None:
        self._graph = graph
        self._known = known
        self._inputs = inputs
        self._found: dict[Key, bytes | Unkeyed] = {}
        # With what keeps an id its own.
        self._leaves: dict[int, tuple[object, bytes]] = {}
        self._functions: dict[int, tuple[object, bytes]] = {}
        self._ids = {
            token
            for key, node in graph.items()
            if isinstance(node, Task) and _is_named_within(node.func)
            for token in _TOKEN.findall(_name_of(key))
        }

    def digest(self, key: Key) -> bytes | Unkeyed:
        """Return the digest of a task, or why it has none."""
        return self._resolve(self._graph, key, self._found)

    def _resolve(self, graph: Graph, wanted: Key, found: dict[Key, bytes | Unkeyed]) -> bytes | Unkeyed:
        # Not recursive: a graph is deeper than the stack.
        stack = [wanted]
        while stack:
            key = stack[-1]
            if key in found:
                stack.pop()
                continue
            node = graph.get(key)
            if node is None:
                known = self._known.get(key)
                found[key] = known or Unkeyed(f"it is made of the future {key!r}, which can be anything")
                continue
            missing = [each for each in node.dependencies if each not in found]
            if missing:
                stack += missing
            else:
                found[key] = self._of_node(node, found)
        return found[wanted]

    def _of_node(self, node: GraphNode, found: Mapping[Key, bytes | Unkeyed]) -> bytes | Unkeyed:
        try:
            return self._node(node, found)
        except _CantTellError as error:
            return error.found
        except UndigestibleValue as error:
            return Unkeyed(f"{error.path} has no digest: {error.reason}")
        except (Unnoticed, OSError) as error:
            return Unkeyed(str(error))
        except RecursionError:
            return Unkeyed(f"an argument of {node.key!r} is nested too deep")

    def _node(self, node: GraphNode, found: Mapping[Key, bytes | Unkeyed]) -> bytes:
        """Return the digest of what a node stands for."""
        if isinstance(node, Alias):
            return _sure(found[node.target])
        if isinstance(node, DataNode):
            return self._seal(("data", self._told(node.value, found)))
        assert isinstance(node, Task), type(node)
        if node.has_subgraph():
            return self._subgraph(node, found)
        if isinstance(node.func, (Keeping, Loading)):
            return node.func.digest
        if node.is_coro:
            raise _CantTellError(f"{node.func!r} is a coroutine function")
        called = node.args[0] if node.func is apply else node.func
        if has_effects(called):
            raise _CantTellError(
                f"{_label(called)} is there for what it does, and always runs", is_trouble=False
            )
        if isinstance(node, NestedContainer):
            items = [self._told(each, found) for each in node.args]
            if isinstance(node, NodeSet):  # in the order of hashes
                items = sorted(map(self._seal, items))  # type: ignore[assignment]
            return self._seal((type(node).__name__, items))
        function, args, kwargs = node.func, node.args, node.kwargs
        told = [self._function(function), *(self._told(each, found) for each in args)]
        told += self._files(function, args, kwargs)
        if kwargs:
            told.append([(name, self._told(each, found)) for name, each in kwargs.items()])
        return self._seal(("task", told))

    def _function(self, function: Any) -> bytes:
        # The tasks of one layer have one function, with whatever it is bound to.
        known = self._functions.get(id(function))
        if known is None:
            known = self._functions[id(function)] = function, self._seal(self._told(function, {}))
        return known[1]

    def _subgraph(self, node: Task, found: Mapping[Key, bytes | Unkeyed]) -> bytes:
        inner, outer_key, names, *values = node.args
        given: dict[Key, bytes | Unkeyed] = {
            name: self._seal_node(value, found) for name, value in zip(names, values, strict=True)
        }
        return _sure(self._resolve(inner, outer_key, given))

    def _seal_node(self, value: object, found: Mapping[Key, bytes | Unkeyed]) -> bytes:
        if isinstance(value, TaskRef):
            return self._ref(value.key, found)
        if isinstance(value, GraphNode):
            return self._node(value, found)
        return self._seal(("data", self._told(value, found)))

    def _ref(self, key: Key, found: Mapping[Key, bytes | Unkeyed]) -> bytes:
        if key in found:
            return _sure(found[key])
        return _sure(self._resolve({}, key, {}))

    def _told(self, value: Any, found: Mapping[Key, bytes | Unkeyed]) -> object:
        """Return what a value means, with a tag that nothing else of the kind has."""
        kind = type(value)
        if kind in _ATOMS:
            return ("=", value)
        if kind is str:
            return self._text(value)
        if isinstance(value, (GraphNode, TaskRef)):
            return ("ref", self._seal_node(value, found))
        if kind in {list, tuple, set, frozenset}:
            return self._items(value, found)
        if kind is dict:
            # In its order: of a frame that is made of it, that is the order of columns.
            return ("dict", [(self._told(k, found), self._told(v, found)) for k, v in value.items()])
        if isinstance(value, os.PathLike):
            return ("path", self._text(os.fspath(value)))
        if isinstance(value, functools.partial):
            keywords = dict(value.keywords)
            if _label(value.func) == "dask.dataframe.io.csv._read_csv" and "head" in keywords:
                # Of the first rows of the first file it takes the columns: the other files' rows
                # don't depend on these.
                keywords["head"] = keywords["head"].iloc[:0]
            parts = (value.func, value.args, keywords)
            return ("partial", [self._told(each, found) for each in parts])
        return self._object(value, kind, found)

    def _object(self, value: Any, kind: type, found: Mapping[Key, bytes | Unkeyed]) -> object:
        """Return what an object means, if it isn't one of Python's own."""
        module = kind.__module__
        if isinstance(value, SerializableLock) or module == "_thread":
            return ("lock",)
        if module.startswith("fsspec.") and kind.__name__ == "OpenFile":
            how = [(name, getattr(value, name, None)) for name in _OPENED_BY]
            return (self._inputs.file(value.fs, value.path), self._told(value.fs, found), how)
        if _is_filesystem(value):
            return ("filesystem", f"{module}.{kind.__qualname__}", self._filesystem(value, found))
        if module.startswith("zarr.") and kind.__name__ == "Array":
            return ("zarr", self._inputs.zarr(value), self._told(getattr(value.store, "fs", None), found))
        if module.startswith("h5py.") and kind.__name__ == "Dataset":
            return ("h5py", self._inputs.named(value.file.filename), value.name)
        if module.startswith("dask.") and kind.__name__ == "FragmentWrapper":
            return self._told(value.fragment, found)
        if module.startswith("pyarrow.") and kind.__name__ == "ParquetFileFragment":
            where = self._inputs.arrow_file(value.filesystem, value.path)
            return ("fragment", where, str(value.partition_expression), _row_groups(value))
        if kind.__name__ == "CachingFileManager":  # xarray's: a file, and how it is opened
            parts = [getattr(value, name, None) for name in ("_opener", "_args", "_kwargs", "_mode")]
            return ("file manager", self._told(parts, found))
        if isinstance(value, type) or not module.startswith(_OPEN):
            return ("leaf", self._leaf(value))
        state = {name: each for name, each in _attributes(value) if not name.startswith("__")}
        items = next((base(value) for base in _CONTAINERS if isinstance(value, base)), None)
        return (
            "object",
            f"{module}.{kind.__qualname__}",
            self._told(state, found),
            self._told(items, found),
        )

    def _filesystem(self, value: Any, found: Mapping[Key, bytes | Unkeyed]) -> object:
        """Return what a filesystem is opened with: of two, files may have the same names."""
        if hasattr(value, "storage_options"):
            options = {name: each for name, each in value.storage_options.items() if name not in _SECRETS}
            return self._told([list(value.storage_args), options], found)
        return self._told(list(value.__reduce__()[1:]), found)  # pyarrow's

    def _items(self, value: Any, found: Mapping[Key, bytes | Unkeyed]) -> object:
        kinds = set(map(type, value))
        if kinds <= _ATOMS or (kinds <= {*_ATOMS, str} and len(value) > _MOST_STRINGS):
            return ("leaf", self._leaf(value))
        items = [self._told(each, found) for each in value]
        if isinstance(value, (set, frozenset)):
            items = sorted(map(self._seal, items))  # type: ignore[assignment]
        return (type(value).__name__, items)

    def _text(self, value: str) -> object:
        if value in self._ids:
            # An id of this graph's own, which makes names unique and means nothing.
            return ("id",)
        return ("text", value, self._inputs.named(value))

    def _files(self, function: Any, args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[object]:
        """Return what tells the files that a function is given the names of, with their filesystem."""
        bound = getattr(function, "keywords", {})
        given = [getattr(function, "fs", None), *args, *bound.values(), *kwargs.values()]
        systems = [each for each in given if _is_filesystem(each) and hasattr(each, "storage_options")]
        if not systems:
            return []
        names = dict.fromkeys(_texts([*args, *kwargs.values()]))
        return [self._inputs.file_if_any(fs, name) for fs in systems for name in names]

    def _leaf(self, value: object) -> bytes:
        known = self._leaves.get(id(value))
        if known is None:
            known = self._leaves[id(value)] = value, digest(value, path="an argument")
        return known[1]

    def _seal(self, told: object) -> bytes:
        return digest(told, path="a task")


def _sure(found: bytes | Unkeyed) -> bytes:
    if isinstance(found, Unkeyed):
        raise _CantTellError(found.reason, is_trouble=found.is_trouble)
    return found


def _texts(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _texts(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)


def _is_named_within(function: object) -> bool:
    """Whether the parts of a shuffle find one another by an id that is in their names."""
    module = str(getattr(function, "__module__", None) or type(function).__module__)
    return module.startswith(("dask.", "distributed.", "partd")) and any(
        each in module for each in ("shuffle", "rechunk", "partd")
    )


def _name_of(key: Key) -> str:
    return str(key[0]) if isinstance(key, tuple) and key else str(key)


def _label(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _is_filesystem(value: object) -> bool:
    return any(base.__name__ in {"AbstractFileSystem", "FileSystem"} for base in type(value).__mro__)


def _row_groups(fragment: Any) -> object:
    groups = fragment.row_groups
    return None if groups is None else [group.id for group in groups]


def _attributes(value: Any) -> Iterable[tuple[str, object]]:
    slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
    yield from getattr(value, "__dict__", {}).items()
    for name in slots:
        if hasattr(value, name):
            yield name, getattr(value, name)
