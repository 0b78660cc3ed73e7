"""Attachments on demand: which bytes an application gets, from where, and what it is told when it gets none."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from mailmirror.documents import to_document
from mailmirror.errors import (
    AccessRevoked,
    AttachmentGone,
    BeingPurged,
    GmailUnavailable,
    InvalidInput,
    MailboxStopped,
    MailmirrorError,
    NotMirrored,
    StoreUnavailable,
    Throttled,
    UnknownMailbox,
)
from mailmirror.model import Attachment, AttachmentKind, Mailbox, Message, Quota, Watch
from mailmirror.reading import Attachments, Opened
from mailmirror.slice import Path, Write

from tests.world import ADA, World

PDF = bytes(range(256)) * 40
FILENAME = "Secret plans.pdf"
DIGEST = "0123abcd" * 8


def mail_with(data: bytes) -> bytes:
    """A message with a text and one file, which is part 1."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "grace@example.com", ADA, "Plans"
    message.set_content("Enclosed.")
    message.add_attachment(data, maintype="application", subtype="pdf", filename=FILENAME)
    return message.as_bytes()


def file_alone(data: bytes) -> bytes:
    """A message that is nothing but a file, as reports of mail servers are."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "noreply@example.com", ADA, "Report"
    message.set_content(data, maintype="application", subtype="zip", filename="report.zip")
    return message.as_bytes()


class Mirror:
    """A mailbox in Gmail, and a mirror that says of its messages what the test wants."""

    def __init__(self) -> None:
        self.world = World()
        self.store, self.clock = self.world.sqlite, self.world.clock
        now = self.clock.now()
        self.mailbox = Mailbox(ADA, created_at=now, watch=Watch(now), next_due_at=now, phase="live", cursor=7)
        self.store.create_mailbox(self.mailbox)
        self.attachments = Attachments(self.store, self.world.accounts, self.world.blobs, self.clock)

    def add(self, source: bytes, *attachments: Attachment) -> str:
        """Deliver a message to Gmail, mirror it with these attachments, and return its id."""
        message_id = self.world.ada.deliver(source)
        message = Message(message_id, message_id, frozenset({"INBOX"}), 7, self.clock.now(), attachments=attachments)
        self.change(writes=[Write("put", ("messages", message_id), to_document(message))])
        return message_id

    def change(self, writes: Sequence[Write] = (), **fields: Any) -> None:
        """Commit what a worker would have committed."""
        now = self.clock.now()
        stored = self.store.mailbox(ADA)
        assert stored is not None
        held = self.store.acquire(stored, owner="worker", now=now, expires_at=now + timedelta(seconds=120))
        changed = replace(held.mailbox, **fields)
        self.store.commit(held, changed, writes, expires_at=now + timedelta(seconds=120), release=True)

    def keep(self, data: bytes) -> Attachment:
        """Put bytes into the bucket and return the attachment that names them."""
        uri = self.world.blobs.put(f"{ADA}/{DIGEST}", [data], "application/octet-stream")
        return Attachment("1", FILENAME, "application/pdf", len(data), uri=uri)

    def documents(self) -> list[tuple[object, ...]]:
        """Everything in the store."""
        return list(self.store._connection.execute("SELECT collection, id, data, version FROM documents"))

    def read(self, message_id: str, part_id: str = "1") -> bytes:
        """The bytes of an attachment; nothing may be written for them."""
        before = self.documents()
        data = b"".join(self.attachments.open(ADA, message_id, part_id).pieces)
        assert self.documents() == before
        return data

    def refusal(self, message_id: str, part_id: str = "1", address: str = ADA) -> MailmirrorError:
        """What is said instead of bytes; nothing may be written."""
        before = self.documents()
        with pytest.raises(MailmirrorError) as refused:
            self.attachments.open(address, message_id, part_id)
        assert self.documents() == before
        return refused.value


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """An empty mailbox that is mirrored."""
    mirror = Mirror()
    yield mirror
    mirror.store.close()


def in_gmail(part_id: str = "1", size: int = len(PDF)) -> Attachment:
    """An attachment whose bytes are not kept."""
    return Attachment(part_id, FILENAME, "application/pdf", size)


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was logged of attachments."""
    records = [record for record in caplog.records if record.getMessage() == "attachment_read"]
    return [vars(record)["fields"] for record in records]


def test_bytes_come_from_gmail(mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    """What is not kept is asked of Gmail for 40 units, and the log says so without a word of what it is."""
    caplog.set_level(logging.INFO)
    message = mirror.add(mail_with(PDF), in_gmail(size=3))
    assert mirror.read(message) == PDF
    assert mirror.world.accounts.spent == 40
    assert told(caplog) == [{"mailbox": ADA, "message": message, "bytes": len(PDF), "source": "gmail", "units": 40}]
    assert "plans" not in caplog.text.lower()


def test_bytes_come_from_the_bucket(mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    """What is kept is read from the bucket, and Gmail is not asked."""
    caplog.set_level(logging.INFO)
    message = mirror.add(mail_with(b"other"), mirror.keep(PDF))
    assert mirror.read(message) == PDF
    assert mirror.world.accounts.calls == []
    assert told(caplog) == [{"mailbox": ADA, "message": message, "bytes": len(PDF), "source": "bucket", "units": 0}]


def test_kept_bytes_come_in_pieces(mirror: Mirror) -> None:
    """A large attachment is never held as a whole: it is read as it is asked for."""
    message = mirror.add(mail_with(PDF), mirror.keep(PDF))
    pieces = mirror.attachments.open(ADA, message, "1").pieces
    assert 0 < len(next(pieces)) < len(PDF)


def test_the_attachment_is_what_the_mirror_says(mirror: Mirror) -> None:
    """Name and type come with the bytes, for who answers with them."""
    message = mirror.add(mail_with(PDF), in_gmail(part_id="0"), in_gmail())
    opened = mirror.attachments.open(ADA.upper(), message, "1")
    assert isinstance(opened, Opened)
    assert opened.attachment == in_gmail()


def test_a_message_that_is_nothing_but_a_file(mirror: Mirror) -> None:
    """Its part id is empty, and its bytes can be had all the same."""
    message = mirror.add(file_alone(PDF), in_gmail(part_id=""))
    assert mirror.read(message, "") == PDF


def test_an_object_that_is_not_there(mirror: Mirror) -> None:
    """Where the bucket was changed, or is not configured any more, Gmail has the bytes."""
    kept = mirror.keep(b"in the bucket of before")
    message = mirror.add(mail_with(PDF), kept)
    mirror.world.blobs.objects.clear()
    assert mirror.read(message) == PDF
    mirror.attachments = Attachments(mirror.store, mirror.world.accounts, None, mirror.clock)
    assert mirror.read(message) == PDF


def test_only_objects_of_the_mailbox_are_read(mirror: Mirror) -> None:
    """A document that names somebody else's object, which no worker writes, leads to none."""
    mirror.world.blobs.put(f"grace@example.com/{DIGEST}", [b"Grace's"], "application/octet-stream")
    stranger = replace(in_gmail(), uri=f"gs://bodies/grace@example.com/{DIGEST}")
    assert mirror.read(mirror.add(mail_with(PDF), stranger)) == PDF


@pytest.mark.parametrize("address", ["nobody@example.com", "grace@example.com"])
def test_a_mailbox_that_is_not_connected(mirror: Mirror, address: str) -> None:
    """An unknown mailbox is named; Gmail is not asked."""
    message = mirror.add(mail_with(PDF), in_gmail())
    refused = mirror.refusal(message, address=address)
    assert isinstance(refused, UnknownMailbox)
    assert address in str(refused)
    assert mirror.world.accounts.calls == []


def test_what_is_no_address(mirror: Mirror) -> None:
    """Something else in the place of an address is refused."""
    assert isinstance(mirror.refusal("1", address="ada"), InvalidInput)


@pytest.mark.parametrize(
    "message_id", ["ffff", "", ".", "..", "__x__", "a b", "a\x00b", "a\nb", "é", "f" * 2_000], ids=repr
)
def test_a_message_that_is_not_mirrored(mirror: Mirror, message_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other id leads to a document, and one that cannot be a document's is not even looked up."""
    mirror.add(mail_with(PDF), in_gmail())
    looked_up: list[Sequence[Path]] = []
    documents = mirror.store.documents

    def counted(mailbox: str, paths: Sequence[Path]) -> Any:
        looked_up.append(paths)
        return documents(mailbox, paths)

    monkeypatch.setattr(mirror.store, "documents", counted)
    assert isinstance(mirror.refusal(message_id), NotMirrored)
    assert len(looked_up) == (message_id == "ffff")
    assert mirror.world.accounts.calls == []


@pytest.mark.parametrize("part_id", ["", "0", "01", "1.0", "2", "1 ", "x" * 5_000])
def test_a_part_that_is_no_attachment(mirror: Mirror, part_id: str) -> None:
    """Only what the mirror names as an attachment can be had, and not any part of a message."""
    message = mirror.add(mail_with(PDF), in_gmail())
    assert isinstance(mirror.refusal(message, part_id), NotMirrored)
    assert mirror.world.accounts.calls == []


def test_a_message_without_attachments(mirror: Mirror) -> None:
    """Where none is named, under a policy without bodies for instance, there is none."""
    message = mirror.add(mail_with(PDF))
    assert isinstance(mirror.refusal(message), NotMirrored)
    bare = Write("put", ("messages", "abc"), {"id": "abc", "threadId": "abc", "attachments": None})
    mirror.change(writes=[bare])
    assert isinstance(mirror.refusal("abc"), NotMirrored)


def test_a_document_of_an_older_version(mirror: Mirror) -> None:
    """What was mirrored before attachments had a kind can be had as well."""
    message = mirror.world.ada.deliver(mail_with(PDF))
    older = {"partId": "1", "filename": FILENAME, "mimeType": "application/pdf", "size": len(PDF)}
    headers = {"from": "Grace <grace@example.com>", "to": ADA}
    document = {"id": message, "threadId": message, "headers": headers, "attachments": [older]}
    mirror.change(writes=[Write("put", ("messages", message), document)])
    assert mirror.read(message) == PDF


def stop(mirror: Mirror) -> None:
    """Stop the mailbox."""
    stored = mirror.store.mailbox(ADA)
    assert stored is not None
    assert mirror.store.want(stored, "stopped", due_at=mirror.clock.now())


def test_a_stopped_mailbox(mirror: Mirror) -> None:
    """What is kept can still be had; nobody wants Gmail asked for the rest."""
    kept = mirror.add(mail_with(b"other"), mirror.keep(PDF))
    message = mirror.add(mail_with(PDF), in_gmail())
    stop(mirror)
    assert mirror.read(kept) == PDF
    assert isinstance(mirror.refusal(message), MailboxStopped)
    assert mirror.world.accounts.calls == []


def test_a_mailbox_that_is_being_deleted(mirror: Mirror) -> None:
    """Nothing can be had of it, kept or not."""
    kept = mirror.add(mail_with(PDF), mirror.keep(PDF))
    stored = mirror.store.mailbox(ADA)
    assert stored is not None
    assert mirror.store.want(stored, "purged", due_at=mirror.clock.now())
    assert isinstance(mirror.refusal(kept), BeingPurged)


def test_gone_in_gmail(mirror: Mirror) -> None:
    """A message that Gmail has deleted, which the mirror does not know yet, has no bytes any more."""
    message = mirror.add(mail_with(PDF), in_gmail())
    mirror.world.ada.delete([message])
    assert isinstance(mirror.refusal(message), AttachmentGone)


def test_a_part_that_gmail_does_not_have(mirror: Mirror) -> None:
    """A part of which Gmail has no bytes is told as such."""
    message = mirror.add(mail_with(PDF), in_gmail(part_id="7"))
    assert isinstance(mirror.refusal(message, "7"), AttachmentGone)


@pytest.mark.parametrize(("kind", "size"), [("message", 0), ("message", 9), ("file", 9)])
def test_a_part_without_bytes(mirror: Mirror, kind: AttachmentKind, size: int) -> None:
    """Gmail may name a part and have nothing of it, as of a message within a message: that is no empty file."""
    message = mirror.add(mail_with(b""), replace(in_gmail(size=size), kind=kind))
    assert isinstance(mirror.refusal(message), AttachmentGone)


def test_an_empty_file(mirror: Mirror) -> None:
    """A file that holds nothing has no bytes, and that is all of it."""
    assert mirror.read(mirror.add(mail_with(b""), in_gmail(size=0))) == b""


def test_while_gmail_wants_to_be_left_alone(mirror: Mirror) -> None:
    """Until the time that Gmail named it is not asked; after that it is."""
    message = mirror.add(mail_with(PDF), in_gmail())
    until = mirror.clock.now() + timedelta(minutes=5)
    mirror.change(throttled_until=until)
    refused = mirror.refusal(message)
    assert isinstance(refused, Throttled)
    assert refused.until == until
    assert mirror.world.accounts.calls == []
    mirror.clock.advance(301)
    assert mirror.read(message) == PDF


def test_the_budget_is_asked_first(mirror: Mirror) -> None:
    """A mailbox whose quota is spent is not read from Gmail, however the level got there."""
    message = mirror.add(mail_with(PDF), in_gmail())
    mirror.world.accounts.units_per_minute = 500
    mirror.change(quota=Quota(-500.0, mirror.clock.now()))
    assert isinstance(mirror.refusal(message), Throttled)
    assert mirror.world.accounts.calls == []


@pytest.mark.parametrize("failure", [AccessRevoked, GmailUnavailable, Throttled])
def test_gmail_refuses(mirror: Mirror, failure: type[MailmirrorError]) -> None:
    """Why Gmail does not give the bytes is told by its name."""
    message = mirror.add(mail_with(PDF), in_gmail())

    def refuse(method: str, subject: str) -> None:
        raise failure("Not this one.")

    mirror.world.accounts.before = refuse
    assert type(mirror.refusal(message)) is failure


def test_the_bucket_does_not_answer(
    mirror: Mirror, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of the bucket is told as such, and is no reason to spend quota."""
    message = mirror.add(mail_with(PDF), mirror.keep(PDF))

    def refuse(name: str) -> Iterator[bytes] | None:
        raise StoreUnavailable("Cloud Storage does not answer.")

    monkeypatch.setattr(mirror.world.blobs, "read", refuse)
    assert isinstance(mirror.refusal(message), StoreUnavailable)
    assert mirror.world.accounts.calls == []
    assert told(caplog) == []
