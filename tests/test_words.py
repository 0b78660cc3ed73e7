"""Encoded words: headers as their senders typed them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.charset import decode_words, unfold


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("=?utf-8?q?J=C3=B6rg?= <joerg@example.org>", "Jörg <joerg@example.org>"),
        ("Re: =?iso-8859-1?Q?Gr=FC=DFe?= an =?utf-8?B?w4RyenRl?=!", "Re: Grüße an Ärzte!"),
        ("=?utf-8?q?one?= =?utf-8?q?_two?=", "one two"),
        ("=?utf-8?q?one?=\r\n =?utf-8?q?_two?=", "one two"),
        ("=?utf-8?q?one?==?utf-8?q?_two?=", "one two"),
        ("=?utf-8?q?one?= and =?utf-8?q?two?=", "one and two"),
        # The two halves of one character, in two words: many mail programs cut there.
        ("=?utf-8?b?w4TDlsM=?= =?utf-8?b?nA==?=", "ÄÖÜ"),
        ("=?iso-8859-1?q?=FC?= =?utf-8?q?=C3=BC?=", "üü"),
        ("=?utf-8*en?q?caf=C3=A9?=", "café"),
        ("=?us-ascii?q?caf=C3=A9?=", "café"),
        ("=?koi8-r*ru?b?8NLJ18XU?=", "Привет"),
        ("=?utf-8?b?w7w==?=", "ü"),
        ("=?nonsense?q?caf=C3=A9?=", "café"),
        ("=?unicode-escape?q?=5Cx41=5C?=", "\\x41\\"),
        ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?utf-7?q?+2AA-?=", "\ufffd"),
        ("=?utf-8?b?w7w?=", "ü"),
        ("=?utf-8?Q?with spaces?=", "with spaces"),
        ("=?utf-8?q?two=0D=0Alines?=", "two lines"),
        ("=?utf-8?b??=", ""),
        # Broken ones.
        ("=?utf-8?b?AAAAA?=", "=?utf-8?b?AAAAA?="),
        ("=?utf-8?b?é?=", "=?utf-8?b?é?="),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        ("=?utf-8?q?never ends", "=?utf-8?q?never ends"),
        ("=?utf-8?q?=C3=B?=", "\ufffd=B"),
        ("C:\\users =?utf-8?q?=C3=BC?= \\u0041", "C:\\users ü \\u0041"),
        ("folded\r\n\tinto two", "folded into two"),
        (" \r\n \r\n", ""),
        ("already übersetzt", "already übersetzt"),
        ("lone \ud83d surrogate", "lone \ufffd surrogate"),
        ("a whole \U0001f600 one", "a whole \U0001f600 one"),
        ("two  spaces\tand a tab", "two  spaces\tand a tab"),
    ],
)
def test_encoded_words(raw: str, shown: str) -> None:
    """Encoded words are decoded where they can be; what is none, or broken, stays as it is."""
    assert decode_words(raw) == shown


@given(st.text(st.characters(codec=None)))
def test_always_one_line_that_can_be_stored(value: str) -> None:
    """Whatever a header holds, it is one line with a UTF-8 form."""
    shown = decode_words(value)
    assert "\r" not in shown
    assert "\n" not in shown
    shown.encode()


@given(st.text(st.sampled_from(" \t\r\nab")))
def test_unfolding_keeps_what_is_not_space(value: str) -> None:
    """Unfolding takes line breaks and the spaces around them, and nothing else."""
    assert unfold(value).split() == value.split()


@pytest.mark.parametrize("piece", ["=?", "=?u?q?", "=?u?q?x?=", "=?u?b?x?= ", " ", "\r\n", "\t\r\n ", "=?u?q?a=?=?"])
@pytest.mark.timeout(20)
def test_one_pass(piece: str) -> None:
    """The time grows with the length of the header: a megabyte of anything is decoded."""
    decode_words(piece * (1_000_000 // len(piece)))
