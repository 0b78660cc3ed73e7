"""What Gmail answers, as it arrives: unpacked piece by piece, no more of it than there is room for, and read as JSON.

Knows: http.client's answers, gzip, how much an answer may hold, JSON in pieces; base64 in either alphabet, padded or
not, of a broken one what can be read. Does not know: what is answered, or who asked.

httplib2 would hold an answer as a whole, twice in chunks, and unpack it beside that. So it is handed one that it does
not read, without headers it would act upon.

Bytes come in base64, as strings named `data`, of which one may be as long as a large mail. It is decoded while it
arrives: `json`, which reads the small rest, would hold the answer, its text and the string at the same time.

What looks like the name after a brace, comma or space is the name: a quotation mark within a string has a backslash
before it, and no letter follows the one that ends it.
"""

import binascii
import http.client
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from threading import Lock
from typing import Any

from mailmirror.attachments import base64_digits

# Unpacked: Gmail stores messages of 150 MiB, 200 in base64, and headers. More is a bomb.
LARGEST_ANSWER = 210 * 2**20
# A larger thread's messages are asked for and held one by one.
LARGEST_THREAD = 64 * 2**20
# Of batches, held together; the ids of one without room are asked for one by one.
LARGEST_WAVE = 24 * 2**20
# Of a refusal nobody reads more.
LARGEST_REFUSAL = 2**20
PIECE_BYTES = 64 * 1024

# gzip or zlib, as the first bytes say.
_PACKED = zlib.MAX_WBITS | 32

_NAME = re.compile(rb'(?<=[{,\s])"data"\s{0,8}:\s{0,8}"')
# More than the name: where a piece ends, it may not be whole.
_NAME_BYTES = 32
# In its place: no JSON, so nobody else writes it, but Python's reader reports it.
_PLACE = b"NaN"

_ESCAPE = re.compile(rb'\\(u[0-9a-fA-F]{4}|["\\/bfnrt])')
_WITH_ESCAPES = re.compile(rb'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt])*+')
# `\u` and four digits.
_LONGEST_ESCAPE = 6


class TooLarge(Exception):
    """An answer has no room; its connection cannot be used any more."""


class Room:
    """How much may still be held of the answers of several threads."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = Lock()

    def take(self, size: int) -> None:
        """Hold so many bytes more, or raise `TooLarge` and take nothing."""
        with self._lock:
            if size > self._left:
                raise TooLarge("Gmail's answer is larger than there is room for.")
            self._left -= size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


class Arriving(http.client.HTTPResponse):
    """An answer whose content is still to come."""

    packed = False

    def begin(self) -> None:
        """Keep from httplib2 how to unpack the content and how to authorize better."""
        super().begin()
        self.packed = self.headers.get("content-encoding", "").strip().lower() in {"gzip", "deflate", "zlib"}
        for name in ("content-encoding", "www-authenticate"):
            del self.headers[name]

    def read(self, amt: int | None = None) -> Any:
        """All is asked for by httplib2, which passes the answer itself on."""
        return self if amt is None else super().read(amt)

    def pieces(self, most: int) -> Iterator[bytes]:
        """Yield the unpacked content.

        Raises `TooLarge`: more than `most` bytes; `HTTPException`, `OSError`, `zlib.error`: not all came as sent.
        """
        for piece in self._unpacked() if self.packed else self._raw():
            most -= len(piece)
            if most < 0:
                raise TooLarge("Gmail's answer is larger than any should be.")
            yield piece

    def whole(self, room: Room) -> bytes:
        """Return the unpacked content. Raises as `pieces`, and without room, which is then given back."""
        held, content = 0, BytesIO()
        try:
            for piece in self.pieces(LARGEST_ANSWER):
                room.take(len(piece))
                held += len(piece)
                content.write(piece)
        except BaseException:
            room.give_back(held)
            raise
        return content.getvalue()

    def beginning(self, most: int) -> bytes:
        """Return the unpacked content, or `most` bytes and some more."""
        content = b""
        for piece in self.pieces(LARGEST_ANSWER):
            content += piece
            if len(content) > most:
                break
        return content

    def _raw(self) -> Iterator[bytes]:
        while piece := self.read(PIECE_BYTES):
            yield piece
        if self.length:
            raise http.client.IncompleteRead(b"", self.length)

    def _unpacked(self) -> Iterator[bytes]:
        unpacker, begun = zlib.decompressobj(_PACKED), False
        for piece in self._raw():
            packed = piece
            while packed:
                yield unpacker.decompress(packed, PIECE_BYTES)
                packed, begun = unpacker.unconsumed_tail, True
                if unpacker.eof:
                    packed = unpacker.unused_data
                    unpacker, begun = zlib.decompressobj(_PACKED), False
        yield unpacker.flush()
        if begun and not unpacker.eof:
            raise http.client.IncompleteRead(b"")


class Base64:
    """Bytes, decoded piece by piece."""

    def __init__(self) -> None:
        # This alone gives its bytes away without a copy.
        self._bytes = BytesIO()
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Decode what is of the alphabet."""
        digits = self._rest + base64_digits(piece)
        whole = len(digits) - len(digits) % 4
        self._bytes.write(binascii.a2b_base64(memoryview(digits)[:whole]))
        self._rest = digits[whole:]

    def close(self) -> bytes:
        """Return the bytes; a digit left over alone says nothing."""
        if len(self._rest) > 1:
            self._bytes.write(binascii.a2b_base64(self._rest.ljust(4, b"=")))
        return self._bytes.getvalue()


class JsonReader:
    """One JSON value that arrives in pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._found: list[bytes] = []
        # Undecided, and the string under way.
        self._tail = b""
        self._string: Base64 | None = None

    def feed(self, piece: bytes) -> None:
        """Take in a piece. Raises `ValueError`: no JSON."""
        piece, at = self._tail + piece, 0
        self._tail = b""
        while at < len(piece):
            at = self._outside(piece, at) if self._string is None else self._inside(piece, at, self._string)

    def close(self) -> Any:
        """Return the value. Raises `ValueError`, `RecursionError`: no JSON, not all of it, or nested too deep."""
        if self._string is not None:
            raise ValueError("A string does not end.")
        self._rest += self._tail
        found = iter(self._found)
        value = json.loads(self._rest.decode(), parse_constant=lambda constant: _next(found, constant))
        if next(found, None) is not None:
            raise ValueError("A string is where no value may be.")
        return value

    def _outside(self, piece: bytes, at: int) -> int:
        """Return how far the piece is done."""
        name = _NAME.search(piece, at)
        if name is None:
            end = max(at, len(piece) - _NAME_BYTES)
            self._rest += memoryview(piece)[at:end]
            self._tail = piece[end:]
            return len(piece)
        self._rest += memoryview(piece)[at : name.end() - 1]
        self._rest += _PLACE
        self._string = Base64()
        return name.end()

    def _inside(self, piece: bytes, at: int, string: Base64) -> int:
        end = piece.find(b'"', at)
        end = len(piece) if end < 0 else end
        if piece.find(b"\\", at, end) < 0:
            string.feed(piece[at:end])
        else:
            match = _WITH_ESCAPES.match(piece, at)
            end = match.end() if match else at
            string.feed(_ESCAPE.sub(_meant, piece[at:end]))
        if end == len(piece):
            return end
        if piece[end : end + 1] == b"\\":
            if len(piece) - end >= _LONGEST_ESCAPE:
                raise ValueError("There is no such escape.")
            self._tail = piece[end:]
            return len(piece)
        self._found.append(string.close())
        self._string = None
        return end + 1


def read_json(pieces: Iterable[bytes]) -> Any:
    """Return the value that arrives, None if no JSON."""
    reader = JsonReader()
    try:
        for piece in pieces:
            reader.feed(piece)
        return reader.close()
    except (ValueError, RecursionError):
        return None


def _next(found: Iterator[bytes], constant: str) -> bytes:
    data = next(found, None)
    if constant != _PLACE.decode() or data is None:
        raise ValueError(f"{constant} is no JSON.")
    return data


def _meant(escape: re.Match[bytes]) -> bytes:
    """Of escapes base64 has the slash, and ASCII by number."""
    if escape[1][:1] == b"u":
        number = int(escape[1][1:], 16)
        return bytes([number]) if number < 0x80 else b""
    return b"/" if escape[1] == b"/" else b""
