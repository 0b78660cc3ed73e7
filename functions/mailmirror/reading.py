"""Reading: a message with all its text, and the bytes of an attachment, for an application that asks for them.

Knows: that the mirror's message document says what there is, that what is kept is read in the bucket, whatever becomes
of Gmail, and other attachments asked of Gmail. Does not know: HTTP, or the answer (`download`).

Law 7: Gmail is asked within the mailbox's budget, 40 units at the most: for today's id of the bytes, and for them. The
budget begins at the level last stored, without what the holder of the lease has spent since; what is spent here is only
logged: nobody writes a mailbox without the lease. Should both be too much Gmail refuses some, and who was refused comes
back later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from mailmirror import mailboxes
from mailmirror.attachments import given
from mailmirror.documents import from_document
from mailmirror.errors import AttachmentGone, NotMirrored, TextGone, Throttled
from mailmirror.finding import Ask, mirrored, picked, readable
from mailmirror.log import log
from mailmirror.model import Attachment, Mailbox, MailboxId, MessageId
from mailmirror.ports import Blobs, Clock, GmailAccounts, Store
from mailmirror.slice import Document

# In a body's object, which `keep` writes; inside a JSON string quotes are escaped.
_BETWEEN = b'", "html": "'


@dataclass(frozen=True, slots=True)
class Opened:
    """An attachment, and its bytes, to be read once."""

    attachment: Attachment
    pieces: Iterator[bytes]


class Messages:
    """Mirrored messages, each with its text, wherever that is."""

    def __init__(self, store: Store, blobs: Blobs | None) -> None:
        self._store = store
        self._blobs = blobs

    def open(self, address: str, message_id: MessageId, ask: Ask) -> tuple[Document, Iterator[bytes] | None]:
        """Return a message, and None or what its last field, `body`, lacks: the end of that JSON object, by pieces.

        Raises:
            NotMirrored, TextGone: it is not there, or its text.
            StoreUnavailable: also while the text is read.
            MailmirrorError: as `readable`.
        """
        name = readable(self._store, address).email_address
        wanted = {"body.text", "body.html"}.intersection(ask.fields)
        if not ask.fields or "body" in ask.fields:
            wanted = {"body.text", "body.html"}
        # Whoever writes a message anew may have deleted what its document named a moment ago.
        for _ in range(2):
            message = mirrored(self._store, name, ("messages", message_id))
            body = message["body"]
            if not wanted or body["stored"] != "storage":
                return picked(message, ask.fields), None
            pieces = _object(self._blobs, name, body["uri"])
            if pieces is not None:
                # A failure now has an answer of its own.
                pieces = chain((next(pieces, b"")[1:],), pieces)
                given = dict(picked(message, ask.fields))
                body = given.pop("body")
                given["body"] = {field: body[field] for field in body if f"body.{field}" not in wanted}
                return given, filter(None, _texts(pieces, wanted))
        raise TextGone(f"The text of message {message_id} is not where it was kept, {body['uri']}.")


def _object(blobs: Blobs | None, mailbox: MailboxId, uri: str | None) -> Iterator[bytes] | None:
    """Return what an object holds, None if not there: another bucket may have been set since."""
    return None if blobs is None or uri is None else blobs.read(f"{mailbox}/{uri.rpartition('/')[2]}")


def _texts(pieces: Iterator[bytes], wanted: set[str]) -> Iterator[bytes]:
    """Yield what is wanted of a body's object, which is `"text": "…", "html": "…"}` here."""
    text, html = "body.text" in wanted, "body.html" in wanted
    held = b""
    for piece in pieces:
        held += piece
        before, between, after = held.partition(_BETWEEN)
        if between:
            if text:
                yield before + (b'", ' if html else b'"}')
            if html:
                yield b'"html": "' + after
                yield from pieces
            return
        # Its last bytes may begin what is between.
        cut = max(0, len(held) - len(_BETWEEN) + 1)
        if text:
            yield held[:cut]
        held = held[cut:]


class Attachments:
    """Those of mirrored messages."""

    def __init__(self, store: Store, accounts: GmailAccounts, blobs: Blobs | None, clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._blobs = blobs
        self._clock = clock

    def open(self, address: str, message_id: MessageId, part_id: str) -> Opened:
        """Return an attachment; nothing is written. Of a stopped mailbox only what is kept can be had.

        Args:
            part_id: as in the message document; empty for a message that is nothing but a file.

        Raises:
            NotMirrored: no such message or part.
            MailboxStopped: not kept, and Gmail is not asked.
            AttachmentGone, Throttled, AccessRevoked, GmailRejected, GmailUnavailable: Gmail does not give it.
            StoreUnavailable: also while the bytes are read.
            MailmirrorError: as `readable`.
        """
        mailbox = readable(self._store, address)
        name = mailbox.email_address
        attachment = self._named(name, message_id, part_id)
        pieces, size, source, units = _object(self._blobs, name, attachment.uri), attachment.size, "bucket", 0
        if pieces is None:
            data, units = self._fetched(mailbox, message_id, attachment)
            pieces, size, source = iter((data,)), len(data), "gmail"
        log("attachment_read", name, message=message_id, bytes=size, source=source, units=units)
        return Opened(attachment, pieces)

    def _named(self, mailbox: MailboxId, message_id: MessageId, part_id: str) -> Attachment:
        for document in mirrored(self._store, mailbox, ("messages", message_id)).get("attachments") or ():
            attachment = from_document(Attachment, document)
            if attachment.part_id == part_id:
                return attachment
        raise NotMirrored(f"Message {message_id} has no attachment of this part id.")

    def _fetched(self, mailbox: Mailbox, message_id: MessageId, attachment: Attachment) -> tuple[bytes, int]:
        name = mailboxes.wanted_live(mailbox).email_address
        until = mailbox.throttled_until
        if until is not None and until > self._clock.now():
            raise Throttled(f"Gmail's quota for {name} is used up.", until)
        gmail = self._accounts.open(name, mailbox.quota)
        data = given(attachment, gmail.part(message_id, attachment.part_id))
        if data is None:
            raise AttachmentGone(f"Gmail does not have the bytes of this attachment of message {message_id}.")
        return data, gmail.spent
