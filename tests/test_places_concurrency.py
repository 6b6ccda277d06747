"""Several processes at one place: no update is lost, and nobody sees what never was."""

import multiprocessing

import numpy as np
import pytest
from persidict_children import WORKERS, churn, claim, count, count_up, overwrite_or_read, pool_of
from places import PLACES, SWAPPING

from persicache import PersiDict


@pytest.fixture(scope="module")
def processes():
    with pool_of(processes=True) as pool:
        yield pool


@pytest.fixture
def workers(kind, request):
    """Eight processes; or threads, where processes share nothing."""
    if kind.is_shared:
        yield request.getfixturevalue("processes")
    else:
        with pool_of(processes=False) as pool:
            yield pool


everywhere = pytest.mark.parametrize("kind", PLACES, ids=str)
where_conditions_are_exact = pytest.mark.parametrize("kind", SWAPPING, ids=str)


@where_conditions_are_exact
@pytest.mark.timeout(600)  # S3 gets some 8,000 requests, and the server takes 5 ms or more for each
def test_eight_count_to_1600(kind, place, workers):
    workers.starmap(count_up, [(place, 200)] * WORKERS, chunksize=1)
    assert PersiDict(**place)["n"] == WORKERS * 200


@where_conditions_are_exact
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_forked_children_count_with_the_handle_of_their_parent(kind, place):
    if not kind.is_shared:
        pytest.skip("a child has a copy of its own")
    d = PersiDict(**place)
    d.transform_item("n", transformer=count)

    def count_on():
        for _ in range(10):
            d.transform_item("n", transformer=count, n_retries=None)

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=count_on) for _ in range(3)]
    for child in children:
        child.start()
    count_on()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert d["n"] == 41


@where_conditions_are_exact
def test_each_key_has_one_who_set_it_first(kind, place, workers):
    n = 20 if kind.name == "s3" else 100  # each of 8 asks several times for each
    won = workers.starmap(claim, [(place, me, n) for me in range(WORKERS)], chunksize=1)
    assert sorted(i for mine in won for i in mine) == list(range(n))
    d = PersiDict(**place)
    for me, mine in enumerate(won):
        assert [d["claim", i] for i in mine] == [me] * len(mine)


#: Where it is 100 MB. The others have the code of one of these; a document is parsed whole.
IN_FULL_SIZE = {"directory", "s3", "sqlite", "lmdb"}


@everywhere
def test_a_reader_under_overwrites_sees_whole_versions(kind, place, workers):
    nbytes = 100_000_000 if kind.name in IN_FULL_SIZE else 2_000_000
    with PersiDict(**place) as d:
        d["large"] = np.zeros(nbytes // 8)
    tasks = [(place, me, nbytes, 2) for me in range(WORKERS)]
    for versions in workers.starmap(overwrite_or_read, tasks, chunksize=1)[1:3]:
        assert versions == sorted(versions)
        assert versions[-1] == 2


@everywhere
def test_iterating_while_others_add_and_remove(kind, place, workers):
    stay = {**{("stay", i): i for i in range(20)}, "y" * 300: "long"}
    d = PersiDict(**place)
    d.set_many(stay)
    turns = 1 if kind.name == "s3" else 6
    others = workers.starmap_async(churn, [(place, me, turns) for me in range(WORKERS)], chunksize=1)
    is_over = False
    while not is_over:
        is_over = others.ready()
        assert sorted(map(repr, filter(stay.__contains__, d))) == sorted(map(repr, stay))
        items = [(key, value) for key, value in d.items() if key in stay]
        assert len(items) == len(stay)
        assert dict(items) == stay
        assert len(d) >= len(stay)
    others.get()
    assert dict(d) == stay
