"""A mailbox that Hypothesis makes up: what happens to its mail, what history tells of it, and what it held at any time.

Knows: the rules of Gmail's history: ids grow and leave gaps, a record can hold several messages and several kinds of
change, a message that moves is added once more with its new thread, no message id comes back. Does not know: how
records are folded, planned or written; of the code under test only the values of `model` are used. The promise of a
mirror is read off here: `shown` is what it has to hold.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from hypothesis import strategies as st
from mailmirror.model import (
    Address,
    Attachment,
    Body,
    Headers,
    HistoryId,
    LabelId,
    LabelStep,
    Message,
    MessageId,
    MessageRef,
    Policy,
    Record,
    ThreadId,
)

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
# Ids soon have a digit more: compared as text they would be out of order.
FIRST = 7

Kind = Literal["add", "draft", "send", "save", "label", "trash", "untrash", "spam", "move", "delete", "nothing"]
Telling = Literal["then", "now", "added", "never"]
# Thread and labels of a message.
Shown = tuple[ThreadId, frozenset[LabelId]]
State = Mapping[MessageId, Message]


@dataclass(frozen=True)
class Act:
    """Something that happens in one record; what cannot happen to a message does not happen to it.

    Attributes:
        kind: what happens.
        which: the messages that it happens to, by their numbers.
        thread: where a message comes or moves to.
        add, remove: labels that are put on and taken off.
        gap: how far the history id moves on.
    """

    kind: Kind
    which: frozenset[int] = frozenset()
    thread: ThreadId = "t1"
    add: frozenset[LabelId] = frozenset()
    remove: frozenset[LabelId] = frozenset()
    gap: int = 1


@dataclass(frozen=True)
class Line:
    """What a record says of one message: the message just after the change, or just before it was deleted."""

    kind: Literal["added", "deleted", "labelled"]
    message: Message
    added: frozenset[LabelId] = frozenset()
    removed: frozenset[LabelId] = frozenset()


@dataclass
class Mailbox:
    """A mailbox and all that it ever was.

    Attributes:
        telling: whether records give labels and thread as they were then or as they are when history is read; or labels
            only of messages that are added, or of none.
        ids: of all records, after the id from before the first.
        lines: what each record says.
        states: the messages after each record.
    """

    telling: Telling = "then"
    ids: list[HistoryId] = field(default_factory=lambda: [FIRST])
    lines: list[Sequence[Line]] = field(default_factory=lambda: [()])
    states: list[State] = field(default_factory=lambda: [{}])
    born: int = 0

    @property
    def head(self) -> HistoryId:
        """The newest history id."""
        return self.ids[-1]

    @property
    def now(self) -> State:
        """The messages there are."""
        return self.states[-1]

    def at(self, history_id: HistoryId) -> State:
        """The messages there were at a history id."""
        return self.states[max(0, bisect_right(self.ids, history_id) - 1)]

    def records(self, after: HistoryId, until: HistoryId) -> list[Record]:
        """What history tells now of the records with after < id <= until."""
        first, last = bisect_right(self.ids, after), bisect_right(self.ids, until)
        return [self._record(index) for index in range(max(1, first), last)]

    def threads(self, history_id: HistoryId) -> dict[ThreadId, HistoryId]:
        """The threads there were at a history id, each with the newest history id that had touched it."""
        newest: dict[ThreadId, HistoryId] = {}
        for at, lines in zip(self.ids, self.lines, strict=True):
            newest |= {line.message.thread_id: at for line in lines if at <= history_id}
        return {message.thread_id: newest[message.thread_id] for message in self.at(history_id).values()}

    def happen(self, act: Act) -> None:
        """Let something happen; the record may turn out to say nothing."""
        at, state = self.head + act.gap, dict(self.now)
        lines: list[Line] = []
        if act.kind in {"add", "draft"}:
            labels = act.add if act.kind == "add" else frozenset({"DRAFT"})
            lines.append(self._arrives(state, at, act.thread, labels))
        for number in sorted(act.which):
            found = state.get(f"m{number}")
            if found is not None:
                lines += self._changes(state, at, found, act)
        self.ids.append(at)
        self.lines.append(lines)
        self.states.append(state)

    def _arrives(
        self, state: dict[MessageId, Message], at: HistoryId, thread: ThreadId, labels: frozenset[LabelId]
    ) -> Line:
        number, self.born = self.born, self.born + 1
        new = Message(
            f"m{number}",
            thread,
            labels,
            at,
            # Not in the order of the ids: mail is imported, too.
            START + timedelta(minutes=number * 7 % 10),
            snippet=f"Snippet {number}",
            headers=Headers(
                from_=Address(f"Sender {number % 3}", f"sender-{number % 3}@example.com"), subject=f"Subject {number}"
            ),
            body=Body(text=f"Text {number}"),
            attachments=(Attachment("1", "notes.txt", "text/plain", 3),) if number % 4 == 3 else (),
        )
        state[new.id] = new
        return Line("added", new)

    def _changes(self, state: dict[MessageId, Message], at: HistoryId, found: Message, act: Act) -> list[Line]:
        if act.kind == "delete":
            del state[found.id]
            return [Line("deleted", found)]
        if act.kind == "save" and "DRAFT" in found.label_ids:
            # Each save of a draft is a new message; one record tells both.
            del state[found.id]
            return [self._arrives(state, at, found.thread_id, found.label_ids), Line("deleted", found)]
        if act.kind == "move" and act.thread != found.thread_id:
            state[found.id] = moved = replace(found, thread_id=act.thread, history_id=at)
            return [Line("added", moved)]
        labels = _relabelled(found.label_ids, act)
        if labels == found.label_ids:
            return []
        state[found.id] = changed = replace(found, label_ids=labels, history_id=at)
        return [Line("labelled", changed, labels - found.label_ids, found.label_ids - labels)]

    def _record(self, index: int) -> Record:
        lines = [(line, self._ref(line)) for line in self.lines[index]]
        return Record(
            self.ids[index],
            messages_added=tuple(ref for line, ref in lines if line.kind == "added"),
            messages_deleted=tuple(ref for line, ref in lines if line.kind == "deleted"),
            labels_added=tuple(LabelStep(ref, line.added) for line, ref in lines if line.added),
            labels_removed=tuple(LabelStep(ref, line.removed) for line, ref in lines if line.removed),
        )

    def _ref(self, line: Line) -> MessageRef:
        then = line.message
        if self.telling == "now":
            now = self.now.get(then.id)
            return (
                MessageRef(then.id, then.thread_id) if now is None else MessageRef(now.id, now.thread_id, now.label_ids)
            )
        told = self.telling == "then" or (self.telling == "added" and line.kind == "added")
        return MessageRef(then.id, then.thread_id, then.label_ids if told else None)


def _relabelled(labels: frozenset[LabelId], act: Act) -> frozenset[LabelId]:
    match act.kind:
        case "label":
            return (labels | act.add) - act.remove
        case "trash":
            return (labels | {"TRASH"}) - {"INBOX"}
        case "spam":
            return (labels | {"SPAM"}) - {"INBOX"}
        case "untrash":
            return labels - {"TRASH", "SPAM"}
        case "send" if "DRAFT" in labels:
            return (labels | {"SENT"}) - {"DRAFT"}
        case _:
            return labels


def shown(state: State, policy: Policy) -> dict[MessageId, Shown]:
    """What a mirror has to hold of these messages, by the policy's answers and no more."""
    unwanted = {*policy.exclude_label_ids, *(() if policy.include_spam_trash else ("SPAM", "TRASH"))}
    if not policy.drafts:
        unwanted.add("DRAFT")
    return {
        i: (m.thread_id, m.label_ids)
        for i, m in state.items()
        if not m.label_ids & unwanted
        and (not policy.label_ids or m.label_ids & set(policy.label_ids))
        and (policy.since is None or policy.since <= m.internal_date)
    }


def retold(records: Iterable[Record]) -> dict[MessageId, Shown]:
    """The mailbox as its whole history tells it, taken word by word, one record after the other."""
    known: dict[MessageId, Shown] = {}
    for record in records:
        for ref in record.messages_added:
            assert ref.label_ids is not None
            known[ref.id] = (ref.thread_id, ref.label_ids)
        for step in record.labels_added:
            thread, labels = known[step.message.id]
            known[step.message.id] = (thread, labels | step.label_ids)
        for step in record.labels_removed:
            thread, labels = known[step.message.id]
            known[step.message.id] = (thread, labels - step.label_ids)
        for ref in record.messages_deleted:
            del known[ref.id]
    return known


def lived(telling: Telling, first: Iterable[Act], then: Iterable[Act]) -> Mailbox:
    """A mailbox to which all this happened."""
    mailbox = Mailbox(telling)
    for act in (*first, *then):
        mailbox.happen(act)
    return mailbox


_THREADS = st.sampled_from(["t1", "t2", "t3"])
_LABELS = st.frozensets(st.sampled_from(["INBOX", "UNREAD", "STARRED"]))
_WHICH = st.frozensets(st.integers(0, 4), min_size=1, max_size=3)
_GAPS = st.integers(1, 3)
_ADDS = st.builds(Act, st.just("add"), thread=_THREADS, add=_LABELS, gap=_GAPS)
# Messages that leave and enter what a policy wants meet the most cases, so they do it more often than in real life.
_IN_AND_OUT: st.SearchStrategy[Kind] = st.sampled_from(["trash", "untrash", "untrash", "spam"])
_RARE: st.SearchStrategy[Kind] = st.sampled_from(["draft", "send", "save", "nothing"])

ACTS: st.SearchStrategy[Act] = st.one_of(
    _ADDS,
    st.builds(Act, st.just("label"), _WHICH, add=_LABELS, remove=_LABELS, gap=_GAPS),
    st.builds(Act, st.sampled_from(["move", "delete"]), _WHICH, thread=_THREADS, gap=_GAPS),
    st.builds(Act, _IN_AND_OUT, _WHICH, gap=_GAPS),
    st.builds(Act, _IN_AND_OUT, _WHICH, gap=_GAPS),
    st.builds(Act, _RARE, _WHICH, thread=_THREADS, gap=_GAPS),
)
_TELLINGS: st.SearchStrategy[Telling] = st.sampled_from(["then", "now", "added", "never"])
# Mail arrives before much else happens to it.
MAILBOXES = st.builds(lived, _TELLINGS, st.lists(_ADDS, max_size=4), st.lists(ACTS, max_size=15))
EVERYTHING = Policy(include_spam_trash=True, drafts=True)
POLICIES = st.builds(
    Policy,
    include_spam_trash=st.booleans(),
    drafts=st.booleans(),
    label_ids=st.sampled_from([(), (), (), ("INBOX",), ("STARRED", "UNREAD")]),
    exclude_label_ids=st.sampled_from([(), (), (), ("STARRED",), ("UNREAD", "SPAM")]),
    since=st.sampled_from([None, None, START + timedelta(minutes=3), START + timedelta(minutes=7)]),
    bodies=st.booleans(),
)
