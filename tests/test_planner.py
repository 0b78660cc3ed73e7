"""The planner: what is fetched, in which order, and never dearer than it has to be."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.history import NetChange, Step, fold
from mailmirror.model import (
    Entry,
    HistoryId,
    LabelStep,
    MessageId,
    MessageRef,
    Mode,
    Policy,
    Record,
    Run,
    Stage,
    Thread,
    ThreadId,
)
from mailmirror.planner import (
    GROUP_FETCHES,
    PLAN_THREADS,
    Decision,
    Item,
    Manifest,
    Way,
    compare,
    compares,
    decide,
    eta,
    groups,
    item_units,
    leaves,
    manifest,
    pack,
    take,
    unpack,
)
from mailmirror.quota import PRICES, PriceTable
from mailmirror.slice import MAX_DOCUMENT, weigh

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NEW = PRICES["2026"]
ENTRY = Entry(frozenset({"INBOX"}), NOW, 1)
DEFAULT = Policy()
NO_SPAM_TRASH = Policy(include_spam_trash=False)
WITH_DRAFTS = Policy(drafts=True)
INBOX_ONLY = Policy(label_ids=("INBOX",))
NO_PROMOTIONS = Policy(exclude_label_ids=("CATEGORY_PROMOTIONS",))
RECENT = Policy(since=NOW)
NO_BODIES = Policy(bodies=False)

ADDED = NetChange("m", "t", 5, 5, added=True)
RELABELLED = NetChange("m", "t", 5, 5, steps=(Step(5, added=frozenset({"STARRED"})),))
DELETED = NetChange("m", "t", 5, 5, deleted=True)
UNTRASHED = NetChange("m", "t", 5, 5, steps=(Step(5, removed=frozenset({"TRASH"})),))
INTO_INBOX = NetChange("m", "t", 5, 5, steps=(Step(5, added=frozenset({"INBOX"})),))
OUT_OF_INBOX = NetChange("m", "t", 5, 5, steps=(Step(5, removed=frozenset({"INBOX"})),))
NO_PROMOTION = NetChange("m", "t", 5, 5, steps=(Step(5, removed=frozenset({"CATEGORY_PROMOTIONS"})),))
SENT = NetChange("m", "t", 5, 5, steps=(Step(5, added=frozenset({"SENT"}), removed=frozenset({"DRAFT"})),))


def run(stage: Stage = "fetching", *, mode: Mode = "repair", anchor: HistoryId = 0, signpost: HistoryId = 100) -> Run:
    """A run under way."""
    return Run("run", mode, "Because.", anchor, signpost, NOW, stage=stage)


def told(change: NetChange, *labels: str) -> NetChange:
    """The net change of which the records tell the labels."""
    return replace(change, told=frozenset(labels))


# decide


@pytest.mark.parametrize("policy", [DEFAULT, NO_SPAM_TRASH, WITH_DRAFTS])
@pytest.mark.parametrize("under_way", [None, run("listing"), run("closing")])
@pytest.mark.parametrize(
    ("change", "decision"),
    [
        (DELETED, "remove"),
        (replace(DELETED, added=True), "remove"),
        (replace(RELABELLED, deleted=True), "remove"),
        (RELABELLED, "relabel"),
        (ADDED, "relabel"),
        (told(RELABELLED, "TRASH"), "relabel"),
        (told(RELABELLED, "DRAFT"), "relabel"),
        (UNTRASHED, "relabel"),
    ],
)
def test_decide_for_a_mirrored_message(
    change: NetChange, decision: Decision, policy: Policy, under_way: Run | None
) -> None:
    """A mirrored message is removed when deleted and relabelled otherwise; run and policy have no say in it."""
    assert decide(change, ENTRY, policy, under_way) == decision


@pytest.mark.parametrize("under_way", [None, *(run(stage) for stage in get_args(Stage) if stage != "finished")])
@pytest.mark.parametrize(
    ("change", "policy", "decision"),
    [
        (DELETED, DEFAULT, "ignore"),
        (replace(DELETED, added=True), DEFAULT, "ignore"),
        (replace(RELABELLED, deleted=True), DEFAULT, "ignore"),
        (ADDED, DEFAULT, "fetch"),
        (told(ADDED, "INBOX"), NO_SPAM_TRASH, "fetch"),
        (told(ADDED, "SPAM"), DEFAULT, "fetch"),
        (told(ADDED, "SPAM"), NO_SPAM_TRASH, "ignore"),
        (told(ADDED, "INBOX", "TRASH"), NO_SPAM_TRASH, "ignore"),
        (told(ADDED, "DRAFT"), DEFAULT, "ignore"),
        (told(ADDED, "DRAFT"), WITH_DRAFTS, "fetch"),
        (told(RELABELLED, "DRAFT"), DEFAULT, "ignore"),
        (told(UNTRASHED, "INBOX", "SPAM"), NO_SPAM_TRASH, "ignore"),
        (UNTRASHED, NO_SPAM_TRASH, "fetch"),
        (told(UNTRASHED, "INBOX"), NO_SPAM_TRASH, "fetch"),
        (told(SENT, "SENT"), DEFAULT, "fetch"),
        (told(ADDED, "SENT"), INBOX_ONLY, "ignore"),
        (told(ADDED, "INBOX"), INBOX_ONLY, "fetch"),
        (told(INTO_INBOX, "INBOX"), INBOX_ONLY, "fetch"),
        (INTO_INBOX, INBOX_ONLY, "fetch"),
        (told(RELABELLED, "STARRED"), INBOX_ONLY, "ignore"),
        (RELABELLED, INBOX_ONLY, "ignore"),
        (OUT_OF_INBOX, INBOX_ONLY, "ignore"),
        (told(ADDED, "INBOX", "CATEGORY_PROMOTIONS"), NO_PROMOTIONS, "ignore"),
        (NO_PROMOTION, NO_PROMOTIONS, "fetch"),
        (told(NO_PROMOTION, "SPAM"), replace(NO_PROMOTIONS, include_spam_trash=False), "ignore"),
        (told(ADDED, "INBOX"), RECENT, "fetch"),
        (told(RELABELLED, "STARRED"), RECENT, "ignore"),
        (RELABELLED, RECENT, "ignore"),
        (told(UNTRASHED, "INBOX"), replace(RECENT, include_spam_trash=False), "fetch"),
    ],
)
def test_decide_for_a_message_that_is_not_mirrored(
    change: NetChange, policy: Policy, decision: Decision, under_way: Run | None
) -> None:
    """What is new to the mirror is fetched if the policy may want it, whether or not a run is under way."""
    assert decide(change, None, policy, under_way) == decision


@pytest.mark.parametrize(
    ("change", "policy"),
    [
        (RELABELLED, DEFAULT),
        (told(RELABELLED, "INBOX", "STARRED"), DEFAULT),
        (told(RELABELLED, "INBOX", "STARRED"), INBOX_ONLY),
        (told(RELABELLED, "INBOX", "STARRED"), NO_PROMOTIONS),
        # Neither of these enters the policy: it wants trash, and drafts, all the time.
        (UNTRASHED, DEFAULT),
        (SENT, WITH_DRAFTS),
    ],
)
@pytest.mark.parametrize(
    ("under_way", "decision"),
    [
        (None, "fetch"),
        (run("listing"), "ignore"),
        (run("planning"), "ignore"),
        (run("fetching"), "ignore"),
        (run("deleting"), "fetch"),
        (run("closing"), "fetch"),
    ],
)
def test_decide_for_a_message_that_the_mirror_lacks(
    change: NetChange, policy: Policy, under_way: Run | None, decision: Decision
) -> None:
    """A label change of a message that the mirror lacks fetches it, unless a run is about to bring it."""
    assert decide(change, None, policy, under_way) == decision


# leaves


@pytest.mark.parametrize(
    ("change", "policy", "expected"),
    [
        (DELETED, DEFAULT, True),
        (told(RELABELLED, "INBOX"), DEFAULT, False),
        (told(ADDED, "SPAM"), NO_SPAM_TRASH, True),
        (told(ADDED, "SPAM"), DEFAULT, False),
        # A draft was never mirrored, whatever else is left out.
        (told(ADDED, "DRAFT"), NO_PROMOTIONS, False),
        (told(ADDED, "DRAFT"), INBOX_ONLY, False),
        (told(OUT_OF_INBOX, "STARRED"), INBOX_ONLY, True),
        (told(OUT_OF_INBOX, "STARRED"), DEFAULT, False),
        (told(OUT_OF_INBOX, "STARRED"), Policy(label_ids=("INBOX", "STARRED")), False),
        # It has none of the labels, and nothing says that it ever had one.
        (told(RELABELLED, "STARRED"), INBOX_ONLY, False),
        (told(ADDED, "SENT"), INBOX_ONLY, False),
        (told(RELABELLED, "STARRED", "CATEGORY_PROMOTIONS"), NO_PROMOTIONS, True),
        # What history does not tell is fetched, or, where most mail is none of the mirror's business, looked for.
        (OUT_OF_INBOX, DEFAULT, False),
        (OUT_OF_INBOX, INBOX_ONLY, True),
        (RELABELLED, INBOX_ONLY, False),
        (RELABELLED, RECENT, False),
    ],
)
def test_what_leaves_is_looked_for(change: NetChange, policy: Policy, expected: bool) -> None:
    """A change is looked for in other threads if it may take a message out of the mirror, and only then."""
    assert leaves(change, policy) == expected


# groups

NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])
LABEL_STEPS = st.lists(
    st.builds(lambda name: LabelStep(MessageRef(name, "t"), frozenset({"X"})), NAMES), max_size=4
).map(tuple)
RECORDS = st.lists(
    st.builds(Record, st.integers(1, 100), labels_added=LABEL_STEPS), max_size=12, unique_by=lambda record: record.id
).map(lambda records: sorted(records, key=lambda record: record.id))


def records_of(*names: str) -> list[Record]:
    """One record for each argument, ids 10, 20, 30 …, naming the messages that the argument spells."""
    return [
        Record(10 * number, messages_added=tuple(MessageRef(name, "t") for name in spelled))
        for number, spelled in enumerate(names, start=1)
    ]


def cut(
    records: Sequence[Record], fetch: str = "abcdefg", *, max_fetches: int = 50, max_changes: int = 400
) -> list[tuple[str, HistoryId, bool]]:
    """Groups as (messages, cursor, last); the messages in `fetch` are to be fetched."""
    changes = fold(records)
    decided: Mapping[MessageId, Decision] = {
        change.message_id: "fetch" if change.message_id in fetch else "relabel" for change in changes
    }
    found = groups(changes, records, decided, max_fetches=max_fetches, max_changes=max_changes)
    return [("".join(change.message_id for change in group.changes), group.cursor, group.last) for group in found]


def test_groups_of_nothing() -> None:
    """A page without changes has no groups, even if it has records."""
    assert cut([]) == cut([Record(10)]) == []


def test_one_group() -> None:
    """What fits goes into one group, and its cursor is the last record, even one that changes nothing."""
    assert cut([*records_of("a", "b"), Record(70)]) == [("ab", 70, True)]


def test_groups_by_fetches() -> None:
    """A group ends before the fetch that would be one too many; what is not fetched does not count."""
    assert cut(records_of("a", "b", "c", "d", "e"), "ade", max_fetches=2) == [("abcd", 40, False), ("e", 50, True)]


def test_groups_by_changes() -> None:
    """A group ends when it holds as many changes as one may, fetched or not."""
    assert cut(records_of("a", "b", "c"), "", max_changes=2) == [("ab", 20, False), ("c", 30, True)]


def test_record_cut_in_the_middle() -> None:
    """A record whose messages are in two groups is not passed by the first one's cursor."""
    assert cut(records_of("a", "bcd", "e"), max_fetches=2) == [("ab", 10, False), ("cd", 20, False), ("e", 30, True)]


def test_first_record_cut_in_the_middle() -> None:
    """While the very first record is not applied as a whole there is no cursor at all."""
    assert cut(records_of("abc"), max_fetches=1) == [("a", 0, False), ("b", 0, False), ("c", 10, True)]


def test_later_records_of_a_message_do_not_move_the_cursor() -> None:
    """A message whose later changes are applied early does not take the cursor past the messages in between."""
    assert cut(records_of("a", "b", "a"), max_fetches=1) == [("a", 10, False), ("b", 30, True)]


@given(RECORDS, st.sets(NAMES), st.integers(1, 4), st.integers(1, 4))
def test_cursor_never_passes_what_is_not_applied(
    records: list[Record], fetch: set[str], max_fetches: int, max_changes: int
) -> None:
    """Each group's cursor is the last record before the first that names a message still waiting for its group."""
    changes = fold(records)
    found = cut(records, "".join(fetch), max_fetches=max_fetches, max_changes=max_changes)
    assert "".join(names for names, _, _ in found) == "".join(change.message_id for change in changes)
    applied = 0
    for names, cursor, last in found:
        applied += len(names)
        waiting = {change.message_id for change in changes[applied:]}
        unapplied = [r.id for r in records if waiting & {each.message.id for each in r.labels_added}]
        assert last == (not unapplied)
        assert cursor == max((r.id for r in records if last or r.id < unapplied[0]), default=0)


@given(RECORDS, st.sets(NAMES), st.integers(1, 4), st.integers(1, 4))
def test_groups_keep_their_limits_and_fill_them(
    records: list[Record], fetch: set[str], max_fetches: int, max_changes: int
) -> None:
    """No group has more changes or fetches than allowed, and none ends before the next change would be too much."""
    found = cut(records, "".join(fetch), max_fetches=max_fetches, max_changes=max_changes)
    for number, (names, _, last) in enumerate(found):
        fetches = len(fetch & set(names))
        assert len(names) <= max_changes
        assert fetches <= max_fetches
        if not last:
            following = found[number + 1][0][0]
            assert len(names) == max_changes or fetches + (following in fetch) > max_fetches


# manifest


def test_manifest_without_drafts() -> None:
    """Drafts are left out of a manifest, and a thread of nothing but drafts with them."""
    listed = manifest([("m3", "t1"), ("m2", "t2"), ("m1", "t1"), ("m0", "t2")], {"m2", "m0"}, {"t1": 7})
    assert listed == Manifest({"t1": frozenset({"m1", "m3"})}, {"m3": "t1", "m1": "t1"}, {"t1": 7})


def test_message_listed_twice() -> None:
    """A message that moved while the listing was read belongs to the thread that was read last, and to no other."""
    listed = manifest([("m1", "t1"), ("m1", "t2")], set(), {})
    assert listed == Manifest({"t2": frozenset({"m1"})}, {"m1": "t2"}, {})


# compare


def listing(threads: Mapping[ThreadId, str], history_ids: Mapping[ThreadId, HistoryId] | None = None) -> Manifest:
    """A listing of threads whose messages are named by one letter each; untouched for long unless told otherwise."""
    pairs = [(name, thread_id) for thread_id, names in threads.items() for name in names]
    return manifest(pairs, set(), dict.fromkeys(threads, 0) if history_ids is None else history_ids)


def mirrored(history_id: HistoryId = 0, **messages: HistoryId) -> Thread:
    """Thread `t` as mirrored, its messages with their history ids."""
    return Thread("t", history_id, {name: replace(ENTRY, history_id=at) for name, at in messages.items()})


def test_equal() -> None:
    """A thread that is mirrored as listed needs nothing."""
    assert compare(listing({"t": "ab"}), "t", mirrored(a=1, b=2), run(), NEW) is None


def test_neither_listed_nor_mirrored() -> None:
    """A thread of which nothing is left needs nothing."""
    assert compare(listing({}), "t", None, run(), NEW) is None


def test_missing_thread() -> None:
    """A thread that is not mirrored is brought, newest message first."""
    assert compare(listing({"t": "bac"}), "t", None, run(), NEW) == Item("t", get=("c", "b", "a"), way="thread")
    assert compare(listing({"t": "ba"}), "t", None, run(), NEW) == Item("t", get=("b", "a"), way="messages")


def test_missing_message() -> None:
    """Of a thread that is mirrored in part only what is missing is brought."""
    assert compare(listing({"t": "abc"}), "t", mirrored(a=1, c=1), run(), NEW) == Item("t", get=("b",))


@pytest.mark.parametrize("mode", ["first", "repair", "audit"])
def test_nothing_is_brought_twice(mode: Mode) -> None:
    """Only a full run brings what is already mirrored."""
    listed, thread = listing({"t": "abc"}), mirrored(a=1, b=1, c=1)
    assert compare(listed, "t", thread, run(mode=mode), NEW) is None
    assert compare(listed, "t", thread, run(mode="full"), NEW) == Item("t", get=("c", "b", "a"), way="thread")


@pytest.mark.parametrize("anchor", [0, 50])
def test_extra(anchor: HistoryId) -> None:
    """A mirrored message that is not listed is extra if nothing touched it after the signpost."""
    listed = listing({"t": "a"})
    assert compare(listed, "t", mirrored(a=1, b=99, c=100), run(anchor=anchor), NEW) == Item("t", extra=("b", "c"))
    assert compare(listing({}), "t", mirrored(b=99), run(anchor=anchor), NEW) == Item("t", extra=("b",))


def test_touched_since_the_signpost() -> None:
    """A message touched since the signpost is not extra; history tells of its end, but in a gap it is looked at."""
    listed, thread = listing({"t": "a"}), mirrored(a=1, b=101)
    assert compare(listed, "t", thread, run(), NEW) is None
    assert compare(listed, "t", thread, run(anchor=50), NEW) == Item("t", look=("b",))


@pytest.mark.parametrize("anchor", [0, 50])
@pytest.mark.parametrize("known", [1, 101])
def test_moved(anchor: HistoryId, known: HistoryId) -> None:
    """A message that is listed in another thread is looked at here, and missing there."""
    listed = listing({"t": "a", "u": "b"})
    assert compare(listed, "t", mirrored(a=1, b=known), run(anchor=anchor), NEW) == Item("t", look=("b",))
    assert compare(listed, "u", None, run(anchor=anchor), NEW) == Item("u", get=("b",))


@pytest.mark.parametrize("mode", ["repair", "audit"])
@pytest.mark.parametrize("known", [1, 50, 90])
def test_stale_after_a_gap(mode: Mode, known: HistoryId) -> None:
    """After a gap, a thread that changed since the anchor is stale even if live sync raised its history id since."""
    listed = listing({"t": "a"}, {"t": 51})
    expected = Item("t", get=("a",), stale=True, history_id=51)
    assert compare(listed, "t", mirrored(known, a=1), run(mode=mode, anchor=50), NEW) == expected


def test_untouched_by_the_gap() -> None:
    """A thread that did not change after the anchor is not stale."""
    assert compare(listing({"t": "a"}, {"t": 50}), "t", mirrored(50, a=1), run(anchor=50), NEW) is None
    assert compare(listing({"t": "a"}, {"t": 50}), "t", mirrored(0, a=1), run(anchor=50), NEW) is None


def test_audit_without_a_gap() -> None:
    """An audit compares with what the mirror knows of each thread."""
    audit = run(mode="audit")
    listed = listing({"t": "a"}, {"t": 51})
    expected = Item("t", get=("a",), stale=True, history_id=51)
    assert compare(listed, "t", mirrored(50, a=1), audit, NEW) == expected
    assert compare(listed, "t", mirrored(51, a=1), audit, NEW) is None
    assert compare(listed, "t", mirrored(52, a=1), audit, NEW) is None


@pytest.mark.parametrize("mode", ["first", "repair", "full"])
def test_only_an_audit_compares_without_a_gap(mode: Mode) -> None:
    """Without a gap other runs do not take a thread for stale."""
    item = compare(listing({"t": "a"}, {"t": 99}), "t", mirrored(1, a=1), run(mode=mode), NEW)
    assert item is None or not item.stale


@pytest.mark.parametrize(("mode", "anchor"), [("repair", 50), ("first", 50), ("audit", 0), ("audit", 50)])
def test_a_thread_that_escaped_the_listing_is_stale(mode: Mode, anchor: HistoryId) -> None:
    """A thread that no page of threads.list has, because it moved to the front meanwhile, is compared all the same."""
    escaped, thread = listing({"t": "a"}, {}), mirrored(60, a=1)
    assert compare(escaped, "t", thread, run(mode=mode, anchor=anchor), NEW) == Item("t", get=("a",), stale=True)
    assert compare(escaped, "t", thread, run(mode="first"), NEW) is None


def test_new_thread_is_missing_rather_than_stale() -> None:
    """A thread that is not mirrored has nothing that could be stale."""
    item = compare(listing({"t": "a"}, {"t": 99}), "t", None, run(mode="audit", anchor=50), NEW)
    assert item == Item("t", get=("a",))


def test_thread_of_extras_is_not_stale() -> None:
    """Of a thread with nothing listed only the extra messages count."""
    item = compare(listing({}, {"t": 99}), "t", mirrored(1, a=1), run(anchor=50), NEW)
    assert item == Item("t", extra=("a",))


def test_stale_thread_by_the_cheaper_way() -> None:
    """A stale thread is read message by message while that is cheaper, then by labels only, or whole if some are
    missing.
    """
    gap = run(anchor=50)
    short, long = listing({"t": "ab"}, {"t": 60}), listing({"t": "abc"}, {"t": 60})
    single = compare(listing({"t": "a"}, {"t": 60}), "t", mirrored(a=1), gap, NEW)
    assert single == Item("t", get=("a",), stale=True, way="messages", history_id=60)
    # No message that did not change is fetched where it costs nothing to leave that be.
    assert compare(short, "t", mirrored(a=1, b=1), gap, NEW) == Item("t", stale=True, way="minimal", history_id=60)
    assert compare(short, "t", mirrored(a=1), gap, NEW) == Item(
        "t", get=("b", "a"), stale=True, way="messages", history_id=60
    )
    assert compare(long, "t", mirrored(a=1, b=1, c=1), gap, NEW) == Item("t", stale=True, way="minimal", history_id=60)
    assert compare(long, "t", mirrored(a=1, b=1), gap, NEW) == Item(
        "t", get=("c",), stale=True, way="thread", history_id=60
    )


OLD = NOW - timedelta(days=1)


def under(policy: Policy, *, mode: Mode = "policy", anchor: HistoryId = 0) -> Run:
    """A run that compares by a policy."""
    return replace(run(mode=mode, anchor=anchor), policy=policy, since=policy.since)


def thread_of(**entries: Entry) -> Thread:
    """Thread `t` as mirrored."""
    return Thread("t", 1, entries)


def test_a_policy_run_brings_and_deletes_the_difference() -> None:
    """What the listing under another policy has more is brought, what it has less is extra, and the rest is left."""
    item = compare(listing({"t": "bc"}), "t", mirrored(a=1, b=1), under(DEFAULT), NEW)
    assert item == Item("t", get=("c",), extra=("a",))


def test_what_the_policy_does_not_want_is_extra_however_new_it_is() -> None:
    """A message that by its own labels or date is not wanted is extra even if something touched it after the signpost;
    one that is wanted waits for history.
    """
    touched = replace(ENTRY, history_id=101)
    sent, old = replace(touched, label_ids=frozenset({"SENT"})), replace(touched, internal_date=OLD)
    mine = thread_of(a=sent, b=touched, c=old)
    policy = Policy(label_ids=("INBOX",), since=NOW)
    assert compare(listing({}), "t", mine, under(policy), NEW) == Item("t", extra=("a", "c"))
    assert compare(listing({}), "t", mine, under(policy, anchor=50), NEW) == Item("t", look=("b",), extra=("a", "c"))


def test_what_is_older_than_the_policy_wants_is_extra_though_it_is_listed() -> None:
    """Gmail's search may show a little too much; a mirrored message's own date decides."""
    mine = thread_of(a=replace(ENTRY, internal_date=OLD), b=ENTRY)
    assert compare(listing({"t": "ab"}), "t", mine, under(RECENT), NEW) == Item("t", extra=("a",))
    assert compare(listing({"u": "a", "t": "b"}), "t", mine, under(RECENT), NEW) == Item("t", extra=("a",))


def test_a_run_compares_by_the_day_on_which_it_listed() -> None:
    """Under a policy of the newest days, what was listed decides what is too old, however long the run goes on."""
    mine = thread_of(a=replace(ENTRY, internal_date=OLD), b=ENTRY)
    recent = under(Policy(newest_days=1))
    assert compare(listing({"t": "ab"}), "t", mine, replace(recent, since=OLD), NEW) is None
    assert compare(listing({"t": "ab"}), "t", mine, replace(recent, since=NOW), NEW) == Item("t", extra=("a",))


def test_bodies_come_back() -> None:
    """Messages that are mirrored without a body are fetched under a policy with bodies, in the cheaper way."""
    bare = replace(ENTRY, stored="none")
    listed = listing({"t": "abcd"})
    assert compare(listed, "t", thread_of(a=ENTRY, b=bare, c=ENTRY, d=ENTRY), under(DEFAULT), NEW) == Item("t", ("b",))
    assert compare(listed, "t", thread_of(a=ENTRY, b=bare, c=bare, d=bare), under(DEFAULT), NEW) == Item(
        "t", get=("d", "c", "b"), way="thread"
    )
    assert compare(listed, "t", thread_of(**dict.fromkeys("abcd", bare)), under(NO_BODIES), NEW) is None


def test_bodies_are_taken_away() -> None:
    """Under a policy without bodies those that are mirrored are taken away, except from what leaves or is rewritten."""
    stored, bare = replace(ENTRY, stored="storage"), replace(ENTRY, stored="none")
    mine = thread_of(a=ENTRY, b=stored, c=bare, d=ENTRY)
    listed = listing({"t": "abc"})
    assert compare(listed, "t", mine, under(NO_BODIES), NEW) == Item("t", extra=("d",), strip=("a", "b"))
    everything = compare(listed, "t", mine, under(NO_BODIES, mode="full"), NEW)
    assert everything == Item("t", get=("c", "b", "a"), way="thread", extra=("d",))


def test_a_policy_run_lists_no_threads_unless_history_was_lost() -> None:
    """Labels are compared only where history did not tell them."""
    assert not compares(under(DEFAULT))
    assert compares(under(DEFAULT, anchor=50))


MESSAGES = "abcdefgh"
MODES: st.SearchStrategy[Mode] = st.sampled_from(["first", "repair", "full", "audit"])


@given(
    st.dictionaries(st.sampled_from(MESSAGES), st.sampled_from(["t", "u"])),
    st.none() | st.dictionaries(st.sampled_from(MESSAGES), st.integers(1, 40), min_size=1),
    st.builds(run, mode=MODES, anchor=st.sampled_from([0, 10, 20]), signpost=st.integers(20, 30)),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from(["2026", "legacy"]),
)
def test_plan_covers_every_difference_at_the_lowest_cost(
    place: dict[MessageId, ThreadId],
    known: dict[MessageId, HistoryId] | None,
    under_way: Run,
    newest: HistoryId,
    known_newest: HistoryId,
    table: PriceTable,
) -> None:
    """Whatever is listed and mirrored, each difference has its place in the plan, and reading is as cheap as can be."""
    listed = manifest(place.items(), set(), {"t": newest})
    thread = None if known is None else mirrored(known_newest, **known)
    item = compare(listed, "t", thread, under_way, PRICES[table]) or Item("t")
    wanted = {message_id for message_id, thread_id in place.items() if thread_id == "t"}
    have = known or {}
    missing = wanted - have.keys()
    assert set(item.get) <= wanted
    assert missing <= set(item.get)
    assert list(item.get) == sorted(item.get, reverse=True)
    for message_id, history_id in have.items():
        elsewhere = place.get(message_id, "t") != "t"
        gone = message_id not in place
        late = history_id > under_way.signpost
        assert (message_id in item.look) == (elsewhere or (gone and late and under_way.anchor > 0))
        assert (message_id in item.extra) == (gone and not late)
    gap = 0 < under_way.anchor < newest
    behind = under_way.mode == "audit" and newest > known_newest
    assert item.stale == (bool(known and wanted) and (gap or behind))
    assert item.history_id == (newest if item.stale else 0)
    needed = len(wanted if item.stale or under_way.mode == "full" else missing)
    single, whole = PRICES[table]["users.messages.get"], PRICES[table]["users.threads.get"]
    assert item_units(item, PRICES[table]) == min(needed * single, whole) + len(item.look) * single
    if item.way == "messages":
        assert len(item.get) == needed
    assert item.way != "minimal" or not (missing or under_way.mode == "full")


# cost, plan documents, slices and the estimate

ITEMS = st.builds(
    Item,
    st.text(),
    get=st.lists(st.text(), max_size=4).map(tuple),
    stale=st.booleans(),
    way=st.sampled_from(["messages", "thread", "minimal"]),
    look=st.lists(st.text(), max_size=2).map(tuple),
    extra=st.lists(st.text(), max_size=2).map(tuple),
    history_id=st.integers(0, 2**63),
    strip=st.lists(st.text(), max_size=2).map(tuple),
)


@pytest.mark.parametrize(
    ("way", "table", "units"),
    [
        ("messages", "2026", 5 * 20),
        ("thread", "2026", 40 + 2 * 20),
        ("minimal", "2026", 40 + 2 * 20),
        ("messages", "legacy", 5 * 5),
        ("thread", "legacy", 10 + 2 * 5),
    ],
)
def test_units_of_an_item(way: Way, table: PriceTable, units: int) -> None:
    """Each message to bring costs its price unless the thread is read whole; each one to look at costs it anyway."""
    item = Item("t", get=("a", "b", "c"), way=way, look=("d", "e"), extra=("f",))
    assert item_units(item, PRICES[table]) == units


def test_whether_an_item_fetches() -> None:
    """What is only to be deleted needs no fetch."""
    assert not Item("t", extra=("a",)).fetches
    assert Item("t", get=("a",)).fetches
    assert Item("t", look=("a",)).fetches
    assert Item("t", stale=True, way="minimal").fetches


@given(st.lists(ITEMS, max_size=5))
def test_plan_document_round_trip(items: list[Item]) -> None:
    """Items come back from a plan document as they were."""
    assert unpack(pack(items)) == items


def test_fullest_plan_document_fits() -> None:
    """A plan document of threads as long as Gmail makes them, 100 messages each, is a document that can be stored."""
    ids = tuple(f"{0x18C3F2A1B2C3D4E5 + number:016x}" for number in range(100))
    items = [Item(f"{0x18C3F2A1B2C3D4E5 + number:016x}", ids, way="thread") for number in range(PLAN_THREADS)]
    assert weigh({"items": pack(items)}) < MAX_DOCUMENT


def test_take_what_the_units_pay_for() -> None:
    """A slice takes items from the first on while they can be paid."""
    items = [Item("t1", get=("a", "b")), Item("t2", way="thread", get=("c", "d", "e")), Item("t3", get=("f",))]
    assert [take(items, NEW, units=units) for units in (79, 80, 99, 100, 1_000)] == [1, 2, 2, 3, 3]
    assert take([], NEW, units=1_000) == 0


def test_take_at_least_one() -> None:
    """The first item is taken even if it costs more than there is, so that no run stands still."""
    assert take([Item("t1", get=("a",) * 60), Item("t2", get=("b",))], NEW, units=0) == 1


def test_take_no_more_messages_than_may_be_in_hand() -> None:
    """However many units there are, a slice stops at the most messages fetched before a commit."""
    items = [Item("t", get=("a", "b"), look=("c",), way="thread")] * 100
    assert take(items, NEW, units=10**9) == GROUP_FETCHES // 3


@given(st.lists(ITEMS, max_size=6), st.integers(0, 300), st.integers(1, 12))
def test_take_stays_within_units(items: list[Item], units: int, most: int) -> None:
    """More than one item is taken only if all of them are within the limits, and the next one would not be."""
    count = take(items, NEW, units=units, max_messages=most)

    def fits(number: int) -> bool:
        chosen = items[:number]
        cost = sum(item_units(item, NEW) for item in chosen)
        return cost <= units and sum(len(item.get) + len(item.look) for item in chosen) <= most

    assert count == 0 if not items else 1 <= count <= len(items)
    assert count <= 1 or fits(count)
    assert count == len(items) or not fits(count + 1)


def test_eta_goes_on_at_the_same_pace() -> None:
    """A run that did a quarter in an hour is ready in three."""
    under_way = replace(run(), total=400)
    assert eta(under_way, 100, NOW + timedelta(hours=1)) == NOW + timedelta(hours=4)
    assert eta(under_way, 400, NOW + timedelta(hours=1)) == NOW + timedelta(hours=1)


def test_eta_is_unknown_at_first() -> None:
    """Before anything is done nobody can say when it will be."""
    assert eta(replace(run(), total=400), 0, NOW) is None


def test_eta_is_never_in_the_past() -> None:
    """A run that did more than was planned is ready now."""
    assert eta(replace(run(), total=10), 20, NOW + timedelta(hours=1)) == NOW + timedelta(hours=1)
