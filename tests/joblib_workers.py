"""Functions that joblib's workers import."""

import os
import time

#: Names the file that computations are noted in.
LOG = "PERSICACHE_TEST_JOBLIB_LOG"


def note(x):
    with open(os.environ[LOG], "a") as log:  # noqa: PTH123
        log.write(f"{x}\n")


def square(x):
    note(x)
    time.sleep(0.05)  # long enough that equal calls meet
    return x * x


def total(array):
    note("total")
    return float(array.sum())
