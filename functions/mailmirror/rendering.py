"""HTML to plain text, for search and previews.

Knows: lxml, which reads any HTML, and inscriptis, which lays out a tree. Does not know: MIME. Promises: up to the
limit no text that a reader sees is lost; no HTML takes long or much memory: the layout gets no attributes, tables or
deep nesting, whose sizes a sender can choose.
"""

import html
import re
from itertools import islice
from xml.etree.ElementTree import Element, TreeBuilder

from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.html_engine import Inscriptis
from inscriptis.model.config import ParserConfig
from lxml.etree import LxmlError
from lxml.html import HTMLParser

from mailmirror.charset import PIECE, clean, pieces

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


def render(data: bytes, charset: str) -> str:
    """Return the text that a reader sees in HTML.

    Args:
        data: only `RENDERED_BYTES` are read.
        charset: as declared, or empty.
    """
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
    for name in ("ol", "ul"):
        css[name] = css[name].__copy__()
        css[name].padding_inline = 2
    text: str = Inscriptis(tree, ParserConfig(css=css)).get_text()
    return text.strip("\n")


def _strip(source: str) -> str:
    text = _TAG.sub(" ", source)
    try:
        return html.unescape(text)
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
    if not attributes:
        return False
    return "hidden" in attributes or _NOT_DISPLAYED.search(attributes.get("style", "")[:_STYLE]) is not None
