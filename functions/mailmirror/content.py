"""What a message says: Gmail's payload to headers, text, HTML and the names of attachments.

Knows: MIME part trees, charsets, encoded words, and how much of it all fits into a document. Does not know: the API
that sent the payload, nor where a body is stored. Law: nothing anybody can put into a mail makes it raise, or makes a
document too large.

Gmail sends the text of a part in UTF-8, mostly, and keeps the header that says something else; so bytes that are UTF-8
are read as that, whatever is declared (https://github.com/openclaw/gogcli/issues/446).
"""

import binascii
import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Any

from mailmirror.model import Attachment, Body, Headers

# Ten headers, attachments and body together leave room for 10,000 label ids in a document below 1 MiB.
INLINE_BYTES = 200_000
HEADER_BYTES = 16_000
SNIPPET_BYTES = 2_000
ATTACHMENTS = 1_000
ATTACHMENTS_BYTES = 200_000
FILENAME_BYTES = 1_000
NAME_BYTES = 200
# What Gmail itself never comes near to, and no payload can make this module work for long.
PARTS = 10_000
# An encoded word is up to four times as long as what it says.
_RAW_HEADER = 4 * HEADER_BYTES
# Room in a stored attachment beside its three strings: field names and what a database adds to each value.
_ATTACHMENT_OVERHEAD = 200
_MAX_SIZE = 2**53

_FOLD = re.compile(r"\s*[\r\n]+\s*")
_WORD = r"=\?[^?\s]{1,80}\?[bBqQ]\?[ ->@-~]*\?="
_WORDS = re.compile(rf"{_WORD}(?:\s+{_WORD})*")
_CHARSET = re.compile(r"""charset\*?\s*=\s*["']?([^\s";]{1,100})""", re.IGNORECASE)
_NOT_BASE64 = bytes(
    byte for byte in range(256) if byte not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)
_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
# No charsets of mail: their decoders warn, refuse `errors="replace"` or take time with the square of the length.
_NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
# Charsets whose bytes are ASCII although their text is not.
_ESCAPING_CHARSETS = ("hz", "iso2022", "utf-7")


@dataclass(frozen=True, slots=True)
class Content:
    """What a payload says."""

    headers: Headers
    body: Body
    attachments: tuple[Attachment, ...]


def read_content(payload: object) -> Content:
    """Return what a payload says; whatever is not as Gmail documents it is left out.

    Args:
        payload: the part tree of users.messages.get in format full, as plain mappings, lists and strings.
    """
    root = payload if isinstance(payload, Mapping) else {}
    bodies: dict[str, str] = {}
    truncated = False
    attachments: list[Attachment] = []
    room = ATTACHMENTS_BYTES
    for part in _leaves(root):
        kind = _kind(part)
        named = _text(part.get("filename")) != "" or _disposition(part) == "attachment"
        if kind in {"text/plain", "text/html"} and not named:
            if kind not in bodies:
                bodies[kind], whole = _read_text(part)
                truncated = truncated or not whole
        elif named or kind == "message/rfc822" or "attachmentId" in _mapping(part.get("body")):
            attachment = _attachment(part)
            room -= _ATTACHMENT_OVERHEAD + sum(
                _size(text) for text in (attachment.part_id, attachment.filename, attachment.mime_type)
            )
            if room >= 0 and len(attachments) < ATTACHMENTS:
                attachments.append(attachment)
    body = Body(text=bodies.get("text/plain", ""), html=bodies.get("text/html", ""), truncated=truncated)
    return Content(_headers(root), body, tuple(attachments))


def too_large(body: Body, limit: int = INLINE_BYTES) -> bool:
    """Return whether text and HTML together are more bytes of UTF-8 than a document should hold."""
    return _size(body.text) + _size(body.html) > limit


def inline(body: Body, limit: int = INLINE_BYTES) -> Body:
    """Return the body cut to `limit` bytes of UTF-8, text and HTML together, and marked as cut.

    Where both are long each gets half; neither ends within a character.
    """
    if not too_large(body, limit):
        return body
    text = clip(body.text, max(limit // 2, limit - _size(body.html)))
    return replace(body, text=text, html=clip(body.html, limit - _size(text)), stored="inline", truncated=True)


def clip(text: str, limit: int) -> str:
    """Return the longest beginning of `text` that takes at most `limit` bytes of UTF-8, without lone surrogates."""
    data = clean(text[:limit]).encode()
    return data.decode() if len(data) <= limit else data[:limit].decode("utf-8", "ignore")


def clean(text: str) -> str:
    """Return the text with lone surrogates replaced, so that it has a UTF-8 form: JSON can name what UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _kind(part: Mapping[str, Any]) -> str:
    return _text(part.get("mimeType")).strip().lower()


def _leaves(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts without parts, in their order; an attached message is one of them, its own parts are not."""
    waiting: list[object] = [root]
    for _ in range(PARTS):
        if not waiting:
            return
        part = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        children = part.get("parts")
        if isinstance(children, list) and children and _kind(part) != "message/rfc822":
            waiting.extend(reversed(children[:PARTS]))
        elif not _kind(part).startswith("multipart/"):
            yield part


def _raw_headers(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    headers = part.get("headers")
    for header in headers if isinstance(headers, list) else ():
        name, value = _text(_mapping(header).get("name")), _text(_mapping(header).get("value"))
        if name and value:
            yield name.strip().lower(), value[:_RAW_HEADER]


def _header(part: Mapping[str, Any], name: str) -> str:
    return next((value for key, value in _raw_headers(part) if key == name), "")


def _disposition(part: Mapping[str, Any]) -> str:
    return _header(part, "content-disposition").partition(";")[0].strip().lower()


def _headers(root: Mapping[str, Any]) -> Headers:
    """The first header of each name; what comes later under the same name was added by somebody else."""
    found: dict[str, str] = {}
    for name, value in _raw_headers(root):
        if name in _FIELDS and name not in found:
            found[name] = clip(_decode_words(value), HEADER_BYTES)
    return Headers(**{_FIELDS[name]: value for name, value in found.items()})


_FIELDS = {
    "from": "from_",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "reply_to",
    "subject": "subject",
    "date": "date",
    "message-id": "message_id",
    "in-reply-to": "in_reply_to",
    "references": "references",
}


def _decode_words(value: str) -> str:
    """A header value on one line, its encoded words (RFC 2047) decoded; those that cannot be stay as they are."""
    value = _FOLD.sub(" ", clean(value)).strip()
    return _WORDS.sub(_decode_run, value) if "=?" in value else value


def _decode_run(run: re.Match[str]) -> str:
    # Words in a row are decoded together: a character may begin in one and end in the next.
    try:
        pieces = decode_header(run[0])
    except (HeaderParseError, ValueError):
        return run[0]
    decoded: list[str] = []
    for piece, charset in pieces:
        if not isinstance(piece, bytes) or charset is None:
            return run[0]
        # RFC 2231 allows a language after the charset.
        decoded.append(_decode(piece, charset.partition("*")[0]))
    return "".join(decoded)


def _read_text(part: Mapping[str, Any]) -> tuple[str, bool]:
    """The text of a leaf, and whether that is all of it: Gmail may keep the bytes back behind an attachmentId."""
    body = _mapping(part.get("body"))
    data = body.get("data")
    if not isinstance(data, str) or not data:
        return "", not (body.get("attachmentId") or body.get("size"))
    declared = _CHARSET.search(_header(part, "content-type"))
    return _decode(_from_base64(data), declared[1].rpartition("'")[2] if declared else ""), True


def _from_base64(data: str) -> bytes:
    """The bytes of either alphabet of base64, padded or not; of broken base64 what can be read."""
    digits = data.encode("ascii", "ignore").translate(_STANDARD_ALPHABET).translate(None, _NOT_BASE64)
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _decode(data: bytes, charset: str) -> str:
    name = _codec_name(charset)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _decode_as(data, name)
    escaped = data.isascii() and name.startswith(_ESCAPING_CHARSETS)
    wide = b"\0" in data and name.startswith(("utf-16", "utf-32"))
    return _decode_as(data, name) if escaped or wide else text


def _decode_as(data: bytes, name: str) -> str:
    try:
        return clean(data.decode(name, "replace"))
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _codec_name(charset: str) -> str:
    """Python's name for a charset; UTF-8 for what is none."""
    try:
        name = codecs.lookup(charset).name.lower()
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name in _NO_CHARSETS else name


def _attachment(part: Mapping[str, Any]) -> Attachment:
    size = _mapping(part.get("body")).get("size")
    return Attachment(
        part_id=clip(_text(part.get("partId")), NAME_BYTES),
        filename=clip(_decode_words(_text(part.get("filename"))[:_RAW_HEADER]), FILENAME_BYTES),
        mime_type=clip(_kind(part), NAME_BYTES),
        size=int(size) if isinstance(size, int) and 0 <= size < _MAX_SIZE else 0,
    )
