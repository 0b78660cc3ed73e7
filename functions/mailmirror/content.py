"""What a message says: Gmail's payload to headers, the parts that are its text, and its attachments.

Knows: trees of MIME parts, which are text and which files, and how much fits into a document. Does not know: the API
that sent the payload, nor where anything is stored. Law: nothing in a mail makes it raise, work for long, or makes a
document too large; `truncated` names what it leaves out.

Which parts are text: RFC 8621, section 4.1.4, but a text with a file name is an attachment, as Gmail shows it; a blank
alternative to HTML is none; a multipart/related may name its root; an inner alternative need not be complete.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from mailmirror.attachments import Found, Node, Place, content_id, is_named, parameters, protection, that_fit
from mailmirror.charset import decode
from mailmirror.headers import read_headers
from mailmirror.model import Attachment, Headers, Protection

# With headers and attachments leaves room for 10,000 label ids in a document below 1 MiB.
INLINE_BYTES = 200_000
SNIPPET_BYTES = 2_000
# Gmail never comes near; they bound the work.
PARTS = 10_000
DEPTH = 100
# A longer alternative says something.
_BLANK = 1_000
_CHARSET = 100
_TEXTS = frozenset({"text/plain", "text/html", "text"})
_REFERENCE = re.compile(rb"""cid:([^\s"'<>)&]{1,1000})""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf's bytes after transfer decoding, or for users.messages.attachments.get the id behind which Gmail keeps
    them back, good for this answer alone; and their number, as Gmail says.
    """

    data: bytes = b""
    attachment_id: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part that is read as text; `charset`, `flowed` and `del_sp` (RFC 3676) as declared."""

    part: Part
    html: bool = False
    charset: str = ""
    flowed: bool = False
    del_sp: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """An attachment and its bytes."""

    attachment: Attachment
    part: Part


@dataclass(frozen=True, slots=True)
class Content:
    """What a payload says.

    Attributes:
        text: HTML among it has no plain form and is rendered.
        html: what is plain among it has no other form; empty without any HTML.
        files: those that fit into a document.
    """

    headers: Headers = field(default_factory=Headers)
    text: tuple[TextPart, ...] = ()
    html: tuple[TextPart, ...] = ()
    files: tuple[File, ...] = ()
    protection: Protection = "none"
    truncated: tuple[str, ...] = ()


def read_content(payload: object) -> Content:
    """Return what a payload of users.messages.get says, as far as it is as documented; `data` is base64 or bytes."""
    root = Node(payload if isinstance(payload, Mapping) else {})
    headers, truncated = read_headers(root.headers())
    tree = _Tree()
    tree.read([root], Place(), tree.text, tree.html)
    html = tuple(tree.html) if any(part.html for part in tree.html) else ()
    lost = [
        name
        for name, parts in (("body.text", tree.text), ("body.html", html))
        if tree.cut or any(_is_lost(part) for part in parts)
    ]
    fitting, more = that_fit(tree.found, _references(tree.found, html))
    return Content(
        headers=headers,
        text=tuple(tree.text),
        html=html,
        files=tuple(File(attachment, _part(node)) for attachment, node in fitting),
        protection=tree.protection,
        truncated=tuple(dict.fromkeys([*truncated, *lost, *more, *(["attachments"] if tree.cut else [])])),
    )


@dataclass(slots=True)
class _Tree:
    text: list[TextPart] = field(default_factory=list)
    html: list[TextPart] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    protection: Protection = "none"
    parts: int = 0
    cut: bool = False

    def read(self, nodes: list[Node], around: Place, text: list[TextPart] | None, html: list[TextPart] | None) -> None:
        """Sort the parts; `around` is where the first is, `text` and `html` the forms they are part of."""
        before = len(text or ()), len(html or ())
        for number, node in enumerate(nodes):
            self.parts += 1
            if self.parts > PARTS or around.depth > DEPTH:
                self.cut = True
                return
            place = replace(around, number=number, whole=around.whole and number == 0)
            self.protection = max(self.protection, protection(node, place), key=_PROTECTIONS.index)
            inner = [Node(part) for part in node.parts[:PARTS] if isinstance(part, Mapping)]
            if inner and not node.kind.startswith("message/"):
                self.read(inner, _within(node, inner, place), text, html)
            elif _is_text(node, place):
                part = _text_part(node)
                if part.part == Part():
                    continue
                if place.alternatives and place.multipart != "alternative":
                    # Within an alternative, what is beside a form belongs to that alone.
                    text, html = (None, html) if part.html else (text, None)
                if not _add(part, place, text, html):
                    self.found.append(Found(node, place))
            elif not _is_empty(node):
                self.found.append(Found(node, place))
        # An inner alternative need not have all forms.
        outermost = around.multipart == "alternative" and around.alternatives == 1
        if outermost and text is not None and html is not None:
            _complete(text, html, *before)


_PROTECTIONS: tuple[Protection, ...] = ("none", "signed", "encrypted")


def _within(node: Node, parts: list[Node], place: Place) -> Place:
    subtype = node.kind.partition("/")[2]
    start = parameters(node.header("content-type")).get("start", "").strip("<> ") if subtype == "related" else ""
    return Place(
        multipart=subtype,
        root=next((number for number, part in enumerate(parts) if start and content_id(part) == start), 0),
        alternatives=place.alternatives + (subtype == "alternative"),
        encrypted=place.encrypted or subtype == "encrypted",
        whole=place.whole and subtype not in {"alternative", "related"},
        depth=place.depth + 1,
    )


def _add(part: TextPart, place: Place, text: list[TextPart] | None, html: list[TextPart] | None) -> bool:
    added = False
    for form, own in ((text, not part.html), (html, part.html)):
        # In an alternative each form takes its own, elsewhere all.
        if form is not None and (own or place.multipart != "alternative"):
            form.append(part)
            added = True
    return added


def _complete(text: list[TextPart], html: list[TextPart], texts: int, htmls: int) -> None:
    """An alternative with one form is both."""
    if len(html) > htmls and all(_is_blank(part) for part in text[texts:]):
        text[texts:] = html[htmls:]
    elif len(html) == htmls:
        html.extend(text[texts:])


def _is_text(node: Node, place: Place) -> bool:
    """Not what names itself a file, nor what a related root refers to."""
    known = node.kind in _TEXTS or (node.kind == "" and "data" in node.body)
    return known and not is_named(node) and (place.multipart != "related" or place.number == place.root)


def _is_empty(node: Node) -> bool:
    """The shell of a multipart without parts, or no part."""
    shell = node.kind == "" or node.kind.startswith("multipart/")
    return shell and not (node.size or node.body.get("data") or node.filename)


def _text_part(node: Node) -> TextPart:
    said = parameters(node.header("content-type"))
    return TextPart(
        _part(node),
        html=node.kind == "text/html",
        # RFC 2231 allows a language before.
        charset=said.get("charset", "")[:_CHARSET].rpartition("'")[2],
        flowed=said.get("format", "").lower() == "flowed",
        del_sp=said.get("delsp", "").lower() == "yes",
    )


def _part(node: Node) -> Part:
    data = node.data()
    return Part(data, "" if data else node.attachment_id, node.size)


def _is_lost(text: TextPart) -> bool:
    return not text.part.data and not text.part.attachment_id and text.part.size > 0


def _is_blank(text: TextPart) -> bool:
    part = text.part
    if part.attachment_id or _is_lost(text) or len(part.data) > _BLANK:
        return False
    # A space that does not break is blank, too.
    return not decode(part.data, text.charset).strip()


def _references(found: list[Found], html: tuple[TextPart, ...]) -> set[str] | None:
    """The Content-IDs in the HTML, if a part has one; None if some of it is not in hand."""
    if any(text.html and not text.part.data for text in html):
        return None
    if not any(content_id(each.node) for each in found):
        return set()
    names = (match[1] for text in html if text.html for match in _REFERENCE.finditer(text.part.data))
    return {unquote(name.decode("utf-8", "replace")) for name in names}
