"""The sheet on true histories: whoever dies when, reads twice or sees newer copies, the mirror is the mailbox."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from mailmirror.history import NetChange, Step, fold
from mailmirror.mirror import Bring, Confirm, Edit, Refresh, Relabel, Remove, Sheet
from mailmirror.model import Address, Body, Entry, HistoryId, MessageId, Policy, Record, Run, Thread, ThreadId
from mailmirror.planner import Decision, decide, groups
from mailmirror.slice import MAX_DOCUMENT, MIRROR_BYTES
from mailmirror.threads import MAX_ADDRESS, MAX_NAME, MAX_SUMMARY

from tests.records import ACTS, EVERYTHING, FIRST, MAILBOXES, POLICIES, Act, Mailbox, shown
from tests.test_mirror import EDITS, MESSAGE_EDITS, NOW, Mirror, copy_of, faults, message, sizes

# Workers that follow a mailbox


@dataclass(frozen=True)
class Turn:
    """How a worker reads history and cuts its work.

    Attributes:
        unseen: the newest records, which history does not show yet.
        again: records that are read although they are applied.
        page: records in a page.
        fetches, changes: the most in a group.
        writes, room: the most writes in a slice, and of bytes beyond those of the largest document.
    """

    unseen: int = 0
    again: int = 0
    page: int = 500
    fetches: int = 50
    changes: int = 400
    writes: int = 350
    room: int = MIRROR_BYTES


@dataclass
class Follower:
    """Workers that follow a mailbox one after the other: of each only what it committed outlives it.

    Attributes:
        mailbox, policy: what is mirrored.
        run: a run that is under way meanwhile.
        mirror: what is committed.
        cursor: up to where the mirror is complete.
        parked: messages that history named and Gmail did not give, because they are gone.
    """

    mailbox: Mailbox
    policy: Policy
    run: Run | None = None
    mirror: Mirror = field(default_factory=Mirror)
    cursor: HistoryId = FIRST
    parked: set[MessageId] = field(default_factory=set)

    def sheet(self, threads: Iterable[ThreadId], messages: Iterable[MessageId], turn: Turn) -> Sheet:
        """A sheet that knows these threads and those in which these messages are mirrored, and no others."""
        documents = self.mirror.collection("messages")
        named = {*threads, *(documents[i]["threadId"] for i in messages if i in documents)}
        return Sheet(
            {thread_id: thread for thread_id, thread in self.mirror.stored().items() if thread_id in named},
            policy=self.policy,
            origin="live",
            now=NOW,
            looked_up=named,
            max_writes=turn.writes,
            max_bytes=MAX_DOCUMENT + turn.room,
        )

    def catch_up(self, turn: Turn) -> Iterator[None]:
        """Apply the history after the cursor. At each yield time passes, and the worker may never come back."""
        ids = self.mailbox.ids[: max(1, len(self.mailbox.ids) - turn.unseen)]
        ids = ids[max(0, sum(at <= self.cursor for at in ids) - turn.again) :]
        for first in range(0, len(ids), turn.page):
            page = ids[first : first + turn.page]
            head = page[-1] if page[-1] == ids[-1] else None
            yield from self._page(self.mailbox.records(page[0] - 1, page[-1]), head, turn)

    def _page(self, records: Sequence[Record], head: HistoryId | None, turn: Turn) -> Iterator[None]:
        changes = fold(records)
        sheet = self.sheet({c.thread_id for c in changes}, [c.message_id for c in changes], turn)
        decided = {
            c.message_id: decide(c, sheet.entry(c.message_id), self.policy, self.run, place=sheet.place(c.message_id))
            for c in changes
        }
        for group in groups(changes, records, decided, max_fetches=turn.fetches, max_changes=turn.changes):
            yield
            edits = [self._edit(change, decided[change.message_id]) for change in group.changes]
            threads = {edit.message.thread_id for edit in edits if isinstance(edit, Bring)}
            sheet.add({i: thread for i, thread in self.mirror.stored().items() if i in threads}, threads)
            parts = sheet.slices(edit for edit in edits if edit is not None)
            assert sheet.outdated == []
            for part in parts[:-1]:
                yield
                self.mirror.commit([part])
            yield
            self.mirror.commit(parts[-1:])
            wanted = {c.message_id for c in group.changes if decided[c.message_id] == "fetch"}
            self.parked |= wanted - {edit.message.id for edit in edits if isinstance(edit, Bring)}
            self.cursor = max(self.cursor, head if group.last and head is not None else group.cursor)
        if head is not None and not changes:
            self.cursor = max(self.cursor, head)

    def _edit(self, change: NetChange, decision: Decision) -> Edit | None:
        """What a decision comes to, with a copy as the mailbox has it now."""
        copy = self.mailbox.now.get(change.message_id)
        match decision:
            case "fetch" if copy is not None:
                return Bring(copy, change.steps)
            case "relabel":
                return Relabel(change.message_id, change.steps)
            case "remove":
                return Remove(change.message_id, change.last)
            case _:
                return None

    def behind(self) -> list[MessageId]:
        """Messages that the mirror has in a thread, with labels or not at all as they never were since the cursor."""
        since = sum(at <= self.cursor for at in self.mailbox.ids) - 1
        states = [shown(state, self.policy) for state in self.mailbox.states[since:]]
        mirrored, absent = self.mirror.labels(), ("", frozenset[str]())
        # A parked message stays as it was until history tells its end.
        waiting = self.parked & self.mailbox.at(self.cursor).keys()
        messages = {f"m{number}" for number in range(self.mailbox.born)} | mirrored.keys()
        return [
            message_id
            for message_id in sorted(messages - waiting)
            for side in (0, 1)
            if mirrored.get(message_id, absent)[side] not in [state.get(message_id, absent)[side] for state in states]
        ]


TURNS = st.builds(
    Turn,
    unseen=st.integers(0, 3),
    again=st.integers(0, 8),
    page=st.integers(1, 6),
    fetches=st.integers(1, 3),
    changes=st.integers(1, 4),
    writes=st.integers(4, 12),
    room=st.sampled_from([0, 10_000, MIRROR_BYTES]),
)


def visible(mirror: Mirror) -> object:
    """What an application sees of a mirror that agrees with itself."""
    return mirror.labels(), list(mirror.changes), (mirror.messages, mirror.threads), list(mirror.blobs)


class Following(RuleBasedStateMachine):
    """Mail goes on living while worker after worker reads its history and dies at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.follower = Follower(Mailbox(), EVERYTHING)
        self.work: Iterator[None] = iter(())

    @initialize(mailbox=MAILBOXES, policy=POLICIES)
    def begins(self, mailbox: Mailbox, policy: Policy) -> None:
        """A mailbox with a history that nobody has read yet, and what is wanted of it."""
        self.follower = Follower(mailbox, policy)

    @rule(acts=st.lists(ACTS, min_size=1, max_size=4))
    def lives(self, acts: list[Act]) -> None:
        """Mail changes."""
        for act in acts:
            self.follower.mailbox.happen(act)

    @rule(turn=TURNS)
    def starts(self, turn: Turn) -> None:
        """A worker takes over; the one before it is dead, or done."""
        self.work = self.follower.catch_up(turn)

    @rule(steps=st.integers(1, 12))
    def works(self, steps: int) -> None:
        """The worker goes on, for a while."""
        before = self.follower.cursor
        for _ in islice(self.work, steps):
            self.agrees()
        assert self.follower.cursor >= before

    @rule(turn=TURNS)
    def ends(self, turn: Turn) -> None:
        """A worker reads all there is; then the mirror is the mailbox, and who reads it all again changes nothing."""
        self.work = iter(())
        follower = self.follower
        for _ in follower.catch_up(replace(turn, unseen=0)):
            self.agrees()
        assert follower.cursor == follower.mailbox.head
        assert follower.mirror.labels() == shown(follower.mailbox.now, follower.policy)
        seen = visible(follower.mirror)
        for _ in follower.catch_up(replace(turn, unseen=0, again=len(follower.mailbox.ids))):
            assert visible(follower.mirror) == seen

    def teardown(self) -> None:
        """Whatever happened, the end is good."""
        self.ends(Turn())

    @invariant()
    def agrees(self) -> None:
        """The mirror agrees with itself after each commit, and lacks nothing up to the cursor."""
        assert faults(self.follower.mirror, self.follower.policy) == []
        assert self.follower.behind() == []


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=200, stateful_step_count=30)


# Threads from their messages


def from_scratch(mirror: Mirror) -> dict[ThreadId, dict[str, Any]]:
    """The thread documents that the message documents alone lead to, but for history ids of messages that are gone."""
    threads: dict[ThreadId, list[dict[str, Any]]] = {}
    for document in mirror.collection("messages").values():
        threads.setdefault(document["threadId"], []).append(document)
    return {thread_id: scratch(thread_id, documents) for thread_id, documents in threads.items()}


def scratch(thread_id: ThreadId, documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The document of a thread of these messages."""
    documents.sort(key=lambda document: (document["internalDate"], document["id"]))
    carried = [label for document in documents for label in document["labelIds"]]
    senders = {document["headers"]["from"]["address"]: document["headers"]["from"] for document in reversed(documents)}
    entries = {
        document["id"]: {
            **{name: document[name] for name in ("labelIds", "internalDate", "historyId", "snippet")},
            "from": document["headers"]["from"],
            "subject": document["headers"]["subject"],
            "hasAttachments": document["attachments"] != [],
            "stored": document["body"]["stored"],
            "objects": len(document["objects"]),
        }
        for document in documents
    }
    return {
        "id": thread_id,
        "subject": documents[0]["headers"]["subject"],
        "snippet": documents[-1]["snippet"],
        "participants": sorted(senders.values(), key=[document["headers"]["from"] for document in documents].index),
        "messageIds": [document["id"] for document in documents],
        "messageCount": len(documents),
        "unreadCount": carried.count("UNREAD"),
        "unread": "UNREAD" in carried,
        "starred": "STARRED" in carried,
        "hasAttachments": any(entry["hasAttachments"] for entry in entries.values()),
        "labelIds": sorted(set(carried)),
        "firstMessageAt": documents[0]["internalDate"],
        "lastMessageAt": documents[-1]["internalDate"],
        "messages": entries,
    }


@given(EDITS, EDITS, POLICIES, POLICIES, st.integers(4, 12))
@settings(max_examples=500)
def test_threads_are_what_their_messages_make_them(
    before: list[Edit], edits: list[Edit], policy: Policy, other: Policy, writes: int
) -> None:
    """After any adds, deletes, moves, changes of labels and bodies, under one policy and then another, each thread
    document is the one that the surviving messages make from scratch, after each commit.
    """
    mirror = Mirror()
    mirror.apply(before, policy)
    sheet = mirror.sheet(other, max_writes=writes)
    for part in [None, *sheet.slices(edits)]:
        if part is not None:
            mirror.commit([part])
        threads = mirror.collection("threads")
        assert {i: {k: v for k, v in t.items() if k != "historyId"} for i, t in threads.items()} == from_scratch(mirror)
        for thread in threads.values():
            assert thread["historyId"] >= max(entry["historyId"] for entry in thread["messages"].values())


@given(MAILBOXES, st.data())
@settings(max_examples=100)
def test_threads_of_a_life(mailbox: Mailbox, data: st.DataObject) -> None:
    """The same holds for a mailbox that is followed through its history, whatever is wanted of it."""
    follower = Follower(mailbox, data.draw(POLICIES))
    for _ in follower.catch_up(data.draw(TURNS)):
        threads = follower.mirror.collection("threads")
        assert {i: {k: v for k, v in t.items() if k != "historyId"} for i, t in threads.items()} == from_scratch(
            follower.mirror
        )


# Slices and copies


@given(
    EDITS,
    st.lists(MESSAGE_EDITS, max_size=30),
    POLICIES,
    st.integers(4, 12),
    st.sampled_from([0, 20_000, MIRROR_BYTES]),
)
@settings(max_examples=300)
def test_crash_between_any_two_slices(
    before: list[Edit], edits: list[Edit], policy: Policy, writes: int, room: int
) -> None:
    """However small slices have to be, each is within its writes, leaves a mirror that agrees with itself, and all of
    them lead to where one slice leads.
    """
    mirror = Mirror()
    mirror.apply(before, policy)
    whole = copy_of(mirror)
    whole.apply(edits, policy)
    sheet = Sheet(
        mirror.stored(), policy=policy, origin="live", now=NOW, max_writes=writes, max_bytes=MAX_DOCUMENT + room
    )
    for part in sheet.slices(edits):
        assert 1 <= len(part.writes) <= writes
        mirror.commit([part])
        assert faults(mirror, policy) == []
    assert (mirror.documents, mirror.changes, mirror.blobs) == (whole.documents, whole.changes, whole.blobs)
    assert (mirror.messages, mirror.threads) == (whole.messages, whole.threads)


@given(
    st.lists(st.sampled_from([1, 50, 100]), min_size=4, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0, 1_000, 200_000])), min_size=20, max_size=40),
    st.sampled_from(["x", "ä", "漢", "\N{GRINNING FACE}"]),
    st.sampled_from([2 * MAX_DOCUMENT, MIRROR_BYTES]),
)
@settings(max_examples=100)
def test_bytes_of_slices(lengths: list[int], changed: list[tuple[int, int]], character: str, most: int) -> None:
    """Whatever threads of up to 100 messages change and whatever comes to them, no slice has more bytes than it may."""
    words = character * MAX_SUMMARY
    wide = Entry(frozenset({"INBOX"}), NOW, 1, Address(words[:MAX_NAME], words[:MAX_ADDRESS]), words, words)
    known = {
        f"t{number}": Thread(f"t{number}", 1, {f"m{number}{n:03d}": wide for n in range(length)})
        for number, length in enumerate(lengths)
    }
    edits: list[Edit] = []
    for number, (thread, size) in enumerate(changed):
        thread_id = f"t{thread % len(lengths)}"
        if size and len(known[thread_id].messages) < 100:
            new = message(f"m9{number:03d}", "INBOX", thread=thread_id)
            edits.append(Bring(replace(new, body=Body(character * (size // len(character.encode()))))))
        else:
            steps = (Step(5 + number, added=frozenset({f"Label_{number}"})),)
            edits.append(Relabel(f"m{thread % len(lengths)}000", steps))
    parts = Sheet(known, policy=EVERYTHING, origin="live", now=NOW, max_bytes=most).slices(edits)
    assert max(sizes(parts), default=0) <= most


@given(MAILBOXES, POLICIES, st.data())
@settings(max_examples=300)
def test_history_that_the_mirror_contains(mailbox: Mailbox, policy: Policy, data: st.DataObject) -> None:
    """On copies that are newer, the label changes before them write nothing, and older copies are reported."""
    newer = data.draw(st.sampled_from(mailbox.ids))
    older = data.draw(st.sampled_from([at for at in mailbox.ids if at <= newer]))
    mirror = Mirror()
    mirror.apply(map(Bring, mailbox.at(newer).values()), policy)
    sheet = mirror.sheet(policy)
    changes = fold(mailbox.records(0, older))
    assert sheet.slices(Relabel(change.message_id, change.steps) for change in changes if not change.deleted) == []
    assert sheet.outdated == []
    mirrored = mirror.labels()
    copies = [copy for copy in mailbox.at(older).values() if copy.id in mirrored]
    outdated = [copy for copy in copies if copy.history_id < mailbox.at(newer)[copy.id].history_id]
    steps = {change.message_id: change.steps for change in changes}
    assert sheet.slices(Bring(copy, steps[copy.id]) for copy in copies) == []
    assert sheet.outdated == [copy.id for copy in outdated]


@given(MAILBOXES, st.data())
@settings(max_examples=300)
def test_copies_in_any_order(mailbox: Mailbox, data: st.DataObject) -> None:
    """Of copies of the messages there are, whatever order they come in and however often, the newest decides."""
    times = [*data.draw(st.lists(st.sampled_from(mailbox.ids), max_size=4)), mailbox.head]
    mirror = Mirror()
    for at in data.draw(st.permutations(times)):
        copies = [copy for copy in mailbox.at(at).values() if copy.id in mailbox.now]
        if at < mailbox.head and data.draw(st.booleans()):
            mirror.apply(Refresh(copy.id, copy.label_ids, copy.history_id) for copy in copies)
        else:
            mirror.apply(map(Bring, copies))
    assert mirror.labels() == shown(mailbox.now, EVERYTHING)
    assert faults(mirror) == []


@given(MAILBOXES, st.data())
@settings(max_examples=300)
def test_steps_that_a_copy_lacks(mailbox: Mailbox, data: st.DataObject) -> None:
    """A message brought as it was at any time has the labels of now when its steps come, with it or later."""
    mirror = Mirror()
    for change in fold(mailbox.records(0, mailbox.head)):
        if change.message_id in mailbox.now:
            at, cut = (data.draw(st.sampled_from([at for at in mailbox.ids if at >= change.first])) for _ in range(2))
            steps = [tuple(step for step in change.steps if (step.record_id > cut) == later) for later in (False, True)]
            mirror.apply([Bring(mailbox.at(at)[change.message_id], steps[0]), Relabel(change.message_id, steps[1])])
    assert {i: labels for i, (_, labels) in mirror.labels().items()} == {i: m.label_ids for i, m in mailbox.now.items()}
    assert faults(mirror) == []


HOME = {"m1": "t1", "m2": "t1", "m3": "t2", "m4": "t2"}


def home(edit: Edit) -> ThreadId:
    """The thread of an edit, when each message has but one."""
    match edit:
        case Bring(brought):
            return HOME[brought.id]
        case Confirm(thread_id):
            return thread_id
        case _:
            return HOME[edit.message_id]


@given(EDITS, POLICIES)
@settings(max_examples=300)
def test_edits_of_different_threads_commute(edits: list[Edit], policy: Policy) -> None:
    """Only the order of edits within a thread matters; the deltas of each thread stay as they are."""
    staying = [replace(e, message=replace(e.message, thread_id=home(e))) if isinstance(e, Bring) else e for e in edits]
    mixed, by_thread = Mirror(), Mirror()
    mixed.apply(staying, policy)
    by_thread.apply(sorted(staying, key=home), policy)
    assert by_thread.documents == mixed.documents
    assert (by_thread.messages, by_thread.threads) == (mixed.messages, mixed.threads)
    assert by_thread.changes == sorted(mixed.changes, key=lambda change: change.thread_id)
