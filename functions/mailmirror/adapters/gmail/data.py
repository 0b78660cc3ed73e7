"""Bytes within JSON: Gmail sends them in base64, as strings named `data`, of which one may be as long as a large mail.

Knows: JSON in pieces; base64 in either alphabet, padded or not, of a broken one what can be read. Does not know: what
is answered, or how it came.

Such a string is decoded while it arrives: `json`, which reads the small rest, would hold the answer, its text and the
string at the same time.

What looks like the name after a brace, comma or space is the name: a quotation mark within a string has a backslash
before it, and no letter follows the one that ends it.
"""

import binascii
import json
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

from mailmirror.payload import base64_digits

_NAME = re.compile(rb'(?<=[{,\s])"data"\s{0,8}:\s{0,8}"')
# More than the name: where a piece ends, it may not be whole.
_NAME_BYTES = 32
# In its place: no JSON, so nobody else writes it, but Python's reader reports it.
_PLACE = b"NaN"

_ESCAPE = re.compile(rb'\\(u[0-9a-fA-F]{4}|["\\/bfnrt])')
_WITH_ESCAPES = re.compile(rb'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt])*+')
# `\u` and four digits.
_LONGEST_ESCAPE = 6


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
