"""Batches: many calls in one request, as google-api-python-client writes and reads them.

It knows multipart/mixed with one application/http in each part, and the limit of 100. It does not know what the calls
do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from local.gmail.errors import ApiError

LIMIT = 100
BOUNDARY = "batch_mailmirror"


@dataclass(frozen=True, slots=True)
class InnerRequest:
    """One call of a batch, not yet understood."""

    content_id: str
    verb: str
    path: str
    query: str
    authorization: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class InnerAnswer:
    """Its answer; the batch itself is a success whatever this says."""

    content_id: str
    status: int
    body: dict[str, Any] | None


def parse_batch(content_type: str, body: bytes) -> list[InnerRequest]:
    """The calls of a batch in order; a batch that cannot be read or is too long is refused as a whole."""
    outer = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body)
    parts = outer.get_payload() if outer.get_content_maintype() == "multipart" else None
    if not isinstance(parts, list) or not parts:
        raise _refused("Failed to parse batch request, error: 0 items. Received batch body: (0) bytes redacted")
    if len(parts) > LIMIT:
        raise _refused(f"Inner request count exceeds the limit. Received: {len(parts)}, Limit: {LIMIT}")
    return [_parse_part(part) for part in parts if isinstance(part, Message)]


def write_batch(answers: Iterable[InnerAnswer]) -> bytes:
    """The body of the batch's answer, to be sent as multipart/mixed with `BOUNDARY`."""
    lines: list[str] = []
    for answer in answers:
        content = "" if answer.body is None else json.dumps(answer.body)
        lines += [
            f"--{BOUNDARY}",
            "Content-Type: application/http",
            f"Content-ID: {_response_id(answer.content_id)}",
            "",
            f"HTTP/1.1 {answer.status} {_phrase(answer.status)}",
            "Content-Type: application/json; charset=UTF-8",
            # json.dumps writes ASCII only: characters are bytes.
            f"Content-Length: {len(content)}",
            "",
            content,
        ]
    lines += [f"--{BOUNDARY}--", ""]
    return "\r\n".join(lines).encode("ascii")


def _parse_part(part: Message) -> InnerRequest:
    source = part.get_payload(decode=True)
    head, _, rest = (source if isinstance(source, bytes) else b"").lstrip().partition(b"\n")
    words = head.decode("latin-1").split()
    if len(words) < 2:
        raise _refused("Failed to parse batch request, error: missing request line.")
    inner = message_from_bytes(rest)
    body = inner.get_payload(decode=True)
    target = urlsplit(words[1])
    return InnerRequest(
        content_id=str(part.get("Content-ID", "")),
        verb=words[0],
        path=target.path,
        query=target.query,
        authorization=inner.get("Authorization"),
        body=body.strip() if isinstance(body, bytes) else b"",
    )


def _response_id(content_id: str) -> str:
    return f"<response-{content_id.removeprefix('<').removesuffix('>')}>"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _refused(message: str) -> ApiError:
    return ApiError(400, "badRequest", message)
