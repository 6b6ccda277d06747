"""What stands for a value: a registered function, or a method; and the errors where nothing can."""

from __future__ import annotations

import abc
import io
import itertools
import re
import socket
import subprocess
import sys
import threading
import weakref

import pytest

import persicache
from persicache import UndigestibleValue, register_digest
from persicache.keys import CallDigest, digest


class Handle:
    def __init__(self, name, **state):
        self.name, self.lock = name, threading.Lock()
        self.__dict__.update(state)


class Keyed(Handle):
    def __persicache_key__(self):
        return self.name


class State:
    def __init__(self, **state):
        self.__dict__.update(state)


def derived(*bases, **members):
    return type("Derived", bases, members)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("Handle", len), "'Handle'"),
        ((list[int], len), r"list\[int\]"),
        ((Handle("a"), len), "Handle object"),
        ((Handle, "name"), "'name'"),
        ((Handle, None), "None"),
        ((str, len), "str"),
        ((dict, len), "dict"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, named):
    with pytest.raises(TypeError, match=named):
        register_digest(*arguments)
    assert digest("abc") != digest("abd")


def test_the_nearer_class_decides():
    base = derived(Handle)
    sub = derived(base, __persicache_key__=lambda self: self.name.lower())
    leaf = derived(sub)
    register_digest(base, lambda value: value.name.upper())
    assert digest(base("a")) == digest(base("A"))
    assert digest(sub("a")) == digest(sub("A"))
    register_digest(sub, lambda value: value.name[:1])
    assert digest(sub("ab")) == digest(sub("ac"))
    assert digest(leaf("ab")) == digest(leaf("ac"))
    assert digest(base("ab")) != digest(base("ac"))


def test_the_later_registration_decides():
    cls = derived(Handle)
    register_digest(cls, lambda value: value.name)
    assert digest(cls("a")) != digest(cls("A"))
    register_digest(cls, lambda value: value.name.lower())
    assert digest(cls("a")) == digest(cls("A"))


@pytest.mark.parametrize("use", [register_digest, lambda cls, key: setattr(cls, "__persicache_key__", key)])
def test_classes_never_count_as_one(use):
    base = type("Base", (Handle,), {})
    use(base, lambda value: value.name)
    sub, edited = type("Sub", (base,), {}), type("Sub", (base,), {"twice": lambda self: self.name * 2})
    values = [base("a"), sub("a"), edited("a"), "a", ("a",), base("b")]
    assert len({digest(value) for value in values}) == len(values)


def test_what_an_abstract_class_only_knows_of_is_not_derived():
    class Named(abc.ABC):
        @abc.abstractmethod
        def rename(self): ...

    class Known(Handle):
        pass

    Named.register(Known)
    register_digest(Named, lambda value: value.name)
    assert isinstance(Known("a"), Named)
    with pytest.raises(UndigestibleValue):
        digest(Known("a"))


@pytest.mark.parametrize("answer", [1, "a", {"b": [2, {3}]}, None, Keyed("x")])
def test_an_answer_is_any_digestible_value(answer):
    cls = derived(Handle)
    register_digest(cls, lambda _: answer)
    before = digest(cls("a"))
    assert digest(cls("b")) == before
    register_digest(cls, lambda _: [answer])
    assert digest(cls("b")) != before


def test_a_registration_in_the_middle_of_a_digest_is_not_lost():
    class Meta(type):
        def __getattr__(cls, name):
            if name == "__dataclass_fields__" and not registered:
                registered.append(cls)
                register_digest(cls, lambda value: value.name.lower())
            raise AttributeError(name)

    class Late(State, metaclass=Meta):
        pass

    registered = []
    digest(Late(name="a"))
    assert registered
    assert digest(Late(name="A")) == digest(Late(name="a"))


def test_threads_may_register_while_others_digest():
    classes = [derived(Handle) for _ in range(300)]
    start = threading.Barrier(4)
    done = []

    def work(order):
        start.wait()
        for cls in order:
            register_digest(cls, lambda value: value.name.lower())
            if digest(cls("A")) == digest(cls("a")):
                done.append(cls)

    threads = [threading.Thread(target=work, args=[classes[::step]]) for step in (1, -1, 2, -2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3 * len(classes)


FOREIGN = """
import decimal, fractions, numpy, persicache
from persicache.keys import digest
persicache.register_digest(decimal.Decimal, lambda value: str(value.normalize()))
assert digest(decimal.Decimal("1.0")) == digest(decimal.Decimal("1.00"))
persicache.register_digest(numpy.ndarray, lambda value: value.shape)
assert digest(numpy.zeros(3)) == digest(numpy.ones(3)) != digest(numpy.ones(4))
import pandas
# Before the first frame was digested, and so before its own writer is there.
persicache.register_digest(pandas.DataFrame, lambda value: len(value))
assert digest(pandas.DataFrame({"a": [1]})) == digest(pandas.DataFrame({"a": [2]}))
assert digest(pandas.Series([1])) != digest(pandas.Series([2]))
"""


def test_types_that_are_known_already_can_be_registered():
    # In a process of its own: registrations stay.
    subprocess.run([sys.executable, "-c", FOREIGN], check=True)


def of_call(value):
    return CallDigest("f", ("x", "model"))((1, value))


def test_the_error_names_the_argument_its_type_the_path_and_the_ways_out():
    with pytest.raises(TypeError) as caught:
        of_call({"a": [0, 1, 2, State(lock=threading.Lock())]})
    message = str(caught.value)
    assert message.startswith("argument 'model'['a'][3].lock can't be digested: a lock")
    for part in ("the dict", "ignore=", "key=", "persicache.register_digest(", "__persicache_key__"):
        assert part in message
    assert caught.value.kind == "dict"
    assert isinstance(caught.value, persicache.PersicacheError)


def in_itself():
    value = {"up": []}
    value["up"].append(State(top=value))
    return value


def raising(value):
    raise ZeroDivisionError(f"of {value.name}")


def registered(function):
    cls = derived(Handle)
    register_digest(cls, function)
    return cls("a")


class NoRepr:
    def __repr__(self):
        raise ValueError("no")


def unpicklable():
    yield 1


def of_set():
    return iter({"a", "b"})


WRONG = {
    "in itself": (in_itself, "['up'][0].top", "contains itself"),
    "raises": (lambda: [registered(raising)], "[0]", "Derived.*ZeroDivisionError: of a"),
    "answers itself": (lambda: registered(lambda value: [value]), "<registered for Derived>[0]", "itself"),
    "answers a lock": (lambda: Keyed(threading.Lock()), ".__persicache_key__()", "lock"),
    "method raises": (
        lambda: [derived(Keyed, __persicache_key__=raising)("a")],
        "[0]",
        "__persicache_key__.* of a Derived raised ZeroDivisionError",
    ),
    "key without repr": (lambda: {NoRepr(): threading.Lock()}, "[<NoRepr>]", "lock"),
    "file": (lambda: [sys.__stdout__], "[0]", "TextIOWrapper"),
    "generator": (unpicklable, "", "generator"),
    "iterator of a set": (of_set, "", "order"),
    "map over a set": (lambda: map(str, {1, 2}), "[1]", "order"),
    "weak reference": (lambda: weakref.ref(Handle), "", "ReferenceType"),
    "weak set": (lambda: weakref.WeakSet([Handle]), "", ""),
    "thread": (threading.current_thread, "", "lock"),
    "event": (lambda: State(event=threading.Event()), ".event", "lock"),
    "method of a file": (lambda: io.FileIO(sys.__stdin__.fileno(), closefd=False).read, "", "FileIO"),
    "bare object": (lambda: (object(),), "[0]", "bare object"),
    "endless": (lambda: itertools.repeat(threading.Lock()), "", "lock"),
}


@pytest.mark.parametrize(("make", "steps", "reason"), WRONG.values(), ids=WRONG)
def test_what_can_not_be_digested_is_said_clearly(make, steps, reason):
    with pytest.raises(UndigestibleValue) as caught:
        of_call(make())
    assert caught.value.path.startswith(f"argument 'model'{steps}")
    assert re.search(reason, caught.value.reason)


def test_an_open_socket_is_refused():
    with socket.socket() as plug, pytest.raises(UndigestibleValue, match=r"argument 'model'.*socket"):
        of_call(plug)
