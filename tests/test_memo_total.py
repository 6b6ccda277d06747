"""What all memoized functions of a process did together."""

import gc
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from persicache import persistent_memoize, total_stats


def adding(n):
    @persistent_memoize(f"memory://{uuid.uuid4()}")
    def add(x):
        return x + n

    return add


def test_functions_that_are_gone_still_count():
    before = total_stats()
    for n in range(3):
        add = adding(n)
        assert [add(1), add(1), add(2)] == [n + 1, n + 1, n + 2]
        del add
        gc.collect()
    after = total_stats()
    assert after.hits - before.hits == 3
    assert after.misses - before.misses == 6
    assert after.nbytes_saved > before.nbytes_saved


def test_threads_that_make_and_call_functions_are_all_counted():
    def work(n):
        add = adding(n)
        for _ in range(5):
            add(1)
            total_stats()
        return add

    before = total_stats()
    with ThreadPoolExecutor(4) as pool:
        functions = list(pool.map(work, range(8)))
    after = total_stats()
    assert len(functions) == 8
    assert (after.hits - before.hits, after.misses - before.misses) == (32, 8)


def test_a_forked_child_begins_with_nothing():
    add = adding(1)
    add(1)
    reading, writing = os.pipe()
    if not (child := os.fork()):
        counts = total_stats()[:2]
        add(1)
        os.write(writing, repr((counts, total_stats()[:2])).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading) as answer:  # noqa: PTH123 - a descriptor
        assert answer.read() == "((0, 0), (1, 0))"
