"""Fetching: messages from Gmail, each of them accounted for.

Knows: that a message that was asked for is brought, gone or parked, and never forgotten (law 6). Does not know: why it
is wanted.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from mailmirror import bodies, labels
from mailmirror.errors import GmailError, HistoryExpired, PageTokenExpired
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import OUTDATED, Edit, Sheet
from mailmirror.model import Failed, Gone, HistoryId, LabelId, Message, MessageId, Origin, Parked, Thread, ThreadId
from mailmirror.parked import DEADLY
from mailmirror.quota import DEAREST_GET
from mailmirror.slice import MIRROR_WRITES

LATE = "Gmail named this message but does not find it yet."
# messages.get may find a message only seconds after history and notification announced it.
LATE_SECONDS = 2.0
# A call of the port gets what the budget pays for in this time, and at least so many messages.
CALL_SECONDS = 20.0
LEAST = 10


@dataclass(slots=True)
class Fetched:
    """What became of the messages asked for.

    Attributes:
        origin: what brings them.
        messages: those brought, their bodies where they belong.
        gone: those that do not exist any more.
        parked: those that failed.
        edits: what else is to be done to the mirror.
    """

    origin: Origin
    messages: list[Message] = field(default_factory=list)
    gone: dict[MessageId, ThreadId] = field(default_factory=dict)
    parked: list[Parked] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def take(self, hold: Hold, message: Message) -> None:
        """Take in a message that was read."""
        mailbox = hold.mailbox
        self.messages.append(bodies.place(mailbox.email_address, message, hold.blobs, mailbox.policy))

    def add(self, other: "Fetched") -> None:
        """Take in what became of other messages."""
        self.messages += other.messages
        self.gone |= other.gone
        self.parked += other.parked
        self.edits += other.edits

    def park_outdated(self, hold: Hold, sheet: Sheet) -> None:
        """Park the messages of which Gmail gave a copy older than the mirror's, so that they are fetched again."""
        while sheet.outdated:
            message_id = sheet.outdated.pop()
            self.park(hold, message_id, sheet.place(message_id) or "", OUTDATED)

    def settled(self) -> list[MessageId]:
        """Return the messages that need not be tried again."""
        waiting = {item.id for item in self.parked}
        return [message.id for message in self.messages if message.id not in waiting] + list(self.gone)

    def doubt(self, hold: Hold, message_id: MessageId) -> None:
        """Park a message instead of counting it as gone: it may only be late."""
        self.park(hold, message_id, self.gone.pop(message_id), LATE)

    def park(
        self, hold: Hold, message_id: MessageId, thread_id: ThreadId, reason: str, *, deadly: bool = False
    ) -> None:
        """Park a message that could not be read."""
        item = hold.park(message_id, thread_id, reason, self.origin, deadly=deadly)
        self.parked.append(item)
        log("message_parked", hold.mailbox.email_address, message=message_id, reason=reason, attempts=item.attempts)


def fetch_messages(hold: Hold, wanted: Mapping[MessageId, ThreadId], *, origin: Origin, late: bool = False) -> Fetched:
    """Fetch messages, with bodies if the policy wants them; one by one while workers keep dying, so that it shows which
    of them is deadly.

    Args:
        hold: the lease.
        wanted: message ids with their threads.
        origin: what brings them.
        late: history has just announced these messages, so one that is not found may still come: it is tried once more
            and then parked instead of counted as gone. A deletion that history tells takes it out of the parked ones.
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
    result = Fetched(origin)
    if not wanted:
        return result
    answers = _ask(hold, list(wanted))
    missing = [message_id for message_id in wanted if isinstance(answers[message_id], Gone)]
    if missing and late:
        hold.clock.sleep(LATE_SECONDS)
        answers |= _ask(hold, missing)
    return settle(hold, wanted, answers, origin=origin, late=late)


def _ask(hold: Hold, ids: Sequence[MessageId]) -> dict[MessageId, Message | Gone | Failed]:
    """Get messages, no more of them in one call than the budget pays for long before the lease expires."""
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
        return hold.gmail.messages(ids, bodies=hold.mailbox.policy.bodies)
    except GmailError as error:
        problem = hold.mailbox.problem
        if len(ids) > 1 or not hold.stalled or problem is None or problem.code != type(error).__name__:
            raise
        # If Gmail answers what it answers for every mailbox, the message is to blame, and waits by itself.
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
    """Return what Gmail's answers for messages come to; see `fetch_messages`."""
    result = Fetched(origin)
    for message_id, thread_id in wanted.items():
        match answers[message_id]:
            case Message() as message:
                result.take(hold, message)
            case Gone() if late:
                result.park(hold, message_id, thread_id, LATE)
            case Gone():
                result.gone[message_id] = thread_id
            case failed:
                result.park(hold, message_id, thread_id, failed.reason)
    return result


def deleted_since(hold: Hold, start: HistoryId) -> set[MessageId]:
    """Return the messages that history tells were deleted for good after `start`, as far as history still tells."""
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
    """Return a sheet of threads as they are mirrored, to be written under this lease.

    Args:
        hold: the lease.
        known: the threads that are mirrored.
        looked_up: the threads that were looked for.
        origin: what brings the edits.
    """
    return Sheet(
        known,
        policy=hold.mailbox.policy,
        origin=origin,
        now=hold.clock.now(),
        looked_up=looked_up,
        wary=hold.wary,
    )


def look_up(hold: Hold, sheet: Sheet, threads: Set[ThreadId], messages: Iterable[MessageId] = ()) -> None:
    """Bring threads onto the sheet: those named, and those in which messages are mirrored now.

    Args:
        hold: the lease.
        sheet: where to.
        threads: threads by id; those that were looked up before are not read again.
        messages: messages that may be mirrored in another thread than Gmail names; one read each.
    """
    address = hold.mailbox.email_address
    documents = hold.store.documents(address, [("messages", message_id) for message_id in messages])
    wanted = {*threads, *(document["threadId"] for document in documents.values())} - sheet.looked_up
    if wanted:
        sheet.add(hold.store.threads(address, wanted), wanted)


def look_up_fetched(hold: Hold, sheet: Sheet, fetched: Fetched) -> None:
    """Bring every thread onto the sheet that a fetched message belongs to.

    A message that Gmail moved from another thread is found out by the refusal to create it twice; a worker that was
    refused once looks up where its messages are mirrored now. One that is to leave the mirror creates nothing, so it is
    looked up always.
    """
    wants = hold.mailbox.policy.wants
    ids = [m.id for m in fetched.messages if hold.wary or not wants(m.label_ids, m.internal_date)]
    look_up(hold, sheet, {message.thread_id for message in fetched.messages}, ids)


def bring_labels(hold: Hold, used: Iterable[LabelId] | None = None) -> None:
    """Mirror the label list, in a commit of its own, when `used` names a label that the mirror does not know.

    Args:
        hold: the lease.
        used: labels that messages carry; None when the list is due anyway.
    """
    carried = frozenset(used or ())
    if used is not None and carried <= hold.mailbox.labels.keys():
        return
    writes, known = labels.refresh(hold.gmail.labels(), hold.mailbox.labels, carried)
    for start in range(MIRROR_WRITES, len(writes), MIRROR_WRITES):
        hold.commit(hold.mailbox, writes=writes[start : start + MIRROR_WRITES])
    if writes or known != hold.mailbox.labels:
        hold.commit(replace(hold.mailbox, labels=known), writes=writes[:MIRROR_WRITES])
