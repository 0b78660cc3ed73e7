"""Raw mail, read without ever raising.

It knows the standard library's parser and where that gives up: broken parameters, unknown charsets, bytes that are no
text. It does not know Gmail: `payload` makes Gmail's tree of what is read here, `truth` what a person would read.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from email.policy import Compat32
from typing import TypeVar

T = TypeVar("T")

_ENCODED_WORD = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?]*)\?=")
_SPACE_BETWEEN_WORDS = re.compile(r"(\?=)\s+(?==\?[^?\s]+\?[bBqQ]\?)")
_QUOTED_BYTE = re.compile(rb"=([0-9A-Fa-f]{2})")
_FOLD = re.compile(r"[\r\n]+(?=[ \t])")
_LINE_BREAK = re.compile(r"[\r\n]+")


class _AsSent(Compat32):
    """Reads as the standard library always did, and writes headers as they were, folded nowhere else."""

    def fold_binary(self, name: str, value: str) -> bytes:
        """One header."""
        return f"{name}: {value}{self.linesep}".encode("utf-8", "surrogateescape")


_WITH_CR, _WITHOUT_CR = _AsSent(linesep="\r\n"), _AsSent(linesep="\n")


def parse(raw: bytes) -> Message:
    """The parsed message; what nests too deep to parse is one opaque text."""
    try:
        return message_from_bytes(raw, policy=_WITH_CR if b"\r\n" in raw else _WITHOUT_CR)
    except RecursionError:
        opaque: Message = Message()
        opaque.set_payload(raw.decode("ascii", "surrogateescape"))
        return opaque


def parse_headers(raw: bytes) -> Message:
    """The top headers only: much cheaper than `parse` when the body does not matter."""
    ends = [end for end in (raw.find(b"\n\n"), raw.find(b"\n\r\n")) if end >= 0]
    return message_from_bytes(raw[: min(ends) + 1] if ends else raw)


def decode(data: bytes, charset: str | None) -> str:
    """Bytes as text: in the declared charset, in UTF-8 when there is none or nobody knows it. Never raises."""
    try:
        return data.decode(charset or "utf-8", errors="replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", errors="replace")


def headers(part: Message) -> Iterator[tuple[str, str]]:
    """Names and values in order, values as Gmail shows them."""
    for name, value in part.raw_items():
        yield name, header_text(str(value))


def header(part: Message, name: str) -> str:
    """The first header of that name, or the empty string."""
    wanted = name.lower()
    return next((header_text(str(value)) for key, value in part.raw_items() if key.lower() == wanted), "")


def header_text(value: str) -> str:
    """One header value: unfolded, encoded words decoded, raw bytes read as UTF-8, nothing that is not text."""
    if "\n" in value or "\r" in value:
        value = _LINE_BREAK.sub(" ", _FOLD.sub("", value))
    value = value.strip()
    if not value.isascii():
        value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if "=?" not in value:
        return value
    return _ENCODED_WORD.sub(_decoded_word, _SPACE_BETWEEN_WORDS.sub(r"\1", value))


def filename(part: Message) -> str:
    """The declared file name, or the empty string."""
    name = _tolerant(part.get_filename, None)
    return header_text(name) if isinstance(name, str) else ""


def is_attachment(part: Message) -> bool:
    """Whether a part was meant to be kept apart from the text: it has a file name or says so."""
    return bool(filename(part)) or disposition(part) == "attachment"


def disposition(part: Message) -> str:
    """`inline`, `attachment` or the empty string."""
    return header(part, "Content-Disposition").partition(";")[0].strip().lower()


def charset(part: Message) -> str | None:
    """The declared charset, if any."""
    return _tolerant(part.get_content_charset, None)


def content(part: Message) -> bytes:
    """The bytes of a leaf after its transfer encoding; of a message inside a message, its source."""
    if part.is_multipart():
        inner = part.get_payload()
        blocks = inner if isinstance(inner, list) else []
        return b"\n".join(_tolerant(block.as_bytes, b"") for block in blocks if isinstance(block, Message))
    data = _tolerant(lambda: part.get_payload(decode=True), None)
    return data if isinstance(data, bytes) else b""


def _tolerant(read: Callable[[], T], otherwise: T) -> T:
    """What the standard library reads, or a default: on broken parameters it raises whatever it stumbled over."""
    try:
        return read()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return otherwise


def _decoded_word(match: re.Match[str]) -> str:
    name, encoding, text = match.groups()
    data = text.encode("utf-8", "replace")
    if encoding in "qQ":
        data = _QUOTED_BYTE.sub(lambda byte: bytes([int(byte[1], 16)]), data.replace(b"_", b" "))
    else:
        try:
            data = binascii.a2b_base64(data + b"=" * (-len(data) % 4))
        except binascii.Error:
            return match[0]
    # RFC 2231 allows a language after the charset.
    return decode(data, name.partition("*")[0])
