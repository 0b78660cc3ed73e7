"""Fold and replay on true histories: however the log is cut, repeated or shuffled, the mailbox comes out as it is."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror.history import NetChange, fold, replay
from mailmirror.model import HistoryId, Message, MessageId, Record

from tests.records import EVERYTHING, MAILBOXES, Mailbox, retold, shown
from tests.test_history import LABELS, RECORDS, by_id

Window = tuple[HistoryId, HistoryId]


def apply(
    known: dict[MessageId, Message], changes: Iterable[NetChange], mailbox: Mailbox, fetched_at: HistoryId
) -> None:
    """Apply net changes to copies of messages; one that is not known is fetched as it was at `fetched_at`, or when it
    came.
    """
    for change in changes:
        copy = known.get(change.message_id) or mailbox.at(max(fetched_at, change.first)).get(change.message_id)
        if change.deleted or copy is None:
            known.pop(change.message_id, None)
            continue
        known[copy.id] = replace(
            copy,
            label_ids=replay(copy.label_ids, change.steps, after=copy.history_id),
            thread_id=change.thread_id if change.last > copy.history_id else copy.thread_id,
            history_id=max(copy.history_id, change.last),
        )


def mirrored(mailbox: Mailbox, windows: Iterable[Window], fetched_at: Sequence[HistoryId]) -> dict[MessageId, Message]:
    """What is known after reading these windows, with one fetch time for each."""
    known: dict[MessageId, Message] = {}
    for (after, until), at in zip(windows, fetched_at, strict=True):
        apply(known, fold(mailbox.records(after, until)), mailbox, at)
    return known


def named(record: Record) -> set[MessageId]:
    """The messages a record names."""
    refs = [*record.messages_added, *record.messages_deleted]
    return {ref.id for ref in refs} | {step.message.id for step in (*record.labels_added, *record.labels_removed)}


def only(record: Record, message_id: MessageId) -> Record:
    """What a record says of one message."""
    return Record(
        record.id,
        messages_added=tuple(ref for ref in record.messages_added if ref.id == message_id),
        messages_deleted=tuple(ref for ref in record.messages_deleted if ref.id == message_id),
        labels_added=tuple(step for step in record.labels_added if step.message.id == message_id),
        labels_removed=tuple(step for step in record.labels_removed if step.message.id == message_id),
    )


@given(MAILBOXES)
def test_history_made_up_is_true(mailbox: Mailbox) -> None:
    """What the other promises are measured by is sound: its records, taken word by word, give the mailbox as it is."""
    mailbox.telling = "then"
    for at in mailbox.ids:
        assert retold(mailbox.records(0, at)) == shown(mailbox.at(at), EVERYTHING)


@given(MAILBOXES, st.data())
@settings(max_examples=300)
def test_split_at_any_record(mailbox: Mailbox, data: st.DataObject) -> None:
    """History folded in parts, cut at any records, and applied one after the other ends as history folded whole."""
    cuts = sorted(data.draw(st.sets(st.sampled_from(mailbox.ids), max_size=4)))
    windows = list(zip([0, *cuts], [*cuts, mailbox.head], strict=True))
    parts = mirrored(mailbox, windows, [until for _, until in windows])
    assert parts == mirrored(mailbox, [(0, mailbox.head)], [mailbox.head]) == mailbox.now


@given(MAILBOXES, st.data())
@settings(max_examples=300)
def test_windows_again_and_again(mailbox: Mailbox, data: st.DataObject) -> None:
    """Windows that come twice, overlap or go back to the beginning end in the mailbox as it is."""
    windows: list[Window] = []
    for _ in range(data.draw(st.integers(0, 4))):
        reached = max((until for _, until in windows), default=0)
        after = data.draw(st.sampled_from([0, *(at for at in mailbox.ids if at <= reached)]))
        windows.append((after, data.draw(st.sampled_from([at for at in mailbox.ids if at >= after]))))
    reached = max((until for _, until in windows), default=0)
    windows.append((reached, mailbox.head))
    assert mirrored(mailbox, windows, [mailbox.head] * len(windows)) == mailbox.now
    whole = (0, mailbox.head)
    assert mirrored(mailbox, [whole, whole], [mailbox.head] * 2) == mailbox.now


@given(MAILBOXES, st.data())
@settings(max_examples=300)
def test_copies_of_any_time(mailbox: Mailbox, data: st.DataObject) -> None:
    """Whenever a message is fetched, from its first record until now, the steps after that lead to now."""
    cut = data.draw(st.sampled_from(mailbox.ids))
    fetched_at = [data.draw(st.sampled_from([at for at in mailbox.ids if at >= least])) for least in (0, cut)]
    known = mirrored(mailbox, [(0, cut), (cut, mailbox.head)], fetched_at)
    # A message that was gone when it was asked for is one that a later record deletes.
    assert known == mailbox.now


@given(MAILBOXES, st.data())
def test_what_is_told_is_true(mailbox: Mailbox, data: st.DataObject) -> None:
    """What any stretch of history up to now says of a message's labels, thread and end is so now, and nothing is left
    out that it says.
    """
    after = data.draw(st.sampled_from([0, *mailbox.ids]))
    for change in fold(mailbox.records(after, mailbox.head)):
        current = mailbox.now.get(change.message_id)
        assert change.deleted == (current is None)
        if current is not None:
            tells = mailbox.telling in {"then", "now"} or (mailbox.telling == "added" and change.added)
            assert change.told == (current.label_ids if tells else None)
            assert (change.thread_id, change.last) == (current.thread_id, current.history_id)


@given(RECORDS)
def test_messages_do_not_mix(records: list[Record]) -> None:
    """The net change of a message follows from what records say of it and from nothing that they say of others."""
    whole = by_id(fold(records))
    for message_id, change in whole.items():
        assert fold([only(record, message_id) for record in records]) == [change]


@given(RECORDS, st.randoms(use_true_random=False))
def test_records_of_different_messages_commute(records: list[Record], rng: Random) -> None:
    """History mingled in any other order that keeps each message's own records in theirs has the same net changes."""
    waiting = {
        i: [only(r, i) for r in records if i in named(r)] for i in sorted({i for r in records for i in named(r)})
    }
    mingled = []
    while waiting:
        message_id = rng.choice(sorted(waiting))
        mingled.append(waiting[message_id].pop(0))
        if not waiting[message_id]:
            del waiting[message_id]
    assert by_id(fold(mingled)) == by_id(fold(records))


@given(RECORDS, LABELS, st.sampled_from([0, 1, 9, 90, 899, 10**19]), st.integers(0, 101))
def test_only_the_size_of_ids_counts(records: list[Record], labels: frozenset[str], further: int, after: int) -> None:
    """History ids that all grow by the same, however many digits they get, give the same changes and labels."""
    moved = [replace(record, id=record.id + further) for record in records]
    for near, far in zip(fold(records), fold(moved), strict=True):
        assert (far.first, far.last) == (near.first + further, near.last + further)
        assert [step.record_id for step in far.steps] == [step.record_id + further for step in near.steps]
        expected = replay(labels, near.steps, after=after)
        assert replay(labels, far.steps, after=after + further) == expected
