"""History: Gmail's change log, folded into one net change per message.

Knows: how records add up. Does not know: what is mirrored, or Gmail's API. Law 3 starts here: a fold can be repeated on
any overlapping window and ends in the same state.

A record can hold several kinds of change, and one message can be in many records. A deletion wins over everything else,
because a message id never comes back. Trash and spam are label changes (discovery document, `History.messagesDeleted`:
"not Trashed").
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mailmirror.model import HistoryId, LabelId, MessageId, MessageRef, Record, ThreadId


@dataclass(frozen=True, slots=True)
class Step:
    """One record's change of a message's labels."""

    record_id: HistoryId
    added: frozenset[LabelId] = frozenset()
    removed: frozenset[LabelId] = frozenset()


@dataclass(frozen=True, slots=True)
class NetChange:
    """What a stretch of history did to one message.

    Attributes:
        first, last: the first and last record that touched it.
        added: a record says that it was added.
        deleted: a record says that it was deleted for good.
        told: the labels as the records tell them; None when none of them does.
        steps: the label changes, oldest first.
    """

    message_id: MessageId
    thread_id: ThreadId
    first: HistoryId
    last: HistoryId
    added: bool = False
    deleted: bool = False
    told: frozenset[LabelId] | None = None
    steps: tuple[Step, ...] = ()


def replay(labels: frozenset[LabelId], steps: Iterable[Step], *, after: HistoryId) -> frozenset[LabelId]:
    """Return `labels` as of history id `after` with the later steps applied."""
    for step in steps:
        if step.record_id > after:
            labels = (labels | step.added) - step.removed
    return labels


class _Tally:
    """The net change of one message while its records are read."""

    __slots__ = ("added", "deleted", "first", "last", "steps", "thread_id", "told")

    def __init__(self, ref: MessageRef, record_id: HistoryId) -> None:
        self.thread_id = ref.thread_id
        self.first = self.last = record_id
        self.added = self.deleted = False
        self.told: frozenset[LabelId] | None = None
        self.steps: list[Step] = []


def fold(records: Iterable[Record]) -> list[NetChange]:
    """Fold history records into net changes.

    Args:
        records: records in the order of their ids.

    Returns:
        One net change per message, in the order of their first records.
    """
    tallies: dict[MessageId, _Tally] = {}

    def tally(ref: MessageRef, record_id: HistoryId) -> _Tally:
        found = tallies.get(ref.id)
        if found is None:
            found = tallies[ref.id] = _Tally(ref, record_id)
        found.last = max(found.last, record_id)
        found.thread_id = ref.thread_id or found.thread_id
        return found

    for record in records:
        for ref in record.messages_added:
            change = tally(ref, record.id)
            change.added = True
            change.told = ref.label_ids
        for step in record.labels_added:
            _step(tally(step.message, record.id), step.message, Step(record.id, added=step.label_ids))
        for step in record.labels_removed:
            _step(tally(step.message, record.id), step.message, Step(record.id, removed=step.label_ids))
        for ref in record.messages_deleted:
            tally(ref, record.id).deleted = True
    return [
        NetChange(message_id, t.thread_id, t.first, t.last, t.added, t.deleted, t.told, tuple(t.steps))
        for message_id, t in tallies.items()
    ]


def _step(change: _Tally, ref: MessageRef, step: Step) -> None:
    change.steps.append(step)
    # Whether a record's labelIds are those of its time or of now is not documented; adding the step gives the same
    # either way.
    base = ref.label_ids if ref.label_ids is not None else change.told
    change.told = None if base is None else (base | step.added) - step.removed
