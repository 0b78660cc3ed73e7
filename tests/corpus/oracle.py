"""What Python's own `email` finds in a message, read with `policy.default`: a second opinion that shares no code.

It knows one plain text and one HTML (`get_body`); whatever else has no parts, and is not an empty text, is an
attachment. Where the text is made of other parts it is told which, and what they say it finds out by itself.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

Found = dict[str, Any]
PEOPLE = ("to", "cc", "bcc", "reply-to")
_UNSEEN = frozenset({"head", "script", "style", "title"})


def parse(raw: bytes) -> EmailMessage:
    """Return the message as Python sees it."""
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def headers(message: EmailMessage) -> Found:
    """Return subject, date, message ids and people as (name, address)."""
    subject, date = message["subject"], message["date"]
    return {
        "subject": "" if subject is None else str(subject),
        "date": _utc(date.datetime) if date else None,
        "from": _people(message.get_all("from", [])[:1]),
        **{name: _people(message.get_all(name, [])) for name in PEOPLE},
        "message-id": str(message["message-id"] or "").strip(),
        "in-reply-to": str(message["in-reply-to"] or "").split(),
        "references": str(message["references"] or "").split(),
    }


def body(message: EmailMessage, leaves_of: Mapping[str, Sequence[int]]) -> Found:
    """Return the text and the HTML, whether the text is made of HTML, and the attachments as (file name, type, digest).

    Args:
        message: as parsed.
        leaves_of: for `text` and `html` the numbers of the leaves that make them, where that is not the one body.
    """
    leaves = list(_leaves(message))
    used = {"text": _bodies(message, "plain") or _bodies(message, "html"), "html": _bodies(message, "html")}
    used |= {name: [leaves[number] for number in numbers] for name, numbers in leaves_of.items()}
    text = [*used["text"], *used["html"]]
    rendered = [leaf.get_content_subtype() == "html" for leaf in used["text"]]
    return {
        "text": "\n".join(map(_content, used["text"])),
        "html": "\n".join(map(_as_html, used["html"])),
        "in words": any(rendered),
        "rendered": any(rendered) and all(rendered),
        "attachments": [_attachment(leaf) for leaf in leaves if not any(leaf is other for other in text)],
    }


def words(source: str) -> str:
    """Return what stands between the tags of HTML, without any space."""
    reader = _Reader()
    reader.feed(source)
    reader.close()
    return "".join("".join(reader.said).split())


def digest(data: bytes | None) -> str:
    """Return what tells bytes from others, and nothing for none."""
    return "" if data is None else sha256(data).hexdigest()


def _utc(date: datetime | None) -> datetime | None:
    if date is None:
        return None
    return (date.replace(tzinfo=UTC) if date.tzinfo is None else date).astimezone(UTC)


def _people(values: Sequence[Any]) -> list[tuple[str, str]]:
    return [(person.display_name, person.addr_spec) for value in values for person in value.addresses]


def _bodies(message: EmailMessage, subtype: str) -> list[EmailMessage]:
    found = message.get_body((subtype,))
    return [] if found is None or found.get_content_type() != f"text/{subtype}" else [found]  # type: ignore[list-item]


def _leaves(part: EmailMessage) -> Iterator[EmailMessage]:
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for inner in part.iter_parts():
            yield from _leaves(inner)  # type: ignore[arg-type]
    elif (
        part.is_multipart() or part.get_payload(decode=True) or part.get_content_maintype() not in {"text", "multipart"}
    ):
        yield part


def _content(leaf: EmailMessage) -> str:
    content = leaf.get_content()
    assert isinstance(content, str)
    return content


def _as_html(leaf: EmailMessage) -> str:
    said = _content(leaf)
    return said if leaf.get_content_subtype() == "html" else f"<pre>{html.escape(said, quote=False)}</pre>"


def _attachment(part: EmailMessage) -> tuple[str, str, str]:
    # A message within the message is told by its name and type: how it is written down again is another matter.
    data = None if part.get_content_maintype() == "message" else part.get_payload(decode=True)
    assert data is None or isinstance(data, bytes)
    return part.get_filename() or "", part.get_content_type(), digest(data)


class _Reader(HTMLParser):
    """Listens for what is said between the tags."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in _UNSEEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _UNSEEN

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.said.append(data)
