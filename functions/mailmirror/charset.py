"""Bytes of mail to text that every store takes, and header values, whose encoded words (RFC 2047) hold bytes.

Knows: charsets as mail and browsers use them, encoded words as mail programs write them. Does not know: MIME, or which
header it is. Promises: whatever the bytes, and whatever is said of them, there is text with a UTF-8 form, in time and
memory that grow with the bytes alone; what is no encoded word, or a broken one, stays.

Gmail sends text mostly in UTF-8 and keeps the header that says something else: bytes that are UTF-8 are read as that,
whatever is declared (https://github.com/openclaw/gogcli/issues/446). Bytes of no known charset are windows-1252, as in
browsers: each byte is a character, so nothing is lost.
"""

import binascii
import codecs
import re
from collections.abc import Callable, Iterator
from functools import lru_cache

# Bytes decoded at once.
PIECE = 65_536
_WAITS = 16 * PIECE

# Not of mail: their decoders warn, refuse `errors="replace"` or take quadratic time.
_NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
# Their bytes are ASCII, their text is not.
_ESCAPING = ("hz", "iso2022", "utf-7")
# Two or four bytes a character, and bytes that no other text holds.
_WIDE = ("utf-16", "utf-32")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_BROWSERS_1252 = "windows-1252 with every byte"
# What senders mean by a smaller charset (https://encoding.spec.whatwg.org/#names-and-labels).
_LARGER = {
    "ascii": _BROWSERS_1252,
    "big5": "big5hkscs",
    "cp1252": _BROWSERS_1252,
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-11": "cp874",
    "iso8859-9": "cp1254",
    "shift_jis": "cp932",
    "tis-620": "cp874",
}
_TABLE_1252 = "".join(
    bytes([byte]).decode("latin-1" if byte in {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "cp1252") for byte in range(256)
)
_BOM = "\ufeff"
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FOLD = re.compile(r"[\r\n]+")
# Spaces should not be, but some programs write them.
WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?([ ->@-~]*)\?=")
_WORDS = re.compile(rf"{WORD.pattern}(?:\s*+{WORD.pattern})*+")
_BYTE = re.compile(rb"=([0-9A-Fa-f]{2})")


def clean(text: str) -> str:
    """Replace lone surrogates, which JSON can name and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clip(text: str, limit: int) -> str:
    """Return the longest beginning, cleaned, of at most `limit` bytes of UTF-8."""
    data = clean(text[:limit]).encode()
    return data.decode() if len(data) <= limit else data[:limit].decode("utf-8", "ignore")


def decode(data: bytes, charset: str) -> str:
    """Return bytes as text; see `pieces`."""
    return "".join(pieces(data, charset))


def pieces(data: bytes, charset: str) -> Iterator[str]:
    """Yield bytes as text, piece by piece, without a byte order mark; the whole decides on the charset.

    `charset`: as declared, or empty.
    """
    name = _charset_of(data, charset)
    if name == "iso2022_jp" and not _is_all(data, name):
        name, data = _larger_japanese(data)
    read = _reader(name, "replace")
    for start in range(0, len(data), PIECE):
        text = clean(read(data[start : start + PIECE], start + PIECE >= len(data)))
        yield text if start else text.removeprefix(_BOM)


def _charset_of(data: bytes, declared: str) -> str:
    """What they are, are said to be, or what is larger than that."""
    name = _codec_name(declared)
    marked = not name.startswith(_WIDE) and data.startswith(_UTF_16_MARKS)
    if marked and _CONTROL.search(data) and _is_all(data, "utf-16"):
        # Browsers believe the mark before what is said.
        return "utf-16"
    if name in {"utf-16", "utf-32"} and not data.startswith((*_UTF_16_MARKS, codecs.BOM_UTF32_BE)):
        # Without a byte order mark ASCII tells which half is empty.
        name += "-be" if data[:PIECE:2].count(0) > data[1:PIECE:2].count(0) else "-le"
    if name == "utf-7" and data.isascii():
        # A plus in text that Gmail has decoded begins nothing.
        return name if _is_all(data, name) else "utf-8"
    if (data.isascii() and name.startswith(_ESCAPING)) or (name.startswith(_WIDE) and _CONTROL.search(data)):
        return name
    if name.startswith("utf-8") or _is_all(data, "utf-8"):
        return "utf-8"
    if not name or name == "iso8859-1":
        return _BROWSERS_1252
    return name if _is_all(data, name) else _LARGER.get(name, name)


def _larger_japanese(data: bytes) -> tuple[str, bytes]:
    """A charset that holds what Windows sends as ISO-2022-JP, and the bytes in it.

    That is narrow letters, or numbers in circles and the like: JIS X 0213 has them where Windows has them.
    """
    if _is_all(data, "iso2022_jp_ext"):
        return "iso2022_jp_ext", data
    return "iso2022_jp_2004", data.replace(b"\x1b$@", b"\x1b$(Q").replace(b"\x1b$B", b"\x1b$(Q")


@lru_cache(maxsize=256)
def _codec_name(charset: str) -> str:
    """Python's name, or empty."""
    try:
        name = codecs.lookup(charset).name.lower()
        # Refuses codecs that make no text, such as zlib.
        b"a".decode(name, "replace")
    except (LookupError, ValueError):
        return ""
    return "" if name in _NO_CHARSETS else name


def _is_all(data: bytes, name: str) -> bool:
    read = _reader(name, "strict")
    try:
        for start in range(0, len(data), PIECE):
            read(data[start : start + PIECE], start + PIECE >= len(data))
    except ValueError:
        return False
    return True


def _reader(name: str, errors: str) -> Callable[[bytes, bool], str]:
    if name == _BROWSERS_1252:
        return lambda piece, _: codecs.charmap_decode(piece, errors, _TABLE_1252)[0]
    decoder = codecs.getincrementaldecoder(name)(errors)

    def read(piece: bytes, last: bool) -> str:
        # A codec that waits for an end reads all again with each piece.
        text = decoder.decode(piece, last)
        return text if len(decoder.getstate()[0]) <= _WAITS else text + decoder.decode(b"", final=True)

    return read


def unfold(value: str) -> str:
    """Return a header value on one line."""
    return " ".join(line.strip(" \t") for line in _FOLD.split(value)).strip()


def decode_words(value: str) -> str:
    """Return a header value on one line, decoded, with a UTF-8 form."""
    value = unfold(clean(value))
    # A word may hold line breaks, but a header does not.
    return unfold(_WORDS.sub(_decode_run, value)) if "=?" in value else value


def _decode_run(run: re.Match[str]) -> str:
    """Together: a character may begin in one word and end in the next."""
    decoded: list[str] = []
    gathered, gathered_in = bytearray(), ""
    for word in WORD.finditer(run[0]):
        data = _bytes(word[2], word[3])
        if data is None:
            return run[0]
        # RFC 2231 allows a language after.
        charset = word[1].partition("*")[0].lower()
        if charset != gathered_in:
            decoded.append(decode(bytes(gathered), gathered_in))
            gathered, gathered_in = bytearray(), charset
        gathered += data
    return "".join([*decoded, decode(bytes(gathered), gathered_in)])


def _bytes(encoding: str, text: str) -> bytes | None:
    data = text.encode()
    if encoding in "qQ":
        return _BYTE.sub(lambda byte: bytes([int(byte[1], 16)]), data.replace(b"_", b" "))
    data = data.replace(b" ", b"").rstrip(b"=")
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True) if data else b""
    except binascii.Error:
        return None
