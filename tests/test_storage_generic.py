"""Places of other filesystems: what they can't do is refused, what they keep is not trusted."""

from __future__ import annotations

import os
import pickle
import stat
import time
import traceback
import zipfile

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.implementations.zip import ZipFileSystem

from persicache.errors import BackendError, BlobNotFound, ConditionsUnsupported, ReadOnlyPlace
from persicache.storage import ABSENT, open_storage
from persicache.storage.secrets import redact_text, secrets_in_url


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", b"in the archive")
        file.writestr("d/b", b"deeper")
    return f"zip::file://{path}"


def test_an_archive_is_read(archive):
    storage = open_storage(archive)
    assert storage.read("a").buffer == b"in the archive"
    assert storage.read("a").version == storage.version("a")
    assert storage.read("a").modified > 0
    assert sorted(info.name for info in storage.scan()) == ["a", "d/b"]
    assert [info.name for info in storage.scan("d/")] == ["d/b"]
    assert storage.stat("d/b").nbytes == 6
    with pytest.raises(BlobNotFound):
        storage.read("absent")
    with pytest.raises(BlobNotFound):
        storage.stat("d")
    storage.close()


def test_an_archive_is_not_written(archive):
    storage = open_storage(archive)
    with pytest.raises(ReadOnlyPlace):
        storage.write("a", [b"x"])
    with pytest.raises(ReadOnlyPlace):
        storage.remove("a")
    with pytest.raises(ReadOnlyPlace):
        storage.write_many({"a": [b"x"]})
    assert storage.read("a").buffer == b"in the archive"
    storage.close()


def test_conditions_are_refused_before_anything_is_asked():
    storage = open_storage("ftp://127.0.0.1:9/x")
    with pytest.raises(ConditionsUnsupported):
        storage.write("a", [b"x"], expect=ABSENT)
    with pytest.raises(ConditionsUnsupported):
        storage.remove("a", expect="version")


@pytest.mark.parametrize("url", ["nosuch://x", "simplecache::nosuch://x", "dir::simplecache::nosuch://x"])
def test_unknown_protocols_are_refused_with_the_known(url):
    with pytest.raises(ValueError, match=r"'nosuch'.* known are .*sftp"):
        open_storage(url)


def test_a_filesystem_that_was_registered_as_a_class():
    class OwnFileSystem(MemoryFileSystem):
        protocol = "own"

    fsspec.register_implementation("own", OwnFileSystem, clobber=True)
    for url in ("own://x", "dir::own://x"):
        storage = open_storage(url)
        storage.write("a", [b"x"])
        assert storage.read("a").buffer == b"x"


def test_secrets_are_in_no_message():
    url = "ftp://planted-user:planted-word@127.0.0.1:9/x"
    storage = open_storage(url, storage_options={"password": "planted-word"})
    assert "planted" not in repr(storage) + storage.url
    with pytest.raises(BackendError) as caught:
        storage.read("a")
    assert "planted" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ValueError, match="unknown") as refused:
        open_storage("nosuch://me:planted@host?token=planted")
    assert "planted" not in str(refused.value)


def test_a_write_through_a_rename_is_whole_or_not_at_all(tmp_path, monkeypatch):
    storage = open_storage(f"dir::file://{tmp_path}")
    storage.write("d/a", [b"old"])

    def fail(*args, **options):
        raise OSError("no rename today")

    monkeypatch.setattr(LocalFileSystem, "mv", fail)
    with pytest.raises(BackendError, match="no rename today"):
        storage.write("d/a", [b"new"])
    assert storage.read("d/a").buffer == b"old"
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["a"]


def test_where_renames_dont_replace_the_value_is_written_all_the_same(tmp_path, monkeypatch):
    storage = open_storage(f"dir::file://{tmp_path}")
    storage.write("a", [b"old"])

    def fail(*args, **options):
        raise FileExistsError

    monkeypatch.setattr(LocalFileSystem, "mv", fail)
    storage.write("a", [b"new"])
    assert storage.read("a").buffer == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_listing_sweeps_what_killed_writers_left(tmp_path):
    storage = open_storage(f"dir::file://{tmp_path}")
    storage.write("d/a", [b"x"])
    for age_seconds, name in ((0, ".tmp-1-new"), (100_000, ".tmp-1-old"), (100_000, ".notes")):
        (tmp_path / "d" / name).write_bytes(b"half")
        then = time.time() - age_seconds
        os.utime(tmp_path / "d" / name, (then, then))
    assert [info.name for info in storage.scan()] == ["d/a"]
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [".notes", ".tmp-1-new", "a"]


def test_a_filesystem_without_renames_is_written_at_once():
    storage = open_storage("simplecache::memory://no-renames")
    storage.write("d/a", [b"old"])
    assert storage.read("d/a").buffer == b"old"
    storage.write("d/a", [b"new"])
    assert storage.read("d/a").buffer == b"new"
    assert [info.name for info in storage.scan()] == ["d/a"]
    storage.remove("d/a")
    with pytest.raises(BlobNotFound):
        storage.read("d/a")


def test_a_filesystem_that_cant_write_is_read_only(monkeypatch):
    def fail(*args, **options):
        raise NotImplementedError

    storage = open_storage("dir::memory://cant-write")
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)
    with pytest.raises(ReadOnlyPlace):
        storage.write("a", [b"x"])


def test_the_filecache_drops_its_copies_too(tmp_path):
    options = {"filecache": {"cache_storage": str(tmp_path / "copies")}}
    storage = open_storage(f"filecache::file://{tmp_path}/store", storage_options=options)
    storage.write("a", [b"old"])
    assert storage.read("a").buffer == b"old"
    storage.write("a", [b"new"])
    assert storage.read("a").buffer == b"new"


def test_options_are_left_as_they_were(tmp_path):
    options = {"simplecache": {"cache_storage": str(tmp_path)}, "memory": {}}
    storage = open_storage("simplecache::memory://options", storage_options=options)
    storage.write("a", [b"x"])
    assert options == {"simplecache": {"cache_storage": str(tmp_path)}, "memory": {}}


def test_names_are_no_patterns(tmp_path):
    storage = open_storage(f"dir::file://{tmp_path}")
    for name in ("(a,b)", "a!", "ab"):
        storage.write(name, [name.encode()])
    storage.remove("a!")
    assert storage.read("(a,b)").buffer == b"(a,b)"
    assert sorted(info.name for info in storage.scan()) == ["(a,b)", "ab"]


def test_an_asynchronous_filesystem(s3):
    storage = open_storage(f"dir::{s3.url}", storage_options={"s3": s3.storage_options})
    versions = storage.write_many({f"d/n{i}": [b"%d" % i] for i in range(10)})
    assert sorted(info.name for info in storage.scan()) == sorted(versions)
    found = dict(storage.read_many([*versions, "absent"]))
    assert {name: blob.version for name, blob in found.items()} == versions
    versions["d/n0"] = storage.write("d/n0", [])
    storage.write("d/n1", [b"changed"])
    changed = dict(storage.read_changed(versions.items()))
    assert bytes(changed.pop("d/n1").buffer) == b"changed"
    assert set(changed.values()) == {None}
    assert len(changed) == 9
    with pytest.raises(ConditionsUnsupported):
        storage.write("a", [b"x"], expect=ABSENT)
    storage.remove_many([*versions, "absent"])
    assert list(storage.scan()) == []
    with pytest.raises(BlobNotFound):
        storage.read("d/n1")
    storage.close()


def test_memory_sees_what_others_write():
    storage = open_storage("memory://shared-with-others")
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/shared-with-others/a", b"theirs")
    blob = storage.read("a")
    assert blob.buffer == b"theirs"
    assert blob.stamp is None
    assert storage.version("a") == blob.version
    ours = storage.write("a", [b"ours"], expect=blob.version)
    assert filesystem.cat_file("/shared-with-others/a") == b"ours"
    with filesystem.open("/shared-with-others/a", "ab") as file:
        file.write(b" and theirs")
    assert storage.version("a") != ours
    assert storage.read("a").buffer == b"ours and theirs"


def test_memory_takes_no_options():
    with pytest.raises(ValueError, match="storage_options"):
        open_storage("memory://x", storage_options={"a": 1})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://user:pa@PLANTED@host/x", "ftp://***@host/x"),
        ("ftp://user:pa/PLANTED@host/x", "ftp://***@host/x"),
        ("ftp://user:p?#PLANTED@host/x", "ftp://***@host/x"),
        ("ftp://user:PLANTED and@host/x", "ftp://***@host/x"),
        ("https://h/p?a=1&sig=PLANTED", "https://h/p?a=1&sig=***"),
        ("https://h/p#token=PLANTED", "https://h/p#token=***"),
        ("github://org:repo@PLANTED/x", "github://***@***/x"),
        ("memory://u:PLANTED@x", "memory://***@x"),
        ("simplecache::ftp://u:a::PLANTED@h/x", "simplecache::ftp://***@h/x"),
        ("dir::ftp://u:PLANTED@h/x", "dir::ftp://***@h/x"),
        ("simplecache::file:///data/a@b/c", "simplecache::file:///data/a@b/c"),
    ],
)
def test_secrets_in_urls_are_not_shown(url, shown):
    storage = open_storage(url)
    assert storage.url == shown
    assert "PLANTED" not in repr(storage)
    again = pickle.loads(pickle.dumps(storage))
    assert again.url == shown
    assert pickle.dumps(again) == pickle.dumps(storage)


def test_messages_hide_the_secrets_of_the_url():
    assert redact_text("cannot log in to ftp://u:a/b@c@h/x as 'me@here'") == (
        "cannot log in to ftp://***@h/x as 'me@here'"
    )
    assert secrets_in_url("ftp://me:pa%2Fss@host/x?sig=abc") == {
        "me:pa%2Fss",
        "me:pa/ss",
        "pa%2Fss",
        "pa/ss",
        "abc",
    }


@pytest.mark.parametrize("chain", ["dir::file://", "simplecache::file://", "filecache::file://"])
@pytest.mark.parametrize("umask", [0, 0o777])
def test_only_the_owner_has_access_to_what_a_chain_writes(tmp_path, chain, umask):
    options = {name: {"cache_storage": str(tmp_path / "copies")} for name in ("simplecache", "filecache")}
    used = {name: inner for name, inner in options.items() if chain.startswith(name)}
    storage = open_storage(f"{chain}{tmp_path}/deep/store", storage_options=used)
    old = os.umask(umask)
    try:
        storage.write("a/b/c", [b"x"])
        storage.write("a/b/c", [b"y"])
        storage.write("d", [b"z"])
        assert storage.read("a/b/c").buffer == b"y"
    finally:
        os.umask(old)
    for path in (tmp_path / "deep").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700
    if used:
        assert stat.S_IMODE((tmp_path / "copies").stat().st_mode) == 0o700
    assert sorted(info.name for info in storage.scan()) == ["a/b/c", "d"]


def test_a_fault_inside_a_filesystem_is_no_absence(monkeypatch):
    def fail(*args, **options):
        raise KeyError("some header")

    storage = open_storage("dir::memory://faulty")
    for method in ("cat_file", "info", "pipe_file"):
        monkeypatch.setattr(MemoryFileSystem, method, fail)
    for attempt in (
        lambda: storage.read("a"),
        lambda: storage.stat("a"),
        lambda: storage.remove("a"),
        lambda: storage.write("a", [b"x"]),
        lambda: list(storage.read_many(["a"])),
    ):
        with pytest.raises(BackendError, match="some header"):
            attempt()


def test_an_absence_in_the_index_of_an_archive_is_one(archive, monkeypatch):
    def fail(*args, **options):
        raise KeyError("no such item in the archive")

    monkeypatch.setattr(ZipFileSystem, "cat_file", fail)
    with pytest.raises(BlobNotFound):
        open_storage(archive).read("absent")
