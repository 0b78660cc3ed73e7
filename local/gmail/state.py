"""The true state of a mailbox, and the few ways it can change.

It knows messages, threads, labels and the log, and keeps them consistent: each change writes its record and stamps the
message and its thread with the record's id. It does not know the API nor what a user may do: `mailbox` does.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Sequence
from datetime import datetime
from email.message import Message
from random import Random

from local.gmail import mime
from local.gmail.clock import Clock, milliseconds
from local.gmail.history import HistoryLog, Record
from local.gmail.labels import Labels
from local.gmail.message import StoredMessage, StoredThread

_RANDOM_BITS = 20
# The last one named is the nearest relative, and In-Reply-To names the parent.
_REPLY_HEADERS = ("References", "In-Reply-To")
_MESSAGE_ID = re.compile(r"<[^<>\s]+>")
_REPLY_PREFIX = re.compile(r"^\s*((re|fw|fwd|aw|wg|sv|tr)(\[\d+\])?\s*:\s*)+", re.IGNORECASE)


class MailState:
    """Messages by id, threads by id, and the orders listings need."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self.messages: dict[str, StoredMessage] = {}
        self.threads: dict[str, StoredThread] = {}
        self.labels = Labels()
        self.log = HistoryLog(rng)
        self.order: list[tuple[int, str]] = []
        self._thread_order: list[tuple[int, str]] | None = None
        self._by_rfc822_id: dict[str, str] = {}
        # Only asked, never walked through: the order of a set is not the same in two processes.
        self._ids_given: set[str] = set()

    def add(self, raw: bytes, thread_id: str | None, label_ids: Sequence[str], dated: datetime | None) -> Record:
        """A new message, in the thread given or else in the one its headers name."""
        top = mime.parse_headers(raw)
        now = self._clock.now()
        message_id = self._new_id(now)
        message = StoredMessage(
            id=message_id,
            thread_id=thread_id or self._thread_of_headers(top) or message_id,
            label_ids=list(dict.fromkeys(label_ids)),
            internal_date=milliseconds(dated or now),
            raw=raw,
            arrived_at=now,
            rfc822_id=_first_id(mime.header(top, "Message-ID")),
            bare_subject=_bare_subject(mime.header(top, "Subject")),
        )
        self.messages[message_id] = message
        insort(self.order, message.key)
        if message.rfc822_id:
            self._by_rfc822_id[message.rfc822_id] = message_id
        self._join(message)
        return self._record(message, added=True)

    def remove(self, message: StoredMessage) -> Record:
        """Gone for ever; a thread that loses its last message goes with it."""
        record = self._record(message, deleted=True)
        del self.messages[message.id]
        del self.order[bisect_left(self.order, message.key)]
        if self._by_rfc822_id.get(message.rfc822_id) == message.id:
            del self._by_rfc822_id[message.rfc822_id]
        self._leave(message)
        return record

    def relabel(self, message: StoredMessage, added: Sequence[str], removed: Sequence[str]) -> Record:
        """Labels put on and taken off, in one record."""
        message.label_ids = [label for label in message.label_ids if label not in removed] + list(added)
        return self._record(message, labels_added=tuple(added), labels_removed=tuple(removed))

    def move(self, message: StoredMessage, thread_id: str) -> Record:
        """The same message in another thread."""
        self._leave(message)
        message.thread_id = thread_id
        self._join(message)
        return self._record(message, added=True)

    def messages_of(self, thread: StoredThread) -> list[StoredMessage]:
        """A thread's messages, oldest first."""
        return sorted((self.messages[message_id] for message_id in thread.message_ids), key=lambda message: message.key)

    def thread_order(self) -> list[tuple[int, str]]:
        """Threads by their latest message, oldest first; made when asked for, because most calls do not."""
        if self._thread_order is None:
            self._thread_order = sorted(
                (max(self.messages[message_id].internal_date for message_id in thread.message_ids), thread.id)
                for thread in self.threads.values()
            )
        return self._thread_order

    def _record(
        self,
        message: StoredMessage,
        *,
        added: bool = False,
        deleted: bool = False,
        labels_added: tuple[str, ...] = (),
        labels_removed: tuple[str, ...] = (),
    ) -> Record:
        record = Record(
            id=self.log.next_id(),
            at=self._clock.now(),
            message_id=message.id,
            thread_id=message.thread_id,
            label_ids=tuple(message.label_ids),
            added=added,
            deleted=deleted,
            labels_added=labels_added,
            labels_removed=labels_removed,
        )
        self.log.append(record)
        message.history_id = record.id
        self.threads[message.thread_id].history_id = record.id
        return record

    def _join(self, message: StoredMessage) -> None:
        self.threads.setdefault(message.thread_id, StoredThread(message.thread_id)).message_ids.append(message.id)
        self._thread_order = None

    def _leave(self, message: StoredMessage) -> None:
        thread = self.threads[message.thread_id]
        thread.message_ids.remove(message.id)
        if not thread.message_ids:
            del self.threads[thread.id]
        self._thread_order = None

    def _thread_of_headers(self, top: Message) -> str | None:
        """Gmail joins a thread when a header names one of its messages and the subject is the same."""
        named = [found for name in _REPLY_HEADERS for found in _MESSAGE_ID.findall(mime.header(top, name))]
        if not named:
            return None
        subject = _bare_subject(mime.header(top, "Subject"))
        for rfc822_id in reversed(named):
            parent = self.messages.get(self._by_rfc822_id.get(rfc822_id, ""))
            if parent and parent.bare_subject == subject:
                return parent.thread_id
        return None

    def _new_id(self, now: datetime) -> str:
        """Sixteen hexadecimal digits that grow with time, roughly; never given twice, not even after a deletion."""
        while True:
            number = milliseconds(now) << _RANDOM_BITS | self._rng.getrandbits(_RANDOM_BITS)
            message_id = f"{number:016x}"
            if message_id not in self._ids_given:
                self._ids_given.add(message_id)
                return message_id


def _first_id(value: str) -> str:
    match = _MESSAGE_ID.search(value)
    return match[0] if match else ""


def _bare_subject(subject: str) -> str:
    return " ".join(_REPLY_PREFIX.sub("", subject).split()).casefold()
