"""Gmail's `payload`: the tree of MIME parts as messages.get shows it.

It knows part ids, which bodies come inline and which as an attachment id. It does not know messages, labels or history.

The tree is built once per message and then shared between answers: only the branches that hold an attachment are
copied, because Gmail gives each attachment a new id on every get.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterable
from email.message import Message
from typing import Any

from local.gmail import mime, truth

SNIPPET_LENGTH = 200

_PENDING = "pending"
_SPACES = re.compile(r"\s+")
_INVISIBLE = re.compile(r"<(style|script|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def part_tree(message: Message) -> dict[str, Any]:
    """The tree with attachment ids still pending; see `with_fresh_attachments`."""
    return _part(message, "")


def with_fresh_attachments(part: dict[str, Any], new_id: Callable[[], str]) -> dict[str, Any]:
    """The tree with a new id for each attachment; a tree without attachments is returned as it is."""
    body = part["body"]
    parts = part.get("parts", ())
    fresh = [with_fresh_attachments(child, new_id) for child in parts]
    pending = body.get("attachmentId") == _PENDING
    if not pending and all(new is old for new, old in zip(fresh, parts, strict=True)):
        return part
    copy = dict(part)
    if pending:
        copy["body"] = {**body, "attachmentId": new_id()}
    if fresh:
        copy["parts"] = fresh
    return copy


def top_only(part: dict[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """What format=metadata shows: the top headers, all of them or the wanted ones."""
    names = {name.lower() for name in wanted}
    shown = [header for header in part["headers"] if not names or header["name"].lower() in names]
    return {"mimeType": part["mimeType"], "headers": shown}


def encoded(data: bytes) -> str:
    """Bytes as Gmail sends them."""
    return base64.urlsafe_b64encode(data).decode("ascii")


def snippet(message: Message) -> str:
    """The beginning of the text, HTML-escaped, on one line, never cut within an entity."""
    body = truth.body_of(message)
    text = body.text or html.unescape(_TAG.sub(" ", _INVISIBLE.sub(" ", body.html)))
    escaped = ""
    for char in _SPACES.sub(" ", text[: 10 * SNIPPET_LENGTH]).strip():
        entity = html.escape(char)
        if len(escaped) + len(entity) > SNIPPET_LENGTH:
            break
        escaped += entity
    return escaped


def _part(part: Message, part_id: str) -> dict[str, Any]:
    mime_type = part.get_content_type()
    shown: dict[str, Any] = {
        "partId": part_id,
        "mimeType": mime_type,
        "filename": mime.filename(part),
        "headers": [{"name": name, "value": value} for name, value in mime.headers(part)],
    }
    shown["body"] = _body(part, mime_type, shown["filename"])
    children = _children(part, mime_type)
    if children:
        prefix = f"{part_id}." if part_id else ""
        shown["parts"] = [_part(child, f"{prefix}{number}") for number, child in enumerate(children)]
    return shown


def _children(part: Message, mime_type: str) -> list[Message]:
    """A multipart's parts and an attached message's own top part; a delivery status or the like stays one leaf."""
    inner = part.get_payload()
    if not isinstance(inner, list) or not (part.get_content_maintype() == "multipart" or mime_type == "message/rfc822"):
        return []
    return [child for child in inner if isinstance(child, Message)]


def _body(part: Message, mime_type: str, filename: str) -> dict[str, Any]:
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        return {"size": 0}
    data = mime.content(part)
    if filename or not mime_type.startswith("text/"):
        return {"attachmentId": _PENDING, "size": len(data)}
    return {"size": len(data), "data": encoded(data)} if data else {"size": 0}
