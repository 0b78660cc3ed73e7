"""The small Cloud Storage of the local stack: what of Google's JSON API it promises beyond what blobs need of it."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage

from local.storage import Objects
from tests.contract.buckets import client_of, in_a_process, small

TEXT = b"All work and no play. " * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the objects are kept; not there yet."""
    return tmp_path / "a" / "b"


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """The small Cloud Storage on a port of its own, empty."""
    with small(folder) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[storage.Client]:
    """The client as it is in a function."""
    with client_of(server) as client:
        yield client


def put(objects: Objects, name: str, data: bytes, **metadata: str) -> int:
    """Store an object and return its generation."""
    return objects.put("b", {"name": name, **metadata}, data).generation


def names(folder: Path) -> list[str]:
    """The files in a folder."""
    return sorted(file.name for file in folder.iterdir())


# The API


def test_damaged_upload_is_refused(server: str) -> None:
    """Data that its checksum does not fit is refused, in Google's error model."""
    body = b'--b\r\ncontent-type: application/json\r\n\r\n{"name": "n", "crc32c": "AAAAAA=="}\r\n'
    body += b"--b\r\ncontent-type: text/plain\r\n\r\ndata\r\n--b--"
    url = f"{server}/upload/storage/v1/b/bodies/o?uploadType=multipart"
    answer = requests.post(url, body, headers={"Content-Type": "multipart/related; boundary=b"}, timeout=10)
    assert answer.status_code == 400
    assert "doesn't match" in answer.json()["error"]["message"]


def test_precondition_of_a_delete(server: str) -> None:
    """A delete is answered with 412 for another generation, 404 for no object, 400 for no number."""
    upload = f"{server}/upload/storage/v1/b/bodies/o?uploadType=media&name=n"
    generation = int(requests.post(upload, b"data", timeout=10).json()["generation"])
    url = f"{server}/storage/v1/b/bodies/o/n"
    refused = requests.delete(url, params={"ifGenerationMatch": generation + 1}, timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (412, 412)
    assert requests.delete(url, params={"ifGenerationMatch": "latest"}, timeout=10).status_code == 400
    assert requests.delete(url, params={"ifGenerationMatch": generation}, timeout=10).status_code == 204
    assert requests.delete(url, params={"ifGenerationMatch": generation}, timeout=10).status_code == 404


def test_list(client: storage.Client) -> None:
    """A bucket's objects are listed by prefix, in the order of their names, page by page."""
    for bucket, name in (("b", "x/2"), ("b", "x/10"), ("b", "x/1"), ("b", "y/1"), ("other", "x/0")):
        client.bucket(bucket).blob(name).upload_from_string(b"")
    pages = client.bucket("b").list_blobs(prefix="x/", page_size=2).pages
    assert [[blob.name for blob in page] for page in pages] == [["x/1", "x/10"], ["x/2"]]
    assert [blob.name for blob in client.bucket("b").list_blobs()] == ["x/1", "x/10", "x/2", "y/1"]
    assert list(client.bucket("none").list_blobs()) == []


def test_media_upload(server: str, client: storage.Client) -> None:
    """A plain upload is taken too."""
    url = f"{server}/upload/storage/v1/b/bodies/o?uploadType=media&name=n"
    assert requests.post(url, b"data", headers={"Content-Type": "text/plain"}, timeout=10).json()["size"] == "4"
    assert client.bucket("bodies").blob("n").download_as_bytes() == b"data"


def test_resumable_upload_in_chunks(client: storage.Client) -> None:
    """An upload in several requests arrives whole."""
    data = bytes(range(256)) * 4096
    client.bucket("bodies").blob("chunks", chunk_size=262_144).upload_from_string(data)
    assert client.bucket("bodies").blob("chunks").download_as_bytes() == data


def test_absent_object(client: storage.Client) -> None:
    """An object that is not there is 404."""
    with pytest.raises(exceptions.NotFound):
        client.bucket("bodies").blob("none").download_as_bytes()


def test_ranges(server: str, client: storage.Client) -> None:
    """A range of an object is given; one that begins behind its end is refused."""
    client.bucket("b").blob("n").upload_from_string(b"0123456789")
    url = f"{server}/storage/v1/b/b/o/n?alt=media"
    for wanted, content, told in (
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
        ("bytes=9-", b"9", "bytes 9-9/10"),
    ):
        answer = requests.get(url, headers={"Range": wanted}, timeout=10)
        assert (answer.status_code, answer.content, answer.headers["Content-Range"]) == (206, content, told)
    assert requests.get(url, headers={"Range": "bytes=10-"}, timeout=10).status_code == 416


def test_gzip_is_unpacked_for_who_does_not_take_it(server: str, client: storage.Client) -> None:
    """An object stored packed is given as it is to who takes gzip, unpacked and whole to anybody else."""
    packed = gzip.compress(TEXT)
    blob = client.bucket("b").blob("n")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed, content_type="text/plain")
    url = f"{server}/storage/v1/b/b/o/n?alt=media"
    taken = requests.get(url, headers={"Accept-Encoding": "gzip"}, stream=True, timeout=10)
    assert (taken.raw.read(), taken.headers["Content-Encoding"]) == (packed, "gzip")
    given = requests.get(url, headers={"Accept-Encoding": "identity", "Range": "bytes=0-3"}, timeout=10)
    assert (given.status_code, given.content, given.headers.get("Content-Encoding")) == (200, TEXT, None)
    part = requests.get(url, headers={"Accept-Encoding": "gzip", "Range": "bytes=0-3"}, stream=True, timeout=10)
    assert (part.status_code, part.raw.read()) == (206, packed[:4])
    assert blob.download_as_bytes() == TEXT
    assert blob.download_as_bytes(raw_download=True) == packed


# The folder


def test_objects_are_there_after_a_restart(folder: Path) -> None:
    """What one process stored, the next one has, all that is known of it; its generations go on from there."""
    before = Objects(folder)
    put(before, "ann@example.com/" + "x" * 300, b"old", contentType="text/plain")
    generation = put(before, "ann@example.com/" + "x" * 300, b"packed", contentEncoding="gzip")
    put(before, "deleted", b"1")
    before.delete("b", "deleted")
    after = Objects(folder)
    assert after.page("b", "", "", 10) == before.page("b", "", "", 10)
    stored, data = after.content("b", "ann@example.com/" + "x" * 300)
    assert (data, stored.content_encoding, stored.generation) == (b"packed", "gzip", generation)
    assert put(after, "new", b"1") > generation


def test_the_folder_holds_nothing_but_objects(folder: Path) -> None:
    """Two files an object; what is replaced or deleted is gone, and so is at the next start what a process left that
    died in the middle of a write.
    """
    objects = Objects(folder)
    for data in (b"1", b"22", b"333"):
        put(objects, "n", data)
    assert sorted(file.stat().st_size for file in folder.iterdir() if file.suffix != ".json") == [3]
    kept = names(folder)
    assert len(kept) == 2
    put(objects, "m", b"1")
    objects.delete("b", "m")
    assert names(folder) == kept
    for name in ("0123.json.new", "0123.new", "0123.17"):
        (folder / name).write_bytes(b"{")
    assert Objects(folder).content("b", "n")[1] == b"333"
    assert names(folder) == kept


def test_a_name_is_no_path(folder: Path) -> None:
    """Whatever an object is called, it is kept in the folder, and objects whose names are alike do not meet."""
    objects = Objects(folder)
    strange = ["../up", "/root", "a", "a/b", "a/b/c", ".", "n\x00", "x" * 1024, "ä", "a:b*?"]
    for name in strange:
        put(objects, name, name.encode())
    assert [stored.name for stored in Objects(folder).page("b", "", "", 100)[0]] == sorted(strange)
    assert all(objects.content("b", name)[1] == name.encode() for name in strange)
    assert len(names(folder)) == 2 * len(strange)
    assert names(folder.parent) == [folder.name]


def test_command_line(folder: Path) -> None:
    """`python -m local.storage` says in one line of JSON where it listens, answers there, and keeps what it is sent in
    its folder, a kill notwithstanding.
    """
    for turn in range(2):
        with in_a_process(folder) as url, client_of(url) as client:
            blob = client.bucket("b").blob("n")
            if turn == 0:
                blob.upload_from_string(TEXT)
            assert blob.download_as_bytes() == TEXT
