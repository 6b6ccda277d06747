"""A Ctrl-C at a chosen moment."""

import gc
import sys


def is_interrupted(work, moment):
    """Do some work, with a Ctrl-C at the so-manieth moment at which one can come; return whether it did."""
    n = 0

    def count(_frame, event, _called):
        nonlocal n
        # The interpreter looks for signals as a function of Python begins, and after one of C.
        n += event in {"call", "c_return"}
        if n == moment:
            sys.setprofile(None)
            raise KeyboardInterrupt

    gc.disable()  # what it calls would not pass the Ctrl-C on
    sys.setprofile(count)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
        gc.enable()
    return False
