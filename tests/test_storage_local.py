"""A local directory: what its files look like, what is planted there, what fails in between."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import pickle
import resource
import stat
import threading
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from interrupts import is_interrupted
from test_storage_children import count_up, create, in_fork, in_spawned

from persicache.errors import (
    BackendError,
    BlobNotFound,
    ConditionsUnsupported,
    ReadOnlyPlace,
    VersionConflict,
)
from persicache.storage import ABSENT, ANY, open_leases, open_storage
from persicache.storage import contents as contents_module
from persicache.storage import draft as draft_module
from persicache.storage.draft import Draft, draft_name
from persicache.storage.folders import Folders
from persicache.storage.locks import StripedLocks

KIB = 1024
FORKS = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def storage(root):
    return open_storage(root, durable=False)


@pytest.fixture(autouse=True)
def no_leaked_descriptors():
    resource_tracker.ensure_running()  # of multiprocessing: its pipe stays
    before = descriptors()
    yield
    assert descriptors() <= before


def descriptors():
    # The listing itself uses one, which is closed again.
    return {fd for fd in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{fd}").exists()}  # noqa: PTH208 - names only


@pytest.fixture
def umask():
    """Yield what sets the umask until the test ends."""
    before = os.umask(0o077)
    os.umask(before)
    yield os.umask
    os.umask(before)


def die_before_publishing(storage):
    """Overwrite "a", and die when that is all but done."""
    os.replace = draft_module.exchange = lambda *args, **options: os._exit(0)
    storage.write("a", [b"new"])


def files(root):
    """Return the files below `root` but for the locks."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and "locks" not in path.parts
    )


def modes(root):
    return {path: stat.S_IMODE(path.lstat().st_mode) for path in root.rglob("*")}


def test_a_tilde_is_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for url in ("~/here", Path("~/here"), "file://~/here"):
        assert open_storage(url).url == str(tmp_path / "here")


def test_a_relative_path_is_resolved_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    storage = open_storage("here", durable=False)
    monkeypatch.chdir("/")
    storage.write("a", [b"x"])
    assert (tmp_path / "here" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("url", ["", "a\0b", "file://", b"bytes", None, 7])
def test_what_is_no_place_is_refused(url):
    with pytest.raises((TypeError, ValueError)):
        open_storage(url)


def test_a_directory_takes_no_options(root):
    with pytest.raises(ValueError, match="storage_options"):
        open_storage(root, storage_options={"auto_mkdir": True})


def test_opening_touches_nothing(root, storage):
    assert list(storage.scan()) == []
    assert storage.is_private
    assert not root.exists()


@pytest.mark.parametrize("umask", [0o777, 0o077, 0o022, 0])
@pytest.mark.parametrize("durable", [False, True])
def test_only_the_owner_has_access_whatever_the_umask(root, umask, durable):
    storage = open_storage(root / "deep" / "er", durable=durable)
    old = os.umask(umask)
    try:
        storage.write("a/b", [b"x"])
        storage.write("a/c", [b"x"], expect=ABSENT)
    finally:
        os.umask(old)
    assert storage.is_private
    assert storage.read("a/b").is_private
    for path, mode in modes(root).items():
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_existing_directories_keep_their_modes(root, storage):
    (root / "a").mkdir(parents=True)
    (root / "a").chmod(0o750)
    root.chmod(0o755)
    storage.write("a/b", [b"x"])
    assert stat.S_IMODE(root.stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o750


@pytest.mark.parametrize("shared", ["", "a", "a/b", "a/b/c"])
def test_what_others_can_write_is_not_private(root, storage, shared):
    storage.write("a/b/c", [b"x"])
    assert storage.read("a/b/c").is_private
    (root / shared).chmod(0o770)
    assert not open_storage(root).read("a/b/c").is_private
    assert open_storage(root).is_private is (shared != "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_others_own_is_not_private(root, storage):
    storage.write("a/b", [b"x"])
    os.chown(root / "a" / "b", 12345, -1)
    assert not storage.read("a/b").is_private


def test_a_linked_directory_is_not_private(root, storage, tmp_path):
    storage.write("a/b", [b"x"])
    (root / "a").rename(tmp_path / "elsewhere")
    (root / "a").symlink_to(tmp_path / "elsewhere")
    assert not open_storage(root).read("a/b").is_private


def plant(kind, path, tmp_path):
    path.parent.mkdir(parents=True)
    if kind == "link":
        (tmp_path / "outside").write_bytes(b"outside")
        path.symlink_to(tmp_path / "outside")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory"])
def test_planted_things_are_neither_read_nor_followed(root, storage, tmp_path, kind):
    plant(kind, root / "a", tmp_path)
    for ask in (storage.read, storage.stat, storage.version):
        with pytest.raises(BackendError):
            ask("a")
    with pytest.raises((BackendError, RuntimeError)):
        storage.write("a", [b"x"], expect=ABSENT)
    assert list(storage.scan()) == []
    if kind == "directory":
        with pytest.raises(BackendError):
            storage.write("a", [b"x"])
    else:
        storage.write("a", [b"x"])
        assert storage.read("a").buffer == b"x"
    if kind == "link":
        assert (tmp_path / "outside").read_bytes() == b"outside"
    assert not (tmp_path / "nowhere").exists()
    assert not [name for name in files(root) if ".tmp" in name]


def test_a_file_for_a_directory_is_an_absence(storage):
    storage.write("a", [b"x"])
    with pytest.raises(BlobNotFound):
        storage.read("a/b")
    assert storage.remove("a/b") is False
    with pytest.raises(BackendError):
        storage.write("a/b", [b"x"])


def test_foreign_files_are_left_alone(root, storage):
    storage.write("a", [b"x"])
    (root / "READ ME").write_text("hello")
    (root / "Foreign files").mkdir()
    (root / "Foreign files" / "a").write_text("hello")
    assert [info.name for info in storage.scan()] == ["a"]


def test_drafts_are_invisible_and_swept(root, storage):
    storage.write("a/b", [b"x"])
    for age_seconds, name in ((0, ".tmp-1-new"), (100_000, ".tmp-1-old")):
        draft = root / "a" / name
        draft.write_bytes(b"half")
        now = draft.stat().st_mtime
        os.utime(draft, (now - age_seconds, now - age_seconds))
    assert [info.name for info in storage.scan()] == ["a/b"]
    assert files(root) == ["a/.tmp-1-new", "a/b"]
    assert storage.sweep(older_than_seconds=-1.0) == 1
    assert files(root) == ["a/b"]


def test_sweeping_spares_what_is_young(root, storage):
    storage.write("a", [b"x"])
    (root / ".tmp-1-new").write_bytes(b"half")
    assert storage.sweep() == 0


@pytest.mark.parametrize("step", ["writev", "write", "fsync", "utime", "fchmod", "replace", "link"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_fails_on_the_way_leaves_the_old_value(root, monkeypatch, umask, step, error):
    storage = open_storage(root, durable=True)
    storage.write("a", [b"old"])

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(os, step, fail)
    expected = BackendError if isinstance(error, OSError) else KeyboardInterrupt
    if step == "fchmod":  # needed only where the umask takes away more than from others
        umask(0o277)
    name, expect = ("b", ABSENT) if step == "link" else ("a", storage.version("a"))
    if step == "write":
        monkeypatch.setattr(os, "writev", fail)
    with pytest.raises(expected) as caught:
        storage.write(name, [b"new" * 100_000], expect=expect)
    monkeypatch.undo()
    if expected is BackendError:
        assert caught.value.__cause__ is error
    assert files(root) == ["a"]
    assert storage.read("a").buffer == b"old"
    storage.write("a", [b"newer"], expect=storage.version("a"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_refused_write_says_that_the_place_is_read_only(root, monkeypatch, number):
    storage = open_storage(root, durable=True)
    storage.write("a", [b"old"])

    def refuse(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(ReadOnlyPlace):
        storage.write("a", [b"new"])
    with pytest.raises(ReadOnlyPlace):
        storage.remove("a")
    monkeypatch.undo()
    storage.sweep(older_than_seconds=-1.0)


def test_short_writes_are_finished(storage, monkeypatch):
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, group: real(fd, [memoryview(group[0])[:7000]]))
    chunks = [bytes([i % 256]) * 10_001 for i in range(40)]
    storage.write("a", chunks)
    assert bytes(storage.read("a").buffer) == b"".join(chunks)


def test_short_reads_are_finished(storage, monkeypatch):
    storage.write("a", [b"abcdefghij"])
    real = os.read
    monkeypatch.setattr(os, "read", lambda fd, nbytes: real(fd, min(nbytes, 3)))
    assert storage.read("a").buffer == b"abcdefghij"


@FORKS
@pytest.mark.parametrize("nbytes", [60_000, 1_000_000])
def test_a_full_disk_leaves_the_old_value(root, storage, nbytes):
    storage.write("a", [b"old"])

    def child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises(BackendError) as caught:
            storage.write("a", [bytes(7_000)] * (nbytes // 7_000))
        assert caught.value.__cause__.errno == errno.EFBIG

    in_fork(child)
    assert files(root) == ["a"]
    assert storage.read("a").buffer == b"old"


@FORKS
@pytest.mark.parametrize("durable", [True, False])
def test_a_killed_writer_leaves_the_old_value(root, durable):
    storage = open_storage(root, durable=durable)
    storage.write("a", [b"old"])
    in_fork(lambda: die_before_publishing(storage))
    assert storage.read("a").buffer == b"old"
    assert [info.name for info in storage.scan()] == ["a"]
    assert storage.sweep(older_than_seconds=-1.0) == 1


def test_a_removed_directory_is_made_again(root, storage, monkeypatch):
    storage.write("a/b", [b"x"])
    storage.remove("a/b")
    (root / "a").rmdir()
    storage.write("a/b", [b"y"])
    assert storage.read("a/b").buffer == b"y"


def test_a_directory_removed_in_between_is_made_again(tmp_path, monkeypatch):
    real, left = os.open, [3]

    def racing(path, *args, **options):
        if ".tmp-" in str(path) and left[0]:
            left[0] -= 1
            if (tmp_path / "a").is_dir():
                (tmp_path / "a").rmdir()
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", racing)
    with Draft(str(tmp_path / "a"), durable=False) as draft:
        draft.fill([b"x"])
        draft.replace(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").read_bytes() == b"x"


def test_durable_writes_sync_the_bytes_before_the_name_and_the_name_after(root, monkeypatch):
    storage = open_storage(root, durable=True)
    storage.write("a/b", [b"x"])
    events = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd):
        events.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        real_fsync(fd)

    def replace(*args):
        events.append("replace")
        real_replace(*args)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    storage.write("a/b", [b"y"])
    assert events == ["file", "replace", "folder"]
    events.clear()
    storage.write("new/deep/b", [b"y"])
    assert events == ["folder", "folder", "file", "replace", "folder"]
    events.clear()
    storage.write_many({f"a/{i}": [b"x"] for i in range(5)})
    assert events == ["file", "replace"] * 5 + ["folder"]
    events.clear()
    storage.remove("a/b")
    assert events == ["folder"]


@pytest.mark.parametrize("leased", [False, True])
@pytest.mark.parametrize("name", ["d", "x.db", "x.json"])
def test_folders_that_a_lock_is_made_in_survive_a_power_cut(tmp_path, name, leased, monkeypatch):
    # Who writes afterwards finds them there, and doesn't sync what leads to them.
    synced = set()
    real = os.fsync

    def fsync(fd):
        synced.add(Path(f"/proc/self/fd/{fd}").readlink())
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    place = tmp_path / "new" / "deep" / name
    storage = open_storage(place, durable=True)
    if leased:
        with pytest.raises(StopIteration):
            next(open_leases(storage).tries("a"))
    else:
        with pytest.raises(VersionConflict):
            storage.write("a", [b"x"], expect="another")
    storage.write("a", [b"x"])
    assert synced >= {tmp_path, tmp_path / "new", place.parent}
    storage.close()


def test_filesystems_without_links_create_under_the_lock(storage, monkeypatch):
    def no_links(*args, **options):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    version = storage.write("a", [b"x"], expect=ABSENT)
    with pytest.raises(RuntimeError):
        storage.write("a", [b"y"], expect=ABSENT)
    assert storage.version("a") == version


def test_a_repeated_link_is_recognised_by_its_count(root, monkeypatch):
    storage = open_storage(root, durable=True)
    real = os.link

    def repeated(*args, **options):
        real(*args, **options)
        real(*args, **options)

    monkeypatch.setattr(os, "link", repeated)
    version = storage.write("a", [b"x"], expect=ABSENT)
    assert storage.version("a") == version


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="takes a folder that nothing goes into")
def test_where_no_directory_can_be_made_is_an_error():
    with pytest.raises(BackendError, match="in /proc/persicache/b: FileNotFoundError"):
        open_storage("/proc/persicache/b").write("a", [b"1"])


@pytest.mark.parametrize("expect", [ANY, ABSENT], ids=str)
def test_a_directory_removed_before_the_file_has_a_name_is_made_again(root, expect):
    storage = open_storage(root, durable=False)
    (root / "a").mkdir(parents=True, mode=0o700)

    class Chunks(list):
        """What takes so long to write that somebody tidies up meanwhile, once."""

        def __iter__(self):
            if not self:
                (root / "a").rmdir()
                self.append(b"x")
            return super().__iter__()

    storage.write("a/b", Chunks(), expect=expect)
    assert storage.read("a/b").buffer == b"x"


@pytest.mark.parametrize("durable", [True, False])
def test_filesystems_without_modes_do_without(root, monkeypatch, umask, durable):
    def refuse(*args, **options):
        raise PermissionError(errno.EPERM, "there are no modes here")

    umask(0o077)
    monkeypatch.setattr(os, "fchmod", refuse)
    monkeypatch.setattr(os, "chmod", refuse)
    storage = open_storage(root, durable=durable)
    version = storage.write("a/b", [b"x"])
    storage.write("a/b", [b"y"], expect=version)
    assert storage.read("a/b").buffer == b"y"


@pytest.mark.parametrize("step", ["open", "link"])
def test_filesystems_without_nameless_files_write_all_the_same(root, monkeypatch, step):
    storage = open_storage(root, durable=False)
    real_open, real_link = os.open, os.link

    def no_nameless(path, flags, *args, **options):
        if step == "open" and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no such files here")
        return real_open(path, flags, *args, **options)

    def no_such_link(path, *args, **options):
        if step == "link" and str(path).startswith("/proc/"):
            raise OSError(errno.EPERM, "not allowed here")
        return real_link(path, *args, **options)

    monkeypatch.setattr(os, "open", no_nameless)
    monkeypatch.setattr(os, "link", no_such_link)
    storage.write("new", [b"x"])
    storage.write("a/newer", [b"y"], expect=ABSENT)
    with pytest.raises(VersionConflict):
        storage.write("new", [b"z"], expect=ABSENT)
    assert storage.read("new").buffer == b"x"
    assert files(root) == ["a/newer", "new"]


def test_filesystems_that_exchange_nothing_replace(storage, root, monkeypatch):
    monkeypatch.setattr(draft_module, "exchange", lambda *args, **options: False)
    for text in (b"first", b"second"):
        version = storage.write("a", [text])
    assert (storage.read("a").buffer, storage.version("a")) == (b"second", version)
    assert files(root) == ["a"]


def test_a_file_that_appears_while_a_new_one_is_written_is_replaced(storage, root, monkeypatch):
    storage.write("a", [b"first"])
    monkeypatch.setattr(os, "access", lambda *args, **options: False)
    version = storage.write("a", [b"second"])
    assert (storage.read("a").buffer, storage.version("a")) == (b"second", version)
    assert files(root) == ["a"]


def test_filesystems_without_locks_write_and_refuse_to_compare(storage, monkeypatch):
    version = storage.write("a", [b"x"])
    real = fcntl.flock

    def no_locks(fd, operation):
        if operation != fcntl.LOCK_UN:
            raise OSError(errno.ENOLCK, "no locks here")
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ConditionsUnsupported):
        storage.write("a", [b"y"], expect=version)
    storage.write("a", [b"z"])
    assert storage.read("a").buffer == b"z"


def test_equal_looking_files_differ_in_version(storage):
    seen = set()
    for _ in range(300):
        seen.add(storage.write("a", [b"same"]))
    assert len(seen) == 300


def test_many_live_maps_dont_exhaust_the_descriptors(storage):
    storage.write("large", [b"x" * 100_000])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        blobs = [storage.read("large") for _ in range(400)]
        storage.write("other", [b"y" * 100_000])
        assert len(descriptors()) < 150
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    memoryview(blobs[-1].buffer)[0:3] = b"mine"[:3]
    assert all(bytes(blob.buffer[:3]) == b"xxx" for blob in blobs[:-1])
    del blobs
    assert isinstance(storage.read("large").buffer, memoryview)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_where_no_map_is_left_the_file_is_read(storage, monkeypatch, number):
    storage.write("large", [b"x" * 100_000])

    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(contents_module.mmap, "mmap", fail)
    buffer = storage.read("large").buffer
    assert isinstance(buffer, bytearray)
    assert buffer == b"x" * 100_000


@FORKS
def test_a_forked_child_keeps_no_lock(tmp_path):
    locks = StripedLocks(str(tmp_path))
    reading, writing = os.pipe()

    def parent_that_dies():
        with locks.exclusive("a"):
            if not os.fork():
                os.close(writing)
                os.read(reading, 1)  # until the test ends
                os._exit(0)
            os._exit(0)

    try:
        # The grandchild holds the report pipe, too, so this can't wait for its end.
        pid = os.fork()
        if not pid:
            parent_that_dies()
        os.waitpid(pid, 0)
        (lock,) = tmp_path.iterdir()
        fd = os.open(lock, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)  # hangs if the grandchild keeps the lock
        os.close(fd)
    finally:
        os.close(reading)
        os.close(writing)


@FORKS
def test_leaving_a_lock_in_the_child_leaves_the_parents_alone(tmp_path):
    locks = StripedLocks(str(tmp_path))
    with locks.exclusive("a"):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            (lock,) = tmp_path.iterdir()
            fd = os.open(lock, os.O_RDWR)
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(fd)
    if not pid:
        os._exit(0)


def test_unconditional_writes_wait_for_one_who_compares(root, storage):
    storage.write("a", [b"x"])
    locks = StripedLocks(str(root / ".persicache" / "locks"))
    thread = threading.Thread(target=storage.write, args=("a", [b"y"]))
    with locks.exclusive("a"):
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        assert storage.read("a").buffer == b"x"
    thread.join()
    assert storage.read("a").buffer == b"y"


def test_unconditional_writes_dont_wait_for_one_another(root, storage):
    storage.write("a", [b"x"])
    locks = StripedLocks(str(root / ".persicache" / "locks"))
    with locks.shared("a"):
        storage.write("a", [b"y"])
        storage.remove("a")


def test_one_of_many_creates(root):
    names = [f"n{i}" for i in range(50)]
    won = in_spawned(create, [(str(root), {}, f"text {i}", names) for i in range(8)])
    assert sum(won) == 50
    assert files(root) == sorted(names)


def test_eight_processes_lose_no_update(root, storage):
    storage.write("counter", [b"0"])
    in_spawned(count_up, [(str(root), {}, 200)] * 8)
    assert storage.read("counter").buffer == b"1600"


def test_errors_travel(storage):
    with pytest.raises(BlobNotFound) as caught:
        storage.read("a")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("shared", ["", "a", "a/large"])
def test_what_others_can_write_is_copied_and_always_verified(root, storage, shared):
    """A map would show what they write later, to a reader who has verified it, too."""
    storage.write("a/large", [b"x" * 200_000])
    assert isinstance(storage.read("a/large").buffer, memoryview)
    assert storage.read("a/large").stamp is not None
    (root / shared).chmod(0o777)
    storage = open_storage(root, durable=False)
    storage.write("a/small", [b"x"])
    blob = storage.read("a/large")
    assert isinstance(blob.buffer, bytearray)
    assert blob.stamp is None
    assert not blob.is_private
    with (root / "a" / "large").open("r+b") as file:
        file.seek(150_000)
        file.write(b"planted")
        file.truncate(160_000)
    assert blob.buffer == b"x" * 200_000
    if shared != "a/large":
        assert storage.read("a/small").stamp is None


@pytest.fixture
def victim(tmp_path):
    home = tmp_path / "victim"
    home.mkdir(mode=0o700)
    (home / "notes").write_bytes(b"precious")
    (home / ".tmp-1-old").write_bytes(b"draft")
    os.utime(home / ".tmp-1-old", (0, 0))
    return home


def reach(storage):
    """Try everything that could reach into the folder a/b."""
    for ask in (storage.read, storage.stat, storage.version, storage.remove):
        with pytest.raises(BackendError, match="link"):
            ask("a/b/notes")
    for name in ("a/b/notes", "a/b/deep/notes"):
        for expect in (ANY, ABSENT, "some version"):
            with pytest.raises(BackendError, match="link"):
                storage.write(name, [b"clobbered"], expect=expect)
    with pytest.raises(BackendError, match="link"):
        storage.remove("a/b/notes", expect="some version")
    with pytest.raises(BackendError, match="link"):
        storage.remove_many(["a/b/notes"])
    for prefix in ("", "a/", "a/b/"):
        assert list(storage.scan(prefix)) == []
    assert storage.sweep(older_than_seconds=-1.0) == 0


@pytest.mark.parametrize("shared", ["", "a"])
@pytest.mark.parametrize("durable", [False, True])
def test_links_that_others_could_plant_are_not_followed(root, victim, shared, durable):
    storage = open_storage(root, durable=durable)
    (root / "a").mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    (root / shared).chmod(0o777)
    (root / "a" / "b").symlink_to(victim)
    reach(storage)
    assert sorted(path.name for path in victim.iterdir()) == [".tmp-1-old", "notes"]
    assert (victim / "notes").read_bytes() == b"precious"


def test_links_of_the_owner_are_followed(root, storage, victim):
    storage.write("own/x", [b"x"])
    (root / "a").symlink_to(victim)
    storage.write("a/notes", [b"mine"])
    assert storage.read("a/notes").buffer == b"mine"
    assert not storage.read("a/notes").is_private
    assert (victim / "notes").read_bytes() == b"mine"


def test_shared_directories_work_at_any_depth(root):
    root.mkdir()
    root.chmod(0o777)
    (root / "a").mkdir()
    (root / "a").chmod(0o777)
    for durable, folder in ((False, "a/b/c"), (True, "a/d/e")):
        storage = open_storage(root, durable=durable)
        old = os.umask(0o777)
        try:
            version = storage.write(f"{folder}/x", [b"1"], expect=ABSENT)
            version = storage.write(f"{folder}/x", [b"2"], expect=version)
            storage.write(f"{folder}/y", [b"3"])
        finally:
            os.umask(old)
        with pytest.raises(RuntimeError):
            storage.write(f"{folder}/x", [b"4"], expect=ABSENT)
        assert storage.version(f"{folder}/x") == version
        assert storage.stat(f"{folder}/y").nbytes == 1
        assert {info.name for info in storage.scan(f"{folder}/")} == {f"{folder}/x", f"{folder}/y"}
        assert storage.remove(f"{folder}/x", expect=version) is True
        assert storage.remove(f"{folder}/y") is True
        assert storage.remove(f"{folder}/y") is False
        assert storage.remove("a/absent/y") is False
        with pytest.raises(BlobNotFound):
            storage.read(f"{folder}/x")
        with pytest.raises(BlobNotFound):
            storage.read("a/absent/x")
        assert stat.S_IMODE((root / folder).stat().st_mode) == 0o700
    assert files(root) == []


@pytest.mark.parametrize("planted", [".persicache", ".persicache/locks"])
def test_locks_are_made_through_no_planted_link(root, victim, planted):
    (root / planted).parent.mkdir(parents=True)
    for path in (root, (root / planted).parent):
        path.chmod(0o777)
    (root / planted).symlink_to(victim)
    storage = open_storage(root, durable=False)
    version = storage.write("a", [b"x"])
    with pytest.raises(BackendError, match="link"):
        storage.write("a", [b"y"])
    assert storage.version("a") == version
    assert sorted(path.name for path in victim.iterdir()) == [".tmp-1-old", "notes"]


@pytest.mark.parametrize("shared", ["", "a", "a/b"])
def test_a_folder_opened_to_others_is_noticed(root, shared):
    now = [0.0]
    storage = open_storage(root, durable=False)
    storage._folders = Folders(str(root), clock=lambda: now[0])
    storage.write("a/b/c", [b"x"])
    assert storage.read("a/b/c").is_private
    assert storage.is_private
    (root / shared).chmod(0o777)
    now[0] += 0.2
    assert not storage.read("a/b/c").is_private
    assert storage.is_private is (shared != "")
    (root / shared).chmod(0o700)
    assert storage.read("a/b/c").is_private


@pytest.mark.parametrize("shared", ["", "a", "a/b"])
def test_privacy_takes_the_folder_of_a_name_into_account(root, shared):
    storage = open_storage(root, durable=False)
    assert storage.is_private_for("a/b/c")
    storage.write("a/b/c", [b"x"])
    assert storage.is_private_for("a/b/d")
    assert storage.is_private_for("a/new/d")
    (root / shared).chmod(0o777)
    storage.close()
    assert not storage.is_private_for("a/b/d")
    assert not storage.is_private_for("a/b/new/d")
    assert storage.is_private_for("other/d") is (shared != "")
    storage.write("a/b/d", [b"x"])
    assert not storage.read("a/b/d").is_private


def test_a_head_is_no_planted_thing(root, storage, tmp_path):
    plant("link", root / "a", tmp_path)
    with pytest.raises(BackendError):
        storage.read_head("a", 10)


@FORKS
def test_drafts_of_writers_that_are_gone_are_swept_soon(root, storage):
    storage.write("a", [b"x"])

    def age(seconds):
        for path in root.glob(".tmp-*"):
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))

    in_fork(lambda: die_before_publishing(storage))
    (left,) = root.glob(".tmp-*")
    mine = draft_name()
    elsewhere = left.name.replace(left.name.split("-")[1], "0" * 12)
    odd = [f"{'-'.join(left.name.split('-')[:2])}-{pid}-x" for pid in ("x", "", "9" * 30)]
    for name in (mine, elsewhere, *odd):
        (root / name).write_bytes(b"half")
    list(storage.scan())
    assert left.exists()
    age(61.0)
    assert [info.name for info in storage.scan()] == ["a"]
    assert not left.exists()
    assert {path.name for path in root.glob(".tmp-*")} == {mine, elsewhere, *odd}
    assert storage.sweep(older_than_seconds=60.0) == 5


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it is what unlocks it
@pytest.mark.parametrize("kind", ["any", "swap"])
def test_no_interrupt_leaves_a_name_locked(tmp_path, kind):
    storage, other, before = open_storage(tmp_path), open_storage(tmp_path), descriptors()

    def write(expect):
        storage.write("a", [b"after"], expect=expect)

    for moment in range(1, 2000):
        version = storage.write("a", [b"before"])
        expect = ANY if kind == "any" else version
        was_interrupted = is_interrupted(functools.partial(write, expect), moment)
        assert other.read("a").buffer in {b"before", b"after"}
        # A daemon, so that a test that fails ends.
        swap = threading.Thread(
            target=lambda: other.write("a", [b"other"], expect=other.version("a")), daemon=True
        )
        swap.start()
        swap.join(10)
        assert other.read("a").buffer == b"other", moment
        if not was_interrupted:
            break
    assert moment > 50
    for fd in descriptors() - before:  # of files just opened, which nobody knows, nor locks by
        os.close(int(fd))
