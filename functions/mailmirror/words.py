"""Header values to text: unfolded, their encoded words (RFC 2047) decoded.

Knows: encoded words as standards and mail programs write them. Does not know: which header it is. Promises: what is
no encoded word, or a broken one, stays; the time grows with the length alone.
"""

import binascii
import re

from mailmirror.charset import clean, decode

_FOLD = re.compile(r"[\r\n]+")
# Spaces should not be, but some programs write them.
WORD = r"=\?[^?\s]{1,80}\?[bBqQ]\?[ ->@-~]*\?="
_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?([ ->@-~]*)\?=")
_WORDS = re.compile(rf"{WORD}(?:\s*+{WORD})*+")
_BYTE = re.compile(rb"=([0-9A-Fa-f]{2})")


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
    for word in _WORD.finditer(run[0]):
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
