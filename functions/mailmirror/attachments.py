"""The parts of a message that are not its text: what each of them is, and how many a document holds.

Knows: file names, Content-IDs, signatures, invitations and the like. Does not know: how the tree of parts is walked,
nor bytes. Promises: attachments stay below their share of a document; what is left out or cut is named.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from mailmirror.charset import clean, clip, decode_words
from mailmirror.model import Attachment, AttachmentKind, Protection
from mailmirror.payload import Node, parameters

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
    """Return what it does to the whole message."""
    if not place.whole:
        return "none"
    if node.kind == "multipart/encrypted":
        return "encrypted"
    if node.kind == "multipart/signed":
        return "signed"
    return _smime(node)


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


def _smime(node: Node) -> Protection:
    """Signed, or what only its reader can open."""
    if node.kind not in _PKCS7:
        return "none"
    smime = parameters(node.header("content-type")).get("smime-type", "").lower()
    if smime in _UNPROTECTED:
        return "none"
    return "signed" if smime == "signed-data" else "encrypted"
