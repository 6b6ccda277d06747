"""What spawned children of the tests of persidict's names run."""

from persicache.compat.persidict import ITEM_NOT_AVAILABLE, FileDirDict


def one_more(n):
    return 1 if n is ITEM_NOT_AVAILABLE else n + 1


def count(directory, times):
    d = FileDirDict(base_dir=directory)
    for _ in range(times):
        d.transform_item("count", transformer=one_more, n_retries=None)
