"""What users of s3fs expect of a bucket: profiles, endpoints, anonymous access, versions."""

from __future__ import annotations

import pytest
import s3fs

from persicache import ETAG_IS_THE_SAME, ITEM_NOT_AVAILABLE, PersiDict
from persicache.errors import BackendError


@pytest.fixture
def d(s3):
    opened = PersiDict(s3.url, storage_options=s3.storage_options)
    opened["a"] = 1
    return opened


@pytest.fixture
def without_credentials(s3):
    return {name: value for name, value in s3.storage_options.items() if name not in {"key", "secret"}}


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    path = tmp_path / "credentials"
    path.write_text("[team]\naws_access_key_id=AKIATEAM\naws_secret_access_key=hush\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))


@pytest.mark.usefixtures("d", "profiles")
def test_a_profile_has_the_credentials(s3, without_credentials):
    assert PersiDict(s3.url, storage_options={**without_credentials, "profile": "team"})["a"] == 1


@pytest.mark.usefixtures("d", "profiles")
def test_the_environment_can_name_the_endpoint(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.server.endpoint)
    assert PersiDict(s3.url, storage_options={"profile": "team"})["a"] == 1


@pytest.mark.parametrize("wrong", [{"profile": "nobody"}, {"nobody": 1}])
@pytest.mark.usefixtures("d", "profiles")
def test_wrong_options_are_told_of(s3, without_credentials, wrong):
    with pytest.raises(BackendError, match="nobody"):
        PersiDict(s3.url, storage_options={**without_credentials, **wrong}).get("a")


@pytest.mark.usefixtures("d")
def test_what_is_public_is_read_by_anybody(s3, without_credentials):
    anybody = PersiDict(s3.url, storage_options={**without_credentials, "anon": True})
    with pytest.raises(BackendError):
        anybody.get("a")
    fs = s3fs.S3FileSystem(**s3.storage_options)
    fs.call_s3("put_object_acl", Bucket=s3.bucket, Key="team/cache/a.pc", ACL="public-read")
    assert anybody["a"] == 1


def test_a_versioned_bucket_shows_the_latest_only(s3, d):
    fs = s3fs.S3FileSystem(**s3.storage_options)
    fs.call_s3("put_bucket_versioning", Bucket=s3.bucket, VersioningConfiguration={"Status": "Enabled"})
    before = d.etag("a")
    d["a"] = 2
    stale = d.set_item_if("a", value=3, condition=ETAG_IS_THE_SAME, expected_etag=before)
    assert not stale.condition_was_satisfied
    assert dict(d) == {"a": 2}
    del d["a"]
    assert not d
    created = d.set_item_if("a", value=4, condition=ETAG_IS_THE_SAME, expected_etag=ITEM_NOT_AVAILABLE)
    assert created.condition_was_satisfied
    d.clear()
    assert "a" not in d
