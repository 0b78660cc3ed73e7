"""The parts that are text to the text and the HTML of a message, piece by piece.

Knows: how parts are joined, what becomes of one in the other form, and format=flowed (RFC 3676), of which only the
breaks and spaces go that it added. Does not know: where text is kept, nor how bytes that Gmail keeps back are fetched:
who has them replaces the part (`replace(text_part, part=Part(data=...))`).
Promises: of a part, however large, a piece is in memory as text, but for HTML that is rendered, for search and
previews: lxml reads any, inscriptis lays out a tree. Up to the limit no text that a reader sees is lost; no HTML takes
long or much memory: the layout gets no attributes, tables or deep nesting, whose sizes a sender can choose.
"""

import re
from collections.abc import Iterable, Iterator
from html import escape, unescape
from itertools import islice
from xml.etree.ElementTree import Element, TreeBuilder

from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.html_engine import Inscriptis
from inscriptis.model.config import ParserConfig
from lxml.etree import LxmlError
from lxml.html import HTMLParser

from mailmirror.charset import PIECE, clean, pieces
from mailmirror.content import Content, TextPart

# Where HTML says its charset, as for browsers.
_BEGINNING = 1_024
_META = re.compile(rb"""<meta\b[^>]*?\bcharset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE | re.ASCII)
# Of format=flowed: a longer line is cut; what tells how a line ends; what comes before a signature.
_LINE = 65_536
_END = len(" \r")
_SIGNATURE = "-- "

# Far more than anybody reads.
_PIECES = 16
RENDERED_BYTES = _PIECES * PIECE
# Deeper than any mail nests for its layout.
_DEPTH = 50
_LISTS = 4

_HIDDEN = frozenset({"head", "script", "style", "template", "title"})
_LIST = frozenset({"ol", "ul"})
_CELLS = frozenset({"td", "th"})
# What begins and ends a line, as which element it is laid out.
_BLOCKS = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6", "p"), "p"),
    **{name: name for name in ("li", "ol", "pre", "ul")},
    **dict.fromkeys(("listing", "plaintext", "xmp"), "pre"),
    **dict.fromkeys(
        (
            *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dir", "div"),
            *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "legend", "main"),
            *("menu", "nav", "section", "summary", "table", "tr"),
        ),
        "div",
    ),
}
_NOT_DISPLAYED = re.compile(r"(?:^|;)\s*display\s*:\s*none", re.IGNORECASE)
_STYLE = 10_000

_TAG = re.compile(r"</?[a-zA-Z!?][^<>]*+>")


def plain(content: Content) -> Iterator[str]:
    """Yield the plain text; HTML without it is rendered."""
    for number, part in enumerate(content.text):
        if number:
            yield "\n"
        if part.html:
            yield render(part.part.data, _charset(part))
        else:
            yield from _pieces(part)


def html(content: Content) -> Iterator[str]:
    """Yield the HTML, if any; text without it is shown as it is."""
    for number, part in enumerate(content.html):
        if number:
            yield "\n"
        if part.html:
            yield from pieces(part.part.data, _charset(part))
        else:
            yield "<pre>"
            yield from (escape(piece, quote=False) for piece in _pieces(part))
            yield "</pre>"


def rendered(content: Content) -> bool:
    """Return whether the plain text is made of HTML alone."""
    return bool(content.text) and all(part.html for part in content.text)


def truncated(content: Content) -> tuple[str, ...]:
    """Return the fields that do not hold all: of long HTML only the beginning is rendered."""
    long = any(part.html and len(part.part.data) > RENDERED_BYTES for part in content.text)
    return ("body.text",) if long else ()


def _charset(part: TextPart) -> str:
    said = None if part.charset else _META.search(part.part.data[:_BEGINNING])
    return part.charset if said is None else said[1].decode()


def _pieces(part: TextPart) -> Iterator[str]:
    text = pieces(part.part.data, part.charset)
    return unflow(text, del_sp=part.del_sp) if part.flowed else text


def unflow(pieces: Iterable[str], *, del_sp: bool) -> Iterator[str]:
    """Yield a text in format=flowed as its author wrote it: a paragraph is a line; pieces are cut anywhere."""
    gathered: list[str] = []
    size = 0
    for text in _joined(pieces, del_sp=del_sp):
        gathered.append(text)
        size += len(text)
        if size > _LINE:
            yield "".join(gathered)
            gathered, size = [], 0
    yield "".join(gathered)


def _joined(pieces: Iterable[str], *, del_sp: bool) -> Iterator[str]:
    held, quoted, whole = "", 0, True
    for line in _lines(pieces):
        text = line.removesuffix("\n")
        text = text.removesuffix("\r") if len(text) < len(line) else text
        end = line[len(text) :]
        if whole:
            unquoted = text.lstrip(">")
            quotes = len(text) - len(unquoted)
            text = unquoted.removeprefix(" ")
            if not (held and quotes == quoted and text != _SIGNATURE):
                yield held
                yield ">" * quotes + " " if quotes and text else ">" * quotes
            held, quoted = "", quotes
        goes_on = bool(end) and text.endswith(" ") and not (whole and text == _SIGNATURE)
        if goes_on:
            cut = len(text) - del_sp
            held, text = text[cut:] + end, text[:cut]
            yield text
        else:
            yield text
            yield end
        whole = bool(end)
    yield held


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """With their ends; a very long one in parts, only the last with an end."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from (line + "\n" for line in lines)
        if len(rest) > _LINE:
            # Its last characters together tell how the line ends.
            yield rest[:-_END]
            rest = rest[-_END:]
    if rest:
        yield rest


def render(data: bytes, charset: str) -> str:
    """Return the text that a reader sees in HTML, of which only `RENDERED_BYTES` are read."""
    source = "".join(islice(pieces(data, charset), _PIECES)).replace("\0", " ")
    try:
        return clean(_lay_out(_read(source)))
    except (LxmlError, RecursionError, ValueError, LookupError, TypeError, AttributeError):
        return clean(_strip(source))


def _read(source: str) -> Element:
    outline = _Outline()
    parser = HTMLParser(target=outline, huge_tree=True, encoding="utf-8")
    parser.feed(source.encode())
    tree: Element = parser.close()
    return tree


def _lay_out(tree: Element) -> str:
    css = CSS_PROFILES["strict"].copy()
    for name in _LIST:
        css[name] = css[name].__copy__()
        css[name].padding_inline = 2
    text: str = Inscriptis(tree, ParserConfig(css=css)).get_text()
    return text.strip("\n")


def _strip(source: str) -> str:
    text = _TAG.sub(" ", source)
    try:
        return unescape(text)
    except ValueError:
        # A numeric entity of thousands of digits.
        return text


class _Outline:
    """For lxml: keeps blocks, lists, line breaks and text."""

    def __init__(self) -> None:
        self.tree = TreeBuilder()
        self.tree.start("body", {})
        # Open elements in the tree; None is not there.
        self.open: list[str | None] = []
        self.depth = self.lists = self.hidden = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        shown = self._shown(tag)
        if self.hidden or tag in _HIDDEN or _is_hidden(attributes):
            self.hidden += 1
            shown = None
        elif tag in _CELLS:
            self.data(" ")
        elif tag == "br":
            self.tree.start("br", {})
            self.tree.end("br")
        if shown is not None:
            self.depth += 1
            self.lists += shown in _LIST
            self.tree.start(shown, {})
        self.open.append(shown)

    def end(self, _: str) -> None:
        shown = self.open.pop()
        if self.hidden:
            self.hidden -= 1
        elif shown is not None:
            self.depth -= 1
            self.lists -= shown in _LIST
            self.tree.end(shown)

    def data(self, text: str) -> None:
        if not self.hidden:
            # lxml has resolved entities; inscriptis does it again.
            self.tree.data(text.replace("&", "&amp;"))

    def close(self) -> Element:
        while self.open:
            self.end("")
        self.tree.end("body")
        return self.tree.close()

    def _shown(self, tag: str) -> str | None:
        """What it is in the tree; None leaves out the element, not what is in it."""
        too_deep = self.depth >= _DEPTH or (tag in _LIST and self.lists >= _LISTS)
        return None if too_deep else _BLOCKS.get(tag)


def _is_hidden(attributes: dict[str, str]) -> bool:
    return "hidden" in attributes or _NOT_DISPLAYED.search(attributes.get("style", "")[:_STYLE]) is not None
