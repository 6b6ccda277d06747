"""The graph of what a function reaches: functions, classes, objects and constants of the user's.

Libraries are leaves: a name and a version.
"""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any, Final, Literal

from persicache.keys.bytecode import lookups, names, write_outline
from persicache.keys.classes import CODE, class_parts, own_state, state_names
from persicache.keys.node import Node
from persicache.keys.origins import is_user_file, is_user_module, library
from persicache.keys.outline import outline
from persicache.keys.reached import Alike, Parts
from persicache.keys.rebinding import rebound
from persicache.keys.resolving import resolve
from persicache.keys.watch import MISSING, Watch, contents
from persicache.keys.writers import FAMILIES, class_name, safe_name, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from collections.abc import Set as AbstractSet

    from persicache.keys.resolving import Found

__all__ = ["CodeMode", "Graph"]

#: How much of a function's code counts.
CodeMode = Literal["deep", "own", "off"]

_PARTS: Final = {property: ("fget", "fset", "fdel"), functools.cached_property: ("func",)}

_PLAIN: Final = frozenset({str, bytes, int, float, complex, bool, type(None)})


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
        self.watch = Watch(only_atoms=mode != "deep")
        self._mode = mode
        self._root: object = None
        self._pending: list[Callable[[], None]] = []
        self._constants: list[Callable[[], None]] = []
        # By the owner's id and the name: what the code itself rebinds.
        self._state: set[Hashable] = set()
        self._names: set[str] = set()
        self._modules: list[tuple[types.ModuleType, Node, set[str]]] = []
        self._begin(self.nodes[()], function)
        # Lists, not recursion: call graphs are deeper than the stack. Code comes first: it
        # tells which of the constants are state.
        while self._pending or self._constants or self._follow_modules():
            (self._pending or self._constants).pop()()
        self.watch.settle()
        if self.nodes[()].own:
            # Arguments of a partial, or the object of a builtin method.
            self.nodes[()].label = safe_name(type(function))
        for node in self.nodes.values():
            # The nodes live as long as a fingerprint may be asked for its parts, nothing else should.
            node.keep = None

    def _begin(self, node: Node, function: Any) -> None:
        if type(function) is functools.partial:
            self._value(node, "partial", (function.args, function.keywords, vars(function)))
            self._begin(node, function.func)
        elif type(function) is types.MethodType:
            self._refer(node, "self", function.__self__)
            self._begin(node, function.__func__)
        else:
            self._root = function
            self._refer(node, "function", function)

    # -- References, by kind

    def _refer(self, node: Node, name: str, value: Any) -> None:
        self._guard(node, name, value, functools.partial(self._dispatch, node, name, value))

    def _guard(self, node: Node, name: str, value: object, work: Callable[[], None]) -> None:
        try:
            work()
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - the user's own code ran, and anything may come out of it
            self.watch.is_complete = False
            write_text(node.own, b"?", f"{name} {safe_name(type(value))}")

    def _dispatch(self, node: Node, name: str, value: Any) -> None:
        # By type, not by isinstance, which asks the object itself.
        cls = type(value)
        if issubclass(cls, types.ModuleType):
            self._module_reference(node, name, value)
        elif cls is types.FunctionType:
            look = self._function if is_user_file(value.__code__.co_filename) else self._library_function
            self._node(node, name, value, class_name(value), look)
        elif issubclass(cls, type):
            self._class_reference(node, name, value)
        elif issubclass(cls, CODE):
            for part in _PARTS.get(cls, ("__func__", "__self__")):
                self._refer(node, f"{name}.{part}", getattr(value, part, None))
        elif issubclass(cls, Parts):
            self._node(node, name, value, "", self._parts)
        elif issubclass(cls, Alike):
            for parts in value:
                self._node(node, name, parts, "", self._parts)
        elif self._is_followed(value):
            self._node(node, name, value, f"{class_name(cls)} object", self._object)
        elif not self._wrapper(node, name, value):
            self._value(node, name, value)

    def _node(
        self, node: Node, name: str, value: Any, label: str, look: Callable[[Node, Any], None]
    ) -> None:
        key = id(value)
        if key not in self.nodes:
            reached = self.nodes[key] = Node(label, value)
            work = functools.partial(look, reached, value)
            self._pending.append(functools.partial(self._guard, reached, "", value, work))
        node.references.append((name, key))

    def _is_followed(self, value: object) -> bool:
        cls = type(value)
        # Containers come here when they are nested deep, or contain themselves.
        return is_user_module(str(cls.__module__))

    def _class_reference(self, node: Node, name: str, cls: type) -> None:
        if is_user_module(str(cls.__module__)):
            self._node(node, name, cls, class_name(cls), self._class)
        else:
            self._library(node, f"{name} {class_name(cls)}", str(cls.__module__))

    def _module_reference(self, node: Node, name: str, module: types.ModuleType) -> None:
        if not is_user_module(module.__name__):
            self._library(node, name, module.__name__)
        elif self._mode == "deep":
            self._node(node, name, module, "", self._module)
        else:
            write_text(node.own, b"M", f"{name} {_main(module.__name__)}")

    def _library(self, node: Node, name: str, module: str) -> None:
        write_text(node.own, b"L", f"{name} {module}")
        label = library(module)
        if label not in self.nodes:
            write_text(self.nodes.setdefault(label, Node(label, None)).own, b"l", label)
        node.references.append((name, label))

    def _wrapper(self, node: Node, name: str, value: Any) -> bool:
        # A library's object around a function. Its state is its own affair.
        wrapped = own_state(value).get("__wrapped__", MISSING)
        if wrapped is MISSING or _is_wrapper(type(value)):
            return False
        self.watch.is_complete = False
        self._class_reference(node, f"{name} type", type(value))
        self._refer(node, name, wrapped)
        return True

    def _value(
        self,
        node: Node,
        name: str,
        value: object,
        *,
        subject: object = None,
        without: AbstractSet[str] = frozenset(),
    ) -> None:
        write_text(node.own, b"v", name)
        data, noted = outline(value, subject=subject, without=without)
        node.own += data
        self.watch.value(value)
        for index, reached in enumerate(noted):
            self._noted(node, f"{name}#{index:x}", reached)

    def _noted(self, node: Node, name: str, value: object) -> None:
        if issubclass(type(value), list | tuple | dict | set | frozenset) and not issubclass(
            type(value), Parts | Alike
        ):
            # Nested deep, or in itself.
            self._node(node, name, value, "", self._object)
        else:
            self._refer(node, name, value)

    # -- What is in a node

    def _parts(self, node: Node, parts: Parts) -> None:
        for index, part in enumerate(parts):
            self._noted(node, f"{index:x}", part)

    def _object(self, node: Node, value: object) -> None:
        cls = type(value)
        without: set[str] = set()
        if is_user_module(str(cls.__module__)):
            self._class_reference(node, "type", cls)
        says_so = _in_class(cls, "__persicache_key__") is not None
        if says_so or any(base in FAMILIES for base in cls.__mro__):
            # It says itself what counts.
            self.watch.is_complete = False
        elif is_user_module(str(cls.__module__)):
            # Calls that count themselves.
            without = state_names(_in_class(cls, "__call__"))
            self._watch_attributes(value, without)
        self._value(node, "object", value, subject=value, without=without)

    def _watch_attributes(self, value: object, without: set[str]) -> None:
        attributes = own_state(value)
        bases = type(value).__mro__
        if any("__slots__" in vars(base) for base in bases if base is not object):
            self.watch.is_complete = False
        if without.isdisjoint(attributes):
            self.watch.value(attributes)
        else:
            for name in attributes.keys() - without:
                self.watch.value(self.watch.look_up(attributes, name))

    def _function(self, node: Node, function: types.FunctionType) -> None:
        is_root = function is self._root
        if self._mode == "deep" or (is_root and self._mode == "own"):
            self.watch.function(function)
        if not is_root or self._mode != "off":
            write_outline(node.own, function, {})
        if self._mode != "deep" and not is_root:
            return
        if self._mode != "off":
            self._value(node, "defaults", function.__defaults__)
            self._value(node, "kwdefaults", function.__kwdefaults__)
        for name, cell in _cells(function):
            found = self.watch.cell(cell)
            if found is MISSING:
                write_text(node.own, b"0", name)
            else:
                self._refer(node, f"closure {name}", found)
        if self._mode == "deep":
            self._find_state(function)
            self._names |= names(function.__code__)
            self._attributes(node, function)
            for lookup in sorted(lookups(function.__code__)):
                for found in resolve(lookup, function.__globals__, self.watch):
                    self._take(node, found)

    def _attributes(self, node: Node, function: types.FunctionType) -> None:
        attributes = function.__dict__
        for name in sorted(attributes):
            found = self.watch.look_up(attributes, name, owner=function)
            label = f"{class_name(function)}.{name}"
            self._constant(node, f"attribute {name}", (id(function), name), label, function, found)

    def _library_function(self, node: Node, function: types.FunctionType) -> None:
        module = str(function.__globals__.get("__name__"))
        self._library(node, class_name(function), module)
        if self._mode != "deep":
            return
        # A library's decorator: what it wraps may be the user's. Its other variables are its
        # own affair: caches and counters, which change. Plain values that stay are not.
        changed = {name for name, _ in _cells(function) if name in _rebound_cells(function.__code__)}
        for name, cell in _cells(function):
            found = contents(cell)
            if isinstance(found, types.FunctionType | types.MethodType | type):
                self._refer(node, f"closure {name}", found)
            elif type(found) in _PLAIN and name not in changed:
                self._value(node, f"closure {name}", found)
            elif self._is_followed(found) or _is_wrapper(type(found)):
                self._refer(node, f"closure {name}", found)
            else:
                self.watch.is_complete = False
        wrapped = function.__dict__.get("__wrapped__")
        if wrapped is not None:
            self._refer(node, "__wrapped__", wrapped)
        implementations = function.__dict__.get("registry")
        if isinstance(implementations, types.MappingProxyType):
            # functools.singledispatch
            for cls, implementation in implementations.items():
                self._refer(node, class_name(cls), implementation)

    def _class(self, node: Node, cls: type) -> None:
        write_text(node.own, b"K", class_name(cls))
        if self._mode != "deep":
            return
        for index, base in enumerate((type(cls), *cls.__bases__)):
            self._refer(node, f"base {index}", base)
        attributes = vars(cls)
        self.watch.size(attributes)
        for value in list(attributes.values()):
            if type(value) is classmethod:
                self._state |= {(id(cls), name) for name in state_names(value)}
        for name, value in class_parts(cls):
            if name in attributes:
                self.watch.look_up(attributes, name, owner=cls)
            if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
                write_text(node.own, b"D", name)
            elif issubclass(type(value), CODE):
                self._refer(node, name, value)
            else:
                label = f"{class_name(cls)}.{name}"
                self._constant(node, name, (id(cls), name), label, cls, value)

    def _module(self, node: Node, module: types.ModuleType) -> None:
        write_text(node.own, b"M", _main(module.__name__))
        self._modules.append((module, node, set()))

    def _follow_modules(self) -> bool:
        """Follow what the code that was reached may use of the modules it holds as values."""
        followed = [self._follow_names(*entry, self._names) for entry in self._modules]
        if not any(followed):
            followed = [
                self._follow_names(*entry, _public_names(entry[0]))
                for entry in self._modules
                if not entry[2]
            ]
        return any(followed)

    def _follow_names(
        self, module: types.ModuleType, node: Node, followed: set[str], wanted: set[str]
    ) -> bool:
        new = sorted((wanted & vars(module).keys()) - followed)
        followed |= set(new)
        for name in new:
            self._reach(node, name, vars(module), self.watch.look_up(vars(module), name))
        return bool(new)

    # -- State

    def _find_state(self, function: types.FunctionType) -> None:
        namespace, changed = function.__globals__, rebound(function.__code__)
        state: set[Hashable] = {(id(namespace), name) for name in changed.names}
        for owner, attribute in changed.attributes:
            found = namespace.get(owner) if owner else None
            if isinstance(found, types.FunctionType | type):
                state.add((id(found), attribute))
        for key in state - self._state:
            self.watch.forget(key)
            if key in self.nodes:
                _forget(self.nodes[key])
        self._state |= state

    # -- From a name to what it stands for

    def _take(self, node: Node, found: Found) -> None:
        if found.kind == "name":
            self._reach(node, found.path, found.namespace, found.value)
        elif found.kind == "thing":
            self._refer(node, found.path, found.value)
        elif found.kind == "library":
            self._library(node, "import", found.path)
        else:
            write_text(node.own, b"B" if found.kind == "builtin" else b"0", found.path)

    def _reach(self, node: Node, path: str, namespace: Mapping[str, object], found: object) -> None:
        name = path.rpartition(".")[2]
        cls = type(found)
        is_code = cls is types.FunctionType or issubclass(cls, type)
        if issubclass(cls, types.ModuleType) or (is_code and getattr(found, "__name__", None) == name):
            self._refer(node, path, found)
            return
        # A constant is a node of its own, so that it can be named where it changed.
        label = f"{_main(str(namespace.get('__name__')))}.{name}"
        self._constant(node, path, (id(namespace), name), label, namespace, found)

    def _constant(
        self, node: Node, path: str, key: tuple[int, str], label: str, keep: object, found: object
    ) -> None:
        if key not in self.nodes:
            constant = self.nodes[key] = Node(label, keep)
            self._constants.append(functools.partial(self._look_at_constant, constant, key, found))
        node.references.append((path, key))

    def _look_at_constant(self, node: Node, key: tuple[int, str], found: object) -> None:
        if key in self._state:
            self.watch.forget(key)
            _forget(node)
        else:
            self._refer(node, key[1], found)


def _forget(node: Node) -> None:
    node.own[:] = b"!"
    node.references.clear()


def _cells(function: types.FunctionType) -> list[tuple[str, types.CellType]]:
    return list(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def _rebound_cells(code: types.CodeType) -> frozenset[str]:
    return rebound(code).cells


def _in_class(cls: type, name: str) -> object:
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _is_wrapper(cls: type) -> bool:
    return cls is functools.partial or _in_class(cls, "__persicache_code__") is not None


def _public_names(module: types.ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("__") and not issubclass(type(value), types.ModuleType)
    }


def _main(module: str) -> str:
    return "__main__" if module == "__mp_main__" else module
