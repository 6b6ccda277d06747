"""An S3 server on this machine, for as long as the demo needs one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def bucket() -> Iterator[tuple[str, dict[str, Any]] | None]:
    """Yield the URL of an empty bucket and the options to reach it; None without the extras."""
    try:
        import s3fs
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield None
        return
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {
            "key": "demo",
            "secret": "demo",
            "client_kwargs": {"endpoint_url": f"http://{host}:{port}"},
        }
        s3fs.S3FileSystem(**options).mkdir("persicache-demo")
        yield "s3://persicache-demo/results", options
    finally:
        server.stop()
