"""Charsets: the text that bytes were, whatever is said of them."""

import codecs
import encodings.aliases

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mailmirror.charset import PIECE, clean, clip, decode, pieces

# What is no charset of mail: codecs of bytes, of host names and of source code.
NO_CHARSETS = {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs"}
TEXTS = (
    "Grüße, Jürgen — 100 €\r\n",
    "Привет, мир",
    "日本語のテスト",
    "中文測試",
    "한국어",
    "Ελληνικά",
    "שלום",
    "مرحبا",
    "ไทย",
    "ASCII: 1+1=2 ~ {x} \\\r\n",
)
# Hebrew in an EBCDIC whose letters are those of ASCII: nobody can tell it from a text that Gmail decoded.
NOT_TOLD = {("cp424", "שלום")}


def test_every_charset_of_python() -> None:
    """Text in every charset Python knows is read as it was written, also when it is longer than a piece."""
    checked = 0
    for charset in sorted(set(encodings.aliases.aliases.values()) - NO_CHARSETS):
        for text in TEXTS:
            for written in (text, text * (PIECE // 8)):
                try:
                    data = written.encode(charset)
                    same = data.decode(charset) == written
                except (LookupError, UnicodeError):
                    continue
                if same and (charset, text) not in NOT_TOLD:
                    assert decode(data, charset) == written, (charset, text)
                    checked += 1
    assert checked > 300


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("Grüße".encode(), "utf-8", "Grüße"),
        ("Grüße".encode("latin-1"), "iso-8859-1", "Grüße"),
        ("Grüße".encode("cp1252"), "Windows-1252", "Grüße"),
        ("Привет".encode("koi8-r"), "KOI8-R", "Привет"),
        ("日本".encode("iso-2022-jp"), "iso-2022-jp", "日本"),
        ("日本".encode("utf-16"), "utf-16", "日本"),
        ("Hi, مرحبا".encode("utf-16-be"), "utf-16", "Hi, مرحبا"),
        ("Hi, مرحبا".encode("utf-16-le"), "utf-16", "Hi, مرحبا"),
        (b"Hi!", "utf-16", "Hi!"),
        ("中文".encode("hz"), "hz-gb-2312", "中文"),
        # Gmail has made UTF-8 of the bytes and kept the header.
        ("Grüße".encode(), "iso-8859-1", "Grüße"),
        ("日本".encode(), "iso-2022-jp", "日本"),
        ("日本".encode(), "shift_jis", "日本"),
        (b"1+1=2", "utf-7", "1+1=2"),
        # Senders name a charset and use a larger one.
        (b"\x93quoted\x94 \x80 100", "iso-8859-1", "“quoted” € 100"),
        (b"\x93quoted\x94 \x80 100", "us-ascii", "“quoted” € 100"),
        ("①髙".encode("cp932"), "shift_jis", "①髙"),
        ("镕€".encode("gb18030"), "gb2312", "镕€"),
        ("똠방".encode("cp949"), "ks_c_5601-1987", "똠방"),
        (b"\x1b$B-!-j3t\x1b(B abc \x1b$BF|\x1b(B", "iso-2022-jp", "①㈱株 abc 日"),
        (b"\x1b(I1\x1b(B \x1b$BF|\x1b(B", "iso-2022-jp", "ｱ 日"),
        # Nothing is declared, or nothing that anybody knows: as browsers, so that every byte is a character.
        ("Grüße".encode("latin-1"), "", "Grüße"),
        ("Grüße".encode("latin-1"), "no-such-charset", "Grüße"),
        (b"\x81\x8d\xff", "", "\x81\x8dÿ"),
        (b"\xff\\x41", "unicode-escape", "ÿ\\x41"),
        (b"\xff" * 5, "punycode", "ÿ" * 5),
        (b"\xff", "idna", "ÿ"),
        (b"\xff", "zlib", "ÿ"),
        (b"\xff", "undefined", "ÿ"),
        (b"\xff", "\0", "ÿ"),
        (b"\xff", "../../etc/passwd", "ÿ"),
        # Broken.
        (b"Gr\xfcn", "utf-8", "Gr\ufffdn"),
        (b"+2AA-", "utf-7", "\ufffd"),
        (b"a\0b", "utf-8", "a\0b"),
        # A byte order mark is no text.
        (codecs.BOM_UTF8 + b"x", "", "x"),
        (codecs.BOM_UTF8 + b"x", "utf-8-sig", "x"),
        (codecs.BOM_UTF16_BE + "x".encode("utf-16-be"), "utf-16be", "x"),
        # As browsers do, the mark of UTF-16 is believed, whatever is said.
        (codecs.BOM_UTF16_LE + "<p>Grüße".encode("utf-16-le"), "", "<p>Grüße"),
        (codecs.BOM_UTF16_BE + "<p>Grüße".encode("utf-16-be"), "iso-8859-1", "<p>Grüße"),
        ("ÿþe".encode("latin-1"), "", "ÿþe"),
        (b"", "utf-8", ""),
        (b"", "utf-16", ""),
    ],
)
def test_charsets(data: bytes, charset: str, text: str) -> None:
    """Bytes that are UTF-8 are read as that, others in the declared charset, and what cannot be read is marked."""
    assert decode(data, charset) == text


CHARSETS = st.one_of(st.sampled_from(sorted(encodings.aliases.aliases)), st.text(max_size=10))


@given(st.binary(max_size=200), CHARSETS)
def test_anything_is_text(data: bytes, charset: str) -> None:
    """Whatever the bytes and whatever is said of them, there is text with a UTF-8 form."""
    decode(data, charset).encode()


@given(st.binary(max_size=200))
def test_undeclared_bytes_are_all_there(data: bytes) -> None:
    """Of bytes of which nothing is said none is lost: they can be told from the text."""
    assume(not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)))
    text = decode(data, "")
    try:
        assert text == data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        assert len(text) == len(data)


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        (b"+" + b"A" * 5_000_000, "utf-7"),
        (b"+AAA" * 1_000_000 + b"\xff", "utf-7"),
        (b"\x1b" * 5_000_000, "iso-2022-jp"),
        (b"~{" * 2_000_000, "hz"),
        (b"\xff" * 5_000_000, "utf-16"),
        (b"\x81" * 5_000_000, "gb18030"),
    ],
    ids=range(6),
)
@pytest.mark.timeout(20)
def test_one_pass(data: bytes, charset: str) -> None:
    """Megabytes that a decoder could stumble over are read, and no piece is much longer than the others."""
    assert max(map(len, pieces(data, charset))) <= 17 * PIECE


@given(st.text(st.characters(codec=None), max_size=20), st.integers(0, 40))
def test_clip(text: str, limit: int) -> None:
    """A clipped text fits, is a beginning of the text, and is all of it when that fits."""
    cut = clip(text, limit)
    assert len(cut.encode()) <= limit
    assert clean(text).startswith(cut.removesuffix("\ufffd"))
    if len(clean(text).encode()) <= limit:
        assert cut == clean(text)
