"""Cloud Storage for tests: the small one of the local stack and gcp-storage-emulator, each served over HTTP, and the
real client for them.

What gcp-storage-emulator does not do as Cloud Storage does, and what is made of it here, one by one:

* a delete does not heed `ifGenerationMatch`, and a list not `maxResults`: `_Emulator` heeds them in its place;
* every bucket has to be made, and a download from where it says an object is (`mediaLink`) does not find one whose name
  has to be quoted: the tests go by name;
* it says nothing of `Content-Encoding` when it gives an object out, and unpacks none: what readers other than
  `StorageBlobs` get of an object that is stored gzip'ed is tested against the small Cloud Storage alone;
* lists have no pages and errors no words: both are tested against the small Cloud Storage alone.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import HTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import flask
import pytest
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from werkzeug.serving import make_server

from local.storage import Objects, create_app


@contextmanager
def running(server: TCPServer) -> Iterator[str]:
    """Let a server serve, for as long as the `with` block lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def served(app: flask.Flask) -> Iterator[str]:
    """Serve an app on a port of its own, for as long as the `with` block lasts."""
    with running(make_server("127.0.0.1", 0, app, threaded=True)) as url:
        yield url


class _Emulator(RequestHandler):  # type: ignore[misc]
    """gcp-storage-emulator, and the two parameters that it passes over."""

    def do_GET(self) -> None:  # noqa: N802
        most = self._asked("maxResults")
        self.storage.most = None if most is None else int(most)
        super().do_GET()

    def do_DELETE(self) -> None:  # noqa: N802
        wanted = self._asked("ifGenerationMatch")
        bucket, _, name = urlsplit(self.path).path.removeprefix("/storage/v1/b/").partition("/o/")
        stored = self.storage.objects[bucket].get(unquote(name))
        if wanted is not None and stored is not None and stored["generation"] != wanted:
            self.send_response(412)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_DELETE()

    def _asked(self, name: str) -> str | None:
        return parse_qs(urlsplit(self.path).query).get(name, [None])[0]


class _Stored(Storage):  # type: ignore[misc]
    """Its objects, of which a list has no more than `most`."""

    most: int | None = None

    def get_file_list(self, *args: Any, **kwargs: Any) -> tuple[list[Any], list[str]]:
        files, prefixes = super().get_file_list(*args, **kwargs)
        return sorted(files, key=lambda file: file["name"])[: self.most], prefixes


@contextmanager
def emulated() -> Iterator[str]:
    """Serve gcp-storage-emulator on a port of its own, with one bucket, for as long as the `with` block lasts."""
    stored = _Stored(use_memory_fs=True)
    create_bucket("bodies", stored)
    with running(HTTPServer(("127.0.0.1", 0), partial(_Emulator, stored))) as url:
        yield url


@contextmanager
def small(folder: Path) -> Iterator[str]:
    """Serve the small Cloud Storage on a port of its own, for as long as the `with` block lasts."""
    with served(create_app(Objects(folder))) as url:
        yield url


@contextmanager
def client_of(url: str) -> Iterator[storage.Client]:
    """Make the client as it is in a function, for a server of these."""
    with pytest.MonkeyPatch.context() as patch:
        # Read by the client once, when it is made.
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        client = storage.Client(project="p", credentials=AnonymousCredentials())
    try:
        yield client
    finally:
        client.close()


@contextmanager
def in_a_process(folder: Path) -> Iterator[str]:
    """Serve the small Cloud Storage from a process of its own, for as long as the `with` block lasts."""
    environment = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-m", "local.storage", "--port", "0", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert said["event"] == "fake_storage_listening"
            yield said["url"]
        finally:
            process.kill()
