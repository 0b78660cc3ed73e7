"""What Gmail answers, as it arrives: unpacked piece by piece, and no more of it than there is room for.

Knows: http.client's answers, gzip, and how much an answer may hold. Does not know: what is answered, or who asked.

httplib2 would hold an answer as a whole, twice in chunks, and unpack it beside that. So it is handed one that it does
not read, without headers it would act upon.
"""

import http.client
import zlib
from collections.abc import Iterator
from io import BytesIO
from threading import Lock
from typing import Any

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

        Raises:
            TooLarge: more than `most` bytes.
            HTTPException, OSError, zlib.error: not all of it came, or not as sent.
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
