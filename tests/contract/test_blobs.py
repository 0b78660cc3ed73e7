"""What blobs promise: StorageBlobs over HTTP, through the real google-cloud-storage, against the small Cloud Storage of
the local stack and against gcp-storage-emulator (what that one lacks: `buckets`).
"""

import gzip
import random
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest
from google.api_core import exceptions
from google.cloud import storage
from mailmirror.adapters import storage as storage_adapter
from mailmirror.adapters.storage import StorageBlobs
from mailmirror.errors import LeaseLost, StoreUnavailable

from local.storage import Objects, create_app
from tests.contract.buckets import client_of, emulated, in_a_process, served, small

NAME = "ann+a@example.com/18c0 ffee%2Fä.json"
CHUNK = storage_adapter._CHUNK


@pytest.fixture(params=["small", "emulator"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The one and the other on a port of its own, empty."""
    with small(tmp_path / "objects") if request.param == "small" else emulated() as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[storage.Client]:
    """A client."""
    with client_of(server) as client:
        yield client


@pytest.fixture
def blobs(client: storage.Client) -> StorageBlobs:
    """Blobs in a bucket."""
    return StorageBlobs(client, "bodies")


def _bytes(size: int) -> bytes:
    """Bytes that do not pack, no two chunks of them alike."""
    return random.Random(size).randbytes(size)


def _gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def _read(blobs: StorageBlobs, name: str = NAME) -> bytes:
    pieces = blobs.read(name)
    assert pieces is not None
    return b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, 300_000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 9_000_000])
def test_put_round_trip(blobs: StorageBlobs, client: storage.Client, size: int) -> None:
    """An object comes back byte for byte with its type, below and above the size at which it is sent in chunks, for the
    client as for `read`.
    """
    data = _bytes(size)
    assert blobs.put(NAME, _cut(data, 700_001), "application/json") == f"gs://bodies/{NAME}"
    blob = client.bucket("bodies").blob(NAME)
    assert blob.download_as_bytes() == data
    assert (blob.content_type, blob.content_encoding) == ("application/json", None)
    assert _read(blobs) == data


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    """The data in pieces, none and empty ones among them."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
        yield b""


@pytest.mark.parametrize("size", [0, 1, 300_000, CHUNK, 9_000_000])
def test_gzip_round_trip(blobs: StorageBlobs, client: storage.Client, size: int) -> None:
    """An object that was written gzip'ed is kept so, and read unpacked."""
    data = _bytes(size)
    packed = _gzipped(data)
    blobs.put(NAME, _cut(packed, 700_001), "application/json", gzip=True)
    blob = client.bucket("bodies").blob(NAME)
    assert blob.download_as_bytes(raw_download=True) == packed
    blob.reload()
    assert (blob.content_type, blob.content_encoding) == ("application/json", "gzip")
    assert _read(blobs) == data


def test_read_of_an_absent_object(blobs: StorageBlobs) -> None:
    """Of an object that is not there nothing is read, and that is said at once."""
    assert blobs.read(NAME) is None


def test_read_while_the_object_is_written_again(blobs: StorageBlobs) -> None:
    """Whoever reads an object when it is written again with the same data reads that."""
    data = _bytes(2 * CHUNK + 5)
    blobs.put(NAME, [data], "text/plain")
    pieces = blobs.read(NAME)
    assert pieces is not None
    first = next(pieces)
    blobs.put(NAME, [data], "text/plain")
    assert first + b"".join(pieces) == data


def test_read_while_the_object_is_deleted(blobs: StorageBlobs) -> None:
    """Whoever reads an object when it is deleted does not take what was read for all of it."""
    blobs.put(NAME, [_bytes(2 * CHUNK)], "text/plain")
    pieces = blobs.read(NAME)
    assert pieces is not None
    next(pieces)
    blobs.delete(NAME, _version(blobs, NAME))
    with pytest.raises(StoreUnavailable):
        next(pieces)


@pytest.mark.parametrize("size", [1, 3 * CHUNK])
def test_a_write_that_breaks_off_leaves_nothing(blobs: StorageBlobs, size: int) -> None:
    """An object whose pieces end with an error is not there, and one that was there stays as it was."""

    def broken() -> Iterator[bytes]:
        yield _bytes(size)
        raise LeaseLost("Another worker took the lease.")

    with pytest.raises(LeaseLost):
        blobs.put(NAME, broken(), "text/plain")
    assert blobs.version(NAME) is None
    blobs.put(NAME, [b"whole"], "text/plain")
    with pytest.raises(LeaseLost):
        blobs.put(NAME, broken(), "text/plain")
    assert _read(blobs) == b"whole"


def test_memory(tmp_path: Path) -> None:
    """To write or read a large object takes the memory of a few chunks, also when it unpacks to a thousand times its
    size.
    """
    pieces, most = 100, 6 * CHUNK
    # In a process of its own, whose memory is not counted.
    with in_a_process(tmp_path) as url, client_of(url) as client:
        blobs = StorageBlobs(client, "bodies")
        tracemalloc.start()
        try:
            blobs.put("large", (bytes(1_000_000) for _ in range(pieces)), "text/plain")
            blobs.put("bomb", [_gzipped(bytes(1_000_000)) * pieces], "text/plain", gzip=True)
            tracemalloc.reset_peak()
            found = blobs.read("large")
            assert found is not None
            assert sum(map(len, found)) == pieces * 1_000_000
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < most


def test_put_replaces(blobs: StorageBlobs, client: storage.Client) -> None:
    """Writing an object again replaces it, whatever it was."""
    blobs.put(NAME, [_gzipped(b"old")], "text/plain", gzip=True)
    blobs.put(NAME, [b"new"], "text/html")
    assert client.bucket("bodies").blob(NAME).download_as_bytes() == b"new"
    assert _read(blobs) == b"new"


def _version(blobs: StorageBlobs, name: str) -> int:
    """The version of an object that is there."""
    version = blobs.version(name)
    assert version is not None
    return version


def test_delete(blobs: StorageBlobs, client: storage.Client) -> None:
    """A deleted object is gone, others stay, and deleting it again is no error."""
    blobs.put(NAME, [b"1"], "text/plain")
    blobs.put("other", [b"2"], "text/plain")
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
            blobs.put(NAME, [data], "text/plain")
            versions.append(_version(blobs, NAME))
            assert blobs.version(NAME) == versions[-1]
        blobs.delete(NAME, versions[-1])
        assert blobs.version(NAME) is None
    assert versions == sorted(set(versions))


def test_a_version_is_that_of_the_very_name(blobs: StorageBlobs) -> None:
    """Objects whose names begin or end like this one's, in order before it or after it, are not mistaken for it."""
    around = [NAME[:-1], f"{NAME}!", f"{NAME}z", f"a{NAME}", NAME.upper()]
    for name in around:
        blobs.put(name, [b"1"], "text/plain")
    assert blobs.version(NAME) is None
    blobs.put(NAME, [b"2"], "text/plain")
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
        blobs.put(name, [b"1"], "text/plain")
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
    blobs.put(NAME, [b"old"], "text/plain")
    old = _version(blobs, NAME)
    blobs.put(NAME, [b"new"], "text/plain")
    blobs.delete(NAME, old)
    assert client.bucket("bodies").blob(NAME).download_as_bytes() == b"new"
    blobs.delete(NAME, _version(blobs, NAME))
    blobs.put(NAME, [b"newer"], "text/plain")
    blobs.delete(NAME, old)
    assert client.bucket("bodies").blob(NAME).download_as_bytes() == b"newer"


def test_versions_are_told_without_the_right_to_read(tmp_path: Path) -> None:
    """Where nobody may read an object or what it is, its version is found out and it is deleted all the same."""
    app = create_app(Objects(tmp_path))

    def forbid() -> tuple[str, int] | None:
        return ("", 403) if flask.request.method == "GET" and "/o/" in flask.request.path else None

    app.before_request(forbid)
    with served(app) as url, client_of(url) as client:
        blobs = StorageBlobs(client, "bodies")
        blobs.put(NAME, [b"1"], "text/plain")
        with pytest.raises(exceptions.Forbidden):
            client.bucket("bodies").get_blob(NAME)
        blobs.delete(NAME, _version(blobs, NAME))
        assert blobs.version(NAME) is None


def test_uri_is_where_the_object_is(blobs: StorageBlobs, client: storage.Client) -> None:
    """The URI leads to the object."""
    uri = blobs.put(NAME, [b"here"], "text/plain")
    assert storage.Blob.from_uri(uri, client).download_as_bytes() == b"here"


def test_no_server_is_store_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server, writing, reading, looking and deleting say StoreUnavailable."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        _unavailable(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_no_answer_is_store_unavailable(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Cloud Storage cannot answer now, writing, reading, looking and deleting say StoreUnavailable."""
    app = flask.Flask(__name__)
    app.before_request(lambda: ("", status))
    with served(app) as url:
        _unavailable(url, monkeypatch)


def _unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(storage_adapter._PATIENT, "retry", storage_adapter._RETRY.with_timeout(0))
    with client_of(url) as client:
        blobs = StorageBlobs(client, "bodies")
        for data in (b"1", bytes(9_000_000)):
            with pytest.raises(StoreUnavailable):
                blobs.put(NAME, [data], "text/plain")
        with pytest.raises(StoreUnavailable):
            blobs.read(NAME)
        with pytest.raises(StoreUnavailable):
            blobs.version(NAME)
        with pytest.raises(StoreUnavailable):
            blobs.versions("ann", limit=10)
        with pytest.raises(StoreUnavailable):
            blobs.delete(NAME, 1)


def test_missing_permission_stays_what_it_is() -> None:
    """What trying again cannot mend is the client's own error: the configuration is wrong."""
    app = flask.Flask(__name__)
    app.before_request(lambda: ("", 403))
    with served(app) as url, client_of(url) as client:
        blobs = StorageBlobs(client, "bodies")
        for data in (b"1", bytes(9_000_000)):
            with pytest.raises(exceptions.Forbidden):
                blobs.put(NAME, [data], "text/plain")
        with pytest.raises(exceptions.Forbidden):
            blobs.read(NAME)
