"""History: records add up to one net change per message, however the log is cut, repeated or overlapped."""

from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st
from mailmirror.history import NetChange, Step, fold, replay
from mailmirror.model import HistoryId, LabelStep, MessageRef, Record

LABELS = st.frozensets(st.sampled_from(["INBOX", "UNREAD", "STARRED", "TRASH"]))
STEPS = st.lists(st.builds(Step, st.integers(1, 30), added=LABELS, removed=LABELS), max_size=8).map(
    lambda steps: sorted(steps, key=lambda step: step.record_id)
)
REFS = st.builds(
    MessageRef,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["t1", "t2"]),
    st.none() | LABELS,
)
LABEL_STEPS = st.lists(st.builds(LabelStep, REFS, LABELS), max_size=2).map(tuple)
RECORDS = st.lists(
    st.builds(
        Record,
        st.integers(1, 100),
        messages_added=st.lists(REFS, max_size=2).map(tuple),
        messages_deleted=st.lists(REFS, max_size=1).map(tuple),
        labels_added=LABEL_STEPS,
        labels_removed=LABEL_STEPS,
    ),
    max_size=8,
    unique_by=lambda record: record.id,
).map(lambda records: sorted(records, key=lambda record: record.id))


def ref(message_id: str, *labels: str, thread: str = "t") -> MessageRef:
    """A message as a record that tells its labels names it."""
    return MessageRef(message_id, thread, frozenset(labels))


def bare(message_id: str, thread: str = "t") -> MessageRef:
    """A message as a record that does not tell its labels names it."""
    return MessageRef(message_id, thread)


def step(message: MessageRef, *labels: str) -> LabelStep:
    """A change of labels."""
    return LabelStep(message, frozenset(labels))


def by_id(changes: Iterable[NetChange]) -> Mapping[str, NetChange]:
    """Net changes by message."""
    return {change.message_id: change for change in changes}


def test_no_records() -> None:
    """Nothing happened when there are no records, or empty ones."""
    assert fold([]) == fold([Record(3)]) == []


def test_new_message() -> None:
    """A message that a record adds has the labels that the record tells."""
    assert fold([Record(5, messages_added=(ref("m", "INBOX", "UNREAD"),))]) == [
        NetChange("m", "t", 5, 5, added=True, told=frozenset({"INBOX", "UNREAD"}))
    ]


def test_all_kinds_in_one_record() -> None:
    """A record can hold all four kinds of change at once, and none of them is passed over."""
    record = Record(
        7,
        messages_added=(ref("a", "INBOX"),),
        messages_deleted=(bare("d"),),
        labels_added=(step(ref("b", "STARRED"), "STARRED"),),
        labels_removed=(step(ref("c", "INBOX"), "UNREAD"),),
    )
    assert by_id(fold([record])) == {
        "a": NetChange("a", "t", 7, 7, added=True, told=frozenset({"INBOX"})),
        "b": NetChange("b", "t", 7, 7, told=frozenset({"STARRED"}), steps=(Step(7, added=frozenset({"STARRED"})),)),
        "c": NetChange("c", "t", 7, 7, told=frozenset({"INBOX"}), steps=(Step(7, removed=frozenset({"UNREAD"})),)),
        "d": NetChange("d", "t", 7, 7, deleted=True),
    }


def test_one_message_in_several_kinds_of_one_record() -> None:
    """Several changes of one message in one record become one net change."""
    record = Record(
        7,
        messages_added=(bare("m"),),
        labels_added=(step(bare("m"), "STARRED"),),
        labels_removed=(step(bare("m"), "UNREAD"),),
    )
    assert fold([record]) == [
        NetChange(
            "m",
            "t",
            7,
            7,
            added=True,
            steps=(Step(7, added=frozenset({"STARRED"})), Step(7, removed=frozenset({"UNREAD"}))),
        )
    ]


def test_steps_keep_their_order() -> None:
    """Label changes of one message are kept in the order of the records, with the first and the last of these."""
    records = [
        Record(3, labels_removed=(step(bare("m"), "UNREAD"),)),
        Record(4, labels_added=(step(bare("other"), "INBOX"),)),
        Record(8, labels_added=(step(bare("m"), "UNREAD", "STARRED"),)),
        Record(9, labels_removed=(step(bare("m"), "STARRED"),)),
    ]
    change = by_id(fold(records))["m"]
    assert (change.first, change.last) == (3, 9)
    assert [each.record_id for each in change.steps] == [3, 8, 9]
    assert replay(frozenset({"UNREAD"}), change.steps, after=0) == {"UNREAD"}


def test_trash_is_a_label_change() -> None:
    """A message that goes to the trash is not deleted."""
    change = fold([Record(3, labels_added=(step(bare("m"), "TRASH"),), labels_removed=(step(bare("m"), "INBOX"),))])[0]
    assert not change.deleted
    assert replay(frozenset({"INBOX"}), change.steps, after=0) == {"TRASH"}


@given(RECORDS)
def test_deletion_wins(records: list[Record]) -> None:
    """A message is deleted if any record says so, whatever else the records before and after it say."""
    deleted = {gone.id for record in records for gone in record.messages_deleted}
    assert {change.message_id for change in fold(records) if change.deleted} == deleted


@given(RECORDS)
def test_one_change_per_message_in_order_of_first_records(records: list[Record]) -> None:
    """Each message named has exactly one net change, and these are in the order of their first records."""
    named: dict[str, list[HistoryId]] = {}
    for record in records:
        steps = [each.message for each in (*record.labels_added, *record.labels_removed)]
        for message in (*record.messages_added, *steps, *record.messages_deleted):
            named.setdefault(message.id, []).append(record.id)
    changes = fold(records)
    assert len(changes) == len(named)
    assert {c.message_id: (c.first, c.last) for c in changes} == {i: (min(n), max(n)) for i, n in named.items()}
    assert [change.first for change in changes] == sorted(change.first for change in changes)


def test_thread_of_the_last_record() -> None:
    """The thread is the one named last; a record without a thread id does not take it away."""
    names = ["t1", "t2", ""]
    records = [Record(n, labels_added=(step(bare("m", thread), "X"),)) for n, thread in enumerate(names, start=1)]
    assert fold(records)[0].thread_id == "t2"


def test_labels_are_untold_when_no_record_tells_them() -> None:
    """Without labelIds in any record nothing is said about a message's labels, only about their changes."""
    records = [Record(1, messages_added=(bare("m"),)), Record(2, labels_added=(step(bare("m"), "INBOX"),))]
    assert fold(records)[0].told is None


def test_no_labels_told_is_not_untold() -> None:
    """A message told to be without labels, imported by POP for instance, is told."""
    assert fold([Record(1, messages_added=(ref("m"),))])[0].told == frozenset()


def test_told_labels_go_on_by_steps() -> None:
    """After a record that tells the labels, records that do not still move them on."""
    records = [
        Record(1, messages_added=(ref("m", "INBOX", "UNREAD"),)),
        Record(2, labels_added=(step(bare("m"), "TRASH"),), labels_removed=(step(bare("m"), "INBOX"),)),
    ]
    assert fold(records)[0].told == frozenset({"TRASH", "UNREAD"})


@given(
    LABELS,
    st.lists(st.tuples(LABELS, LABELS, st.sampled_from(["then", "now", "untold"])), max_size=8),
    st.booleans(),
)
def test_told_labels_of_then_or_of_now(
    first: frozenset[str], edits: list[tuple[frozenset[str], frozenset[str], str]], starts_told: bool
) -> None:
    """Whether the records' labelIds are those of their time or those of now, the labels told are those of now."""
    states = [first]
    for added, removed, _ in edits:
        states.append((states[-1] | added) - removed)
    records = [Record(1, messages_added=(MessageRef("m", "t", first if starts_told else None),))]
    told = starts_told
    for number, (added, removed, telling) in enumerate(edits, start=1):
        told = told or telling != "untold"
        tells = {"then": states[number], "now": states[-1], "untold": None}[telling]
        message = MessageRef("m", "t", tells)
        records.append(
            Record(
                number + 1,
                labels_added=(LabelStep(message, added),),
                labels_removed=(LabelStep(message, removed),),
            )
        )
    assert fold(records)[0].told == (states[-1] if told else None)


def test_replay_skips_what_the_copy_contains() -> None:
    """Only steps after the copy's history id change it; the one at this very id is already in it."""
    steps = [
        Step(4, added=frozenset({"A"})),
        Step(5, added=frozenset({"B"}), removed=frozenset({"X"})),
        Step(6, added=frozenset({"C"}), removed=frozenset({"Y"})),
    ]
    labels = frozenset({"X", "Y"})
    assert replay(labels, steps, after=3) == {"A", "B", "C"}
    assert replay(labels, steps, after=5) == {"X", "C"}
    assert replay(labels, steps, after=6) == labels


@given(LABELS, STEPS, st.integers(0, 31))
def test_last_step_decides_each_label(labels: frozenset[str], steps: list[Step], after: int) -> None:
    """For each label the last later step that names it decides, and labels that none names stay as they were."""
    result = replay(labels, steps, after=after)
    for label in ("INBOX", "UNREAD", "STARRED", "TRASH"):
        naming = [each for each in steps if each.record_id > after and label in each.added | each.removed]
        expected = label not in naming[-1].removed if naming else label in labels
        assert (label in result) == expected


@given(LABELS, STEPS, st.integers(0, 31))
def test_replay_twice_changes_nothing(labels: frozenset[str], steps: list[Step], after: int) -> None:
    """Replaying the same steps once more changes nothing."""
    once = replay(labels, steps, after=after)
    assert replay(once, steps, after=after) == once


@given(LABELS, STEPS, st.data())
def test_copies_of_any_time_end_alike(labels: frozenset[str], steps: list[Step], data: st.DataObject) -> None:
    """A copy fetched at any time with the later steps replayed has the labels of now."""
    seen = data.draw(st.integers(0, 31))
    copy = replay(labels, [each for each in steps if each.record_id <= seen], after=0)
    assert replay(copy, steps, after=seen) == replay(labels, steps, after=0)


@given(LABELS, STEPS, st.data())
def test_overlapping_windows_end_alike(labels: frozenset[str], steps: list[Step], data: st.DataObject) -> None:
    """A window that begins before the end of the one before it changes nothing in the end."""
    end = data.draw(st.integers(0, len(steps)))
    start = data.draw(st.integers(0, end))
    assert replay(replay(labels, steps[:end], after=0), steps[start:], after=0) == replay(labels, steps, after=0)


@given(RECORDS, st.integers(0, 8), LABELS)
def test_two_halves_make_the_whole(records: list[Record], cut: int, labels: frozenset[str]) -> None:
    """Folding a log in two halves and applying both is folding it whole."""
    whole = by_id(fold(records))
    halves = [by_id(fold(records[:cut])), by_id(fold(records[cut:]))]
    assert whole.keys() == halves[0].keys() | halves[1].keys()
    for message_id, change in whole.items():
        parts = [half[message_id] for half in halves if message_id in half]
        assert (change.first, change.last) == (parts[0].first, parts[-1].last)
        assert change.added == any(part.added for part in parts)
        assert change.deleted == any(part.deleted for part in parts)
        assert change.steps == sum((part.steps for part in parts), ())
        state, known = labels, 0
        for part in parts:
            state, known = replay(state, part.steps, after=known), part.last
        assert state == replay(labels, change.steps, after=0)
