"""Reading: the bytes of an attachment, for an application that asks for them.

Knows: that the mirror's message document says which there are, that kept bytes are read in the bucket, whatever becomes
of Gmail, and all others asked of Gmail. Does not know: HTTP, or the answer (`download`).

Law 7: Gmail is asked within the mailbox's budget, 40 units at the most: for today's id of the bytes, and for them. The
budget begins at the level last stored, without what the holder of the lease has spent since; what is spent here is only
logged: nobody writes a mailbox without the lease. Should both be too much Gmail refuses some, and who was refused comes
back later.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailmirror import mailboxes
from mailmirror.attachments import given
from mailmirror.documents import from_document
from mailmirror.errors import AttachmentGone, NotMirrored, Throttled, UnknownMailbox
from mailmirror.log import log
from mailmirror.model import Attachment, Mailbox, MailboxId, MessageId
from mailmirror.ports import Blobs, Clock, GmailAccounts, Store

# Of a message and its document.
_ID = re.compile(r"[0-9A-Za-z]{1,128}")


@dataclass(frozen=True, slots=True)
class Opened:
    """An attachment, and its bytes, to be read once."""

    attachment: Attachment
    pieces: Iterator[bytes]


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
            InvalidInput, UnknownMailbox, BeingPurged: the mailbox cannot be read.
            NotMirrored: no such message or part.
            MailboxStopped: not kept, and Gmail is not asked.
            AttachmentGone, Throttled, AccessRevoked, GmailRejected, GmailUnavailable: Gmail does not give it.
            StoreUnavailable: the store or the bucket did not answer; the bucket also while the bytes are read.
        """
        name = mailboxes.mailbox_id(address)
        mailbox = mailboxes.not_purged(self._store, name)
        if mailbox is None:
            raise UnknownMailbox(f"Mailbox {name} is not connected.")
        attachment = self._named(name, message_id, part_id)
        pieces, size, source, units = self._kept(name, attachment), attachment.size, "bucket", 0
        if pieces is None:
            data, units = self._fetched(mailbox, message_id, attachment)
            pieces, size, source = iter((data,)), len(data), "gmail"
        log("attachment_read", name, message=message_id, bytes=size, source=source, units=units)
        return Opened(attachment, pieces)

    def _named(self, mailbox: MailboxId, message_id: MessageId, part_id: str) -> Attachment:
        """Return what the mirror says of it."""
        path = ("messages", message_id)
        found = self._store.documents(mailbox, [path]) if _ID.fullmatch(message_id) else {}
        if path not in found:
            raise NotMirrored(f"The mirror of {mailbox} has no message of this id.")
        for document in found[path].get("attachments") or ():
            attachment = from_document(Attachment, document)
            if attachment.part_id == part_id:
                return attachment
        raise NotMirrored(f"Message {message_id} has no attachment of this part id.")

    def _kept(self, mailbox: MailboxId, attachment: Attachment) -> Iterator[bytes] | None:
        """Return the bytes, None if not there: another bucket may have been set since."""
        if attachment.uri is None or self._blobs is None:
            return None
        return self._blobs.read(f"{mailbox}/{attachment.uri.rpartition('/')[2]}")

    def _fetched(self, mailbox: Mailbox, message_id: MessageId, attachment: Attachment) -> tuple[bytes, int]:
        """Return Gmail's bytes, and the units spent."""
        name = mailboxes.wanted_live(mailbox).email_address
        until = mailbox.throttled_until
        if until is not None and until > self._clock.now():
            raise Throttled(f"Gmail's quota for {name} is used up.", until)
        gmail = self._accounts.open(name, mailbox.quota)
        data = given(attachment, gmail.part(message_id, attachment.part_id))
        if data is None:
            raise AttachmentGone(f"Gmail does not have the bytes of this attachment of message {message_id}.")
        return data, gmail.spent
