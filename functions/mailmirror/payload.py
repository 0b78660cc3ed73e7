"""One part of Gmail's `payload`, read without trusting it.

Knows: a MessagePart's fields as in the discovery document, and the parameters of MIME headers. Does not know: what a
part is to its message. Promises: a value of the wrong type is as good as absent.
"""

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mailmirror.charset import unfold

# No header that matters is near as long.
_HEADER = 20_000
_MAX_SIZE = 2**53
_NOT_BASE64 = bytes(
    byte for byte in range(256) if byte not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
)
_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
_PARAMETER = re.compile(r""";\s*([\w-]+)(?:\*0?\*?)?\s*=\s*(?:"([^"]*+)"?|'?([^\s;"]+))""")


@dataclass(frozen=True, slots=True)
class Node:
    """A part, or what should be one; `fields` are as Gmail sent them."""

    fields: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The MIME type in lower case."""
        return text(self.fields.get("mimeType")).strip().lower()

    @property
    def part_id(self) -> str:
        """Which part of its message."""
        return text(self.fields.get("partId"))

    @property
    def filename(self) -> str:
        """As its sender declared."""
        return text(self.fields.get("filename"))

    @property
    def body(self) -> Mapping[str, Any]:
        """A MessagePartBody."""
        body = self.fields.get("body")
        return body if isinstance(body, Mapping) else {}

    @property
    def attachment_id(self) -> str:
        """Where its bytes are kept back, or empty."""
        return text(self.body.get("attachmentId"))

    @property
    def size(self) -> int:
        """Bytes, as Gmail says."""
        size = self.body.get("size")
        return int(size) if isinstance(size, int) and 0 <= size < _MAX_SIZE else 0

    @property
    def parts(self) -> list[Any]:
        """Its own, or those of the message that it is."""
        parts = self.fields.get("parts")
        return parts if isinstance(parts, list) else []

    def data(self) -> bytes:
        """Return the bytes that came with it."""
        data = self.body.get("data")
        return data if isinstance(data, bytes) else from_base64(text(data))

    def headers(self) -> Iterator[tuple[str, str]]:
        """Yield names, in lower case, and whole values."""
        listed = self.fields.get("headers")
        for header in listed if isinstance(listed, list) else ():
            if isinstance(header, Mapping):
                name, value = text(header.get("name")), text(header.get("value"))
                if name and value:
                    yield name.strip().lower(), value

    def header(self, name: str) -> str:
        """Return the first of a name on one line, or empty."""
        return next((unfold(value[:_HEADER]) for key, value in self.headers() if key == name), "")


def parameters(header: str) -> dict[str, str]:
    """Return a MIME header's parameters, names in lower case; the first of a name counts."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(header):
        found.setdefault(match[1].lower(), (match[2] or match[3] or "").strip().strip("'"))
    return found


def text(value: object) -> str:
    """Return a string, empty for anything else."""
    return value if isinstance(value, str) else ""


def base64_digits(data: bytes) -> bytes:
    """Return what is of either alphabet, in the standard one."""
    return data.translate(_STANDARD_ALPHABET, _NOT_BASE64)


def from_base64(data: str) -> bytes:
    """Return the bytes of either base64, padded or not; of broken base64 what can be read."""
    digits = base64_digits(data.encode("ascii", "ignore"))
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
