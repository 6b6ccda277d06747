"""A moto S3 server in a process of its own: exact conditions, counted requests, planted faults."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any
from urllib.request import Request, urlopen

CONTROL = "/__control__"
CHANGING = frozenset({"PUT", "POST", "DELETE"})
CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")


class _Faulty:
    """Moto's WSGI app behind a lock, a counter and a list of faults.

    Moto checks a condition and writes in two steps; the lock makes them one.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._changing = threading.Lock()
        self._noting = threading.Lock()
        self._requests: list[str] = []
        self._faults: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == CONTROL:
            return self._control(environ, start_response)
        method = environ["REQUEST_METHOD"]
        with self._noting:
            self._requests.append(f"{method} {environ['PATH_INFO']}")
            fault = self._next_fault(method, environ["PATH_INFO"])
        kind = fault["kind"] if fault else None
        if kind == "meet":
            # So many requests that are under way at once find one another; fewer wait in vain.
            with contextlib.suppress(threading.BrokenBarrierError):
                fault["meeting"].wait(timeout=30)
                with self._noting:
                    self._requests.append("met")
        if kind == "slow":
            time.sleep(fault["seconds"])  # as slow as the test asks
        if kind == "unavailable":
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>not now</Message></Error>"]
        if kind == "denied":
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            if method == "HEAD":  # whose answer has no body
                return []
            message = fault["message"].encode()
            return [b"<Error><Code>AccessDenied</Code><Message>" + message + b"</Message></Error>"]
        if kind == "busy":
            start_response("409 Conflict", [("Content-Type", "application/xml")])
            return [b"<Error><Code>ConditionalRequestConflict</Code><Message>wait</Message></Error>"]
        if kind == "ignore-conditions":
            for header in CONDITIONS:
                environ.pop(header, None)

        def start(status: str, *rest: Any) -> Any:
            if status.startswith("304"):
                with self._noting:
                    self._requests.append("304")
            return start_response(status, *rest)

        if method in CHANGING:
            with self._changing:
                answer = list(self._app(environ, start))
        else:
            answer = self._app(environ, start)
        if kind == "lost-response":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        if kind == "broken-body":
            whole = b"".join(answer)
            return self._broken(whole[: len(whole) // 2], environ)
        return answer

    @staticmethod
    def _broken(half: bytes, environ: dict[str, Any]) -> Any:
        yield half
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    def _next_fault(self, method: str, path: str) -> dict[str, Any] | None:
        for fault in self._faults:
            if fault["method"] in {method, "*"} and fault["path"] in path:
                fault["times"] -= 1
                if not fault["times"]:
                    self._faults.remove(fault)
                return fault
        return None

    def _control(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
        command = json.loads(body)
        with self._noting:
            if "fault" in command:
                meeting = threading.Barrier(command["fault"]["parties"])
                self._faults.append({**command["fault"], "meeting": meeting})
            if command.get("clear"):
                self._requests.clear()
                self._faults.clear()
            answer = json.dumps(self._requests).encode()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [answer]


def _serve(ready: Connection) -> None:
    import logging

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").disabled = True
    app = _Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=_exit_with_parent, args=(ready,), daemon=True).start()
    ready.send(server.server_port)
    sys.stderr = open("/dev/null", "w")  # noqa: PTH123, SIM115 - planted faults would fill the screen
    server.serve_forever()


def _exit_with_parent(pipe: Connection) -> None:
    import os

    with suppress(EOFError):
        pipe.recv()
    os._exit(0)


class S3Server:
    """What a test knows of the server.

    Attributes
    ----------
    endpoint : str
        Its URL.
    storage_options : dict
        For fsspec.
    """

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.storage_options: dict[str, Any] = {
            "key": "AKIAPLANTEDKEY",
            "secret": "planted-secret-value",
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket."""
        with urlopen(Request(f"{self.endpoint}/{bucket}", b"", method="PUT")):
            pass

    def requests(self) -> list[str]:
        """Return what was asked since the last `clear`, as ``"METHOD /path"``.

        After what was answered with "not modified" comes ``"304"``.
        """
        return self._send({})

    def clear(self) -> None:
        """Forget the requests and the faults so far."""
        self._send({"clear": True})

    def fault(
        self,
        kind: str,
        *,
        method: str = "*",
        path: str = "",
        times: int = 1,
        parties: int = 4,
        **more: str | float,
    ) -> None:
        """Plant a fault.

        Parameters
        ----------
        kind : str
            meet, slow, lost-response, broken-body, unavailable, busy, denied or ignore-conditions.
        method, path, times
            It fires for the next `times` requests (-1: all) of `method` whose path contains `path`.
        parties
            How many requests meet.
        **more
            ``seconds`` of a slow answer, the ``message`` of one denied.
        """
        planted = {"kind": kind, "method": method, "path": path, "times": times, "parties": parties}
        planted |= {"message": "", **more}
        self._send({"fault": planted})

    def _send(self, command: dict[str, Any]) -> list[str]:
        request = Request(self.endpoint + CONTROL, json.dumps(command).encode(), method="POST")
        with urlopen(request) as response:
            return json.loads(response.read())


@contextmanager
def serving():
    """Run a server in a process of its own, which ends with the context or with this process."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield S3Server(ours.recv())
    finally:
        ours.close()
        process.join(10)
        process.kill()  # a fork that is left may hold the pipe open
        process.join()
        process.close()
