"""fsspec's own suite for filesystems, over ours. Nothing of it is skipped."""

from __future__ import annotations

import os

import fsspec
import fsspec.tests.abstract as suite
import pytest

KINDS = {"sqlite": "x.db", "lmdb": "env", "jsondoc": "x.json"}


class TableFixtures(suite.AbstractFixtures):
    """What the suite asks for: a filesystem, and where in it there is room."""

    @pytest.fixture(params=KINDS)
    def fs(self, request, tmp_path):
        if request.param == "lmdb":
            pytest.importorskip("lmdb")
        path = tmp_path / "place" / KINDS[request.param]
        filesystem = fsspec.filesystem(request.param, path=path, durable=False, skip_instance_cache=True)
        yield filesystem
        filesystem.close()

    @pytest.fixture
    def fs_path(self):
        # Not the root: fsspec's own `get` of a folder without a slash in its path, into one that
        # exists, leaves the folder's name out, here as in a bucket.
        return "top"

    @pytest.fixture
    def fs_join(self):
        return os.path.join


class TestCopy(suite.AbstractCopyTests, TableFixtures):
    pass


class TestGet(suite.AbstractGetTests, TableFixtures):
    pass


class TestOpen(suite.AbstractOpenTests, TableFixtures):
    pass


class TestPipe(suite.AbstractPipeTests, TableFixtures):
    pass


class TestPut(suite.AbstractPutTests, TableFixtures):
    pass
