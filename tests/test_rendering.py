"""Rendering: what a reader sees of HTML, as plain text."""

import contextlib
import inspect
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.text import RENDERED_BYTES, render


def _render(source: str) -> str:
    return render(source.encode(), "utf-8")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<p>one <b>bold</b><i>er</i>, <a href='x'>link</a></p>", "one bolder, link"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("<div>one<div>two</div>three</div>", "one\ntwo\nthree"),
        ("a &amp; b &lt;c&gt; &nbsp;&euro; &#8364; &amp;lt;", "a & b <c> € € &lt;"),
        ("<ul><li>one<li>two<ul><li>deep</ul></ul>", "* one\n* two\n  + deep"),
        ("<ol><li>one<li>two</ol>", "1. one\n2. two"),
        ("<table><tr><td>a<td>b<tr><th>c<th>d</table>", "a b\nc d"),
        ("<table><tr><td><p>first</p><p>second</p></td></tr></table>", "first\n\nsecond"),
        ("<pre>one\n  two</pre>", "one\n  two"),
        ("  many \n\t spaces  ", "many spaces"),
        ("plain", "plain"),
        ("", ""),
        ("   ", ""),
        ("<!-- only -->", ""),
        # What nobody sees.
        ("<html><head><title>T</title><style>p {}</style></head><body>seen<script>x()</script></body>", "seen"),
        ("<div style='display:none'>preview <b>text</b></div>seen", "seen"),
        ("<div style='color:red; DISPLAY : none !important'>preview</div>seen", "seen"),
        ("<div hidden>no</div>seen", "seen"),
        ("<div style='display:block'>seen</div>", "seen"),
        # What is broken.
        ("<b><i>one</b>two</i>three", "onetwothree"),
        ("</div></p>one", "one"),
        ("one<", "one<"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<html><body>one</body></html>two", "one\ntwo"),
        ("<o:p>one</o:p><v:shape>two</v:shape>", "onetwo"),
        ("a\0b", "a b"),
        ("<?xml version='1.0' encoding='latin-1'?><p>ü</p>", "ü"),
        ("<meta charset=iso-8859-1><p>ü</p>", "ü"),
    ],
)
def test_rendering(source: str, text: str) -> None:
    """Blocks are lines, lists have bullets, what is hidden is left out."""
    assert _render(source) == text


@pytest.mark.parametrize("depth", [100, 300, 3_000, 30_000])
@pytest.mark.parametrize("tag", ["div", "b", "ul", "table", "blockquote"])
def test_deep(tag: str, depth: int) -> None:
    """However deep a text is nested, it is there."""
    text = _render(f"<{tag}>" * depth + "deep<br>er" + f"</{tag}>" * depth + " after")
    assert text.split() == ["deep", "er", "after"]
    assert "deep\n" in text


def test_charset() -> None:
    """HTML is read in its charset, whatever it says of itself."""
    assert render("<meta charset=utf-8><p>Größe".encode("latin-1"), "iso-8859-1") == "Größe"


def test_entities_of_its_own() -> None:
    """Entities that HTML defines itself are not expanded, nor fetched."""
    lines = [f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, 12)]
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "lol">{"".join(lines)}<!ENTITY f SYSTEM "file:///etc/hostname">]><p>&e11;&f;'
    assert "&e11;&f;" in _render(bomb)
    assert "lol" not in _render(bomb).partition("]>")[2]


@pytest.mark.parametrize(
    "source",
    [
        "<p " + " ".join(f"a{number}=1" for number in range(100_000)) + ">",
        "<p style='margin-top:100000em;padding-left:100000em'>x</p>" * 10_000,
        "<ul>" * 5_000 + "<li>x" * 100_000,
        "<ul>" * 40 + "<li>x" * 100_000,
        "<table><tr><td>" + "x" * 500_000 + "</td></tr>" + "<tr><td>y</td></tr>" * 20_000,
        "<table><tr><td>x" * 50_000,
        "<ul>" * 10 + "<pre>" + "\n" * 900_000,
        "<b>a</b>" * 120_000,
        "<p>" * 300_000,
        "<b><p>" * 150_000,
        "<a" * 500_000,
        "<!--" * 200_000,
        "&#" + "9" * 100_000,
        "&amp;" * 200_000,
        "\U0001f600" * 200_000,
    ],
    ids=range(15),
)
@pytest.mark.timeout(20)
def test_no_html_is_too_much(source: str) -> None:
    """What would take other renderers hours or gigabytes is rendered, and not much longer than it was."""
    assert len(_render(source)) <= 4 * len(source)


def test_only_the_beginning() -> None:
    """Of very long HTML the first megabyte is rendered, and no character is cut."""
    text = render("ü".encode() * 2_000_000, "utf-8")
    assert text == "ü" * (RENDERED_BYTES // 2)


def _at_the_end_of_the_stack(source: str, left: int) -> str:
    """Render with so few calls left that the layout fails."""

    def deeper(more: int) -> str:
        return deeper(more - 1) if more > 0 else _render(source)

    return deeper(sys.getrecursionlimit() - len(inspect.stack(0)) - left)


def test_without_layout() -> None:
    """What cannot be laid out is there without its tags."""
    source = "<p>one</p><div>" * 40 + "t&uuml;o"
    texts = set()
    for left in range(20, 120):
        with contextlib.suppress(RecursionError):
            texts.add(_at_the_end_of_the_stack(source, left))
    assert {tuple(text.split()) for text in texts} == {("one",) * 40 + ("tüo",)}
    assert any(" one  " in text for text in texts)


@given(st.text(st.sampled_from("<>/=\"'&;#!- abdpuliprestyx\n\0\ufffe\x01ü")))
def test_anything_is_rendered(source: str) -> None:
    """Whatever calls itself HTML is rendered to text with a UTF-8 form."""
    _render(source).encode()


@given(st.lists(st.sampled_from(["<p>", "</p>", "<b>", "</div>", "<div>", "<li>", "<ul>", "</ul>", "<td>", "<tr>"])))
def test_no_text_is_lost(tags: list[str]) -> None:
    """Whatever the tags around them, words are there in their order."""
    source = "".join(f"{tag}w{number} " for number, tag in enumerate(tags))
    assert [word for word in _render(source).split() if word[0] == "w"] == [f"w{number}" for number in range(len(tags))]
