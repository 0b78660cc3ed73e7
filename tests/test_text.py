"""Text: the parts of a message as one plain text and one HTML, however large they are."""

import tracemalloc
from collections.abc import Iterator

import pytest
from mailmirror import text
from mailmirror.content import Content, Part, TextPart
from mailmirror.text import RENDERED_BYTES

MB = 1_000_000


def _plain(data: str | bytes, **more: str | bool) -> TextPart:
    return TextPart(Part(data.encode() if isinstance(data, str) else data), **more)  # type: ignore[arg-type]


def _html(data: str) -> TextPart:
    return TextPart(Part(data.encode()), html=True)


def _all(pieces: Iterator[str]) -> str:
    return "".join(pieces)


def test_parts_are_joined() -> None:
    """Parts follow one another in their order, on lines of their own."""
    content = Content(text=(_plain("one"), _plain("two\n"), _plain("three")))
    assert _all(text.plain(content)) == "one\ntwo\n\nthree"
    assert _all(text.html(content)) == ""
    assert not text.rendered(content)


def test_html_without_plain_form_is_rendered() -> None:
    """HTML that has no plain form is rendered among the plain text; the text is rendered when it is nothing else."""
    mixed = Content(text=(_plain("one"), _html("<p>two <b>bold</b></p>")))
    assert _all(text.plain(mixed)) == "one\ntwo bold"
    assert not text.rendered(mixed)
    alone = Content(text=(_html("<p>one</p>"), _html("<p>two</p>")))
    assert _all(text.plain(alone)) == "one\ntwo"
    assert text.rendered(alone)
    assert not text.rendered(Content())


def test_plain_text_among_html_is_shown_as_it_is() -> None:
    """Plain text that has no HTML form is escaped, and keeps its lines."""
    content = Content(html=(_html("<p>one</p>"), _plain("a < b & c\n  d", flowed=True)))
    assert _all(text.html(content)) == "<p>one</p>\n<pre>a &lt; b &amp; c\n  d</pre>".replace("\n  d", "\n d")


def test_charsets_and_flowed() -> None:
    """Each part is read in its own charset and format."""
    parts = (_plain("Gr\u00fc\u00dfe \r\nan ".encode("latin-1") + b"alle", charset="iso-8859-1", flowed=True),)
    assert _all(text.plain(Content(text=parts))) == "Grüße an alle"
    deleted = (_plain("日本 \r\n語", charset="utf-8", flowed=True, del_sp=True),)
    assert _all(text.plain(Content(text=deleted))) == "日本語"


def test_charset_that_html_names_itself() -> None:
    """HTML of which nobody says what it is in says it itself."""
    source = '<html><head><meta http-equiv="Content-Type" content="text/html; charset=KOI8-R"></head>Привет'
    content = Content(text=(TextPart(Part(source.encode("koi8-r")), html=True),))
    assert _all(text.plain(content)) == "Привет"


def test_long_html_is_rendered_in_part() -> None:
    """Of very long HTML the first megabyte is rendered, and it is said that there is more."""
    short = Content(text=(_html("x" * RENDERED_BYTES),))
    long = Content(text=(_html("x" * (RENDERED_BYTES + 1)),), html=(_html("x" * (RENDERED_BYTES + 1)),))
    assert text.truncated(short) == ()
    assert text.truncated(long) == ("body.text",)
    assert len(_all(text.plain(long))) == RENDERED_BYTES
    assert len(_all(text.html(long))) == RENDERED_BYTES + 1


@pytest.mark.parametrize(
    "part",
    [
        TextPart(Part(b"An ordinary line of text, and another one.\r\n" * (30 * MB // 44))),
        TextPart(Part("Grüße aus Köln, 日本語 \U0001f600 ".encode() * (30 * MB // 40))),
        TextPart(Part("Grüße aus Köln ".encode("latin-1") * (30 * MB // 15)), charset="iso-8859-1"),
        TextPart(Part(b"A flowed line that goes on \r\n" * (6 * MB // 29)), flowed=True),
        TextPart(Part(b"no line at all " * (30 * MB // 15)), flowed=True, del_sp=True),
        TextPart(Part("日本語".encode("iso-2022-jp") * (30 * MB // 12)), charset="iso-2022-jp"),
        TextPart(Part("日本語".encode("utf-16-be") * (30 * MB // 6)), charset="utf-16-be"),
        TextPart(Part(b"<p>a paragraph</p>" * (30 * MB // 18)), html=True),
    ],
    ids=["ascii", "utf-8", "latin-1", "flowed", "flowed-one-line", "iso-2022-jp", "utf-16", "html"],
)
def test_memory(part: TextPart) -> None:
    """Of a part of many MB a few megabytes are in memory as text: pieces, one after the other."""
    html = Content(html=(part, TextPart(Part(b"<p>"), html=True)))
    plain = Content(text=(part,))
    tracemalloc.start()
    try:
        for pieces in (text.plain(plain), text.html(html)):
            assert sum(len(piece) for piece in pieces) > 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A megabyte of HTML is laid out at once.
    assert peak < (60 * MB if part.html else 3 * MB)
