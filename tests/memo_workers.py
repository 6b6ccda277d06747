"""Memoized functions of every kind, for worker processes to import."""

import asyncio
import functools
import inspect
import os
import shutil
import tempfile
import time
from multiprocessing.util import Finalize

from persicache import persistent_memoize

# Worker processes find the same.
NAME = "PERSICACHE_TEST_WORKERS"
if NAME not in os.environ:
    os.environ[NAME] = tempfile.mkdtemp(prefix="persicache-workers-")
    # After the functions have told the store how they were used.
    Finalize(None, shutil.rmtree, (os.environ[NAME],), {"ignore_errors": True}, exitpriority=-100)
STORE = os.environ[NAME]
memoize = persistent_memoize(STORE, memory=None)


def note(x):
    """Note that `x` was computed, by whatever process."""
    with open(os.path.join(STORE, "computed"), "a") as log:  # noqa: PTH118, PTH123
        log.write(f"{x}\n")


@memoize
def function(x):
    note(x)
    return x + 1


@memoize
def slow(x):
    note(x)
    time.sleep(0.3)  # the work, during which the others come
    return x + 1


class Adder:
    base = 1

    def __init__(self, n):
        self.n = n

    @memoize
    def method(self, x):
        note(x)
        return x + self.n

    @classmethod
    @memoize
    def of_class(cls, x):
        note(x)
        return x + cls.base

    @memoize
    @classmethod
    def of_class_below(cls, x):
        note(x)
        return x + cls.base

    @staticmethod
    @memoize
    def static(x):
        note(x)
        return x + 1

    @memoize
    def __private(self, x):
        note(x)
        return x + self.n

    def private(self):
        return self.__private


class Derived(Adder):
    @memoize
    def method(self, x):
        return -1

    def inherited(self):
        return super().method


def _add(n, x):
    note(x)
    return n + x


partial = memoize(functools.partial(_add, 1))
nameless = memoize(lambda x: (note(x), x + 1)[1])


@memoize
async def coroutine(x):
    note(x)
    return x + 1


@memoize
def generator(x):
    note(x)
    yield x + 1


@memoize
async def asynchronous_generator(x):
    note(x)
    yield x + 1


KINDS = {
    "function": function,
    "method": Adder(1).method,
    "class method": Adder.of_class,
    "class method below": Adder(1).of_class_below,
    "static method": Adder.static,
    "private method": Adder(1).private(),
    "inherited method": Derived(1).inherited(),
    "partial": partial,
    "nameless": nameless,
    "coroutine": coroutine,
    "generator": generator,
    "asynchronous generator": asynchronous_generator,
}


def use(f, x):
    """Return what a call gives, of whatever kind the function is."""
    result = f(x)
    if inspect.isawaitable(result):
        return asyncio.run(_awaited(result))
    if inspect.isgenerator(result):
        (item,) = result
        return item
    return asyncio.run(_first(result)) if inspect.isasyncgen(result) else result


async def _awaited(result):
    return await result


async def _first(result):
    (item,) = [item async for item in result]
    return item
