"""Keeping: what a message says, brought into a document below 1 MiB and, what is too large for it, into the bucket.

Knows: what a deployment keeps; that text and HTML too large for a document are one object, gzip'ed JSON with `text` and
`html`, an attachment's bytes another; that messages share objects, named `{mailbox}/{SHA-256}` of what they hold; that
nothing is fetched or written outside the policy. Does not know: Cloud Storage, Gmail's wire format, or how bytes become
text (`text`).

Law 6: a message whose text Gmail names and does not give fails and is parked; what else is not kept is in `truncated`.
Memory: large text is gone through by pieces, to hash and to write it; one attachment that Gmail keeps back is held.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256

from mailmirror import text
from mailmirror.attachments import ATTACHMENTS_BYTES, given, weigh_attachment
from mailmirror.charset import clip
from mailmirror.content import INLINE_BYTES, Content, File, Part, TextPart
from mailmirror.model import (
    Attachment,
    AttachmentsKept,
    Body,
    ContentKept,
    Failed,
    MailboxId,
    Message,
    MessageId,
    Policy,
)
from mailmirror.ports import Blobs

WITHHELD = "Gmail named a part of this message's text and does not have it."
# An attachment is written by such pieces.
PIECE_BYTES = 256 * 1024
# Of an object a document has, beside its mailbox twice: `gs://`, a bucket's name, framing, the digest twice.
_URI_BYTES = 400
_BODY_FIELDS = frozenset({"body.text", "body.html"})


@dataclass(frozen=True, slots=True)
class Kept:
    """What a deployment keeps."""

    content: ContentKept = "full"
    attachments: AttachmentsKept = "none"


class Keeper:
    """`ports.Keep` for one mailbox: `gmail.messages(ids, keeper)`."""

    def __init__(
        self,
        mailbox: MailboxId,
        policy: Policy,
        blobs: Blobs | None,
        kept: Kept,
        renew: Callable[[], None],
        writing: Callable[[MessageId, str], None],
    ) -> None:
        """`renew` the lease before anything that takes time, tell `writing` an object's name right before that."""
        self._mailbox = mailbox
        self._policy = policy
        self._blobs = blobs
        self._stores = kept.attachments == "store"
        self._renew = renew
        self._writing = writing

    def __call__(self, message: Message, content: Content, fetch: Callable[[str], bytes | None]) -> Message | Failed:
        """See `ports.Keep`."""
        wanted = self._policy.wants(message.label_ids, message.internal_date)
        bucket = self._bucket(message.id) if wanted else None
        truncated = {*message.truncated, *content.truncated}
        if wanted:
            whole = self._whole(content, fetch)
            if whole is None:
                return Failed(WITHHELD)
            content = whole
        else:
            truncated |= {name for name, parts in _bodies(content) if any(part.part.attachment_id for part in parts)}
        truncated |= set(text.truncated(content))
        body = self._body(content, bucket, truncated)
        attachments = tuple(file.attachment for file in content.files)
        if self._stores:
            attachments = tuple(self._stored(content.files, fetch, bucket))
            truncated |= {"attachments.uri"} if any(kept.uri is None for kept in attachments) else set()
        return replace(
            message,
            headers=content.headers,
            body=replace(body, truncated=not truncated.isdisjoint(_BODY_FIELDS)),
            attachments=attachments,
            protection=content.protection,
            objects=() if bucket is None else tuple(sorted(bucket.uris)),
            truncated=tuple(sorted(truncated)),
        )

    def _bucket(self, message_id: MessageId) -> "_Bucket | None":
        if self._blobs is None:
            return None
        return _Bucket(self._blobs, self._mailbox, self._renewing, partial(self._writing, message_id))

    def _whole(self, content: Content, fetch: Callable[[str], bytes | None]) -> Content | None:
        fetched: dict[str, bytes] = {}
        sizes = {item.part.attachment_id: item.part.size for _, parts in _bodies(content) for item in parts}
        for attachment_id, size in sizes.items():
            if attachment_id:
                self._renew()
                data = fetch(attachment_id)
                if data is None or (size and not data):
                    return None
                fetched[attachment_id] = data
        if not fetched:
            return content
        return replace(content, text=_filled(content.text, fetched), html=_filled(content.html, fetched))

    def _body(self, content: Content, bucket: "_Bucket | None", truncated: set[str]) -> Body:
        plain, html, digest = _Beginning(), _Beginning(), sha256()
        for data in self._renewing(_json(plain.of(text.plain(content)), html.of(text.html(content)))):
            digest.update(data)
        rendered = text.rendered(content)
        if plain.size + html.size <= INLINE_BYTES:
            return Body(plain.whole(), html.whole(), rendered=rendered)
        if bucket is not None:
            pieces = _gzipped(self._renewing(_json(text.plain(content), text.html(content))))
            uri = bucket.put(digest.hexdigest(), pieces, "application/json", gzip=True)
            return Body(stored="storage", uri=uri, rendered=rendered)
        # Half for each that is long.
        plain_room = max(INLINE_BYTES // 2, INLINE_BYTES - html.size)
        html_room = INLINE_BYTES - min(plain.size, plain_room)
        truncated |= {"body.text"} if plain.size > plain_room else set()
        truncated |= {"body.html"} if html.size > html_room else set()
        return Body(clip(plain.whole(), plain_room), clip(html.whole(), html_room), rendered=rendered)

    def _renewing(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        self._renew()
        for piece in pieces:
            yield piece
            self._renew()

    def _stored(
        self, files: Sequence[File], fetch: Callable[[str], bytes | None], bucket: "_Bucket | None"
    ) -> Iterator[Attachment]:
        room = ATTACHMENTS_BYTES - sum(weigh_attachment(file.attachment) for file in files)
        for file in files:
            room -= _URI_BYTES + 2 * len(self._mailbox.encode())
            uri = None if bucket is None or room < 0 else self._write(file, fetch, bucket)
            yield replace(file.attachment, uri=uri)

    def _write(self, file: File, fetch: Callable[[str], bytes | None], bucket: "_Bucket") -> str | None:
        data: bytes | None = file.part.data
        if file.part.attachment_id:
            self._renew()
            data = fetch(file.part.attachment_id)
        data = given(file.attachment, data)
        if data is None:
            return None
        return bucket.put(sha256(data).hexdigest(), _cut(data), "application/octet-stream")


@dataclass(slots=True)
class _Bucket:
    blobs: Blobs
    mailbox: MailboxId
    renewing: Callable[[Iterable[bytes]], Iterator[bytes]]
    writing: Callable[[str], None]
    uris: dict[str, str] = field(default_factory=dict)

    def put(self, digest: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
        name = f"{self.mailbox}/{digest}"
        if name not in self.uris:
            self.writing(name)
            self.uris[name] = self.blobs.put(name, self.renewing(pieces), content_type, gzip=gzip)
        return self.uris[name]


@dataclass(slots=True)
class _Beginning:
    """Pieces of a text, more than a document takes, and its bytes in UTF-8."""

    pieces: list[str] = field(default_factory=list)
    size: int = 0

    def of(self, pieces: Iterable[str]) -> Iterator[str]:
        for piece in pieces:
            if self.size <= INLINE_BYTES:
                self.pieces.append(piece)
            self.size += len(piece) if piece.isascii() else len(piece.encode())
            yield piece

    def whole(self) -> str:
        return "".join(self.pieces)


def _json(plain: Iterable[str], html: Iterable[str]) -> Iterator[bytes]:
    yield b'{"text": "'
    yield from map(_escaped, plain)
    yield b'", "html": "'
    yield from map(_escaped, html)
    yield b'"}'


def _escaped(piece: str) -> bytes:
    return json.dumps(piece, ensure_ascii=False)[1:-1].encode()


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # zlib writes no time: the same text makes the same bytes.
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))


def _bodies(content: Content) -> tuple[tuple[str, tuple[TextPart, ...]], tuple[str, tuple[TextPart, ...]]]:
    return ("body.text", content.text), ("body.html", content.html)


def _filled(parts: tuple[TextPart, ...], fetched: dict[str, bytes]) -> tuple[TextPart, ...]:
    return tuple(
        replace(item, part=Part(fetched[item.part.attachment_id], size=item.part.size))
        if item.part.attachment_id in fetched
        else item
        for item in parts
    )
