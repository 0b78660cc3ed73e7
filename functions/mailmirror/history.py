"""History: Gmail's change log, folded into one net change per message.

Knows: how records add up. Does not know: what is mirrored, or Gmail's API. Law 3 starts here: a fold repeated on any
overlapping window ends in the same state.

A record has changes of several kinds, a message many records. A deletion wins: a message id never comes back. Trash and
spam are label changes (discovery document, `History.messagesDeleted`: "not Trashed").
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mailmirror.model import HistoryId, LabelId, MessageId, MessageRef, Record, ThreadId


@dataclass(frozen=True, slots=True)
class Step:
    """A record's change of labels."""

    record_id: HistoryId
    added: frozenset[LabelId] = frozenset()
    removed: frozenset[LabelId] = frozenset()


@dataclass(frozen=True, slots=True)
class NetChange:
    """What records `first` to `last` did to one message, and the labels they tell, if any."""

    message_id: MessageId
    thread_id: ThreadId
    first: HistoryId
    last: HistoryId
    added: bool = False
    deleted: bool = False
    told: frozenset[LabelId] | None = None
    steps: tuple[Step, ...] = ()


def replay(labels: frozenset[LabelId], steps: Iterable[Step], *, after: HistoryId) -> frozenset[LabelId]:
    """Return `labels` as of `after` with the later steps applied."""
    for step in steps:
        if step.record_id > after:
            labels = (labels | step.added) - step.removed
    return labels


class _Tally:
    """A net change while records are read."""

    def __init__(self, ref: MessageRef, record_id: HistoryId) -> None:
        self.thread_id = ref.thread_id
        self.first = self.last = record_id
        self.added = self.deleted = False
        self.told: frozenset[LabelId] | None = None
        self.steps: list[Step] = []


def fold(records: Iterable[Record]) -> list[NetChange]:
    """Fold records, in the order of ids, into a net change per message, in the order of first records."""
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
    # Not documented: whether labelIds are of a record's time or of now. Adding the step suits both.
    base = ref.label_ids if ref.label_ids is not None else change.told
    change.told = None if base is None else (base | step.added) - step.removed
