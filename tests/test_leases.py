"""A lease has one holder at a time, and passes on from one that was killed or stopped."""

import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from leases_children import Elsewhere, attempt, count_up, hold, holding, leases_of, race, take
from places import PLACES, Place
from test_storage_children import in_fork

from persicache import BackendError, PersiDict
from persicache.errors import ReadOnlyPlace
from persicache.mappings.near import NearStorage
from persicache.mappings.near_memory import MemoryCopies
from persicache.storage import NullStorage, open_leases, open_storage

NAME = "f/ab/cd.pc"
WORKERS = 8
KINDS = [kind for kind in PLACES if kind.name not in {"near", "waiting"}]
RECORDS = Place("records", "{folder}/x.db")
EXCLUDING = [*(kind for kind in KINDS if kind.swaps), RECORDS]
SHARED = [kind for kind in EXCLUDING if kind.is_shared]
#: One of each sort: locks in a directory, beside a file, records.
SORTS = [kind for kind in SHARED if kind.name in {"directory", "sqlite", "records", "s3"}]

pytestmark = pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")


@pytest.fixture
def where(kind, place):
    """A new place, as `leases_of` opens it."""
    return {**place, "records": kind is RECORDS}


@pytest.fixture(scope="module")
def processes():
    fork = multiprocessing.get_context("fork")  # spawned ones take seconds to import what they need
    with fork.Manager() as manager, fork.Pool(WORKERS) as pool:
        yield pool, manager


def descriptors():
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, no paths


def over(kinds):
    return pytest.mark.parametrize("kind", kinds, ids=str)


@over(EXCLUDING)
def test_one_at_a_time_has_it(kind, where):
    mine, other = leases_of(where), leases_of(where)
    for leases in (mine, other):
        lease = take(mine, NAME)
        tries = leases.tries(NAME)
        assert 0 < attempt(tries) < 0.1
        assert 0 < attempt(tries) < 0.2
        assert not lease.is_lost
        lease.release()
        lease.release()
        assert lease.is_lost
        again = attempt(tries)
        assert not again.is_lost
        lease.release()  # which is over, and nobody else's
        assert isinstance(attempt(leases.tries(NAME)), float)
        again.release()


@over(KINDS)
def test_it_is_no_entry_and_leaves_none(kind, where):
    leases = leases_of(where)
    with PersiDict(where["url"], storage_options=where["storage_options"], durable=False) as d:
        d["a"] = 1
        with holding(leases, NAME):
            assert dict(d) == {"a": 1}
        assert dict(d) == {"a": 1}
        d.flush()
    assert len(list(open_storage(where["url"], storage_options=where["storage_options"]).scan())) == 1


@over(EXCLUDING)
def test_other_names_dont_wait(kind, where):
    leases = leases_of(where)
    held = [attempt(leases.tries(f"f/{i:02x}/cd.pc")) for i in range(20)]
    assert not any(isinstance(lease, float) or lease.is_lost for lease in held)
    for lease in held:
        lease.release()


def test_where_nobody_can_be_kept_out_all_have_it(tmp_path):
    for storage in (NullStorage(), open_storage(f"dir::file://{tmp_path}")):
        leases = open_leases(storage)
        first, second = take(leases, NAME), take(leases, NAME)
        assert not first.is_lost
        first.release()
        assert not second.is_lost


def test_a_lease_must_hold_for_some_time(tmp_path):
    with pytest.raises(ValueError, match="more than 0 seconds, not 0"):
        open_leases(open_storage(tmp_path), seconds=0)
    with pytest.raises(ValueError, match="can't name a blob"):
        next(open_leases(open_storage(tmp_path)).tries("../x"))


def test_tables_of_one_file_have_leases_of_their_own(tmp_path):
    one, other = (open_leases(open_storage(f"sqlite://{tmp_path}/x.db?table={name}")) for name in "ab")
    with holding(one, NAME), holding(other, NAME):
        assert isinstance(attempt(one.tries(NAME)), float)


def test_links_lead_to_the_same_leases(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for end in ("", "/x.db"):
        real, link = (open_leases(open_storage(f"{tmp_path}/{base}{end}")) for base in ("real", "link"))
        with holding(real, NAME):
            assert isinstance(attempt(link.tries(NAME)), float)


@pytest.mark.parametrize("url", ["{tmp}/near", "memory://near-leases"])
def test_copies_nearby_have_no_part_in_it(tmp_path, url):
    inner = open_storage(url.format(tmp=tmp_path))
    near = NearStorage(inner, MemoryCopies(1 << 20), trusts=True)
    with holding(open_leases(near), NAME):
        assert isinstance(attempt(open_leases(inner).tries(NAME)), float)


@over(EXCLUDING)
def test_threads_exclude_one_another(kind, where):
    leases = [leases_of(where), leases_of(where)]
    inside, most = [], []

    def work(i):
        for _ in range(3 if kind.name == "s3" else 10):
            with holding(leases[i % 2], NAME):
                inside.append(i)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.remove(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


@over([kind for kind in SORTS if kind.name != "s3"])
def test_eight_processes_exclude_one_another(kind, where, processes, tmp_path):
    pool, _ = processes
    times = 15
    counter = tmp_path / "counter"
    counter.write_text("0")
    pool.starmap(count_up, [(where, str(counter), times)] * WORKERS, chunksize=1)
    assert counter.read_text() == str(WORKERS * times)


@pytest.fixture
def holder(where):
    """Another process that has the lease, for a second unless it renews it."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=hold, args=(where, 1.0, theirs), daemon=True)
    process.start()
    ours.recv()
    yield process, ours
    process.kill()
    process.join()


@over(SORTS)
def test_it_passes_on_when_its_holder_is_killed(kind, where, holder, processes, tmp_path):
    pool, manager = processes
    log = tmp_path / "log"
    ready = manager.Barrier(5)
    racing = pool.starmap_async(race, [(where, 100.0, str(log), ready)] * 4, chunksize=1)
    time.sleep(0.1)
    assert not log.exists()
    os.kill(holder[0].pid, signal.SIGKILL)
    holder[0].join()
    ready.wait(60)
    # Not after a hundred: the kernel says so, or the machine that its process is gone.
    assert min(racing.get(60)) < 50
    assert log.read_text() == "+-" * 4  # never two at once


@over([kind for kind in SORTS if kind.name != "sqlite"])
def test_it_passes_on_when_its_holder_is_stopped(kind, where, holder):
    process, pipe = holder
    leases = leases_of(where, seconds=1.0)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGSTOP)
    lease = take(leases, NAME)
    assert 0.7 < time.monotonic() - started < 30  # nobody who is seen is waited for sixty times as long
    os.kill(process.pid, signal.SIGCONT)
    pipe.send("ask")
    assert pipe.recv()  # it is lost
    pipe.send("release")
    assert pipe.recv()
    # What the one gives back is not what the other has.
    assert not lease.is_lost
    assert isinstance(attempt(leases.tries(NAME)), float) or kind.name == "directory"
    lease.release()
    take(leases, NAME).release()


@over([kind for kind in SORTS if kind.name != "sqlite"])
def test_a_holder_that_goes_on_keeps_it(kind, where, holder):
    _, pipe = holder
    tries = leases_of(where, seconds=1.0).tries(NAME)
    until = time.monotonic() + 1.3
    while time.monotonic() < until:
        time.sleep(attempt(tries))
    tries.close()
    pipe.send("ask")
    assert not pipe.recv()


def test_a_holder_in_another_container_is_waited_for_longer(tmp_path, monkeypatch):
    from persicache.storage import lease_file

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(lease_file, "_machine_bits", lambda: 1)
        lease = take(open_leases(open_storage(tmp_path)), NAME)
    started = time.monotonic()
    other = take(open_leases(open_storage(tmp_path), seconds=0.01), NAME)
    assert 0.6 <= time.monotonic() - started < 30
    assert lease.is_lost
    assert not other.is_lost


@over(SORTS)
def test_a_forked_child_has_no_part_in_it(kind, where):
    leases = leases_of(where, seconds=1.0)
    lease = take(leases, NAME)

    def inherit():
        assert lease.is_lost
        lease.release()
        assert isinstance(attempt(leases.tries(NAME)), float)
        take(leases, "f/00/other.pc").release()

    in_fork(inherit)
    assert not lease.is_lost
    assert isinstance(attempt(leases.tries(NAME)), float)
    lease.release()


@over([kind for kind in SORTS if kind.name in {"directory", "sqlite"}])
def test_a_child_that_outlives_its_killed_parent_keeps_nothing(kind, where, tmp_path):
    code = f"""
        import os, sys, threading, time
        from leases_children import leases_of, take
        leases = leases_of({where!r})
        churn = lambda: [take(leases, f"f/{{i % 7}}.pc").release() for i in range(10**6)]
        threading.Thread(target=churn, daemon=True).start()  # forks fall in the middle of its steps
        lease = take(leases, {NAME!r})
        for _ in range(20):
            if not os.fork():
                os.close(1)
                time.sleep(60)
                os._exit(0)
        print("forked", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, start_new_session=True
    ) as parent:
        try:
            assert parent.stdout.readline() == b"forked\n"
            leases = leases_of(where, seconds=100.0)
            assert isinstance(attempt(leases.tries(NAME)), float)
            parent.kill()
            parent.wait()
            started = time.monotonic()
            for name in (NAME, *(f"f/{i}.pc" for i in range(7))):
                take(leases, name).release()
            # As soon as each child has come to run; a lease that is kept is passed over after a hundred.
            assert time.monotonic() - started < 50
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


@over([kind for kind in SORTS if kind.name in {"directory", "s3"}])
def test_an_interpreter_that_ends_with_it_says_nothing(kind, where):
    code = f"""
        from leases_children import leases_of, take
        lease = take(leases_of({where!r}, seconds=0.4), {NAME!r})
        import time; time.sleep(0.3)  # a renewal may be under way
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    started = time.monotonic()
    take(leases_of(where, seconds=100.0), NAME).release()
    assert time.monotonic() - started < 50


@over([kind for kind in EXCLUDING if kind.name in {"directory", "memory", "sqlite"}])
def test_nothing_is_left_of_a_thousand(kind, where, tmp_path):
    leases = leases_of(where)
    take(leases, NAME).release()
    files, fds, threads = sorted(tmp_path.rglob("*")), descriptors(), set(threading.enumerate())
    for i in range(1000):
        take(leases, f"f/{i}.pc").release()
    # Those of other tests may end meanwhile.
    assert sorted(tmp_path.rglob("*")) == files
    assert descriptors() <= fds
    assert set(threading.enumerate()) <= threads


@over([RECORDS])
def test_nothing_is_left_of_many_records(kind, where):
    leases = leases_of(where, seconds=0.2)
    before = {thread.name for thread in threading.enumerate()}
    for i in range(200):
        take(leases, f"f/{i}.pc").release()
    deadline = time.monotonic() + 30
    while not {thread.name for thread in threading.enumerate()} <= before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {thread.name for thread in threading.enumerate()} <= before
    # What was being renewed while it was released is removed by who renewed it.
    assert list(open_storage(where["url"]).scan()) == []


@over(EXCLUDING)
def test_one_that_nobody_has_any_more_passes_on(kind, where):
    leases = leases_of(where, seconds=0.3)
    lease = take(leases, NAME)
    del lease  # as that of a task that was cancelled while it waited
    gc.collect()
    take(leases, NAME).release()


def test_many_at_once_share_a_descriptor(tmp_path):
    leases = open_leases(open_storage(tmp_path))
    before = len(descriptors())
    held = [take(leases, f"f/{i}.pc") for i in range(100)]
    assert len(descriptors()) == before + 1
    for lease in held:
        lease.release()
    assert len(descriptors()) == before


def test_one_given_back_while_another_is_taken(tmp_path, monkeypatch):
    # By a finalizer, which can run in the middle of anything.
    mine, other = (open_leases(open_storage(tmp_path)) for _ in range(2))
    early = take(mine, "f/early.pc")
    real = os.fstat

    def interrupted(fd):
        early.release()
        return real(fd)

    monkeypatch.setattr(os, "fstat", interrupted)
    with holding(mine, NAME) as lease:
        monkeypatch.setattr(os, "fstat", real)
        assert early.is_lost
        assert not lease.is_lost
        assert isinstance(attempt(other.tries(NAME)), float)
    take(other, NAME).release()


def test_a_directory_removed_and_made_again(tmp_path):
    import shutil

    mine, other = (open_leases(open_storage(tmp_path / "d")) for _ in range(2))
    with holding(mine, "f/early.pc"):
        shutil.rmtree(tmp_path / "d")
        with holding(mine, NAME):
            assert isinstance(attempt(other.tries(NAME)), float)
    take(other, NAME).release()


def test_a_filesystem_without_such_locks_has_records(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    leases = open_leases(open_storage(tmp_path))
    with holding(leases, NAME):
        assert isinstance(attempt(leases.tries(NAME)), float)
        assert isinstance(attempt(open_leases(open_storage(tmp_path)).tries(NAME)), float)
        assert [blob.name for blob in open_storage(tmp_path).scan()] == ["f/ab/cd.lease"]
    assert list(open_storage(tmp_path).scan()) == []


def test_a_place_that_cant_be_written_says_so(tmp_path, monkeypatch):
    leases = open_leases(open_storage(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match=r"could not take the lease of 'f/ab/cd.pc' in"):
        take(leases, NAME)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    leases = open_leases(open_storage(tmp_path / "d"))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ReadOnlyPlace):
        take(leases, NAME)
    monkeypatch.undo()
    take(leases, NAME).release()


# Records


def storage_of(s3, *, records=False):
    storage = open_storage(s3.url, storage_options=s3.storage_options)
    return Elsewhere(storage) if records else storage


def test_requests_on_s3(s3):
    storage = storage_of(s3)
    leases = open_leases(storage)
    take(leases, "f/first.pc").release()  # the bucket is tried once

    def asked():
        requests = s3.server.requests()
        s3.server.clear()
        return [request.split()[0] for request in requests]

    asked()
    lease = take(leases, NAME)
    assert asked() == ["PUT"]
    tries = open_leases(storage_of(s3)).tries(NAME)
    time.sleep(attempt(tries))
    attempt(tries)
    asked()
    for _ in range(3):
        attempt(tries)
    assert asked() == ["GET", "304"] * 3
    lease.release()
    assert asked() == ["DELETE"]


def test_calls_on_s3_dont_wait_for_those_of_others(s3):
    leases = open_leases(storage_of(s3))
    take(leases, "f/first.pc").release()
    # Of the twenty requests; the last few needn't find three others.
    s3.server.fault("meet", times=16)

    def compute(i):
        with holding(leases, f"f/{i}.pc"):
            pass

    threads = [threading.Thread(target=compute, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert s3.server.requests().count("met") == 16


def test_s3_out_of_reach_is_said_and_a_release_isnt(s3):
    leases = open_leases(storage_of(s3), seconds=1.0)
    lease = take(leases, NAME)
    s3.server.fault("denied", times=-1, message="no")
    with pytest.raises(BackendError):
        take(leases, "f/other.pc")
    lease.release()
    assert lease.is_lost


def test_a_server_that_removes_without_conditions_only(s3, monkeypatch):
    from persicache.errors import ConditionsUnsupported
    from persicache.storage import ANY
    from persicache.storage.s3 import S3Storage

    remove = S3Storage.remove

    def refuse(self, name, *, expect=ANY):
        if expect is ANY:
            return remove(self, name)
        raise ConditionsUnsupported(place=self.url)

    monkeypatch.setattr(S3Storage, "remove", refuse)
    storage = storage_of(s3)
    take(open_leases(storage), NAME).release()
    assert list(storage.scan()) == []


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[1, 2]", b'["a", 0, 5, "x"]', b"null", b'["a", 0, "", -1]']
)
def test_a_record_that_makes_no_sense_runs_out(tmp_path, content):
    storage = Elsewhere(open_storage(tmp_path))
    storage.write("f/ab/cd.lease", [content])
    leases = open_leases(storage, seconds=0.3)
    started = time.monotonic()
    take(leases, NAME).release()
    assert 0.2 < time.monotonic() - started < 15  # not sixty times as long
