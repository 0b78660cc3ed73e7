"""Gmail's `payload`: the tree of MIME parts as messages.get shows it.

It knows part ids, which bodies come inline and which as an attachment id. It does not know messages, labels or history.

A text comes inline, and so does every part of a multipart; what has a file name or is no text is an attachment id. A
message within a message is both: its parts are below it, and its source is behind an attachment id.

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

# Parts below this depth are not shown: JSON is not read from much further down.
DEEPEST = 100

_PENDING = "pending"
_SPACES = re.compile(r"\s+")
_INVISIBLE = re.compile(r"<(style|script|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def part_tree(message: Message) -> dict[str, Any]:
    """The tree with attachment ids still pending; see `with_fresh_attachments`."""
    return _part(message, "", 0)


def bytes_of(message: Message, part_id: str) -> bytes:
    """The bytes of the part that the tree shows under this id."""
    part = message
    for number in filter(None, part_id.split(".")):
        part = _children(part)[int(number)]
    return mime.content(part)


def with_fresh_attachments(
    part: dict[str, Any], new_id: Callable[[str], str], inline_bytes: int | None = None
) -> dict[str, Any]:
    """The tree with a new id for each attachment; a tree without attachments is returned as it is.

    Args:
        part: the tree.
        new_id: makes an id for the attachment that is this part.
        inline_bytes: what is inline and larger becomes an attachment, too; None: nothing does.
    """
    body = part["body"]
    parts = part.get("parts", ())
    fresh = [with_fresh_attachments(child, new_id, inline_bytes) for child in parts]
    kept_back = "data" in body and inline_bytes is not None and body["size"] > inline_bytes
    pending = kept_back or body.get("attachmentId") == _PENDING
    if not pending and all(new is old for new, old in zip(fresh, parts, strict=True)):
        return part
    copy = dict(part)
    if pending:
        copy["body"] = {"attachmentId": new_id(part["partId"]), "size": body["size"]}
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


def _part(part: Message, part_id: str, depth: int) -> dict[str, Any]:
    mime_type = part.get_content_type()
    shown: dict[str, Any] = {
        "partId": part_id,
        "mimeType": mime_type,
        "filename": mime.filename(part),
        "headers": [{"name": name, "value": value} for name, value in mime.headers(part)],
    }
    shown["body"] = _body(part, mime_type, shown["filename"])
    children = _children(part)
    if children and depth < DEEPEST:
        prefix = f"{part_id}." if part_id else ""
        shown["parts"] = [_part(child, f"{prefix}{number}", depth + 1) for number, child in enumerate(children)]
    return shown


def _children(part: Message) -> list[Message]:
    """A multipart's parts and an attached message's own top part; a delivery status or the like stays one leaf."""
    inner = part.get_payload()
    has_parts = part.get_content_maintype() == "multipart" or part.get_content_type() == "message/rfc822"
    return [child for child in inner if isinstance(child, Message)] if has_parts and isinstance(inner, list) else []


def _body(part: Message, mime_type: str, filename: str) -> dict[str, Any]:
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        return {"size": 0}
    data = mime.content(part)
    if filename or not mime_type.startswith("text/"):
        return {"attachmentId": _PENDING, "size": len(data)}
    return {"size": len(data), "data": encoded(data)} if data else {"size": 0}
