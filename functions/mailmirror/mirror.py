"""What has to be written so that threads and messages equal Gmail after some edits.

Knows: the documents that an edit changes, its delta, and what fits into a commit. Does not know: what a thread document
says (`threads`), store or lease. Law 3: an edit applied twice, or on a newer copy, changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mailmirror.documents import to_document
from mailmirror.headers import recipients
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
from mailmirror.slice import MIRROR_BYTES, MIRROR_WRITES, Slice, Write, weigh
from mailmirror.threads import entry_of, entry_weight, has_room, thread_document, thread_weight

OUTDATED = "Gmail gave a copy that is older than the mirror's."
CROWDED = "Its thread has more messages than one document can list."
NO_BODY = Body(stored="none")
# In all places.
_LABEL_WEIGHT = 200


@dataclass(frozen=True, slots=True)
class Bring:
    """Write a fetched message; `steps` may be newer. A known one is replaced if `rewrite`, if only one of copy and
    mirror has a body, or if the copy has objects: they must be named.
    """

    message: Message
    steps: tuple[Step, ...] = ()
    rewrite: bool = False


@dataclass(frozen=True, slots=True)
class Relabel:
    """Apply label changes to a mirrored message."""

    message_id: MessageId
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Refresh:
    """Set the labels to Gmail's at a history id."""

    message_id: MessageId
    label_ids: frozenset[LabelId]
    history_id: HistoryId


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a message."""

    message_id: MessageId
    record_id: HistoryId = 0


@dataclass(frozen=True, slots=True)
class Strip:
    """Remove body, attachments and objects of a message."""

    message_id: MessageId


@dataclass(frozen=True, slots=True)
class Confirm:
    """A thread is compared up to there."""

    thread_id: ThreadId
    history_id: HistoryId


Edit = Bring | Relabel | Refresh | Remove | Strip | Confirm


class Sheet:
    """Threads as stored, and edits to them; serves while the lease is held and its slices are committed in order."""

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
            known: every thread an edit names, if it is mirrored.
            policy: a message that it does not want leaves the mirror.
            looked_up: threads, mirrored or not.
            wary: a message that seems new may have a document; else its commit is refused.
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
        # To be fetched again.
        self.outdated: list[MessageId] = []
        self.crowded: dict[MessageId, ThreadId] = {}
        self.wary = wary
        self.looked_up: set[ThreadId] = set()
        self.add(known, looked_up)

    def add(self, known: Mapping[ThreadId, Thread], looked_up: Iterable[ThreadId] = ()) -> None:
        """Take in more threads; known ones stay."""
        self.looked_up.update(known, looked_up)
        for thread_id, thread in known.items():
            if thread_id not in self.entries:
                self.entries[thread_id] = dict(thread.messages)
                self.history_ids[thread_id] = thread.history_id
                self.stored.add(thread_id)
                for message_id in thread.messages:
                    self.places.setdefault(message_id, []).append(thread_id)

    def entry(self, message_id: MessageId) -> Entry | None:
        """Return a message as mirrored."""
        found = self.found(message_id)
        return found[-1][1] if found else None

    def place(self, message_id: MessageId) -> ThreadId | None:
        """Return the thread that lists a message."""
        found = self.found(message_id)
        return found[-1][0] if found else None

    def found(self, message_id: MessageId) -> list[tuple[ThreadId, Entry]]:
        """Return the threads that list a message: two while Gmail moves it."""
        return [(place, self.entries[place][message_id]) for place in self.places.get(message_id, ())]

    def slices(self, edits: Iterable[Edit]) -> list[Slice]:
        """Apply edits in order and return what to write; what cannot be is in `outdated` or `crowded`."""
        parts: list[Slice] = []
        for edit in edits:
            if self.dirty and self.weight + self._weight(edit) > self.max_bytes:
                parts.append(self._close())
            self._apply(edit)
            # Two threads may list one.
            if len(self.writes) + len(self.dirty) > self.max_writes - 4:
                parts.append(self._close())
        rest = self._close()
        return [*parts, rest] if rest.writes else parts

    def _weight(self, edit: Edit) -> int:
        """Return the most bytes that an edit may add."""
        if isinstance(edit, Confirm):
            return self._thread_weight(edit.thread_id)
        message_id = edit.message.id if isinstance(edit, Bring) else edit.message_id
        threads = dict.fromkeys(self.places.get(message_id, ()))
        labels = max((len(entry.label_ids) for _, entry in self.found(message_id)), default=0)
        weight = 1_000
        match edit:
            case Bring(message, steps):
                threads[message.thread_id] = None
                labels += len(message.label_ids) + sum(len(step.added) for step in steps)
                weight += weigh(message_document(message))
            case Relabel(_, steps):
                labels += sum(len(step.added) for step in steps)
            case Refresh(_, label_ids):
                labels += len(label_ids)
        return weight + _LABEL_WEIGHT * labels + sum(map(self._thread_weight, threads))

    def _thread_weight(self, thread_id: ThreadId) -> int:
        """Likewise, a thread."""
        if thread_id in self.dirty:
            return 0
        return thread_weight(self.entries.get(thread_id, {}).values())

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
        if _incomplete(message) and not self.policy.wants(message.label_ids, message.internal_date):
            # Not wanted when read: not in the bucket.
            self.outdated.append(message.id)
            return
        current = replace(message, label_ids=labels, history_id=history_id)
        new = entry_of(current)
        if message.thread_id not in places and not has_room(self.entries.get(message.thread_id, {}).values(), new):
            self.crowded[message.id] = message.thread_id
            return
        had_objects = any(entry.objects for _, entry in self.found(message.id))
        for place in places:
            if place != message.thread_id:
                # Gmail moved it.
                self._drop_entry(message.id, place, history_id)
                self._note(Change("messageDeleted", message.id, place))
        entry = self.entries.get(message.thread_id, {}).get(message.id)
        if entry is not None and places == (message.thread_id,):
            same = (entry.stored == "none") == (message.body.stored == "none") and not message.objects
            if same and not edit.rewrite:
                self._relabel(message.id, message.thread_id, entry, labels, history_id)
                return
            self._note_labels(message.id, message.thread_id, entry.label_ids, labels)
        else:
            self._note(Change("messageAdded", message.id, message.thread_id, tuple(sorted(labels))))
        if entry is None:
            self.messages += 1
            self.places.setdefault(message.id, []).append(message.thread_id)
        if had_objects:
            self.blobs.append(message.id)
        self.entries.setdefault(message.thread_id, {})[message.id] = new
        self.weight += entry_weight(new)
        document = message_document(current) | {"origin": self.origin, "syncedAt": self.now}
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
        # Even to nothing: the message was there.
        self.entries[thread_id][message_id] = replace(entry, label_ids=labels, history_id=history_id)
        self._note_labels(message_id, thread_id, entry.label_ids, labels)
        fields = {"labelIds": sorted(labels), "historyId": history_id, "syncedAt": self.now}
        self._write(Write("merge", ("messages", message_id), fields))
        self._touch(thread_id, history_id)

    def _strip(self, message_id: MessageId) -> None:
        for place, entry in self.found(message_id):
            if entry.stored == "none":
                continue
            if entry.objects:
                self.blobs.append(message_id)
            self.entries[place][message_id] = replace(entry, stored="none", has_attachments=False, objects=0)
            fields = {"body": to_document(NO_BODY), "attachments": [], "objects": [], "syncedAt": self.now}
            self._write(Write("merge", ("messages", message_id), fields))
            self._touch(place, entry.history_id)

    def _remove(self, message_id: MessageId, thread_id: ThreadId, history_id: HistoryId) -> None:
        if self.entries[thread_id][message_id].objects:
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
        self.weight += self._thread_weight(thread_id)
        self.dirty[thread_id] = None

    def _write(self, write: Write) -> None:
        self.writes.append(write)
        self.weight += 200 if write.data is None else weigh(write.data)

    def _close(self) -> Slice:
        """Return the slice and start the next."""
        before, writes = len(self.stored), list(self.writes)
        for thread_id in self.dirty:
            held = self.entries[thread_id]
            if held:
                thread = Thread(thread_id, self.history_ids[thread_id], held)
                writes.append(Write("put", ("threads", thread_id), thread_document(thread)))
                self.stored.add(thread_id)
            elif thread_id in self.stored:
                writes.append(Write("delete", ("threads", thread_id)))
                self.stored.discard(thread_id)
        grown = len(self.stored) - before
        part = Slice(tuple(writes), tuple(self.changes), self.messages, grown, tuple(self.blobs))
        self.writes, self.dirty, self.changes, self.blobs = [], {}, [], []
        self.messages = self.weight = 0
        return part


def message_document(message: Message) -> dict[str, Any]:
    """Return the document of a message, without `syncedAt` and `origin`."""
    return to_document(message) | {"recipients": recipients(message.headers, message.truncated)}


def without_body(message: Message) -> Message:
    """Return a message without body and attachments."""
    truncated = tuple(name for name in message.truncated if not name.startswith(("body.", "attachments")))
    return replace(message, body=NO_BODY, attachments=(), objects=(), truncated=truncated)


def _incomplete(message: Message) -> bool:
    """Return whether something is neither in it nor in the bucket."""
    return message.body.truncated or "attachments.uri" in message.truncated
