"""What a person would read in a message, straight from its MIME source.

This is the yardstick a mirror is measured with, so it shares no code with `payload`, the tree the mirror works from.
It knows the rule for the body; it does not know Gmail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

from local.gmail import mime


@dataclass(frozen=True, slots=True)
class Body:
    """The text and the HTML of a message, each empty when it has none."""

    text: str
    html: str


def body_of(message: Message) -> Body:
    """The first text/plain and the first text/html leaf that is no attachment.

    Attached messages are not entered: their text is not this message's text.
    """
    text: str | None = None
    html: str | None = None
    for leaf in _leaves(message):
        kind = leaf.get_content_type()
        if kind == "text/plain" and text is None and not mime.is_attachment(leaf):
            text = mime.decode(mime.content(leaf), mime.charset(leaf))
        elif kind == "text/html" and html is None and not mime.is_attachment(leaf):
            html = mime.decode(mime.content(leaf), mime.charset(leaf))
        if text is not None and html is not None:
            break
    return Body(text or "", html or "")


def _leaves(part: Message) -> Iterator[Message]:
    if part.get_content_maintype() != "multipart":
        yield part
        return
    inner = part.get_payload()
    for child in inner if isinstance(inner, list) else ():
        if isinstance(child, Message):
            yield from _leaves(child)
