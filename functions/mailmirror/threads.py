"""Thread documents: everything that one says is derived from its messages, and it stays below 1 MiB.

Knows: what it repeats of a message, what follows from all, and how a long thread is fitted in. Does not know: what
changes a thread (`mirror`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from mailmirror.documents import to_document
from mailmirror.model import Address, Entry, LabelId, Message, MessageId, Thread
from mailmirror.slice import MAX_DOCUMENT, weigh

MAX_PARTICIPANTS = 100
# Characters repeated of subject and snippet, of the sender's name and address.
MAX_SUMMARY = 500
MAX_NAME = 100
MAX_ADDRESS = 320
# Its most bytes. Beyond, all but the oldest and newest repeat so many characters, at last no sender.
THREAD_BYTES = 1_000_000
SHORTER = (100, 20, 0)
WHOLE = 10
# Without summaries: room for later labels. Some 1,000 fit; Gmail begins a new thread after 100.
BARE_BYTES = 800_000
# What a reader calls attachments.
_ATTACHMENTS = frozenset({"file", "message"})


def entry_of(message: Message) -> Entry:
    """Return a message as its thread lists it."""
    sender = message.headers.from_
    return Entry(
        label_ids=message.label_ids,
        internal_date=message.internal_date,
        history_id=message.history_id,
        from_=Address(sender.name[:MAX_NAME], sender.address[:MAX_ADDRESS]),
        subject=message.headers.subject[:MAX_SUMMARY],
        snippet=message.snippet[:MAX_SUMMARY],
        has_attachments=any(attachment.kind in _ATTACHMENTS for attachment in message.attachments),
        stored=message.body.stored,
        objects=len(message.objects),
    )


def thread_document(thread: Thread) -> dict[str, Any]:
    """Return the document of a thread with at least one message.

    Subject of the oldest message, snippet of the newest, messages and senders oldest first.
    """
    by_age = sorted(thread.messages.items(), key=lambda item: (item[1].internal_date, item[0]))
    document = _document(thread, by_age)
    if _sum(thread.messages.values()) > THREAD_BYTES:
        for most in SHORTER:
            if weigh(document) <= THREAD_BYTES:
                break
            middle = [(message_id, _shorter(entry, most)) for message_id, entry in by_age[WHOLE:-WHOLE]]
            document = _document(thread, [*by_age[:WHOLE], *middle, *by_age[-WHOLE:]])
    return document


def _document(thread: Thread, by_age: list[tuple[MessageId, Entry]]) -> dict[str, Any]:
    entries = [entry for _, entry in by_age]
    label_ids = frozenset[LabelId]().union(*(entry.label_ids for entry in entries))
    unread = sum("UNREAD" in entry.label_ids for entry in entries)
    return to_document(replace(thread, messages=dict(by_age))) | {
        "subject": entries[0].subject,
        "participants": [to_document(sender) for sender in _senders(entries)][:MAX_PARTICIPANTS],
        "messageIds": [message_id for message_id, _ in by_age],
        "messageCount": len(entries),
        "unreadCount": unread,
        "unread": unread > 0,
        "starred": "STARRED" in label_ids,
        "hasAttachments": any(entry.has_attachments for entry in entries),
        "labelIds": sorted(label_ids),
        "firstMessageAt": entries[0].internal_date,
        "lastMessageAt": entries[-1].internal_date,
        "snippet": entries[-1].snippet,
    }


def _shorter(entry: Entry, most: int) -> Entry:
    sender = entry.from_ if most else Address()
    return replace(entry, from_=sender, subject=entry.subject[:most], snippet=entry.snippet[:most])


def has_room(entries: Iterable[Entry], entry: Entry) -> bool:
    """Return whether one more fits, be it without summaries."""
    return sum(640 + 40 * len(each.label_ids) for each in (*entries, entry)) <= BARE_BYTES


def thread_weight(entries: Iterable[Entry]) -> int:
    """Return the most bytes of a thread's document."""
    return min(MAX_DOCUMENT, _sum(entries))


def entry_weight(entry: Entry) -> int:
    """Return the most bytes an entry adds."""
    sender = len(entry.from_.name) + len(entry.from_.address)
    return 900 + 80 * len(entry.label_ids) + 4 * (2 * sender + len(entry.subject) + len(entry.snippet))


def _sum(entries: Iterable[Entry]) -> int:
    return 6_000 + sum(map(entry_weight, entries))


def _senders(entries: Iterable[Entry]) -> Iterator[Address]:
    names: dict[str, Address] = {}
    for sender in (entry.from_ for entry in entries):
        # Without an address, by name.
        known = names.setdefault(sender.address or sender.name, sender)
        if not known.name:
            names[sender.address or sender.name] = sender
    return (sender for key, sender in names.items() if key)
