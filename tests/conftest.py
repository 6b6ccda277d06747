"""The fixtures that every room's tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from s3server import S3Server, serving

# Machines are loaded, and a deadline missed or a slow draw tells nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        # Tests that run beside others count what they leave among the temporary files.
        folder = tempfile.mkdtemp()
        # After what else goes at the end, multiprocessing's own files with -100; never in a fork.
        Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=-200)
        Path(folder).chmod(0o755)  # some tests become another user
        os.environ["TMPDIR"] = tempfile.tempdir = folder


@dataclass
class S3Place:
    """A bucket of its own on the test server."""

    url: str
    storage_options: dict[str, Any]
    server: S3Server

    @property
    def bucket(self) -> str:
        return self.url.removeprefix("s3://").partition("/")[0]


@pytest.fixture(scope="session")
def s3_server():
    with serving() as server:
        yield server


@pytest.fixture
def s3(s3_server):
    """Yield a fresh bucket: its URL, storage options and server."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_server.make_bucket(bucket)
    s3_server.clear()
    yield S3Place(f"s3://{bucket}/team/cache", s3_server.storage_options, s3_server)
    s3_server.clear()


@pytest.fixture
def place(kind, tmp_path, request):
    """Return the arguments that open a PersiDict in a new place of a kind, from `places`."""
    return kind.new(tmp_path, request)
