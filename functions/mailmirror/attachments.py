"""The parts of a message, read without trusting them; what each that is not its text is, and how many a document holds.

Knows: a MessagePart's fields as in the discovery document, parameters of MIME headers, file names, Content-IDs,
signatures, invitations and the like. Does not know: how the tree of parts is walked. Promises: a value of the wrong
type is as good as absent; attachments stay below their share of a document; what is left out or cut is named.
"""

import binascii
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mailmirror.charset import clean, clip, decode_words, unfold
from mailmirror.model import Attachment, AttachmentKind, Protection

ATTACHMENTS = 1_000
ATTACHMENTS_BYTES = 200_000
FILENAME_BYTES = 1_000
CONTENT_ID_BYTES = 1_000
NAME_BYTES = 200
# Field names and what Firestore adds.
_OVERHEAD = 100
# An encoded word is up to four times what it says.
_RAW_NAME = 8 * FILENAME_BYTES

_MEDIA = ("image/", "audio/", "video/")
_MESSAGES = frozenset({"message/rfc822", "message/global"})
_SIGNATURES = frozenset({"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"})
_PKCS7 = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_UNPROTECTED = frozenset({"certs-only", "compressed-data"})

# No header that matters is near as long.
_HEADER = 20_000
_MAX_SIZE = 2**53
_NOT_BASE64 = bytes(
    byte for byte in range(256) if byte not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
)
_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
_PARAMETER = re.compile(r""";\s*([\w-]+)(?:\*0?\*?)?\s*=\s*(?:"([^"]*+)"?|'?([^\s;"]+))""")


@dataclass(frozen=True, slots=True)
class Node:
    """A part, or what should be one; `fields` are as Gmail sent them."""

    fields: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The MIME type in lower case."""
        return text(self.fields.get("mimeType")).strip().lower()

    @property
    def part_id(self) -> str:
        """Which part of its message."""
        return text(self.fields.get("partId"))

    @property
    def filename(self) -> str:
        """As its sender declared."""
        return text(self.fields.get("filename"))

    @property
    def body(self) -> Mapping[str, Any]:
        """A MessagePartBody."""
        body = self.fields.get("body")
        return body if isinstance(body, Mapping) else {}

    @property
    def attachment_id(self) -> str:
        """Where its bytes are kept back, or empty."""
        return text(self.body.get("attachmentId"))

    @property
    def size(self) -> int:
        """Bytes, as Gmail says."""
        size = self.body.get("size")
        return int(size) if isinstance(size, int) and 0 <= size < _MAX_SIZE else 0

    @property
    def parts(self) -> list[Any]:
        """Its own, or those of the message that it is."""
        parts = self.fields.get("parts")
        return parts if isinstance(parts, list) else []

    def data(self) -> bytes:
        """Return the bytes that came with it; of broken base64 what can be read."""
        data = self.body.get("data")
        if isinstance(data, bytes):
            return data
        digits = base64_digits(text(data).encode("ascii", "ignore"))
        if len(digits) % 4 == 1:
            digits = digits[:-1]
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))

    def headers(self) -> Iterator[tuple[str, str]]:
        """Yield names, in lower case, and whole values."""
        listed = self.fields.get("headers")
        for header in listed if isinstance(listed, list) else ():
            if isinstance(header, Mapping):
                name, value = text(header.get("name")), text(header.get("value"))
                if name and value:
                    yield name.strip().lower(), value

    def header(self, name: str) -> str:
        """Return the first of a name on one line, or empty."""
        return next((unfold(value[:_HEADER]) for key, value in self.headers() if key == name), "")


def parameters(header: str) -> dict[str, str]:
    """Return a MIME header's parameters, names in lower case; the first of a name counts."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(header):
        found.setdefault(match[1].lower(), (match[2] or match[3] or "").strip().strip("'"))
    return found


def text(value: object) -> str:
    """Return a string, empty for anything else."""
    return value if isinstance(value, str) else ""


def base64_digits(data: bytes) -> bytes:
    """Return what is of either alphabet, in the standard one."""
    return data.translate(_STANDARD_ALPHABET, _NOT_BASE64)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its message a part is.

    Attributes:
        multipart: the subtype of the one directly around it.
        number: of the part in that.
        root: the number that the others of a multipart/related belong to.
        alternatives, depth: how many, and how many parts, are around it.
        encrypted: something around it is.
        whole: the whole message, but for what mailing lists add below.
    """

    multipart: str = "mixed"
    number: int = 0
    root: int = 0
    alternatives: int = 0
    encrypted: bool = False
    whole: bool = True
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """A part that is not text."""

    node: Node
    place: Place


def content_id(node: Node) -> str:
    """Return what HTML calls it, without angle brackets."""
    return clean(node.header("content-id")).strip().strip("<>")


def disposition(node: Node) -> str:
    """Return how it wants to be shown: `inline`, `attachment` or empty."""
    return node.header("content-disposition").partition(";")[0].strip().lower()


def is_named(node: Node) -> bool:
    """Return whether it calls itself a file."""
    return node.filename != "" or disposition(node) == "attachment"


def protection(node: Node, place: Place) -> Protection:
    """Return what it does to the whole message; what only its reader can open is encrypted."""
    if not place.whole:
        return "none"
    if node.kind == "multipart/encrypted":
        return "encrypted"
    if node.kind == "multipart/signed":
        return "signed"
    smime = parameters(node.header("content-type")).get("smime-type", "").lower()
    if node.kind not in _PKCS7 or smime in _UNPROTECTED:
        return "none"
    return "signed" if smime == "signed-data" else "encrypted"


def that_fit(
    found: Iterable[Found], shown: Collection[str] | None
) -> tuple[list[tuple[Attachment, Node]], tuple[str, ...]]:
    """Return the first attachments, with their parts, that fit into a document, and the fields that do not hold all.

    `shown`: the Content-IDs in the HTML; None if not all of it is in hand.
    """
    fitting: list[tuple[Attachment, Node]] = []
    truncated: dict[str, None] = {}
    room = ATTACHMENTS_BYTES
    for each in found:
        whole = _attachment(each, shown)
        attachment = replace(
            whole,
            filename=clip(whole.filename, FILENAME_BYTES),
            mime_type=clip(whole.mime_type, NAME_BYTES),
            content_id=clip(whole.content_id, CONTENT_ID_BYTES),
        )
        for field in ("filename", "mime_type", "content_id"):
            if getattr(attachment, field) != getattr(whole, field):
                truncated[f"attachments.{_FIELDS[field]}"] = None
        room -= weigh_attachment(attachment)
        if room < 0 or len(fitting) == ATTACHMENTS:
            truncated["attachments"] = None
            break
        fitting.append((attachment, each.node))
    return fitting, tuple(truncated)


_FIELDS = {"filename": "filename", "mime_type": "mimeType", "content_id": "contentId"}


def weigh_attachment(attachment: Attachment) -> int:
    """Return its bytes in a document, rounded up."""
    texts = (attachment.part_id, attachment.filename, attachment.mime_type, attachment.content_id, attachment.uri or "")
    return _OVERHEAD + sum(len(text) if text.isascii() else len(text.encode()) for text in texts)


def given(attachment: Attachment, data: bytes | None) -> bytes | None:
    """Return the bytes, None if Gmail has none: it takes a message within a message apart."""
    return None if not data and (attachment.size or attachment.kind == "message") else data


def _attachment(found: Found, shown: Collection[str] | None) -> Attachment:
    node = found.node
    return Attachment(
        part_id=clip(node.part_id, NAME_BYTES),
        filename=decode_words(node.filename[:_RAW_NAME]),
        mime_type=clean(node.kind),
        size=node.size,
        kind=_kind(node, found.place, shown),
        content_id=content_id(node),
    )


def _kind(node: Node, place: Place, shown: Collection[str] | None) -> AttachmentKind:
    kind = node.kind
    if place.encrypted or kind == "application/pgp-encrypted":
        return "encrypted"
    if kind in _SIGNATURES or (place.multipart == "signed" and place.number > 0):
        return "signature"
    protected = protection(node, place)
    if protected != "none":
        return "encrypted" if protected == "encrypted" else "signature"
    if kind in _MESSAGES:
        return "message"
    if kind == "text/calendar" and (place.alternatives or not is_named(node)):
        return "calendar"
    # Another form of the text, such as AMP, is no file.
    another = place.alternatives and kind.startswith("text/") and not is_named(node)
    return "inline" if another or _is_picture(node, place, shown) else "file"


def _is_picture(node: Node, place: Place, shown: Collection[str] | None) -> bool:
    """The HTML names it, as far as that is known; what a reader does not see in the text is a file."""
    name = content_id(node)
    if name and shown and name in shown and (node.kind.startswith(_MEDIA) or node.kind == "application/octet-stream"):
        return True
    how = disposition(node)
    if how == "attachment" or not node.kind.startswith(_MEDIA):
        return False
    beside = place.multipart == "related"
    if shown is None:
        return beside or (name != "" and how == "inline")
    # The other way to name it; that one is not looked for.
    return beside and node.header("content-location") != ""
