"""Answers as they arrive: whole or not at all, unpacked, and no more of them than there is room for."""

import gzip
import http.client
import io
import random
import zlib
from typing import Any

import pytest
from mailmirror.adapters.gmail import arrival
from mailmirror.adapters.gmail.arrival import Arriving, Room, TooLarge

CONTENT = b"".join(b"%d lines and no end of them\n" % number for number in range(10_000)) + random.Random(0).randbytes(
    200_000
)
NOT_WHOLE = (http.client.HTTPException, OSError, zlib.error)


class Socket:
    """A connection over which this came, and no more."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent

    def makefile(self, _mode: str) -> io.BytesIO:
        """What there is to read."""
        return io.BytesIO(self._sent)


def chunked(content: bytes, size: int = 10_007) -> bytes:
    """Content as it comes when nobody knows beforehand how long it is."""
    chunks = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def arriving(content: bytes, *headers: str) -> Arriving:
    """An answer of which the headers have been read."""
    head = "\r\n".join(["HTTP/1.1 200 OK", *headers, "", ""]).encode()
    answer = Arriving(Socket(head + content))  # type: ignore[arg-type]
    answer.begin()
    return answer


def known(content: bytes, *headers: str) -> Arriving:
    """An answer that says how long it is."""
    return arriving(content, f"Content-Length: {len(content)}", *headers)


WAYS = {
    "known": known(CONTENT),
    "chunked": arriving(chunked(CONTENT), "Transfer-Encoding: chunked"),
    "until it ends": arriving(CONTENT, "Connection: close"),
    "gzip": known(gzip.compress(CONTENT), "Content-Encoding: gzip"),
    "zlib": known(zlib.compress(CONTENT), "Content-Encoding: deflate"),
    "gzip, chunked": arriving(chunked(gzip.compress(CONTENT)), "Transfer-Encoding: chunked", "content-encoding: GZIP"),
    "gzip twice": known(gzip.compress(CONTENT[:9]) + gzip.compress(CONTENT[9:]), "Content-Encoding: gzip"),
    "a byte at a time": arriving(
        chunked(gzip.compress(CONTENT[:5_000]), 1), "Transfer-Encoding: chunked", "Content-Encoding: gzip"
    ),
    "nothing": known(b""),
    "nothing, packed": known(b"", "Content-Encoding: gzip"),
}
COMES = {"a byte at a time": CONTENT[:5_000], "nothing": b"", "nothing, packed": b""}


@pytest.mark.parametrize("way", WAYS)
def test_content(way: str) -> None:
    """However it comes it is what was sent, in pieces that are small, and the connection is good for another answer."""
    answer = WAYS[way]
    pieces = list(answer.pieces(len(CONTENT)))
    assert b"".join(pieces) == COMES.get(way, CONTENT)
    assert max(map(len, pieces), default=0) <= 64 * 1024
    assert answer.isclosed()


PACKED = gzip.compress(CONTENT)


@pytest.mark.parametrize(
    "answer",
    [
        arriving(CONTENT[:-1], f"Content-Length: {len(CONTENT)}"),
        arriving(b"", "Content-Length: 1"),
        arriving(chunked(CONTENT)[:-12], "Transfer-Encoding: chunked"),
        arriving(b"nonsense", "Transfer-Encoding: chunked"),
        known(PACKED[:-1], "Content-Encoding: gzip"),
        known(PACKED[:20], "Content-Encoding: gzip"),
        known(PACKED[:9_000] + b"x" + PACKED[9_001:], "Content-Encoding: gzip"),
        known(PACKED + b"more", "Content-Encoding: gzip"),
        known(CONTENT, "Content-Encoding: gzip"),
    ],
    ids=range(9),
)
def test_what_is_not_whole(answer: Arriving) -> None:
    """What was cut off or changed on its way is never taken for the answer."""
    with pytest.raises(NOT_WHOLE):
        list(answer.pieces(2 * len(CONTENT)))


@pytest.mark.parametrize("headers", [(), ("Content-Encoding: gzip",)])
def test_too_large(headers: tuple[str, ...]) -> None:
    """An answer may hold so much and not a byte more, as it is unpacked."""
    content = PACKED if headers else CONTENT
    assert b"".join(known(content, *headers).pieces(len(CONTENT))) == CONTENT
    with pytest.raises(TooLarge):
        list(known(content, *headers).pieces(len(CONTENT) - 1))


def test_a_bomb_is_not_unpacked() -> None:
    """Of what unpacks to more than there is room for, no more is unpacked than the room and a piece."""
    bomb = known(gzip.compress(bytes(50 * 2**20)), "Content-Encoding: gzip")
    held: list[int] = []
    with pytest.raises(TooLarge):
        held.extend(map(len, bomb.pieces(2**20)))
    assert 0 < sum(held) <= 2**20


def test_answers_that_share_their_room() -> None:
    """Answers have room together; one that finds none takes none, and leaves it to the next."""
    room = Room(len(CONTENT) + 100)
    with pytest.raises(TooLarge):
        known(CONTENT + bytes(101)).whole(room)
    assert known(CONTENT).whole(room) == CONTENT
    with pytest.raises(TooLarge):
        known(bytes(101)).whole(room)
    with pytest.raises(NOT_WHOLE):
        arriving(bytes(100), "Content-Length: 101").whole(room)
    assert known(bytes(100)).whole(room) == bytes(100)


def test_the_beginning() -> None:
    """Of an answer nobody reads to its end no more than a piece beyond what is wanted is read."""
    assert known(b"short").beginning(10) == b"short"
    answer = known(CONTENT)
    assert CONTENT.startswith(answer.beginning(10))
    assert not answer.isclosed()


def test_what_httplib2_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """httplib2 is handed the answer unread, and no header that would make it unpack the content or authorize itself."""
    monkeypatch.delattr(arrival, "zlib")
    answer = known(PACKED, "Content-Encoding: gzip", 'WWW-Authenticate: Bearer realm="x"', "Content-Type: text/plain")
    unread: Any = answer.read()
    assert unread is answer
    assert [name.lower() for name, _ in answer.getheaders()] == ["content-length", "content-type"]
    assert answer.packed
