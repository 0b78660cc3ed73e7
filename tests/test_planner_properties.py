"""The planner on true histories: what is decided, grouped and planned leaves nothing out, at the lowest cost."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror.history import fold
from mailmirror.mirror import Bring, Confirm, Edit, Refresh, Remove, Strip
from mailmirror.model import Entry, HistoryId, LabelId, Message, MessageId, Mode, Policy, Record, Run, Thread, ThreadId
from mailmirror.planner import Decision, Item, Manifest, compare, decide, groups, item_units, leaves, manifest

from tests.records import ACTS, MAILBOXES, POLICIES, Act, Mailbox, shown
from tests.test_history import RECORDS, by_id
from tests.test_mirror import NOW, faults
from tests.test_mirror_properties import TURNS, Follower, Turn
from tests.test_planner import NEW, mirrored

MODES: st.SearchStrategy[Mode] = st.sampled_from(["first", "repair", "full", "audit", "policy"])
RUNS = st.none() | st.builds(
    Run,
    st.just("run"),
    MODES,
    st.just("Because."),
    st.integers(0, 50),
    st.integers(0, 100),
    st.just(NOW),
    stage=st.sampled_from(["listing", "planning", "fetching", "deleting", "closing"]),
)
ENTRIES = st.none() | st.builds(
    Entry, st.frozensets(st.sampled_from(["INBOX", "TRASH", "DRAFT"])), st.just(NOW), st.integers(0, 100)
)


# decide


@given(RECORDS, ENTRIES, POLICIES, RUNS, st.sampled_from([None, "t1", "t3"]))
def test_deletion_is_decided_whatever_else_is_known(
    records: list[Record], entry: Entry | None, policy: Policy, run: Run | None, place: ThreadId | None
) -> None:
    """What any record deletes is removed if it is mirrored and ignored if not, and counts as leaving wherever it is."""
    deleted = {ref.id for record in records for ref in record.messages_deleted}
    for change in fold(records):
        if change.message_id in deleted:
            assert decide(change, entry, policy, run, place=place) == ("ignore" if entry is None else "remove")
            assert leaves(change, policy)


@given(MAILBOXES, POLICIES, st.data())
@settings(max_examples=300)
def test_what_leaves_is_told(mailbox: Mailbox, policy: Policy, data: st.DataObject) -> None:
    """A mirrored message that is deleted, or told to be what the policy leaves out, counts as leaving; what is told to
    stay does not.
    """
    after = data.draw(st.sampled_from(mailbox.ids))
    before, now = shown(mailbox.at(after), policy), shown(mailbox.now, policy)
    for change in fold(mailbox.records(after, mailbox.head)):
        if change.message_id in before:
            gone = change.message_id not in mailbox.now
            told = change.told is not None
            if gone or told:
                assert leaves(change, policy) == (change.message_id not in now)
            elif policy.label_ids or policy.since is not None:
                # Such a change is not fetched, so it is looked for.
                assert leaves(change, policy) or change.message_id in now
            else:
                assert not leaves(change, policy)


# groups


@given(MAILBOXES, RECORDS | st.none(), st.integers(1, 4), st.integers(1, 4), st.data())
@settings(max_examples=300)
def test_whoever_goes_on_from_a_group_finds_the_rest(
    mailbox: Mailbox, anything: list[Record] | None, max_fetches: int, max_changes: int, data: st.DataObject
) -> None:
    """Who reads history after any group's cursor finds each change that was not handled yet, from its beginning."""
    records = mailbox.records(0, mailbox.head) if anything is None else anything
    changes = fold(records)
    decisions: st.SearchStrategy[Decision] = st.sampled_from(["fetch", "relabel", "remove", "ignore"])
    decided = {change.message_id: data.draw(decisions) for change in changes}
    handled = before = 0
    for group in groups(changes, records, decided, max_fetches=max_fetches, max_changes=max_changes):
        assert list(group.changes) == changes[handled : handled + len(group.changes)]
        assert group.cursor >= before
        before = group.cursor
        handled += len(group.changes)
        rest = by_id(fold([record for record in records if record.id > group.cursor]))
        for change in changes[handled:]:
            assert rest[change.message_id] == change
    assert handled == len(changes)


# compare


@given(
    st.sets(st.sampled_from("abcdefgh")),
    st.sets(st.sampled_from("abcdefgh")),
    st.sampled_from(["first", "repair", "full", "audit"]),
    st.sampled_from([0, 10, 30]),
    st.integers(1, 50),
    st.integers(1, 200),
)
def test_no_other_way_is_cheaper(
    listed: set[MessageId], known: set[MessageId], mode: Mode, newest: HistoryId, single: int, whole: int
) -> None:
    """Whatever calls cost, no other way to read as much of a thread takes fewer units."""
    prices = {"users.messages.get": single, "users.threads.get": whole}
    run = Run("run", mode, "Because.", 20, 40, NOW)
    listing = manifest([(message_id, "t") for message_id in listed], set(), {"t": newest})
    item = compare(listing, "t", mirrored(10, **dict.fromkeys(known, 5)) if known else None, run, prices)
    if item is not None and (item.get or item.stale):
        needed = tuple(listed) if item.stale or mode == "full" else tuple(listed - known)
        for way in (
            replace(item, way="messages", get=needed),
            replace(item, way="thread"),
            replace(item, way="minimal"),
        ):
            assert item_units(item, prices) <= item_units(way, prices)


Labels = frozenset[LabelId]


def carried_out(
    item: Item, entries: Mapping[MessageId, Entry], there: Mapping[MessageId, Labels]
) -> dict[MessageId, Labels]:
    """A mirrored thread after its plan was carried out at once; `there` is what Gmail has in it."""
    kept = {i: entry.label_ids for i, entry in entries.items() if i not in {*item.look, *item.extra}}
    fetched = {*item.look, *item.get} if item.way != "thread" else there.keys()
    if item.way == "minimal":
        fetched = {*item.look, *kept}
    return kept | {i: labels for i, labels in there.items() if i in fetched}


@given(MAILBOXES, POLICIES, MODES, st.booleans(), st.data())
@settings(max_examples=1_000)
def test_plan_carried_out(mailbox: Mailbox, policy: Policy, mode: Mode, lost: bool, data: st.DataObject) -> None:
    """Whatever the mirror lacks, has too much or has as it was long ago, its plan makes each thread as it is listed."""
    then = data.draw(st.sampled_from(mailbox.ids))
    run = Run("run", mode, "Because.", then if lost else 0, mailbox.head, NOW, policy)
    compares_labels = run.anchor > 0 or mode in {"audit", "full"}
    history_ids = mailbox.threads(mailbox.head) if compares_labels and mode != "full" else {}
    entries: dict[ThreadId, dict[MessageId, Entry]] = {}
    for message_id in data.draw(st.sets(st.sampled_from(["", *shown(mailbox.at(then), policy)]))) - {""}:
        copy = mailbox.at(then)[message_id]
        entry = Entry(copy.label_ids, copy.internal_date, copy.history_id)
        entries.setdefault(copy.thread_id, {})[message_id] = entry
    for thread_id in data.draw(st.sets(st.sampled_from(["t1", "t4"]))):
        entries.setdefault(thread_id, {})["ghost"] = Entry(frozenset(), NOW, then)
    wanted = shown(mailbox.now, policy)
    listed = manifest([(i, thread_id) for i, (thread_id, _) in wanted.items()], set(), history_ids)
    for thread_id in sorted({*entries, *listed.threads}):
        held = entries.get(thread_id, {})
        thread = Thread(thread_id, mailbox.threads(then).get(thread_id, then), held) if held else None
        item = compare(listed, thread_id, thread, run, NEW) or Item(thread_id)
        there = {i: labels for i, (place, labels) in wanted.items() if place == thread_id}
        after = carried_out(item, held, there)
        assert after.keys() == there.keys()
        assert after == there or not compares_labels


# A run beside live history


@dataclass
class Mending:
    """A run that goes on while mail changes and is followed live; at each yield time passes."""

    follower: Follower

    def begin(self, mode: Mode) -> Iterator[None]:
        """Start a run; `first` and `repair` go on from the signpost, and `repair` may come over a run under way."""
        follower, under_way = self.follower, self.follower.run
        anchor = under_way.anchor if under_way is not None else 0
        signpost = follower.cursor
        if mode == "repair":
            anchor = anchor or follower.cursor
        if mode in {"first", "repair"}:
            follower.cursor = signpost = follower.mailbox.head
        mode = under_way.mode if under_way else mode
        follower.run = Run("run", mode, "Because.", anchor, signpost, NOW, follower.policy)
        return self._work(follower.run)

    def follow_policy(self) -> Iterator[None]:
        """Start a run for another policy, or make the one under way start again."""
        follower, under_way = self.follower, self.follower.run
        if under_way is None:
            return self.begin("policy")
        follower.run = replace(under_way, policy=follower.policy, signpost=follower.cursor)
        return self._work(follower.run)

    def _work(self, run: Run) -> Iterator[None]:
        listed = yield from self._list(run)
        self.follower.run = replace(run, stage="planning")
        items = yield from self._plan(run, listed)
        self.follower.run = replace(run, stage="fetching")
        for item in reversed(items):
            yield
            if item.fetches:
                self._commit(item, self._fetched(run, item))
        self.follower.run = replace(run, stage="deleting")
        for item in items:
            yield
            self._commit(item, self._extras(run, item))
        self.follower.run = None

    def _list(self, run: Run) -> Generator[None, None, Manifest]:
        """The listing, newest message first; each page shows the mailbox as it is at that time."""
        mailbox, policy = self.follower.mailbox, run.policy
        # Gmail lists by the labels that all of a message's are among, spam and trash, and the date.
        spam_trash = set() if policy.include_spam_trash else {"SPAM", "TRASH"}

        def shown_by(message: Message, label: LabelId | None) -> bool:
            new = policy.since is None or message.internal_date >= policy.since
            return new and not message.label_ids & spam_trash and (label is None or label in message.label_ids)

        scopes: list[LabelId | None] = [*policy.label_ids] or [None]
        messages: list[tuple[MessageId, ThreadId]] = []
        for label in scopes:
            for number in reversed(range(mailbox.born)):
                yield
                found = mailbox.now.get(f"m{number}")
                if found is not None and shown_by(found, label):
                    messages.append((found.id, found.thread_id))
        excluded: set[MessageId] = set()
        for left_out in [*policy.exclude_label_ids, *(() if policy.drafts else ("DRAFT",))]:
            yield
            excluded |= {i for i, message in mailbox.now.items() if shown_by(message, left_out)}
        history_ids: dict[ThreadId, HistoryId] = {}
        if run.mode == "audit" or (run.mode != "full" and run.anchor):
            for thread_id in ["t1", "t2", "t3"]:
                yield
                there = [message for message in mailbox.now.values() if message.thread_id == thread_id]
                if any(shown_by(message, label) for message in there for label in scopes):
                    history_ids[thread_id] = mailbox.threads(mailbox.head)[thread_id]
        return manifest(messages, excluded, history_ids)

    def _plan(self, run: Run, listed: Manifest) -> Generator[None, None, list[Item]]:
        items = []
        for thread_id in ["t1", "t2", "t3"]:
            yield
            item = compare(listed, thread_id, self.follower.mirror.stored().get(thread_id), run, NEW)
            items += [item] if item is not None else []
        return items

    def _fetched(self, run: Run, item: Item) -> list[Edit]:
        """What an item asks for, as Gmail has it now."""
        mailbox, mirrored = self.follower.mailbox, self.follower.mirror.labels()
        there = [copy for copy in mailbox.now.values() if copy.thread_id == item.thread_id]
        again = item.stale or run.mode == "full"
        documents = self.follower.mirror.collection("messages")
        bare = {i for i, document in documents.items() if document["body"]["stored"] == "none" and run.policy.bodies}
        singles = {
            *item.look,
            *(i for i in item.get if again or i in bare or mirrored.get(i, ("",))[0] != item.thread_id),
        }
        edits: list[Edit] = []
        if item.way == "minimal":
            edits += [Refresh(copy.id, copy.label_ids, copy.history_id) for copy in there]
        elif item.way == "thread":
            edits += [Bring(copy, rewrite=run.mode == "full") for copy in there]
        if there and item.way != "messages":
            edits.append(Confirm(item.thread_id, mailbox.threads(mailbox.head)[item.thread_id]))
        if not there and item.stale:
            singles |= {i for i, (place, _) in mirrored.items() if place == item.thread_id}
        for message_id in sorted(singles):
            copy = mailbox.now.get(message_id)
            edits.append(Remove(message_id) if copy is None else Bring(copy, rewrite=run.mode == "full"))
        return [*edits, Confirm(item.thread_id, item.history_id)]

    def _extras(self, run: Run, item: Item) -> list[Edit]:
        """The end of what the listing did not have; Gmail is asked about what something touched since."""
        edits: list[Edit] = []
        sheet = self.follower.sheet({item.thread_id}, (), Turn())
        for message_id in item.extra:
            entry, copy = sheet.entry(message_id), self.follower.mailbox.now.get(message_id)
            doubtful = entry is not None and (entry.history_id > run.signpost or run.policy.since is not None)
            if doubtful and copy is not None:
                edits.append(Bring(copy))
            else:
                edits.append(Remove(message_id))
        return [*edits, *map(Strip, item.strip)]

    def _commit(self, item: Item, edits: list[Edit]) -> None:
        follower = self.follower
        named = {edit.message.id for edit in edits if isinstance(edit, Bring)}
        threads = {edit.message.thread_id for edit in edits if isinstance(edit, Bring)}
        sheet = follower.sheet({item.thread_id, *threads}, named, Turn())
        follower.mirror.commit(sheet.slices(edits))
        assert sheet.outdated == []


@dataclass(frozen=True)
class Moment:
    """What happens after some steps of a run: mail changes, another policy is wanted, history may expire again, and a
    worker follows the rest.
    """

    steps: int
    acts: list[Act]
    policy: Policy | None
    lost: bool
    turn: Turn
    followed: int


MOMENTS = st.builds(
    Moment,
    steps=st.integers(0, 8),
    acts=st.lists(ACTS, max_size=3),
    policy=st.none() | POLICIES,
    lost=st.sampled_from([False, False, False, True]),
    turn=TURNS,
    followed=st.integers(0, 30),
)


@given(MAILBOXES, POLICIES, MODES, st.lists(ACTS, max_size=5), st.lists(MOMENTS, max_size=6))
@settings(max_examples=1_500)
def test_run_beside_live_history(
    mailbox: Mailbox, policy: Policy, mode: Mode, unseen: list[Act], moments: list[Moment]
) -> None:
    """While mail changes, history is followed, and expires again, and the policy changes, a run makes the mirror what
    the policy wants of the mailbox, whatever it was before and whatever the gap held.
    """
    follower = Follower(mailbox, policy)
    if mode != "first":
        follow(follower.catch_up(Turn()), follower)
    for act in unseen:
        mailbox.happen(act)
    work = Mending(follower).begin(mode)
    for moment in moments:
        follow(islice(work, moment.steps), follower)
        for act in moment.acts:
            mailbox.happen(act)
        if moment.policy is not None:
            follower.policy = moment.policy
            work = Mending(follower).follow_policy()
        if moment.lost:
            work = Mending(follower).begin("repair")
        follow(islice(follower.catch_up(moment.turn), moment.followed), follower)
    follow(work, follower)
    follow(follower.catch_up(Turn()), follower)
    assert follower.mirror.labels() == shown(mailbox.now, follower.policy)
    stored = {message["body"]["stored"] for message in follower.mirror.collection("messages").values()}
    assert stored <= {"inline" if follower.policy.bodies else "none"}


def follow(work: Iterable[None], follower: Follower) -> None:
    """Let work go on; the mirror agrees with itself after each commit, if not yet with a policy that is new."""
    for _ in work:
        assert faults(follower.mirror) == []
    assert faults(follower.mirror) == []
