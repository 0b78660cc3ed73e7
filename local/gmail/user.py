"""What the user of a mailbox does: mail arrives, labels change, drafts are saved, messages vanish.

It knows which records each act leaves in history and when a watch is told. It does not know the API that shows them:
`mailbox` does. Acts that make no sense raise ValueError with a sentence and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any

from local.gmail.clock import Clock
from local.gmail.history import Record
from local.gmail.labels import IMMUTABLE_LABELS, Color
from local.gmail.message import StoredMessage, StoredThread
from local.gmail.state import MailState
from local.gmail.watch import Notification, Watch


class UserSide:
    """The state of a mailbox and the hands on it.

    Attributes:
        on_notification: called once for each act that an active watch wants to hear of.
        split_chance: how often a change that adds and removes labels makes two records instead of one.
    """

    def __init__(self, address: str, *, clock: Clock, rng: Random) -> None:
        self.address = address
        self.on_notification: Callable[[Notification], None] = unheard
        self.split_chance = 0.25
        self._clock = clock
        self._rng = rng
        self._state = MailState(clock, rng)
        self._watch: Watch | None = None

    def deliver(
        self,
        raw: bytes,
        *,
        thread_id: str | None = None,
        label_ids: Sequence[str] = ("INBOX", "UNREAD"),
        internal_date: datetime | None = None,
    ) -> str:
        """A message arrives, dated now unless told; its headers choose the thread unless one is given."""
        self.check_delivery(thread_id, label_ids)
        record = self._state.add(raw, thread_id, label_ids, internal_date)
        self._announce([record])
        return record.message_id

    def check_delivery(self, thread_id: str | None, label_ids: Sequence[str]) -> None:
        """Refuse what `deliver` would refuse, without delivering."""
        if thread_id is not None:
            self._thread(thread_id)
        self._check_labels(label_ids)

    def modify(self, ids: Sequence[str], add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Labels put on and taken off: at least one record for each message that changes, one notification in all."""
        messages = [self._message(message_id) for message_id in dict.fromkeys(ids)]
        refused = IMMUTABLE_LABELS.intersection([*add, *remove])
        if refused:
            raise ValueError(f"Gmail alone puts and removes the label {min(refused)}.")
        if set(add) & set(remove):
            raise ValueError("A label cannot be added and removed at the same time.")
        self._check_labels([*add, *remove])
        self._relabel(messages, add, remove)

    def trash(self, message_id: str) -> None:
        """To the trash: a change of labels, no deletion."""
        self._relabel([self._message(message_id)], ["TRASH"], ["INBOX"])

    def untrash(self, message_id: str) -> None:
        """Out of the trash: Gmail does not put it back into the inbox."""
        self._relabel([self._message(message_id)], [], ["TRASH"])

    def delete(self, ids: Sequence[str]) -> None:
        """Permanently; a thread that has no message left vanishes."""
        messages = [self._message(message_id) for message_id in dict.fromkeys(ids)]
        self._announce([self._state.remove(message) for message in messages])

    def save_draft(self, raw: bytes, draft_message_id: str | None = None) -> str:
        """An autosave: a new message id each time, in the same thread, and the previous one is deleted."""
        return self._replace_draft(raw, draft_message_id, "DRAFT")

    def send_draft(self, message_id: str) -> str:
        """The draft is deleted, a new message with SENT takes its place in the thread."""
        return self._replace_draft(self._message(message_id).raw, message_id, "SENT")

    def create_label(self, name: str) -> str:
        """A new label; history says nothing of it."""
        return self._state.labels.create(name)

    def ensure_label(self, name: str) -> str:
        """The id of the label of this name, created if there is none."""
        return self._state.labels.ensure(name)

    def rename_label(self, label_id: str, name: str) -> None:
        """The id stays, the name changes; history says nothing of it."""
        self._state.labels.rename(label_id, name)

    def recolor_label(self, label_id: str, color: Mapping[str, Any] | None) -> None:
        """Other colours, as the API writes them, or none; history says nothing of it."""
        self._state.labels.recolor(label_id, None if color is None else Color.parse(color))

    def delete_label(self, label_id: str) -> None:
        """The label goes; history has no record of that kind, but one labelsRemoved for each message that carried it.

        What Gmail does here is not documented; a label that left its messages without a record would make history
        useless.
        """
        carriers = [message for message in self._state.messages.values() if label_id in message.label_ids]
        self._state.labels.remove(label_id)
        self._relabel(carriers, [], [label_id])

    def merge_threads(self, into: str, other: str) -> None:
        """The messages of `other` move to `into`, and `other` vanishes.

        Gmail does this now and then and documents no record for it. The fake writes one messagesAdded for each message
        moved, with its unchanged id and its new threadId, and no messagesDeleted: nothing was deleted.
        """
        target, source = self._thread(into), self._thread(other)
        if target is source:
            raise ValueError("A thread cannot be merged with itself.")
        self._announce([self._state.move(message, into) for message in self._state.messages_of(source)])

    def expire_history(self, before: int | None = None) -> None:
        """Starts below `before` answer 404 from now on; without it, every id that was ever given out does.

        In the second case the head moves on without a record, and only an id read or made after it is a start that
        works.
        """
        self._state.log.expire(before)

    def active_watch(self) -> Watch | None:
        """The watch, unless it lapsed or was stopped."""
        return self._watch if self._watch and self._watch.expires_at > self._clock.now() else None

    def truth(self) -> dict[str, Any]:
        """All there is, with nothing held back by a lag: what a perfect mirror would hold, as plain JSON."""
        return {
            "messages": {message_id: message.truth() for message_id, message in self._state.messages.items()},
            "labels": {label["id"]: label for label in self._state.labels.to_api(colors=True)},
            "historyId": self._state.log.head,
        }

    def _replace_draft(self, raw: bytes, previous_id: str | None, label: str) -> str:
        previous = self._message(previous_id) if previous_id is not None else None
        if previous and "DRAFT" not in previous.label_ids:
            raise ValueError(f"The message {previous.id} is no draft.")
        # The new one first: a thread of nothing but this draft must not vanish in between.
        records = [self._state.add(raw, previous.thread_id if previous else None, [label], None)]
        if previous:
            records.append(self._state.remove(previous))
        self._announce(records)
        return records[0].message_id

    def _relabel(self, messages: Sequence[StoredMessage], add: Sequence[str], remove: Sequence[str]) -> None:
        records: list[Record] = []
        for message in messages:
            added = [label for label in dict.fromkeys(add) if label not in message.label_ids]
            removed = [label for label in dict.fromkeys(remove) if label in message.label_ids]
            if added and removed and self._rng.random() < self.split_chance:
                # Both are seen in the field: one record with two kinds, two records with one each.
                records.append(self._state.relabel(message, added, []))
                added = []
            if added or removed:
                records.append(self._state.relabel(message, added, removed))
        self._announce(records)

    def _announce(self, records: Sequence[Record]) -> None:
        """One notification for one act; with the true head, however much history lags behind it."""
        watch = self.active_watch()
        if watch and records and watch.wants(records):
            self._notify(watch)

    def _notify(self, watch: Watch) -> None:
        self.on_notification(Notification(watch.topic, self.address, self._state.log.head, self._clock.now()))

    def _message(self, message_id: str) -> StoredMessage:
        message = self._state.messages.get(message_id)
        if message is None:
            raise ValueError(f"There is no message {message_id} in {self.address}.")
        return message

    def _thread(self, thread_id: str) -> StoredThread:
        thread = self._state.threads.get(thread_id)
        if thread is None:
            raise ValueError(f"There is no thread {thread_id} in {self.address}.")
        return thread

    def _check_labels(self, label_ids: Sequence[str]) -> None:
        for label_id in label_ids:
            if label_id not in self._state.labels:
                raise ValueError(f"There is no label {label_id} in {self.address}.")


def unheard(notification: Notification) -> None:
    """Nobody listens: the notification is lost, as it may be."""
