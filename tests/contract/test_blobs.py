"""What blobs promise: StorageBlobs over HTTP against the small Cloud Storage of the local stack."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import flask
import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from mailmirror.adapters import storage as storage_adapter
from mailmirror.adapters.storage import StorageBlobs
from mailmirror.errors import StoreUnavailable
from werkzeug.serving import make_server

from local.storage import Objects, create_app

NAME = "ann+a@example.com/18c0 ffee%2Fä.json"


@contextmanager
def _served(app: flask.Flask) -> Iterator[str]:
    """Serve an app on a port of its own, for as long as the `with` block lasts."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[str]:
    """A small Cloud Storage on a port of its own."""
    with _served(create_app(Objects())) as url:
        yield url


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[storage.Client]:
    """The client as it is in a function, sent to the small Cloud Storage by the variable meant for that."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    yield client
    client.close()


@pytest.fixture
def blobs(client: storage.Client) -> StorageBlobs:
    """Blobs in a bucket."""
    return StorageBlobs(client, "bodies")


@pytest.mark.parametrize("size", [0, 1, 300_000, 9_000_000])
def test_put_round_trip(blobs: StorageBlobs, client: storage.Client, size: int) -> None:
    """An object comes back byte for byte with its type, below and above the size at which uploads become resumable."""
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert blobs.put(NAME, data, "application/json") == f"gs://bodies/{NAME}"
    blob = client.bucket("bodies").get_blob(NAME)
    assert (blob.size, blob.content_type) == (size, "application/json")
    assert blob.download_as_bytes() == data


def test_put_replaces(blobs: StorageBlobs, client: storage.Client) -> None:
    """Writing an object again replaces it."""
    blobs.put(NAME, b"old", "text/plain")
    blobs.put(NAME, b"new", "text/html")
    assert client.bucket("bodies").blob(NAME).download_as_bytes() == b"new"


def _version(blobs: StorageBlobs, name: str) -> int:
    """The version of an object that is there."""
    version = blobs.version(name)
    assert version is not None
    return version


def test_delete(blobs: StorageBlobs, client: storage.Client) -> None:
    """A deleted object is gone, others stay, and deleting it again is no error."""
    blobs.put(NAME, b"1", "text/plain")
    blobs.put("other", b"2", "text/plain")
    version = _version(blobs, NAME)
    blobs.delete(NAME, version)
    blobs.delete(NAME, version)
    bucket = client.bucket("bodies")
    assert (bucket.blob(NAME).exists(), bucket.blob("other").exists()) == (False, True)


def test_versions_grow(blobs: StorageBlobs) -> None:
    """Every write gives a higher version, also of the same data and after a delete; an absent object has none."""
    assert blobs.version(NAME) is None
    versions = []
    for _ in range(2):
        for data in (b"1", b"1", bytes(9_000_000)):
            blobs.put(NAME, data, "text/plain")
            versions.append(_version(blobs, NAME))
            assert blobs.version(NAME) == versions[-1]
        blobs.delete(NAME, versions[-1])
        assert blobs.version(NAME) is None
    assert versions == sorted(set(versions))


def test_a_version_is_that_of_the_very_name(blobs: StorageBlobs) -> None:
    """Objects whose names begin or end like this one's, in order before it or after it, are not mistaken for it."""
    around = [NAME[:-1], f"{NAME}!", f"{NAME}z", f"a{NAME}", NAME.upper()]
    for name in around:
        blobs.put(name, b"1", "text/plain")
    assert blobs.version(NAME) is None
    blobs.put(NAME, b"2", "text/plain")
    versions = [_version(blobs, name) for name in [*around, NAME]]
    assert versions == sorted(set(versions))


def test_versions_by_prefix(blobs: StorageBlobs) -> None:
    """Objects are listed by the beginning of their names with the versions to delete them by, at most so many; deleting
    what is listed ends with nothing listed.
    """
    assert blobs.versions("ann@example.com/", limit=10) == {}
    names = [f"ann@example.com/{number}.json" for number in range(5)]
    others = [
        "ann@example.com",
        "ann@example.community/1",
        "aann@example.com/1",
        "ANN@example.com/1",
        "ann@example.com0",
    ]
    for name in [*names, *others]:
        blobs.put(name, b"1", "text/plain")
    found: dict[str, int] = {}
    while some := blobs.versions("ann@example.com/", limit=2):
        assert len(some) <= 2
        for name, version in some.items():
            assert blobs.version(name) == version
            blobs.delete(name, version)
        found |= some
    assert sorted(found) == names
    assert all(blobs.version(name) is not None for name in others)


def test_delete_leaves_what_replaced_the_object(blobs: StorageBlobs, client: storage.Client) -> None:
    """Deleting a version that is not there any more is no error, and the object that took its place stays."""
    blobs.put(NAME, b"old", "text/plain")
    old = _version(blobs, NAME)
    blobs.put(NAME, b"new", "text/plain")
    blobs.delete(NAME, old)
    assert client.bucket("bodies").blob(NAME).download_as_bytes() == b"new"
    blobs.delete(NAME, _version(blobs, NAME))
    blobs.put(NAME, b"newer", "text/plain")
    blobs.delete(NAME, old)
    assert client.bucket("bodies").blob(NAME).download_as_bytes() == b"newer"


def test_versions_are_told_without_the_right_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody may read an object or what it is, its version is found out and it is deleted all the same."""
    app = create_app(Objects())

    def forbid() -> tuple[str, int] | None:
        return ("", 403) if flask.request.method == "GET" and "/o/" in flask.request.path else None

    app.before_request(forbid)
    with _served(app) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        client = storage.Client(project="p", credentials=AnonymousCredentials())
        blobs = StorageBlobs(client, "bodies")
        blobs.put(NAME, b"1", "text/plain")
        with pytest.raises(exceptions.Forbidden):
            client.bucket("bodies").get_blob(NAME)
        blobs.delete(NAME, _version(blobs, NAME))
        assert blobs.version(NAME) is None
        client.close()


def test_uri_is_where_the_object_is(blobs: StorageBlobs, client: storage.Client) -> None:
    """The URI leads to the object."""
    uri = blobs.put(NAME, b"here", "text/plain")
    assert storage.Blob.from_uri(uri, client).download_as_bytes() == b"here"


def test_no_server_is_store_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server, writing, looking and deleting say StoreUnavailable."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        _unavailable(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_no_answer_is_store_unavailable(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Cloud Storage cannot answer now, writing, looking and deleting say StoreUnavailable."""
    app = flask.Flask(__name__)
    app.before_request(lambda: ("", status))
    with _served(app) as url:
        _unavailable(url, monkeypatch)


def _unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    monkeypatch.setattr(storage_adapter, "_RETRY", storage_adapter._RETRY.with_timeout(0))
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    blobs = StorageBlobs(client, "bodies")
    for data in (b"1", bytes(9_000_000)):
        with pytest.raises(StoreUnavailable):
            blobs.put(NAME, data, "text/plain")
    with pytest.raises(StoreUnavailable):
        blobs.version(NAME)
    with pytest.raises(StoreUnavailable):
        blobs.versions("ann", limit=10)
    with pytest.raises(StoreUnavailable):
        blobs.delete(NAME, 1)
    client.close()


def test_missing_permission_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What trying again cannot mend is the client's own error: the configuration is wrong."""
    app = flask.Flask(__name__)
    app.before_request(lambda: ("", 403))
    with _served(app) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        client = storage.Client(project="p", credentials=AnonymousCredentials())
        with pytest.raises(exceptions.Forbidden):
            StorageBlobs(client, "bodies").put(NAME, b"1", "text/plain")
        client.close()


def test_damaged_upload_is_refused(server: str) -> None:
    """The small Cloud Storage refuses data that its checksum does not fit, in Google's error model."""
    body = b'--b\r\ncontent-type: application/json\r\n\r\n{"name": "n", "crc32c": "AAAAAA=="}\r\n'
    body += b"--b\r\ncontent-type: text/plain\r\n\r\ndata\r\n--b--"
    url = f"{server}/upload/storage/v1/b/bodies/o?uploadType=multipart"
    answer = requests.post(url, body, headers={"Content-Type": "multipart/related; boundary=b"}, timeout=10)
    assert answer.status_code == 400
    assert "doesn't match" in answer.json()["error"]["message"]


def test_precondition_of_a_delete(server: str) -> None:
    """The small Cloud Storage says 412 for another generation, 404 for no object, 400 for no number."""
    upload = f"{server}/upload/storage/v1/b/bodies/o?uploadType=media&name=n"
    generation = int(requests.post(upload, b"data", timeout=10).json()["generation"])
    url = f"{server}/storage/v1/b/bodies/o/n"
    refused = requests.delete(url, params={"ifGenerationMatch": generation + 1}, timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (412, 412)
    assert requests.delete(url, params={"ifGenerationMatch": "latest"}, timeout=10).status_code == 400
    assert requests.delete(url, params={"ifGenerationMatch": generation}, timeout=10).status_code == 204
    assert requests.delete(url, params={"ifGenerationMatch": generation}, timeout=10).status_code == 404


def test_list(client: storage.Client) -> None:
    """The small Cloud Storage lists a bucket's objects by prefix, in the order of their names, page by page."""
    for bucket, name in (("b", "x/2"), ("b", "x/10"), ("b", "x/1"), ("b", "y/1"), ("other", "x/0")):
        client.bucket(bucket).blob(name).upload_from_string(b"")
    pages = client.bucket("b").list_blobs(prefix="x/", page_size=2).pages
    assert [[blob.name for blob in page] for page in pages] == [["x/1", "x/10"], ["x/2"]]
    assert [blob.name for blob in client.bucket("b").list_blobs()] == ["x/1", "x/10", "x/2", "y/1"]
    assert list(client.bucket("none").list_blobs()) == []


def test_media_upload(server: str, client: storage.Client) -> None:
    """The small Cloud Storage takes a plain upload too."""
    url = f"{server}/upload/storage/v1/b/bodies/o?uploadType=media&name=n"
    assert requests.post(url, b"data", headers={"Content-Type": "text/plain"}, timeout=10).json()["size"] == "4"
    assert client.bucket("bodies").blob("n").download_as_bytes() == b"data"


def test_resumable_upload_in_chunks(client: storage.Client) -> None:
    """An upload in several requests arrives whole."""
    data = bytes(range(256)) * 4096
    client.bucket("bodies").blob("chunks", chunk_size=262_144).upload_from_string(data)
    assert client.bucket("bodies").blob("chunks").download_as_bytes() == data


def test_absent_object(client: storage.Client) -> None:
    """The small Cloud Storage says 404 for an object that is not there."""
    with pytest.raises(exceptions.NotFound):
        client.bucket("bodies").blob("none").download_as_bytes()


def test_command_line() -> None:
    """`python -m local.storage` says in one line of JSON where it listens, and answers there."""
    environment = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-m", "local.storage", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert said["event"] == "fake_storage_listening"
            assert requests.get(said["url"], timeout=10).ok
        finally:
            process.kill()
