"""Batches: what is written is what Google reads, and of any answer no more is read than is there."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.adapters.gmail.transport import BATCH_TYPE, read_batch
from mailmirror.adapters.gmail.transport import write_batch as write_requests

from local.gmail.batch import BOUNDARY, InnerAnswer, parse_batch, write_batch

# As Google's guide shows an answer (https://developers.google.com/gmail/api/guides/batch).
GUIDE = b"""--batch_foobarbaz
Content-Type: application/http
Content-ID: <response-0@mailmirror>

HTTP/1.1 200 OK
Content-Type: application/json
ETag: "etag/pony"
Content-Length: 11

{"a": "b"}

--batch_foobarbaz
Content-Type: application/http
Content-ID: <response-1@mailmirror>

HTTP/1.1 304 Not Modified
ETag: "etag/animals"

--batch_foobarbaz--
"""
KINDS = st.sampled_from([(200, {"id": "1"}), (404, {"error": {"code": 404}}), (204, None), (429, {"x": "\n--b--\r\n"})])


def request(path: str) -> SimpleNamespace:
    """A request as googleapiclient makes it."""
    return SimpleNamespace(uri=f"https://gmail.googleapis.com{path}", method="GET")


def answer(*parts: tuple[int, object]) -> bytes:
    """The answer to a batch as the fake Gmail gives it."""
    return write_batch(
        InnerAnswer(f"<{number}@mailmirror>", status, body)  # type: ignore[arg-type]
        for number, (status, body) in enumerate(parts)
    )


def read(body: bytes, content_type: str = f"multipart/mixed; boundary={BOUNDARY}") -> list[tuple[int, int, bytes]]:
    """Number, status and content of each part."""
    return [(number, response.status, bytes(content)) for number, response, content in read_batch(content_type, body)]


def test_what_is_written() -> None:
    """Each request is a part with its number, its path and its query, and nothing of it is lost."""
    paths = ["/gmail/v1/users/a%40b.c/messages/1?format=full&alt=json", "/gmail/v1/users/me/threads/2?alt=json"]
    parsed = parse_batch(BATCH_TYPE, write_requests([request(path) for path in paths]))
    assert [(inner.verb, f"{inner.path}?{inner.query}") for inner in parsed] == [("GET", path) for path in paths]
    assert [inner.content_id for inner in parsed] == ["<0@mailmirror>", "<1@mailmirror>"]
    assert [(inner.body, inner.authorization) for inner in parsed] == [(b"", None)] * 2


def test_what_is_read() -> None:
    """Each part of an answer comes with its number, status, headers and content, whatever it says."""
    body = answer((200, {"a": 1}), (404, {"error": "gone"}), (204, None))
    parts = list(read_batch(f'multipart/mixed; charset=x; boundary="{BOUNDARY}"', body))
    assert [(number, response.status, response.reason) for number, response, _ in parts] == [
        (0, 200, "OK"),
        (1, 404, "Not Found"),
        (2, 204, "No Content"),
    ]
    assert [content for _, _, content in parts] == [b'{"a": 1}', b'{"error": "gone"}', b""]
    assert parts[0][1]["content-type"] == "application/json; charset=UTF-8"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("preamble", [b"", b"This is a batch.\n", b"\n"])
def test_as_the_guide_shows_it(newline: bytes, preamble: bytes) -> None:
    """Google's own example is read, whatever its lines end with and whatever comes before and after it."""
    body = (preamble + GUIDE + b"afterwards\n").replace(b"\n", newline)
    parts = list(read_batch("multipart/mixed; boundary=batch_foobarbaz", body))
    assert [(number, response.status) for number, response, _ in parts] == [(0, 200), (1, 304)]
    assert json.loads(bytes(parts[0][2])) == {"a": "b"}
    assert parts[1][1]["etag"] == '"etag/animals"'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html; charset=UTF-8", GUIDE),
        ("", GUIDE),
        ("multipart/mixed", GUIDE),
        ("multipart/mixed; boundary=another", GUIDE),
        ("multipart/mixed; boundary=batch_foobarbaz", b""),
        ("multipart/mixed; boundary=batch_foobarbaz", b"--batch_foobarbaz"),
        ("multipart/mixed; boundary=batch_foobarbaz", GUIDE.replace(b"@mailmirror", b"")),
        ("multipart/mixed; boundary=batch_foobarbaz", GUIDE.replace(b"HTTP/1.1 ", b"")),
        ("multipart/mixed; boundary=batch_foobarbaz", GUIDE.replace(b"<response-", b"<")),
    ],
    ids=range(9),
)
def test_what_is_no_answer(content_type: str, body: bytes) -> None:
    """What is not the answer to a batch is read as no answer at all, and raises nothing."""
    assert read(body, content_type) == []


@given(st.lists(KINDS, max_size=4), st.floats(0, 1))
def test_an_answer_cut_short(parts: list[tuple[int, object]], share: float) -> None:
    """Of an answer that breaks off anywhere the parts before are read, and never half of one."""
    whole = answer(*parts)
    found = read(whole[: int(len(whole) * share)])
    assert found == read(whole)[: len(found)]
    assert len(read(whole)) == len(parts)


def test_a_part_cut_short() -> None:
    """A part that is shorter than it says is no answer, and spoils no other."""
    body = answer((200, {"long": "x" * 100}), (200, {})).replace(b"x" * 100, b"x" * 10)
    assert [number for number, _, _ in read(body)] == [1]


@given(st.binary(max_size=300), st.text(max_size=60))
def test_anything_at_all(body: bytes, content_type: str) -> None:
    """No bytes and no content type make it raise."""
    read(body, content_type)
    read(body, f"multipart/mixed; boundary={content_type}")
    read(b"--b\r\nContent-ID: <response-0@>\r\n\r\nHTTP/1.1 200 " + body + b"\r\n--b--", "multipart/mixed; boundary=b")
