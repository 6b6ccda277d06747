"""The graph of what a function reaches: functions, classes and constants of the user's modules.

Libraries are leaves: a name and a version.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Any, Final, Literal

from persicache.keys.bytecode import lookups, write_outline
from persicache.keys.origins import import_user_module, is_user_file, is_user_module, library
from persicache.keys.outline import MISSING, contents, outline
from persicache.keys.watch import Watch
from persicache.keys.writers import class_name, seal, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from persicache.keys.bytecode import Lookup

__all__ = ["CodeMode", "Graph", "Node"]

#: How much of a function's code counts.
CodeMode = Literal["deep", "own", "off"]

# What a class's dictionary holds that is not its meaning: documentation, places, caches.
_INCIDENTAL: Final = frozenset(
    {
        *("__doc__", "__dict__", "__weakref__", "__module__", "__qualname__", "__orig_bases__"),
        *("__firstlineno__", "__static_attributes__", "__slotnames__", "__parameters__", "_abc_impl"),
        *("__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__"),
        *("__dataclass_fields__", "__dataclass_params__", "__match_args__"),
    }
)

_CODE: Final = (
    *(types.FunctionType, types.MethodType, type),
    *(staticmethod, classmethod, property, functools.cached_property),
)


class Node:
    """A thing that was reached: its name, its own bytes, and what it refers to."""

    __slots__ = ("_keep", "label", "own", "references")

    def __init__(self, label: str, keep: object) -> None:
        self.label = label
        self._keep = keep  # The graph knows it by its id, which must not be reused.
        self.own = bytearray()
        self.references: list[tuple[str, Hashable]] = []

    def digest(self) -> bytes:
        """Digest the name and the own bytes."""
        out = bytearray()
        write_text(out, b"l", self.label)
        return seal(out + self.own)


class Graph:
    """Walks from a function to all that it reaches.

    Parameters
    ----------
    function : callable
        Where to begin.
    mode : {"deep", "own", "off"}
        How far to go.

    Attributes
    ----------
    nodes : dict
        What was reached. The beginning is under the empty tuple.
    watch : Watch
        What was looked at.
    """

    def __init__(self, function: Any, *, mode: CodeMode) -> None:
        self.nodes: dict[Hashable, Node] = {(): Node("", function)}
        self.watch = Watch()
        self._mode = mode
        self._pending: list[Callable[[], None]] = []
        self._begin(self.nodes[()], function)
        # A list, not recursion: call graphs are deeper than the stack.
        while self._pending:
            self._pending.pop()()

    def _begin(self, node: Node, function: Any) -> None:
        if isinstance(function, functools.partial):
            self._value(node, "partial", (function.args, function.keywords))
            self._begin(node, function.func)
        elif isinstance(function, types.MethodType):
            self._value(node, "self", function.__self__)
            self._begin(node, function.__func__)
        else:
            self._refer(node, "function", function)

    # -- References, by kind

    def _refer(self, node: Node, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType):
            self._module(node, name, value.__name__)
        elif isinstance(value, types.FunctionType):
            look = self._function if is_user_file(value.__code__.co_filename) else self._library_function
            self._node(node, name, value, look)
        elif isinstance(value, type):
            self._class_reference(node, name, value)
        elif isinstance(value, _CODE):
            self._descriptor(node, name, value)
        elif not self._wrapper(node, name, value):
            self._value(node, name, value)

    def _node(self, node: Node, name: str, value: Any, look: Callable[[Node, Any], None]) -> None:
        key = id(value)
        if key not in self.nodes:
            reached = self.nodes[key] = Node(class_name(value), value)
            self._pending.append(functools.partial(look, reached, value))
        node.references.append((name, key))

    def _class_reference(self, node: Node, name: str, cls: type) -> None:
        if is_user_module(str(cls.__module__)):
            self._node(node, name, cls, self._class)
        else:
            self._module(node, f"{name} {class_name(cls)}", str(cls.__module__))

    def _module(self, node: Node, name: str, module: str) -> None:
        if is_user_module(module):
            # What is used of it is referred to by itself.
            write_text(node.own, b"M", f"{name} {_main(module)}")
            return
        write_text(node.own, b"L", f"{name} {module}")
        label = library(module)
        self.nodes.setdefault(label, Node(label, None))
        node.references.append((name, label))

    def _descriptor(self, node: Node, name: str, value: Any) -> None:
        parts = {types.MethodType: ("__func__", "__self__"), property: ("fget", "fset", "fdel")}
        parts[functools.cached_property] = ("func",)
        for part in parts.get(type(value), ("__func__",)):
            self._refer(node, f"{name}.{part}", getattr(value, part, None))

    def _wrapper(self, node: Node, name: str, value: Any) -> bool:
        # In dictionaries, not by getattr: a __getattr__ may have everything.
        if hasattr(type(value), "__persicache_code__"):
            self._refer(node, name, value.__persicache_code__())
            return True
        wrapped = getattr(value, "__dict__", {}).get("__wrapped__", MISSING)
        if wrapped is MISSING:
            return False
        write_text(node.own, b"w", f"{name} {class_name(type(value))}")
        self._class_reference(node, f"{name} type", type(value))
        self._refer(node, name, wrapped)
        return True

    def _value(self, node: Node, name: str, value: object) -> None:
        write_text(node.own, b"v", name)
        noted: list[object] = [type(value)]
        node.own += outline(value, noted.append)
        if self._mode != "deep":
            return
        for reached in noted:
            module = getattr(reached, "__module__", None)
            if isinstance(reached, types.FunctionType) or is_user_module(str(module)):
                self._refer(node, name, reached)
            elif library(str(module)) != library("builtins"):
                self._module(node, name, str(module))

    # -- What is in a node

    def _function(self, node: Node, function: types.FunctionType) -> None:
        if self._mode != "off":
            self.watch.function(function)
            write_outline(node.own, function, {})
            self._value(node, "defaults", function.__defaults__)
            self._value(node, "kwdefaults", function.__kwdefaults__)
        for name, cell in _cells(function):
            found = self.watch.cell(cell)
            if found is MISSING:
                write_text(node.own, b"0", name)
            else:
                self.watch.value(found)
                (self._refer if self._mode == "deep" else self._value)(node, f"closure {name}", found)
        if self._mode == "deep":
            self._follow_wrapped(node, function)
            for lookup in sorted(lookups(function.__code__)):
                if lookup.level < 0:
                    self._resolve_global(node, function.__globals__, lookup.names)
                else:
                    self._resolve_import(node, function.__globals__, lookup)

    def _library_function(self, node: Node, function: types.FunctionType) -> None:
        self._module(node, class_name(function), str(function.__globals__.get("__name__")))
        if self._mode != "deep":
            return
        # A library's decorator: what it wraps may be the user's. Its other variables are its
        # own affair: caches and counters, which change.
        for name, cell in _cells(function):
            found = contents(cell)
            if isinstance(found, types.FunctionType | types.MethodType | type):
                self._refer(node, f"closure {name}", found)
        self._follow_wrapped(node, function)
        implementations = function.__dict__.get("registry")
        if isinstance(implementations, types.MappingProxyType):
            # functools.singledispatch
            for cls, implementation in implementations.items():
                self._refer(node, class_name(cls), implementation)

    def _follow_wrapped(self, node: Node, function: types.FunctionType) -> None:
        wrapped = function.__dict__.get("__wrapped__")
        if wrapped is not None:
            self._refer(node, "__wrapped__", wrapped)

    def _class(self, node: Node, cls: type) -> None:
        write_text(node.own, b"K", class_name(cls))
        if self._mode != "deep":
            return
        for base in (type(cls), *cls.__bases__):
            self._refer(node, "base", base)
        members = getattr(cls, "__members__", None)
        if isinstance(members, types.MappingProxyType):
            self._value(node, "members", [(name, member.value) for name, member in members.items()])
        for name in sorted(vars(cls).keys() - _INCIDENTAL):
            value = vars(cls)[name]
            if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
                write_text(node.own, b"D", name)
            elif isinstance(value, _CODE):
                self.watch.look_up(vars(cls), name)
                self._refer(node, name, value)
            elif not isinstance(members, types.MappingProxyType):
                # Else the rest is what enums keep for themselves.
                self._refer(node, name, value)

    # -- From a name to what it stands for

    def _resolve_global(self, node: Node, namespace: Mapping[str, object], names: tuple[str, ...]) -> None:
        path = name = names[0]
        found = self.watch.look_up(namespace, name)
        if found is MISSING:
            # A builtin is known by its name.
            write_text(node.own, b"B", name)
            return
        for name in names[1:]:
            if not isinstance(found, types.ModuleType) or not is_user_module(found.__name__):
                break
            namespace, path = vars(found), f"{path}.{name}"
            found = self.watch.look_up(namespace, name)
            if found is MISSING:
                write_text(node.own, b"0", path)
                return
        self._reach(node, path, namespace, found)

    def _resolve_import(self, node: Node, namespace: Mapping[str, object], lookup: Lookup) -> None:
        module_name, name = lookup.names
        try:
            full_name = importlib.util.resolve_name(
                "." * lookup.level + module_name, str(namespace.get("__package__") or "")
            )
        except ImportError:
            return
        module = import_user_module(full_name)
        if module is None:
            self._module(node, "import", full_name)
            return
        path = f"{full_name}.{name}"
        found = self.watch.look_up(vars(module), name)
        if found is MISSING:
            # Perhaps a submodule; else the name has nothing to do with the module.
            found = sys.modules.get(path, MISSING)
        if found is not MISSING:
            self._reach(node, path, vars(module), found)

    def _reach(self, node: Node, path: str, namespace: Mapping[str, object], found: object) -> None:
        if isinstance(found, types.ModuleType | types.FunctionType | type):
            self._refer(node, path, found)
            return
        # A constant is a node of its own, so that it can be named where it changed.
        name = path.rpartition(".")[2]
        key = (id(namespace), name)
        if key not in self.nodes:
            constant = self.nodes[key] = Node(f"{_main(str(namespace.get('__name__')))}.{name}", namespace)
            self.watch.value(found)
            self._pending.append(functools.partial(self._refer, constant, name, found))
        node.references.append((path, key))


def _cells(function: types.FunctionType) -> list[tuple[str, types.CellType]]:
    return list(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def _main(module: str) -> str:
    return "__main__" if module == "__mp_main__" else module
