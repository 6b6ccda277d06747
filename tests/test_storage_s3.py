"""S3: what is asked of the server, and what its faults lead to."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from test_storage_children import create, in_spawned

from persicache.errors import (
    BackendError,
    BlobNotFound,
    ConditionsUnsupported,
    MissingDependency,
    ReadOnlyPlace,
    VersionConflict,
)
from persicache.mappings import PersiDict
from persicache.storage import ABSENT, open_storage
from persicache.storage.s3_body import ChunksFile, body_of

MIB = 1024 * 1024
LARGE = [b"x" * MIB, b"y" * (MIB // 2), b"z"]


@pytest.fixture
def storage(s3):
    opened = open_storage(s3.url, storage_options=s3.storage_options)
    opened.write("warm", [b"x"])  # connections, credentials
    s3.server.clear()
    yield opened
    opened.close()


@pytest.fixture
def asked(s3):
    """Return the methods asked for since the last time."""

    def since():
        requests = s3.server.requests()
        s3.server.clear()
        return [request.partition(" ")[0] for request in requests]

    return since


@pytest.fixture
def probed(storage, s3):
    assert storage.can_compare_and_swap
    s3.server.clear()


def test_one_request_to_write_and_one_to_read(storage, asked):
    for chunks in ([b"small"], LARGE):
        storage.write("a", chunks)
        assert asked() == ["PUT"]
        assert bytes(storage.read("a").buffer) == b"".join(chunks)
        assert asked() == ["GET"]


def test_one_request_to_write_with_a_condition(storage, asked, probed):
    first = storage.write("a", LARGE, expect=ABSENT)
    storage.write("a", LARGE[::-1], expect=first)
    assert asked() == ["PUT", "PUT"]


def test_one_request_to_look(storage, asked):
    storage.stat("warm")
    storage.version("warm")
    with pytest.raises(BlobNotFound):
        storage.stat("absent")
    with pytest.raises(BlobNotFound):
        storage.read("absent")
    assert asked() == ["HEAD", "HEAD", "HEAD", "GET"]


def test_requests_of_many(storage, asked):
    items = {f"n{i:03}": [b"x"] for i in range(30)}
    storage.write_many(items)
    assert asked() == ["PUT"] * 30
    assert len(dict(storage.read_many(items))) == 30
    assert asked() == ["GET"] * 30
    assert len(list(storage.scan())) == 31
    assert asked() == ["GET"]
    storage.remove_many(items)
    assert asked() == ["POST"]


def test_many_names_are_taken_as_they_are_needed(storage):
    taken = []

    def names():
        for i in range(500):
            taken.append(i)
            yield f"n{i}"

    storage.write_many({f"n{i}": [b"x"] for i in range(3)})
    reading = storage.read_many(names())
    next(reading)
    assert len(taken) < 300
    reading.close()


def test_the_server_is_probed_once(storage, s3, asked):
    assert storage.can_compare_and_swap
    assert asked().count("PUT") == 3
    assert storage.can_compare_and_swap
    other = open_storage(f"s3://{s3.bucket}/elsewhere", storage_options=s3.storage_options)
    assert other.can_compare_and_swap
    assert asked() == []
    assert [info.name for info in storage.scan()] == ["warm"]
    other.close()


def test_another_server_that_the_environment_names_is_probed_by_itself(s3, monkeypatch):
    options = {name: value for name, value in s3.storage_options.items() if name != "endpoint_url"}
    endpoint = s3.server.endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    exact = open_storage(s3.url, storage_options=options)
    assert exact.can_compare_and_swap
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.replace("127.0.0.1", "localhost"))
    s3.server.fault("ignore-conditions", times=-1)
    other = open_storage(s3.url, storage_options=options)
    assert not other.can_compare_and_swap
    assert exact.can_compare_and_swap
    exact.close()
    other.close()


def test_a_server_that_ignores_conditions_is_refused(storage, s3):
    storage.write("a", [b"old"])
    s3.server.fault("ignore-conditions", times=-1)
    assert not storage.can_compare_and_swap
    for expect in (ABSENT, "some-version"):
        with pytest.raises(ConditionsUnsupported):
            storage.write("a", [b"new"], expect=expect)
    with pytest.raises(ConditionsUnsupported):
        storage.remove("a", expect="some-version")
    assert bytes(storage.read("a").buffer) == b"old"


def test_a_server_that_ignores_them_on_removal_is_refused_for_that(storage, s3):
    version = storage.write("a", [b"old"])
    s3.server.fault("ignore-conditions", method="DELETE", times=-1)
    assert storage.can_compare_and_swap
    with pytest.raises(ConditionsUnsupported):
        storage.remove("a", expect=version)
    storage.write("a", [b"new"], expect=version)


@pytest.mark.parametrize("chunks", [[b"new"], LARGE])
def test_a_write_whose_answer_was_lost_is_no_conflict(storage, s3, asked, probed, chunks):
    version = storage.write("a", [b"old"])
    for expect, name in ((ABSENT, "b"), (version, "a")):
        s3.server.clear()
        s3.server.fault("lost-response", method="PUT", path=name)
        new = storage.write(name, chunks, expect=expect)
        assert asked() == ["PUT", "PUT", "HEAD"]
        assert storage.version(name) == new
        assert bytes(storage.read(name).buffer) == b"".join(chunks)


def test_an_overwritten_write_whose_answer_was_lost_is_no_conflict(storage, s3, probed):
    """Else a counter would count twice."""
    other = open_storage(s3.url, storage_options=s3.storage_options)
    ours, theirs = storage._client.get(), other._client.get()
    version = storage.write("a", [b"1"], expect=ABSENT)
    real = ours.version

    async def overtaken(key, *, name):
        ours.version = real
        for text in (b"3", b"4"):  # after ours, which is 2, and before we see the conflict
            seen = await theirs.get(key, name=name)
            await theirs.put_if(key, [text], name=name, expect=seen.version)
        return await real(key, name=name)

    ours.version = overtaken
    s3.server.fault("lost-response", method="PUT", path="cache/a")
    stale = storage.write("a", [b"2"], expect=version)
    assert storage.read("a").buffer == b"4"
    with pytest.raises(VersionConflict):
        storage.write("a", [b"5"], expect=stale)
    other.close()


def test_a_version_from_elsewhere_costs_one_look(storage, s3, asked, probed):
    version = storage.write("a", [b"1"])
    other = open_storage(s3.url, storage_options=s3.storage_options)
    s3.server.clear()
    new = other.write("a", [b"2"], expect=version)
    assert asked() == ["HEAD", "PUT"]
    with pytest.raises(VersionConflict) as caught:
        storage.write("a", [b"3"], expect="of-long-ago")
    assert caught.value.actual == new
    other.close()


def test_lost_answers_lose_and_repeat_no_update(storage, s3, probed):
    storage.write("counter", [b"0"])
    other = open_storage(s3.url, storage_options=s3.storage_options)
    s3.server.fault("lost-response", method="PUT", path="cache/counter", times=3)

    def work(storage):
        for _ in range(8):
            done = False
            while not done:
                blob = storage.read("counter")
                with contextlib.suppress(VersionConflict):
                    storage.write("counter", [b"%d" % (int(blob.buffer) + 1)], expect=blob.version)
                    done = True

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [storage, other]))
    assert storage.read("counter").buffer == b"16"
    other.close()


def test_an_unconditional_write_is_repeated_whole(storage, s3):
    s3.server.fault("lost-response", method="PUT")
    storage.write("a", LARGE)
    assert bytes(storage.read("a").buffer) == b"".join(LARGE)


def test_anothers_write_is_a_conflict_though_an_answer_was_lost(storage, s3, probed):
    version = storage.write("a", [b"old"])
    other = storage.write("a", [b"theirs"])
    s3.server.fault("lost-response", method="PUT")
    with pytest.raises(VersionConflict) as caught:
        storage.write("a", [b"ours"], expect=version)
    assert caught.value.actual == other


@pytest.mark.parametrize("kind", ["busy", "unavailable"])
def test_a_busy_server_is_asked_again(storage, s3, asked, probed, kind):
    s3.server.fault(kind, method="PUT", times=2)
    version = storage.write("a", LARGE, expect=ABSENT)
    assert asked() == ["PUT"] * 3
    assert storage.version("a") == version


def test_a_server_busy_for_ever_is_given_up(storage, s3, probed):
    s3.server.fault("busy", method="PUT", times=-1)
    with pytest.raises(BackendError, match="write 'a'"):
        storage.write("a", [b"x"], expect=ABSENT)


def test_a_body_that_breaks_off_is_read_again(storage, s3, asked):
    version = storage.write("a", LARGE)
    s3.server.clear()
    s3.server.fault("broken-body", method="GET", times=2)
    blob = storage.read("a")
    assert asked() == ["GET"] * 3
    assert blob.version == version
    assert bytes(blob.buffer) == b"".join(LARGE)


def test_a_body_that_always_breaks_off_is_an_error(storage, s3, asked):
    storage.write("a", LARGE)
    s3.server.clear()
    s3.server.fault("broken-body", method="GET", times=-1)
    with pytest.raises(BackendError) as caught:
        storage.read("a")
    assert not isinstance(caught.value, KeyError)
    assert len(asked()) == 4


def test_large_values_are_not_joined():
    assert body_of([b"small", b"er"]) == b"smaller"
    assert isinstance(body_of(LARGE), ChunksFile)


def test_the_etag_of_equal_bytes_is_equal(storage, probed):
    # Known and documented: entries carry a random id, which makes their bytes differ.
    first = storage.write("a", [b"A"])
    storage.write("a", [b"B"])
    assert storage.write("a", [b"A"]) == first


def test_a_missing_bucket_is_no_missing_key(s3):
    storage = open_storage("s3://no-such-bucket-here/x", storage_options=s3.storage_options)
    for ask in (storage.read, storage.stat, storage.version, storage.remove):
        with pytest.raises(BackendError) as caught:
            ask("a")
        assert caught.value.__cause__ is not None
    with pytest.raises(BackendError):
        storage.write("a", [b"x"])
    with pytest.raises(BackendError):
        storage.write_many({"a": [b"x"]})
    with pytest.raises(BackendError):
        list(storage.scan())
    with pytest.raises(BackendError):
        list(storage.read_many(["a"]))
    assert not storage.can_compare_and_swap
    storage.close()


def test_a_missing_server_is_an_error_soon():
    options = {
        "key": "planted-key",
        "secret": "planted-secret",
        "endpoint_url": "http://user:planted@127.0.0.1:9",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    storage = open_storage("s3://bucket/x", storage_options=options)
    with pytest.raises(BackendError) as caught:
        storage.read("a")
    assert "planted" not in "".join(traceback.format_exception(caught.value))
    storage.close()


def test_secrets_are_in_no_message(storage, s3):
    secrets = [s3.storage_options["key"], s3.storage_options["secret"]]
    s3.server.fault("denied", times=-1, message=f"denied to {secrets[0]} with {secrets[1]}")
    for attempt in (
        lambda: storage.read("a"),
        lambda: storage.write("a", [b"x"]),
        lambda: storage.remove("a"),
        lambda: storage.remove_many(["a"]),
        lambda: list(storage.scan()),
    ):
        with pytest.raises(BackendError) as caught:
            attempt()
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.cause)
        assert "denied to ***" in str(caught.value) or "Forbidden" in str(caught.value)
        assert not any(secret in shown for secret in secrets)
    shown = repr(storage) + repr(pickle.loads(pickle.dumps(storage))) + storage.url
    assert not any(secret in shown for secret in secrets)


def test_keys_that_s3_cant_hold_are_refused(s3):
    storage = open_storage(f"{s3.url}/{'p' * 900}", storage_options=s3.storage_options)
    storage.write("n" * 100, [b"x"])
    with pytest.raises(ValueError, match="too long"):
        storage.write("n" * 200, [b"x"])
    storage.close()


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "s3://me:pass@bucket/x", "s3://?x"])
def test_what_names_no_bucket_is_refused(url):
    with pytest.raises(ValueError, match="no bucket") as caught:
        open_storage(url)
    assert "pass" not in str(caught.value)


def test_s3fs_is_optional(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"persicache\[s3\]"):
        open_storage("s3://bucket")


def test_a_whole_bucket_can_be_the_place(s3):
    storage = open_storage(f"s3://{s3.bucket}", storage_options=s3.storage_options)
    storage.write("a", [b"x"])
    assert [info.name for info in storage.scan()] == ["a"]
    storage.close()


def test_long_listings_come_in_pages(storage, s3, monkeypatch, asked):
    monkeypatch.setattr("persicache.storage.s3_client._PAGE", 10)
    storage.write_many({f"d/n{i:02}": [b"x"] for i in range(25)})
    asked()
    listing = storage.scan("d/")
    next(listing)
    assert asked() == ["GET"]
    assert len(list(listing)) == 24
    assert asked() == ["GET", "GET"]


def test_foreign_objects_are_left_alone(storage, s3):
    filesystem = fsspec.filesystem("s3", **s3.storage_options, skip_instance_cache=True)
    for name in ("READ ME", ".hidden", "folder/", "a b"):
        filesystem.call_s3("put_object", Bucket=s3.bucket, Key=f"team/cache/{name}", Body=b"x")
    assert [info.name for info in storage.scan()] == ["warm"]
    filesystem.close_session(filesystem.loop, filesystem._s3)


def test_refused_removals_are_reported(storage, s3):
    s3.server.fault("denied", method="POST", times=-1, message="no")
    with pytest.raises(BackendError, match="remove"):
        storage.remove_many(["warm"])


def test_some_writes_fail_and_the_others_are_done(storage, s3):
    s3.server.fault("denied", method="PUT", path="cache/b", times=-1, message="no")
    with pytest.raises(BackendError, match="'b'"):
        storage.write_many({"a": [b"x"], "b": [b"x"], "c": [b"x"]})
    assert {info.name for info in storage.scan()} == {"a", "c", "warm"}


def test_one_of_many_creates(s3):
    names = [f"n{i}" for i in range(20)]
    arguments = [(s3.url, s3.storage_options, f"text {i}", names) for i in range(4)]
    assert sum(in_spawned(create, arguments)) == 20


def test_a_file_of_chunks_reads_like_their_sum():
    chunks = [b"ab", b"", bytearray(b"cdef"), memoryview(b"ghi")]
    file, whole = ChunksFile(chunks), b"abcdefghi"
    assert len(file) == 9
    assert file.read() == whole
    assert file.read() == b""
    for start in range(11):
        for nbytes in range(11):
            assert file.seek(start) == start
            assert file.read(nbytes) == whole[start : start + nbytes]
    assert file.seek(-2, 2) == 7
    assert file.tell() == 7
    assert file.seek(1, 1) == 8
    assert file.seekable()
    assert file.readable()


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:abc/PLANTED@bucket/p",
        "s3://AKIA:PLANTED/p",
        "s3://AKIA:a+b@PLANTED@bucket",
        "s3a://bucket/AKIA:x@PLANTED",
        "s3://PLANTED:secret",
    ],
)
def test_secrets_in_the_url_are_refused_unseen(url):
    with pytest.raises(ValueError, match="storage_options") as caught:
        open_storage(url)
    assert "PLANTED" not in "".join(traceback.format_exception(caught.value))


def test_an_access_point_is_a_bucket():
    url = "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/mine/x"
    assert open_storage(url).url == url


def test_one_request_to_read_a_head(storage, asked):
    storage.write("a", LARGE)
    storage.write("empty", [])
    asked()
    assert storage.read_head("a", 100) == b"x" * 100
    assert storage.read_head("empty", 100) == b""
    assert asked() == ["GET", "GET"]


def test_a_key_too_long_is_refused_before_anything_is_asked(s3):
    storage = open_storage(f"{s3.url}/{'p' * 900}", storage_options=s3.storage_options)
    with pytest.raises(ValueError, match=r"s3://.*pp.* of 11\d\d bytes, and S3 takes 1024"):
        storage.write("n" * 200, [b"x"])
    with pytest.raises(ValueError, match="no room"):
        open_storage(f"{s3.url}/{'p' * 1100}", storage_options=s3.storage_options)
    assert s3.server.requests() == []
    storage.close()


def test_who_may_only_read_is_told_so(storage, s3, asked):
    storage.write("a", [b"x"])
    s3.server.fault("denied", method="PUT", times=-1, message="no")
    for attempt in (
        lambda: storage.can_compare_and_swap,
        lambda: storage.write("a", [b"y"], expect=ABSENT),
        lambda: storage.remove("a", expect="some version"),
    ):
        with pytest.raises(ReadOnlyPlace, match="conditions are heeded"):
            attempt()
    d = PersiDict(s3.url, storage_options=s3.storage_options)
    for change in (lambda: d.pop("b"), lambda: d.setdefault("b", 1)):
        with pytest.raises(ReadOnlyPlace):
            change()
    d.close()


def test_a_server_that_is_away_is_no_server_without_conditions(s3):
    options = {**s3.storage_options, "endpoint_url": "http://127.0.0.1:9"}
    options["config_kwargs"] = {"retries": {"max_attempts": 0}}
    storage = open_storage("s3://elsewhere/x", storage_options=options)
    with pytest.raises(BackendError):
        _ = storage.can_compare_and_swap
    storage.close()


def test_many_are_read_and_written_at_once(storage, s3):
    names = [f"n{i}" for i in range(4)]
    s3.server.fault("meet", method="PUT", times=4)
    storage.write_many({name: [name.encode()] for name in names})
    assert s3.server.requests().count("met") == 4
    s3.server.clear()
    s3.server.fault("meet", method="GET", times=4)
    assert {name: bytes(blob.buffer).decode() for name, blob in storage.read_many(names)} == dict(
        zip(names, names, strict=True)
    )
    assert s3.server.requests().count("met") == 4
    s3.server.clear()
    storage.remove_many(names)
    assert len(s3.server.requests()) == 1
    assert not {info.name for info in storage.scan()} & set(names)


def test_places_of_one_server_share_their_connections(s3, storage):
    other = open_storage(f"{s3.url}/other", storage_options=s3.storage_options)
    other.write("a", [b"x"])
    assert other._client.get()._fs is storage._client.get()._fs
    storage.close()
    assert other.read("a").buffer == b"x"
    other.close()
    assert storage.read("warm").buffer == b"x"
    elsewhere = {**s3.storage_options, "client_kwargs": {"region_name": "eu-west-1"}}
    apart = open_storage(s3.url, storage_options=elsewhere)
    assert apart.read("warm").buffer == b"x"
    assert apart._client.get()._fs is not storage._client.get()._fs
    apart.close()


def test_what_the_environment_says_is_heeded_by_whoever_comes_after(s3, monkeypatch, storage):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    options = {name: value for name, value in s3.storage_options.items() if name not in {"key", "secret"}}
    with pytest.raises(BackendError, match="nobody"):
        open_storage(s3.url, storage_options=options).read("warm")
