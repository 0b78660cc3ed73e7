"""Fetching: messages from Gmail, each of them accounted for.

Knows: that a message asked for is brought, gone or parked, never forgotten (law 6). Does not know: why it is wanted.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from mailmirror import labels, planner
from mailmirror.errors import GmailError, HistoryExpired, PageTokenExpired
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import CROWDED, OUTDATED, Bring, Edit, Refresh, Relabel, Sheet
from mailmirror.model import Failed, Gone, HistoryId, LabelId, Message, MessageId, Origin, Parked, Thread, ThreadId
from mailmirror.parked import DEADLY
from mailmirror.quota import DEAREST_GET
from mailmirror.slice import MIRROR_WRITES, Slice

LATE = "Gmail named this message but does not find it yet."
# messages.get may find a message seconds after history.
LATE_SECONDS = 2.0
# A call gets what the budget pays for in this time, at least so many.
CALL_SECONDS = 20.0
LEAST = 10


@dataclass(slots=True)
class Fetched:
    """What became of the messages asked for: `messages` are brought, `edits` what else is to be done."""

    origin: Origin
    messages: list[Message] = field(default_factory=list)
    gone: dict[MessageId, ThreadId] = field(default_factory=dict)
    parked: list[Parked] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def add(self, other: "Fetched") -> None:
        """Add others."""
        self.messages += other.messages
        self.gone |= other.gone
        self.parked += other.parked
        self.edits += other.edits

    def slices(self, hold: Hold, sheet: Sheet, edits: Sequence[Edit]) -> list[Slice]:
        """Return what edits make of a sheet, new labels mirrored before, and park what was read and not mirrored."""
        bring_labels(hold, _carried(edits))
        parts = sheet.slices(edits)
        while sheet.outdated:
            message_id = sheet.outdated.pop()
            self.park(hold, message_id, sheet.place(message_id) or "", OUTDATED)
        while sheet.crowded:
            self.park(hold, *sheet.crowded.popitem(), CROWDED)
        return parts

    def settled(self) -> list[MessageId]:
        """Return what need not be tried again."""
        waiting = {item.id for item in self.parked}
        return [message.id for message in self.messages if message.id not in waiting] + list(self.gone)

    def doubt(self, hold: Hold, message_id: MessageId) -> None:
        """Park a message that is gone: it may be late."""
        self.park(hold, message_id, self.gone.pop(message_id), LATE)

    def park(
        self, hold: Hold, message_id: MessageId, thread_id: ThreadId, reason: str, *, deadly: bool = False
    ) -> None:
        """Park a message that could not be read."""
        item = hold.park(message_id, thread_id, reason, self.origin, deadly=deadly)
        self.parked.append(item)
        log("message_parked", hold.mailbox.email_address, message=message_id, reason=reason, attempts=item.attempts)


def most_fetches(hold: Hold) -> int:
    """Return how many messages to fetch before a commit."""
    if hold.kept.attachments == "store" and hold.keeper is not None:
        return min(hold.most_fetches, planner.STORED_FETCHES)
    return hold.most_fetches


def fetch_messages(hold: Hold, wanted: Mapping[MessageId, ThreadId], *, origin: Origin, late: bool = False) -> Fetched:
    """Fetch messages; one by one while workers keep dying, to show which is deadly.

    `late`: history just announced them: one not found is tried once more and then parked, not gone. Its deletion in
    history unparks it.
    """
    if not hold.careful:
        return _fetch(hold, wanted, origin=origin, late=late)
    result = Fetched(origin)
    for message_id, thread_id in wanted.items():
        if hold.suspect(message_id):
            result.park(hold, message_id, thread_id, DEADLY, deadly=True)
        else:
            result.add(_fetch(hold, {message_id: thread_id}, origin=origin, late=late))
    return result


def _fetch(hold: Hold, wanted: Mapping[MessageId, ThreadId], *, origin: Origin, late: bool) -> Fetched:
    answers = _ask(hold, list(wanted))
    missing = [message_id for message_id in wanted if isinstance(answers[message_id], Gone)]
    if missing and late:
        hold.clock.sleep(LATE_SECONDS)
        answers |= _ask(hold, missing)
    return settle(hold, wanted, answers, origin=origin, late=late)


def _ask(hold: Hold, ids: Sequence[MessageId]) -> dict[MessageId, Message | Gone | Failed]:
    """Get messages, in a call what the budget pays for long before the lease expires."""
    answers: dict[MessageId, Message | Gone | Failed] = {}
    waiting = list(ids)
    while waiting:
        size = 1 if hold.stalled else max(LEAST, hold.gmail.affordable(CALL_SECONDS) // DEAREST_GET)
        part, waiting = waiting[:size], waiting[size:]
        answers |= _get(hold, part)
        hold.keep()
    return answers


def _get(hold: Hold, ids: Sequence[MessageId]) -> Mapping[MessageId, Message | Gone | Failed]:
    try:
        return hold.gmail.messages(ids, hold.keeper)
    except GmailError as error:
        problem = hold.mailbox.problem
        if len(ids) > 1 or not hold.stalled or problem is None or problem.code != type(error).__name__:
            raise
        # If Gmail answers this, the message is to blame.
        hold.gmail.profile()
        return {ids[0]: Failed(f"{error} Gmail answers other calls.")}


def settle(
    hold: Hold,
    wanted: Mapping[MessageId, ThreadId],
    answers: Mapping[MessageId, Message | Gone | Failed],
    *,
    origin: Origin,
    late: bool = False,
) -> Fetched:
    """See `fetch_messages`."""
    result = Fetched(origin)
    for message_id, thread_id in wanted.items():
        match answers[message_id]:
            case Message() as message:
                result.messages.append(message)
            case Gone() if late:
                result.park(hold, message_id, thread_id, LATE)
            case Gone():
                result.gone[message_id] = thread_id
            case failed:
                result.park(hold, message_id, thread_id, failed.reason)
    return result


def deleted_since(hold: Hold, start: HistoryId) -> set[MessageId]:
    """Return the messages deleted after `start`, as far as history tells."""
    deleted: set[MessageId] = set()
    token = None
    while True:
        try:
            page = hold.gmail.history(start, token)
        except (HistoryExpired, PageTokenExpired):
            return deleted
        deleted.update(ref.id for record in page.records for ref in record.messages_deleted)
        token = page.next_page_token
        if token is None:
            return deleted


def open_sheet(hold: Hold, known: Mapping[ThreadId, Thread], looked_up: Iterable[ThreadId], origin: Origin) -> Sheet:
    """Return a sheet under this lease; see `Sheet`."""
    return Sheet(known, policy=hold.policy, origin=origin, now=hold.clock.now(), looked_up=looked_up, wary=hold.wary)


def look_up(hold: Hold, sheet: Sheet, threads: Set[ThreadId], messages: Iterable[MessageId] = ()) -> None:
    """Bring threads onto the sheet, unless looked up before, and those that messages are mirrored in: one read each."""
    address = hold.mailbox.email_address
    documents = hold.store.documents(address, [("messages", message_id) for message_id in messages])
    wanted = {*threads, *(document["threadId"] for document in documents.values())} - sheet.looked_up
    if wanted:
        sheet.add(hold.store.threads(address, wanted), wanted)


def look_up_fetched(hold: Hold, sheet: Sheet, fetched: Fetched) -> None:
    """Bring every thread onto the sheet that a fetched message belongs to.

    One that Gmail moved is found by the refusal to create it twice, after which the worker is wary and looks where
    messages are mirrored. One that leaves creates nothing, and is always looked up.
    """
    wants = sheet.policy.wants
    ids = [m.id for m in fetched.messages if hold.wary or not wants(m.label_ids, m.internal_date)]
    look_up(hold, sheet, {message.thread_id for message in fetched.messages}, ids)


def _carried(edits: Iterable[Edit]) -> set[LabelId]:
    label_ids: set[LabelId] = set()
    for edit in edits:
        match edit:
            case Bring(message, steps):
                label_ids |= message.label_ids.union(*(step.added for step in steps))
            case Relabel(_, steps):
                label_ids = label_ids.union(*(step.added for step in steps))
            case Refresh():
                label_ids |= edit.label_ids
    return label_ids


def bring_labels(hold: Hold, used: Collection[LabelId] | None = None) -> None:
    """Mirror the label list, in commits of its own, if `used` by messages is a label not known, or None: it is due."""
    known = hold.mailbox.labels
    if used is not None and not labels.unknown(known, used):
        return
    listed = {label.id: label for label in hold.gmail.labels()}

    def absent() -> set[LabelId]:
        # One that messages had a day ago is not late.
        late = labels.never_listed(listed.values(), known) if used is None else set()
        return late | labels.missing(listed.values(), known)

    gone = absent()
    if gone:
        # It is hard to put back: Gmail is asked twice.
        hold.clock.sleep(LATE_SECONDS)
        listed |= {label.id: label for label in hold.gmail.labels()}
        gone = absent()
    asked = gone | {label.id for label in listed.values() if label.color == labels.UNREAD}
    documents = hold.store.documents(hold.mailbox.email_address, [("labels", label_id) for label_id in sorted(asked)])
    told = [labels.colored(label, documents.get(("labels", label.id))) for label in listed.values()]
    own = {label_id for label_id in gone if documents.get(("labels", label_id), {}).get("type", "user") == "user"}
    writes, after = labels.refresh(told, known, used or (), deleted=own)
    while len(writes) > MIRROR_WRITES:
        part, writes = writes[:MIRROR_WRITES], writes[MIRROR_WRITES:]
        done = {write.path[1]: after[write.path[1]] for write in part}
        hold.commit(replace(hold.mailbox, labels={**hold.mailbox.labels, **done}), writes=part)
    if writes or after != hold.mailbox.labels:
        hold.commit(replace(hold.mailbox, labels=after), writes=writes)
