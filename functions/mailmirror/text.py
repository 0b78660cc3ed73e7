"""The parts that are text to the text and the HTML of a message, piece by piece.

Knows: how parts are joined, and what becomes of one in the other form. Does not know: where text is kept, nor how
bytes that Gmail keeps back are fetched: who has them replaces the part (`replace(text_part, part=Part(data=...))`).
Promises: of a part, however large, a piece is in memory as text, but for what is rendered, which has a limit.
"""

import re
from collections.abc import Iterator
from html import escape

from mailmirror.charset import pieces
from mailmirror.content import Content, TextPart
from mailmirror.flowed import unflow
from mailmirror.rendering import RENDERED_BYTES, render

# Where HTML says its charset, as for browsers.
_BEGINNING = 1_024
_META = re.compile(rb"""<meta\b[^>]*?\bcharset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE | re.ASCII)


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
    """As declared, or as the HTML says."""
    said = None if part.charset else _META.search(part.part.data[:_BEGINNING])
    return part.charset if said is None else said[1].decode()


def _pieces(part: TextPart) -> Iterator[str]:
    text = pieces(part.part.data, part.charset)
    return unflow(text, del_sp=part.del_sp) if part.flowed else text
