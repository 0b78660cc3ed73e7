"""Format=flowed: paragraphs as they were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.text import unflow


def _unflow(text: str, *, del_sp: bool = False) -> str:
    return "".join(unflow([text], del_sp=del_sp))


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("one \ntwo\nthree\n", "one two\nthree\n"),
        ("one \r\ntwo \r\nthree\r\nfour\r\n", "one two three\r\nfour\r\n"),
        ("fixed\nlines\n", "fixed\nlines\n"),
        ("", ""),
        ("\n\n", "\n\n"),
        ("ends so ", "ends so "),
        ("ends so \n", "ends so \n"),
        # Stuffed spaces.
        (" From me\n  indented\n >no quote\n", "From me\n indented\n>no quote\n"),
        # Quotes.
        ("> a \n> b\n> c\n", "> a b\n> c\n"),
        (">> deep \n>> er\n> up\nnone\n", ">> deep er\n> up\nnone\n"),
        ("> a \nanswer \n> b\n", "> a \nanswer \n> b\n"),
        (">\n>no space \n> stuffed\n", ">\n> no space stuffed\n"),
        # A signature begins on its own line, whatever comes before and after.
        ("text \n-- \nme \nmyself\n", "text \n-- \nme myself\n"),
        ("> text \n> -- \n> me\n", "> text \n> -- \n> me\n"),
    ],
)
def test_flowed(sent: str, text: str) -> None:
    """Lines that end with a space go on in the next one of the same quote; stuffed spaces go."""
    assert _unflow(sent) == text


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("日本 \n語\n", "日本語\n"),
        ("one  \ntwo\n", "one two\n"),
        ("> a \nb\n", "> a \nb\n"),
        ("end \n", "end \n"),
        ("-- \nme\n", "-- \nme\n"),
    ],
)
def test_del_sp(sent: str, text: str) -> None:
    """With DelSp the space goes where lines are joined, and only there."""
    assert _unflow(sent, del_sp=True) == text


TEXTS = st.text(st.sampled_from("a >-\r\n "), max_size=40)


@given(TEXTS, st.booleans(), st.integers(1, 7))
def test_cut_anywhere(text: str, del_sp: bool, size: int) -> None:
    """Where the text is cut into pieces makes no difference."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert "".join(unflow(pieces, del_sp=del_sp)) == _unflow(text, del_sp=del_sp)


@given(TEXTS, st.booleans())
def test_nothing_else_goes(text: str, del_sp: bool) -> None:
    """What is no space, break or quote mark is all there, in its order."""
    kept = [char for char in _unflow(text, del_sp=del_sp) if char not in " \r\n>"]
    assert kept == [char for char in text if char not in " \r\n>"]


def test_endless_lines() -> None:
    """A line of many megabytes passes through, not gathered, and keeps what looks like quotes within it."""
    pieces = ["> start ", *["x> " * 10_000] * 200, "x\n", "> a \n> b"]
    longest, whole = 0, []
    for piece in unflow(pieces, del_sp=False):
        longest = max(longest, len(piece))
        whole.append(piece)
    assert "".join(whole) == "> start " + "x> " * 2_000_000 + "x\n> a b"
    assert longest < 200_000


def test_endless_line_that_goes_on() -> None:
    """A very long line goes on in the next one like any other, wherever its end is cut off."""
    for size in range(65_530, 65_545):
        assert "".join(unflow(["x" * size, " \r", "\ny"], del_sp=True)) == "x" * size + "y"
