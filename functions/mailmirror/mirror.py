"""The mirror: what has to be written so that threads and messages equal Gmail after some edits.

Knows: the documents of messages and threads, what a thread document says about its messages, and the delta entries an
edit leaves. Does not know: where edits come from, the store, or the lease. It keeps the mirror's half of law 3: an edit
applied twice, or on a newer copy, changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mailmirror.documents import to_document
from mailmirror.history import Step, replay
from mailmirror.model import (
    Body,
    Change,
    Entry,
    HistoryId,
    LabelId,
    Message,
    MessageId,
    Origin,
    Policy,
    Thread,
    ThreadId,
)
from mailmirror.slice import MAX_DOCUMENT, MIRROR_BYTES, MIRROR_WRITES, Slice, Write, weigh

MAX_PARTICIPANTS = 100
OUTDATED = "Gmail gave a copy that is older than the mirror's."
# Sender, subject and snippet as a thread document repeats them, in characters each; the message document has them
# whole.
MAX_SUMMARY = 500
NO_BODY = Body(stored="none")


@dataclass(frozen=True, slots=True)
class Bring:
    """Write a fetched message. `steps` are label changes that may be newer than the copy; `rewrite` replaces a known
    one, and so does a copy that has a body where the mirror has none, or the other way round.
    """

    message: Message
    steps: tuple[Step, ...] = ()
    rewrite: bool = False


@dataclass(frozen=True, slots=True)
class Relabel:
    """Apply label changes to a message that is mirrored."""

    message_id: MessageId
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Refresh:
    """Set a mirrored message's labels to what Gmail said at a history id."""

    message_id: MessageId
    label_ids: frozenset[LabelId]
    history_id: HistoryId


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a message that does not exist any more."""

    message_id: MessageId
    record_id: HistoryId = 0


@dataclass(frozen=True, slots=True)
class Strip:
    """Take away the body of a mirrored message, and what it tells of attachments: the policy leaves bodies out."""

    message_id: MessageId


@dataclass(frozen=True, slots=True)
class Confirm:
    """Note that a thread was compared with Gmail at a history id."""

    thread_id: ThreadId
    history_id: HistoryId


Edit = Bring | Relabel | Refresh | Remove | Strip | Confirm


class Sheet:
    """Threads as stored, the edits made to them, and what has to be written for it.

    One sheet serves as long as the lease is held and its slices are committed in order: it knows what the ones before
    wrote.
    """

    def __init__(
        self,
        known: Mapping[ThreadId, Thread],
        *,
        policy: Policy,
        origin: Origin,
        now: datetime,
        looked_up: Iterable[ThreadId] = (),
        wary: bool = False,
        max_writes: int = MIRROR_WRITES,
        max_bytes: int = MIRROR_BYTES,
    ) -> None:
        """Start from the mirror as it is.

        Args:
            known: mirrored threads; every thread an edit names must be among them, or not be mirrored.
            policy: which messages are mirrored, and whether with their bodies; a message that it does not want leaves
                the mirror.
            origin: what brought the edits.
            now: the time of `syncedAt`.
            looked_up: the threads that were looked for, mirrored or not.
            wary: whether a message that seems to be new may have a document all the same; otherwise the commit that
                brings it is refused in that case.
            max_writes, max_bytes: the most a slice may hold.
        """
        self.policy = policy
        self.origin = origin
        self.now = now
        self.max_writes = max_writes
        self.max_bytes = max_bytes
        self.entries: dict[ThreadId, dict[MessageId, Entry]] = {}
        self.history_ids: dict[ThreadId, HistoryId] = {}
        self.places: dict[MessageId, list[ThreadId]] = {}
        self.stored: set[ThreadId] = set()
        self.writes: list[Write] = []
        self.dirty: dict[ThreadId, None] = {}
        self.changes: list[Change] = []
        self.blobs: list[MessageId] = []
        self.messages = 0
        self.weight = 0
        # Messages of which Gmail gave a copy older than the mirror's: they have to be fetched again.
        self.outdated: list[MessageId] = []
        self.wary = wary
        self.looked_up: set[ThreadId] = set()
        self.add(known, looked_up)

    def add(self, known: Mapping[ThreadId, Thread], looked_up: Iterable[ThreadId] = ()) -> None:
        """Take in more threads as stored; those already on the sheet stay as they are."""
        self.looked_up.update(known, looked_up)
        for thread_id, thread in known.items():
            if thread_id not in self.entries:
                self.entries[thread_id] = dict(thread.messages)
                self.history_ids[thread_id] = thread.history_id
                self.stored.add(thread_id)
                for message_id in thread.messages:
                    self.places.setdefault(message_id, []).append(thread_id)

    def entry(self, message_id: MessageId) -> Entry | None:
        """Return the message as mirrored, None if it is not."""
        found = self.found(message_id)
        return found[-1][1] if found else None

    def place(self, message_id: MessageId) -> ThreadId | None:
        """Return the thread that lists the message, None if it is not mirrored."""
        found = self.found(message_id)
        return found[-1][0] if found else None

    def found(self, message_id: MessageId) -> list[tuple[ThreadId, Entry]]:
        """Return the threads that list the message: one, or two while Gmail is moving it."""
        return [(place, self.entries[place][message_id]) for place in self.places.get(message_id, ())]

    def slices(self, edits: Iterable[Edit]) -> list[Slice]:
        """Apply edits and return what has to be written, cut to what one commit may hold; nothing when nothing changes.

        Args:
            edits: in the order in which they happened. Copies older than the mirror's are noted in `outdated`.
        """
        parts: list[Slice] = []
        for edit in edits:
            self._apply(edit)
            # A slice closes before the next edit could overflow it: that may write a message that two threads list.
            full = len(self.writes) + len(self.dirty) > self.max_writes - 4
            if full or self.weight > self.max_bytes - MAX_DOCUMENT:
                parts.append(self._close())
        rest = self._close()
        return [*parts, rest] if rest.writes else parts

    def _apply(self, edit: Edit) -> None:
        match edit:
            case Bring():
                self._bring(edit)
            case Relabel(message_id, steps):
                newest = max((step.record_id for step in steps), default=0)
                for place, entry in self.found(message_id):
                    labels = replay(entry.label_ids, steps, after=entry.history_id)
                    self._relabel(message_id, place, entry, labels, newest)
            case Refresh(message_id, label_ids, history_id):
                for place, entry in self.found(message_id):
                    if history_id < entry.history_id:
                        self.outdated.append(message_id)
                    else:
                        self._relabel(message_id, place, entry, label_ids, history_id)
            case Remove(message_id, record_id):
                for place, _ in self.found(message_id):
                    self._remove(message_id, place, record_id)
            case Strip(message_id):
                self._strip(message_id)
            case Confirm(thread_id, history_id):
                if thread_id in self.entries and history_id > self.history_ids[thread_id]:
                    self._touch(thread_id, history_id)

    def _bring(self, edit: Bring) -> None:
        message = edit.message if self.policy.bodies else without_body(edit.message)
        labels = replay(message.label_ids, edit.steps, after=message.history_id)
        history_id = max([message.history_id, *(step.record_id for step in edit.steps)])
        places = tuple(self.places.get(message.id, ()))
        if any(message.history_id < entry.history_id for _, entry in self.found(message.id)):
            self.outdated.append(message.id)
            return
        if not self.policy.wants(labels, message.internal_date):
            for place in places:
                self._remove(message.id, place, history_id)
            return
        if message.body.truncated and not self.policy.wants(message.label_ids, message.internal_date):
            # When it was read it was not wanted, and so its body was not stored.
            self.outdated.append(message.id)
            return
        stored = {entry.stored for _, entry in self.found(message.id)}
        for place in places:
            if place != message.thread_id:
                # Gmail moved the message to another thread: the old one loses it in the commit that gives it to the new
                # one.
                self._drop_entry(message.id, place, history_id)
                self._note(Change("messageDeleted", message.id, place))
        entry = self.entries.get(message.thread_id, {}).get(message.id)
        if entry is not None and places == (message.thread_id,):
            if not edit.rewrite and (entry.stored == "none") == (message.body.stored == "none"):
                self._relabel(message.id, message.thread_id, entry, labels, history_id)
                return
            self._note_labels(message.id, message.thread_id, entry.label_ids, labels)
        else:
            self._note(Change("messageAdded", message.id, message.thread_id, tuple(sorted(labels))))
        if entry is None:
            self.messages += 1
            self.places.setdefault(message.id, []).append(message.thread_id)
        entry = Entry(
            label_ids=labels,
            internal_date=message.internal_date,
            history_id=history_id,
            from_=message.headers.from_[:MAX_SUMMARY],
            subject=message.headers.subject[:MAX_SUMMARY],
            snippet=message.snippet[:MAX_SUMMARY],
            stored=message.body.stored,
        )
        if "storage" in stored and entry.stored != "storage":
            self.blobs.append(message.id)
        self.entries.setdefault(message.thread_id, {})[message.id] = entry
        self.weight += _entry_weight(entry)
        current = replace(message, label_ids=labels, history_id=history_id)
        document = to_document(current) | {"origin": self.origin, "syncedAt": self.now}
        self._write(Write("put" if places or self.wary else "create", ("messages", message.id), document))
        self._touch(message.thread_id, history_id)

    def _relabel(
        self,
        message_id: MessageId,
        thread_id: ThreadId,
        entry: Entry,
        labels: frozenset[LabelId],
        history_id: HistoryId,
    ) -> None:
        if not self.policy.wants(labels, entry.internal_date):
            self._remove(message_id, thread_id, history_id)
            return
        if history_id <= entry.history_id and labels == entry.label_ids:
            return
        # A change that comes to nothing still moves the history id: it proves that the message was there then.
        self.entries[thread_id][message_id] = replace(entry, label_ids=labels, history_id=history_id)
        self._note_labels(message_id, thread_id, entry.label_ids, labels)
        fields = {"labelIds": sorted(labels), "historyId": history_id, "syncedAt": self.now}
        self._write(Write("merge", ("messages", message_id), fields))
        self._touch(thread_id, history_id)

    def _strip(self, message_id: MessageId) -> None:
        for place, entry in self.found(message_id):
            if entry.stored == "none":
                continue
            if entry.stored == "storage":
                self.blobs.append(message_id)
            self.entries[place][message_id] = replace(entry, stored="none")
            fields = {"body": to_document(NO_BODY), "attachments": [], "syncedAt": self.now}
            self._write(Write("merge", ("messages", message_id), fields))
            self._touch(place, entry.history_id)

    def _remove(self, message_id: MessageId, thread_id: ThreadId, history_id: HistoryId) -> None:
        if self.entries[thread_id][message_id].stored == "storage":
            self.blobs.append(message_id)
        self._drop_entry(message_id, thread_id, history_id)
        self._note(Change("messageDeleted", message_id, thread_id))
        self._write(Write("delete", ("messages", message_id)))

    def _drop_entry(self, message_id: MessageId, thread_id: ThreadId, history_id: HistoryId) -> None:
        del self.entries[thread_id][message_id]
        self.places[message_id].remove(thread_id)
        self.messages -= 1
        self._touch(thread_id, history_id)

    def _note_labels(
        self, message_id: MessageId, thread_id: ThreadId, before: frozenset[LabelId], after: frozenset[LabelId]
    ) -> None:
        if before != after:
            added, removed = tuple(sorted(after - before)), tuple(sorted(before - after))
            self._note(Change("labelsChanged", message_id, thread_id, added, removed))

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        self.weight += 200 + sum(20 + len(label) for label in (*change.labels_added, *change.labels_removed))

    def _touch(self, thread_id: ThreadId, history_id: HistoryId) -> None:
        self.history_ids[thread_id] = max(self.history_ids.get(thread_id, 0), history_id)
        if thread_id not in self.dirty:
            self.dirty[thread_id] = None
            self.weight += 6_000 + sum(map(_entry_weight, self.entries[thread_id].values()))

    def _write(self, write: Write) -> None:
        self.writes.append(write)
        self.weight += 200 if write.data is None else weigh(write.data)

    def _close(self) -> Slice:
        """Return what has been gathered and start the next slice from there."""
        before = len(self.stored)
        writes = list(self.writes)
        for thread_id in self.dirty:
            held = self.entries[thread_id]
            if held:
                thread = Thread(thread_id, self.history_ids[thread_id], held)
                writes.append(Write("put", ("threads", thread_id), thread_document(thread)))
                self.stored.add(thread_id)
            elif thread_id in self.stored:
                writes.append(Write("delete", ("threads", thread_id)))
                self.stored.discard(thread_id)
        part = Slice(
            tuple(writes),
            tuple(self.changes),
            self.messages,
            len(self.stored) - before,
            tuple(self.blobs),
        )
        self.writes, self.dirty, self.changes, self.blobs = [], {}, [], []
        self.messages = self.weight = 0
        return part


def without_body(message: Message) -> Message:
    """Return a message as it is mirrored where the policy leaves bodies out, what it tells of attachments included."""
    return message if message.body == NO_BODY else replace(message, body=NO_BODY, attachments=())


def thread_document(thread: Thread) -> dict[str, Any]:
    """Return the document of a thread, everything in it derived from its messages.

    Args:
        thread: a thread with at least one message.

    Returns:
        The fields of `mailboxes/{m}/threads/{id}`: subject of the oldest message, snippet of the newest, senders oldest
        first.
    """
    by_age = sorted(thread.messages.items(), key=lambda item: (item[1].internal_date, item[0]))
    entries = [entry for _, entry in by_age]
    return to_document(thread) | {
        "subject": entries[0].subject,
        "participants": list(_distinct(entry.from_ for entry in entries))[:MAX_PARTICIPANTS],
        "messageCount": len(entries),
        "unreadCount": sum("UNREAD" in entry.label_ids for entry in entries),
        "labelIds": sorted(frozenset().union(*(entry.label_ids for entry in entries))),
        "firstMessageAt": entries[0].internal_date,
        "lastMessageAt": entries[-1].internal_date,
        "snippet": entries[-1].snippet,
    }


def _entry_weight(entry: Entry) -> int:
    """Return the bytes an entry adds to its thread document at the most, a character being up to four."""
    return 600 + 80 * len(entry.label_ids) + 4 * (2 * len(entry.from_) + len(entry.subject) + len(entry.snippet))


def _distinct(items: Iterable[str]) -> dict[str, None]:
    return {item: None for item in items if item}
