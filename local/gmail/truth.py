"""What a person would read in a message, straight from its MIME source.

This is the yardstick a mirror is measured with, so it shares no code with `payload`, the tree the mirror works from,
nor with anything that mirrors. It knows which parts make the text, which the HTML, and which are attachments: what RFC
8621 says in section 4.1.4, but that a text with a file name is an attachment, and that a blank text beside HTML is no
form of it. It does not know Gmail.

How far it goes: it vouches for plain text and for HTML as they were sent, to the last character. Of text that was sent
as HTML alone, and of HTML parts that were sent as text alone, it knows the words that a reader sees, in their order:
how a program makes the one of the other is the program's own affair. It names the sender where the header is what RFC
5322 asks for; what a person would make of one that is not, it does not say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from email import policy
from email.message import Message
from email.utils import getaddresses
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from local.gmail import mime

TEXTS = frozenset({"text/plain", "text/html"})
_MEDIA = frozenset({"image", "audio", "video"})
_UNSEEN = frozenset({"head", "script", "style", "title"})
_SIGNATURES = frozenset({"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"})
# Of tags, those that do not part words.
_WITHIN_WORDS = frozenset({"a", "abbr", "b", "big", "code", "em", "font", "i", "s", "small", "span", "strong", "u"})
_FOLD = re.compile(r"[\r\n]+(?=[ \t])")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part and where it is: `0.1` is the second one of the first, and a message that has none is the part ``.

    Attributes:
        within: the subtype of the multipart it is in, empty for the message itself.
        alternative: whether it is in one of several forms of the same.
    """

    part_id: str
    part: Message
    within: str = ""
    alternative: bool = False

    @property
    def kind(self) -> str:
        """Its type, `text/plain` for instance."""
        return self.part.get_content_type()

    @property
    def media(self) -> bool:
        """Whether it is seen or heard, but not read."""
        return self.part.get_content_maintype() in _MEDIA

    @property
    def text(self) -> str:
        """What it says, if it is text."""
        return mime.decode(mime.content(self.part), mime.charset(self.part))

    @property
    def content_id(self) -> str:
        """What HTML calls it, without its brackets."""
        return mime.header(self.part, "Content-ID").strip("<> ")


@dataclass(frozen=True, slots=True)
class Leaves:
    """The leaves of a message by what they are for, each in their order."""

    text: tuple[Leaf, ...]
    html: tuple[Leaf, ...]
    attachments: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """The text and the HTML of a message, each empty when it has none.

    Attributes:
        rendered: whether there was HTML alone.
        in_words: those of both whose words alone are vouched for.
    """

    text: str
    html: str
    rendered: bool = False
    in_words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """What is told of an attachment, in the API's own words; `file` is whether a reader would call it one."""

    partId: str
    filename: str
    mimeType: str
    size: int
    file: bool


def of(message: Message) -> dict[str, Any]:
    """What a perfect mirror knows of what a message says; its sender is None where nobody vouches for it."""
    body = body_of(message)
    return {
        "subject": mime.header(message, "Subject"),
        "from": sender_of(message),
        "body": {"text": body.text, "html": body.html},
        "rendered": body.rendered,
        "inWords": list(body.in_words),
        "attachments": [asdict(attachment) for attachment in attachments_of(message)],
    }


def body_of(message: Message) -> Body:
    """The parts that make the text, and those that make the HTML, each joined by line breaks."""
    leaves = leaves_of(message)
    plain, html = leaves.text, leaves.html
    if all(leaf.kind == "text/plain" for leaf in html):
        html = ()
    rendered = [leaf.kind == "text/html" for leaf in plain]
    quoted = [leaf.kind == "text/plain" for leaf in html]
    text = "\n".join(seen(leaf.text) if leaf.kind == "text/html" else leaf.text for leaf in plain)
    source = "\n".join(seen(leaf.text) if any(quoted) and leaf.kind == "text/html" else leaf.text for leaf in html)
    in_words = (*(["text"] if any(rendered) else []), *(["html"] if any(quoted) else []))
    return Body(text, source, rendered=any(rendered) and all(rendered), in_words=in_words)


def attachments_of(message: Message) -> list[Attachment]:
    """What is no text of the message, in its order; of a message within it, the message."""
    leaves = leaves_of(message)
    html = "\n".join(leaf.text for leaf in leaves.html)
    return [
        Attachment(
            leaf.part_id, mime.filename(leaf.part), leaf.kind, len(mime.content(leaf.part)), file=_is_file(leaf, html)
        )
        for leaf in leaves.attachments
    ]


def _is_file(leaf: Leaf, html: str) -> bool:
    """Whether an attachment is one to its reader: no picture in the text, no invitation, no seal."""
    disposition, named = mime.disposition(leaf.part), mime.is_attachment(leaf.part)
    if leaf.kind in _SIGNATURES or leaf.within in {"signed", "encrypted"}:
        return False
    if leaf.kind == "text/calendar" and (leaf.alternative or not named):
        return False
    if leaf.kind.startswith("text/") and leaf.alternative and not named:
        return False
    if leaf.media and leaf.within == "related" and disposition != "attachment" and leaf.part["Content-Location"]:
        return False
    return not (leaf.media and leaf.content_id and f"cid:{leaf.content_id}".lower() in unquote(html).lower())


def sender_of(message: Message) -> dict[str, str] | None:
    """The name and the address of the one author, None where the header is not as it should be."""
    values = [_FOLD.sub("", str(value)) for value in message.get_all("From", [])]
    if len(values) != 1 or not values[0].isascii():
        return None
    try:
        header: Any = policy.default.header_factory("From", values[0])
        ((name, address),) = getaddresses(values)
        (author,) = header.addresses
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if header.defects or author.addr_spec != address:
        return None
    return {"name": mime.header_text(name), "address": address.lower()}


def seen(html: str) -> str:
    """What a reader sees of HTML, roughly: its text."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return " ".join("".join(reader.said).split())


def leaves_of(message: Message) -> Leaves:
    """Sort the leaves of a message."""
    forms = _Forms([], [], [])
    _sort([Leaf("", message)], forms)
    return Leaves(tuple(forms.text or ()), tuple(forms.html or ()), tuple(forms.attachments))


@dataclass(frozen=True, slots=True)
class _Forms:
    """Where a part may belong; None is a form that comes from another part."""

    text: list[Leaf] | None
    html: list[Leaf] | None
    attachments: list[Leaf]

    def choose(self, leaf: Leaf) -> None:
        """Add one of several forms."""
        form = self.text if leaf.kind == "text/plain" else self.html
        (self.attachments if form is None else form).append(leaf)

    def add(self, leaf: Leaf) -> None:
        """Add what stands in every form."""
        for form in (self.text, self.html):
            if form is not None:
                form.append(leaf)

    def besides(self, leaf: Leaf) -> _Forms:
        """Return what is left once one of several forms turns out to be made of parts, this among them."""
        text = None if leaf.kind == "text/html" else self.text
        return _Forms(text, None if leaf.kind == "text/plain" else self.html, self.attachments)


def _sort(parts: Sequence[Leaf], forms: _Forms) -> None:
    """Sort the parts of a multipart, as the RFC's own algorithm does."""
    texts, htmls = len(forms.text or ()), len(forms.html or ())
    for number, leaf in enumerate(parts):
        if leaf.part.get_content_maintype() == "multipart" and (
            leaf.part.is_multipart() or not mime.content(leaf.part)
        ):
            _sort(_children(leaf), forms)
        elif leaf.kind not in TEXTS or mime.is_attachment(leaf.part) or (leaf.within == "related" and number):
            forms.attachments.append(leaf)
        elif leaf.within == "alternative":
            forms.choose(leaf)
        else:
            forms = forms.besides(leaf) if leaf.alternative else forms
            forms.add(leaf)
    if parts and parts[0].within == "alternative" and forms.text is not None and forms.html is not None:
        # Where there is one form alone, it is the other, too.
        if len(forms.html) == htmls:
            forms.html.extend(forms.text[texts:])
        elif not any(leaf.text.strip() for leaf in forms.text[texts:]):
            forms.text[texts:] = forms.html[htmls:]


def _children(leaf: Leaf) -> list[Leaf]:
    inner, subtype = leaf.part.get_payload(), leaf.part.get_content_subtype()
    prefix = f"{leaf.part_id}." if leaf.part_id else ""
    parts = [part for part in inner if isinstance(part, Message)] if isinstance(inner, list) else []
    alternative = leaf.alternative or subtype == "alternative"
    return [Leaf(f"{prefix}{number}", part, subtype, alternative) for number, part in enumerate(parts)]


class _Reader(HTMLParser):
    """Listens for what is said between the tags."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in _UNSEEN
        self.said.append("" if tag in _WITHIN_WORDS else " ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in _UNSEEN))
        self.said.append("" if tag in _WITHIN_WORDS else " ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.said.append(data)
