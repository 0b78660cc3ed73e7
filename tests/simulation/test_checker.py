"""The checker itself: for each promise a state that it accepts and one that it refuses.

Knows: the commits of a bench, right and wrong. Does not know: the engine.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from mailmirror.model import Counts, Policy, Problem, RunRequest, Watch
from mailmirror.slice import Document, Write

from tests.simulation import mails
from tests.simulation.bench import Bench, added, changed, mirrored, put, refused, said, store_large, thread_of
from tests.world import ADA, mail

GRACE = {"name": "Grace", "address": "grace@example.com"}


class TestLease:
    def test_a_lease_is_taken_when_it_is_free(self, bench: Bench) -> None:
        """Released, expired, or one's own: anybody may take it then."""
        bench.commit(release=True)
        bench.acquire("second")
        bench.acquire("second")
        bench.clock.advance(120)
        bench.acquire("third")

    def test_a_lease_is_not_taken_from_its_holder(self, bench: Bench) -> None:
        """As long as it has not expired, it is its holder's."""
        bench.clock.advance(119)
        with refused("second took the lease at .*, but worker holds it"):
            bench.acquire("second")

    def test_a_commit_makes_the_lease_longer(self, bench: Bench) -> None:
        """What counts is the expiry of the last commit."""
        bench.clock.advance(100)
        bench.commit()
        bench.clock.advance(100)
        with refused("second took the lease"):
            bench.acquire("second")

    def test_nobody_commits_after_release(self, bench: Bench) -> None:
        """A lease given back is nobody's."""
        bench.commit(release=True)
        with refused("worker committed without the lease: nobody has it"):
            bench.commit()

    def test_nobody_commits_after_another_took_over(self, bench: Bench) -> None:
        """Who slept too long writes nothing; who took over does."""
        bench.clock.advance(120)
        bench.acquire("second")
        bench.commit(task="second")
        with refused("worker committed without the lease: second took it last"):
            bench.commit()

    def test_a_late_commit_of_the_last_holder_is_fine(self, bench: Bench) -> None:
        """An expired lease that nobody took is still fenced."""
        bench.clock.advance(1000)
        bench.commit()

    @pytest.mark.parametrize("fields", [{"cursor": 10**7}, {"delta_seq": 7}])
    def test_nothing_but_commits_moves_cursor_and_sequence(self, bench: Bench, fields: Any) -> None:
        """A watch, say, that brings a cursor along is found at the next commit."""
        bench.state = replace(bench.state, **fields)
        with refused("Outside of any commit the cursor went from"):
            bench.commit()

    @pytest.mark.parametrize(
        "fields", [{"hint": 7}, {"policy": Policy(drafts=True)}, {"watch": Watch(datetime.now(UTC))}]
    )
    def test_a_commit_leaves_alone_what_others_write(self, bench: Bench, fields: Any) -> None:
        """Hint, policy, watch and request are not a worker's to write back."""
        bench.state = replace(bench.state, hint=5)
        bench.commit()
        with refused("wrote over what others write"):
            bench.commit(**fields)


class TestDelta:
    def test_messages_come_change_move_and_go(self, bench: Bench) -> None:
        """All that a delta can say, and a copy written again without any change."""
        first = bench.receive("One")
        bench.clock.advance(1)
        second = bench.receive("Two")
        bench.bring(first, cursor=bench.checker._ids[0])
        bench.bring(second)
        bench.gmail.modify([first], ["STARRED"], ["UNREAD"])
        bench.relabel(first)
        message = bench.message(first)
        bench.commit(message, bench.thread(first, message))
        bench.gmail.merge_threads(second, first)
        message, other = bench.message(first), bench.message(second)
        moved = [{**changed(message, "messageDeleted"), "threadId": first}, added(message)]
        writes = [message, bench.thread(second, message, other), Write("delete", ("threads", first))]
        bench.commit(*writes, bench.delta(*moved), cursor=bench.head)
        assert bench.documents("threads").keys() == {second}
        bench.gmail.delete([first])
        gone = changed(message, "messageDeleted")
        writes = [Write("delete", message.path), bench.thread(second, other), bench.delta(gone)]
        bench.commit(*writes, cursor=bench.head)
        assert bench.checker.deltas() == []

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            ({"seq": 2}, "says seq 2"),
            ({"cursor": 1}, "says seq 1 and cursor 1"),
            ({"changes": []}, "has no changes"),
            ({"origin": "somewhere"}, "unknown origin"),
            ({"expireAt": datetime(2026, 1, 1, tzinfo=UTC)}, "expires at"),
        ],
    )
    def test_a_delta_fits_its_commit(self, bench: Bench, fields: Any, match: str) -> None:
        """Sequence, cursor, origin, expiry, and at least one change."""
        message = bench.message(bench.receive())
        writes = [message, bench.thread(thread_of(message), message), bench.delta(added(message), **fields)]
        with refused(f"Delta 1 .*{match}"):
            bench.commit(*writes, cursor=bench.head)

    @pytest.mark.parametrize("seq", [0, 2])
    def test_the_sequence_grows_by_one_with_each_delta(self, bench: Bench, seq: int) -> None:
        """A delta without a number, or one that skips one."""
        with refused("it takes the one document 00000000000000000001 and deltaSeq 1"):
            bench.bring(bench.receive(), delta_seq=seq)

    def test_the_sequence_does_not_grow_without_a_delta(self, bench: Bench) -> None:
        """An application would wait for it for ever."""
        with refused("wrote the deltas none and deltaSeq 1"):
            bench.commit(delta_seq=1)

    def test_a_delta_belongs_to_the_commit_that_it_tells_of(self, bench: Bench) -> None:
        """Documents without a delta are found, however new they are."""
        message = bench.message(bench.receive())
        with refused("is mirrored, but by the deltas it is not"):
            bench.commit(message, bench.thread(thread_of(message), message), cursor=bench.head)

    def test_labels_do_not_change_without_a_delta(self, bench: Bench) -> None:
        """The documents say STARRED, the deltas do not."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.modify([message_id], ["STARRED"])
        message = bench.message(message_id)
        with refused("with INBOX, STARRED, UNREAD, but by the deltas it is in thread .* with INBOX, UNREAD"):
            bench.commit(message, bench.thread(message_id, message), cursor=bench.head)

    def test_a_message_does_not_go_without_a_delta(self, bench: Bench) -> None:
        """The document is gone, and no application is told."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.delete([message_id])
        with refused("is not mirrored any more, and no delta says so"):
            bench.commit(Write("delete", ("messages", message_id)), Write("delete", ("threads", message_id)))

    @pytest.mark.parametrize(
        ("kind", "add", "remove", "match"),
        [
            ("messageAdded", ["INBOX", "UNREAD"], [], "adds message .* has it already"),
            ("labelsChanged", ["INBOX"], [], "adds INBOX to message"),
            ("labelsChanged", [], ["STARRED"], "takes STARRED off message"),
            ("labelsChanged", [], [], "names no label"),
            ("messageRead", [], [], "unknown type 'messageRead'"),
        ],
    )
    def test_each_change_has_an_effect(
        self, bench: Bench, kind: str, add: list[str], remove: list[str], match: str
    ) -> None:
        """What an application applies changes something, or it is told a lie."""
        message_id = bench.receive()
        bench.bring(message_id)
        message = bench.message(message_id)
        with refused(f"Delta 2 .*{match}"):
            bench.commit(message, bench.delta(changed(message, kind, add, remove)))

    @pytest.mark.parametrize("kind", ["messageDeleted", "labelsChanged"])
    def test_what_is_absent_does_not_change(self, bench: Bench, kind: str) -> None:
        """A label change of a message that nobody has been told of."""
        message = bench.message(bench.receive())
        change = changed(message, kind, ["STARRED"])
        with refused(f"Delta 1 says {kind} of message .* which is not mirrored"):
            bench.commit(bench.delta(change), cursor=bench.head)

    def test_a_change_names_the_thread_that_has_the_message(self, bench: Bench) -> None:
        """An application looks there."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.delete([message_id])
        change = {"type": "messageDeleted", "messageId": message_id, "threadId": "t9", "labelsRemoved": []}
        with refused("in thread t9, but it is in thread"):
            bench.commit(Write("delete", ("messages", message_id)), bench.delta(change), cursor=bench.head)

    @pytest.mark.parametrize("origin", ["live", "backfill"])
    def test_a_backfill_is_not_new_mail(self, origin: str) -> None:
        """What was there before the mailbox was connected never comes live."""
        bench = Bench()
        message = bench.message(bench.receive())
        bench.acquire()
        bench.commit(cursor=bench.head, run=bench.run("first"))
        writes = [message, bench.thread(thread_of(message), message), bench.delta(added(message), origin=origin)]
        if origin == "live":
            with refused("came live, but nothing happened to it since"):
                bench.commit(*writes)
        else:
            bench.commit(*writes)


class TestThread:
    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            ({"messageCount": 2}, "has messageCount 2"),
            ({"unreadCount": 0}, "unreadCount 0"),
            ({"labelIds": ["INBOX"]}, "labelIds INBOX, historyId"),
            ({"historyId": 1}, "historyId 1, .* at least"),
            ({"unread": False}, r"hasAttachments \[False, False, False\]"),
            ({"starred": True}, r"hasAttachments \[True, True, False\]"),
            ({"hasAttachments": True}, r"hasAttachments \[True, False, True\]"),
            ({"messageIds": []}, r"messageIds \[\]"),
            ({"messages": {}}, "lists nothing, but the thread has"),
        ],
    )
    def test_a_thread_document_follows_from_its_messages(self, bench: Bench, fields: Any, match: str) -> None:
        """Every field that is derived, wrong for once."""
        message = bench.message(bench.receive())
        writes = [message, bench.thread(thread_of(message), message, **fields), bench.delta(added(message))]
        with refused(f"Thread document .* {match}"):
            bench.commit(*writes, cursor=bench.head)

    @pytest.mark.parametrize(
        ("fields", "match"), [({"labelIds": ["INBOX"]}, "says INBOX of message"), ({"historyId": 3}, "history id 3")]
    )
    def test_a_thread_document_repeats_its_messages(self, bench: Bench, fields: Any, match: str) -> None:
        """An entry that says something else than the message document."""
        message = bench.message(bench.receive())
        wrong = replace(message, data={**(message.data or {}), **fields})
        writes = [message, bench.thread(thread_of(message), wrong), bench.delta(added(message))]
        with refused(match):
            bench.commit(*writes, cursor=bench.head)

    def test_a_thread_has_a_document(self, bench: Bench) -> None:
        """A message without one is not found by its thread."""
        message = bench.message(bench.receive())
        with refused("and no document"):
            bench.commit(message, bench.delta(added(message)), cursor=bench.head)

    def test_an_empty_thread_has_none(self, bench: Bench) -> None:
        """The last message takes it along."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.delete([message_id])
        gone = {"type": "messageDeleted", "messageId": message_id, "threadId": message_id, "labelsRemoved": []}
        with refused("has nothing and still a document"):
            bench.commit(Write("delete", ("messages", message_id)), bench.delta(gone), cursor=bench.head)


class TestCounts:
    @pytest.mark.parametrize("counts", [Counts(2, 1, 0), Counts(1, 0, 0), Counts(1, 1, 1)])
    def test_counts_are_numbers_of_documents(self, bench: Bench, counts: Counts) -> None:
        """Messages, threads, parked: one of them is wrong."""
        with refused("there are 1, 1 and 0"):
            bench.bring(bench.receive(), counts=counts)


class TestCursor:
    def test_the_cursor_never_goes_back(self, bench: Bench) -> None:
        """Not for anything."""
        bench.commit()
        with refused("The cursor went back from"):
            bench.commit(cursor=bench.state.cursor - 1)

    def test_the_cursor_is_not_ahead_of_gmail(self, bench: Bench) -> None:
        """A notification may lie; history does not."""
        with refused("which Gmail's history has not reached"):
            bench.commit(cursor=bench.head + 1)

    def test_the_cursor_passes_what_is_applied(self, bench: Bench) -> None:
        """A message that came, changed, and went."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.modify([message_id], ["STARRED"])
        bench.relabel(message_id)
        bench.gmail.delete([message_id])
        bench.remove(message_id)

    def test_the_cursor_passes_no_new_message(self, bench: Bench) -> None:
        """Nor does a run excuse it, which would bring it late."""
        message_id = bench.receive()
        bench.commit(run=bench.run())
        with refused(f"passed record .*message {message_id} is neither mirrored nor parked"):
            bench.commit(cursor=bench.head)

    def test_the_cursor_passes_no_label_change(self, bench: Bench) -> None:
        """A copy from before it is not enough."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.modify([message_id], ["STARRED"])
        with refused("passed record .* is mirrored in thread .* with INBOX, UNREAD as of history id"):
            bench.commit(cursor=bench.head)

    def test_the_cursor_passes_no_deletion(self, bench: Bench) -> None:
        """What is gone in Gmail is gone in the mirror by then."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.delete([message_id])
        with refused("which record .* deleted, is still mirrored"):
            bench.commit(cursor=bench.head)

    def test_a_change_that_comes_to_nothing_is_passed(self, bench: Bench) -> None:
        """On and off again: the copy from before says the same."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.modify([message_id], ["STARRED"])
        bench.gmail.modify([message_id], [], ["STARRED"])
        bench.commit(cursor=bench.head)

    def test_what_is_parked_is_passed(self, bench: Bench) -> None:
        """It is not lost: it is counted and tried again."""
        bench.commit(bench.parked(bench.receive()), cursor=bench.head)

    def test_what_is_gone_or_excluded_later_is_passed(self, bench: Bench) -> None:
        """A message that Gmail does not have any more cannot be brought; one that the policy excludes is not wanted."""
        gone, spam, draft = bench.receive(), bench.receive(), bench.gmail.save_draft(mail("Draft"))
        bench.checker.policy(Policy(include_spam_trash=False))
        bench.gmail.modify([spam], ["SPAM"], [])
        first = bench.checker._ids[-2]
        bench.gmail.delete([gone])
        bench.commit(cursor=first)
        bench.commit(cursor=bench.head)
        assert draft not in bench.documents("messages")

    def test_what_is_excluded_by_no_policy_is_not_passed(self, bench: Bench) -> None:
        """Spam is wanted unless a policy said otherwise."""
        bench.receive(label_ids=("SPAM",))
        with refused("with SPAM, and no policy excludes that"):
            bench.commit(cursor=bench.head)

    @pytest.mark.parametrize("stage", ["listing", "planning", "fetching", "deleting", "closing"])
    def test_a_run_that_brings_a_message_excuses_its_changes(self, stage: str) -> None:
        """It lists what was there before; but it does so no more once it deletes."""
        bench = Bench()
        message_id = bench.receive()
        bench.acquire()
        bench.commit(cursor=bench.head, run=bench.run("first"))
        bench.commit(run=bench.run("first", stage=stage))
        bench.gmail.modify([message_id], ["STARRED"])
        if stage in ("deleting", "closing"):
            with refused("neither mirrored nor parked"):
                bench.commit(cursor=bench.head)
        else:
            bench.commit(cursor=bench.head)

    def test_a_run_is_not_finished_before_all_is_there(self) -> None:
        """What it was to bring and did not is found in the commit that ends it."""
        bench = Bench()
        message_id = bench.receive()
        bench.acquire()
        run = bench.run("first")
        bench.commit(cursor=bench.head, run=run)
        with refused(f"Now that run run-1 is finished, .*message {message_id} is neither"):
            bench.commit(run=replace(run, stage="finished"))

    def test_a_run_may_end_short_of_another_that_is_due(self) -> None:
        """The policy changed under it: what its listing lacks comes with the run that was asked for."""
        bench = Bench()
        bench.receive()
        bench.acquire()
        run = bench.run("first")
        bench.commit(cursor=bench.head, run=run)
        bench.state = replace(bench.state, request=RunRequest("policy-1", "audit", bench.clock.now()))
        bench.commit(run=replace(run, stage="finished"))

    @pytest.mark.parametrize("running", [False, True])
    def test_a_run_excuses_changes_of_what_moved_in_a_gap(self, bench: Bench, running: bool) -> None:
        """History names the thread where it is now, the mirror has it in another; without a run nobody would look."""
        message_id, other = bench.receive("One"), bench.receive("Two")
        bench.bring(message_id, cursor=bench.checker._ids[0])
        bench.bring(other)
        bench.gmail.merge_threads(other, message_id)
        bench.checker.expired("worker")
        bench.commit(cursor=bench.head, run=bench.run("repair", anchor=bench.state.cursor))
        if not running:
            bench.commit(run=bench.run("repair", stage="closing"))
        bench.gmail.modify([message_id], ["STARRED"])
        if running:
            bench.commit(cursor=bench.head)
        else:
            with refused(f"message {message_id} is mirrored in thread {message_id} with INBOX, UNREAD"):
                bench.commit(cursor=bench.head)

    def test_a_parked_message_is_not_forgotten(self, bench: Bench) -> None:
        """Taken out of the parked ones, it is mirrored or has a reason not to be."""
        message_id = bench.receive()
        bench.commit(bench.parked(message_id), cursor=bench.head)
        with refused(f"Now that message {message_id} was taken out of the parked ones, .*is neither"):
            bench.commit(Write("delete", ("parked", message_id)))

    def test_a_parked_message_comes_in_the_end(self, bench: Bench) -> None:
        """Brought in the commit that takes it out; or gone, and then it may go."""
        kept, gone = bench.receive(), bench.receive()
        bench.commit(bench.parked(kept), bench.parked(gone), cursor=bench.head)
        message = bench.message(kept)
        writes = [message, bench.thread(kept, message), bench.delta(added(message))]
        bench.commit(*writes, Write("delete", ("parked", kept)))
        bench.gmail.delete([gone])
        bench.commit(Write("delete", ("parked", gone)))


class TestFirstSync:
    @pytest.mark.parametrize("mode", ["first", "full"])
    def test_the_first_cursor_is_the_signpost_of_a_first_run(self, mode: str) -> None:
        """There is no other way to begin."""
        bench = Bench()
        bench.acquire()
        if mode == "first":
            bench.commit(cursor=bench.head, run=bench.run(mode))
        else:
            with refused("without a first run"):
                bench.commit(cursor=bench.head, run=bench.run(mode))

    def test_the_first_cursor_is_no_other_number(self) -> None:
        """Not the watch's, say, which is newer."""
        bench = Bench()
        bench.acquire()
        run = bench.run("first")
        bench.receive()
        with refused("without a first run that has it as its signpost"):
            bench.commit(cursor=bench.head, run=run)


class TestJump:
    def test_the_cursor_jumps_when_history_has_expired(self, bench: Bench) -> None:
        """To the signpost of a run that compares everything since the cursor."""
        bench.receive()
        bench.checker.expired("worker")
        bench.commit(cursor=bench.head, run=bench.run("repair", anchor=bench.state.cursor))

    def test_the_cursor_jumps_for_no_other_reason(self, bench: Bench) -> None:
        """History that is there is read."""
        bench.receive()
        with refused("had not expired"):
            bench.commit(cursor=bench.head, run=bench.run("repair", anchor=bench.state.cursor))

    def test_an_expiry_counts_for_one_lease_only(self, bench: Bench) -> None:
        """What another worker was told, or this one before, is outdated."""
        bench.receive()
        bench.checker.expired("second")
        bench.checker.expired("worker")
        bench.acquire()
        with refused("had not expired"):
            bench.commit(cursor=bench.head, run=bench.run("repair", anchor=bench.state.cursor))

    def test_a_jump_without_a_run_is_none(self, bench: Bench) -> None:
        """The gap would never be seen again."""
        message_id = bench.receive()
        bench.checker.expired("worker")
        with refused(f"message {message_id} is neither mirrored nor parked"):
            bench.commit(cursor=bench.head)

    @pytest.mark.parametrize("late", [False, True])
    def test_the_anchor_is_not_after_the_gap(self, bench: Bench, late: bool) -> None:
        """A run without an anchor, or one that begins after the gap, compares no labels."""
        bench.receive()
        bench.checker.expired("worker")
        with refused("is not compared"):
            bench.commit(cursor=bench.head, run=bench.run("repair", anchor=bench.state.cursor + 1 if late else 0))

    @pytest.mark.parametrize("oldest", [False, True])
    def test_a_second_gap_leaves_the_first_one_open(self, bench: Bench, oldest: bool) -> None:
        """The run that starts again keeps the older anchor."""
        first = bench.state.cursor
        bench.receive()
        bench.checker.expired("worker")
        bench.commit(cursor=bench.head, run=bench.run("repair", anchor=first))
        second = bench.state.cursor
        bench.receive()
        bench.checker.expired("worker")
        if oldest:
            bench.commit(cursor=bench.head, run=bench.run("repair", anchor=first))
        else:
            with refused(f"what happened after {first} is not compared"):
                bench.commit(cursor=bench.head, run=bench.run("repair", anchor=second))

    def test_a_cursor_that_walks_to_the_signpost_does_not_jump(self, bench: Bench) -> None:
        """A run that was asked for begins with a signpost that live sync then reaches; and passes nothing over."""
        message_id = bench.receive()
        bench.commit(run=bench.run())
        bench.bring(message_id)


class TestDeletion:
    def test_what_gmail_has_and_no_policy_excludes_stays(self, bench: Bench) -> None:
        """Newer than the listing that lacks it, say."""
        message_id = bench.receive()
        bench.bring(message_id)
        with refused(f"Message {message_id} was deleted from the mirror, .* Gmail has it .* INBOX, UNREAD"):
            bench.remove(message_id)

    def test_what_was_in_the_trash_meanwhile_may_have_gone(self, bench: Bench) -> None:
        """It was not in the listing then; history brings it back."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.checker.policy(Policy(include_spam_trash=False))
        bench.gmail.trash(message_id)
        bench.gmail.untrash(message_id)
        bench.remove(message_id, cursor=bench.state.cursor)

    def test_what_was_in_the_trash_before_its_copy_stays(self, bench: Bench) -> None:
        """The copy is newer than that."""
        message_id = bench.receive()
        bench.gmail.trash(message_id)
        bench.gmail.untrash(message_id)
        bench.bring(message_id)
        bench.checker.policy(Policy(include_spam_trash=False))
        with refused("was deleted from the mirror"):
            bench.remove(message_id)

    def test_what_another_policy_excludes_may_go(self, bench: Bench) -> None:
        """Nothing happened to the message, but to the policy."""
        message_id = bench.receive(label_ids=("TRASH",))
        bench.bring(message_id)
        bench.state = replace(bench.state, policy=Policy(include_spam_trash=False))
        bench.remove(message_id)


class TestCopies:
    def test_a_copy_is_as_gmail_was(self, bench: Bench) -> None:
        """Labels of another time than the history id says are refused."""
        message_id = bench.receive()
        record = bench.head
        bench.gmail.modify([message_id], ["STARRED"])
        message = bench.message(message_id, historyId=record)
        writes = [message, bench.thread(message_id, message), bench.delta(added(message), cursor=record)]
        with refused(f"with INBOX, STARRED, UNREAD as of history id {record}, but by record {record}"):
            bench.commit(*writes, cursor=record)

    def test_a_run_may_still_have_to_repair_a_copy(self, bench: Bench) -> None:
        """What is lost with expired history is not known to live sync."""
        message_id = bench.receive()
        bench.bring(message_id)
        lost = bench.message(message_id)
        bench.gmail.modify([message_id], ["STARRED"])
        bench.checker.expired("worker")
        bench.commit(cursor=bench.head, run=bench.run("repair", anchor=bench.state.cursor))
        bench.gmail.modify([message_id], [], ["UNREAD"])
        message = bench.message(message_id, labelIds=["INBOX"])
        change = changed(lost, "labelsChanged", [], ["UNREAD"])
        bench.commit(message, bench.thread(message_id, message), bench.delta(change), cursor=bench.head)
        bench.relabel(message_id)

    def test_a_copy_does_not_go_back(self, bench: Bench) -> None:
        """An old answer of Gmail's is not written over a newer copy, with or without a run."""
        message_id = bench.receive()
        old = bench.message(message_id)
        bench.gmail.modify([message_id], ["STARRED"])
        bench.gmail.modify([message_id], [], ["STARRED"])
        bench.bring(message_id)
        bench.commit(run=bench.run())
        with refused(f"The copy of message {message_id} went back"):
            bench.commit(old, bench.thread(message_id, old))

    def test_a_copy_from_before_all_records_is_of_nothing(self, bench: Bench) -> None:
        """There was no such message."""
        message_id = bench.receive()
        message = bench.message(message_id, historyId=1)
        with refused("has history id 1, but nothing had happened to it then"):
            bench.commit(message, bench.thread(message_id, message), bench.delta(added(message)), cursor=bench.head)


class TestParked:
    def test_a_parked_message_waits_longer_and_longer(self, bench: Bench) -> None:
        """Each failure counts, and the first one is remembered."""
        message_id, first = bench.receive(), bench.clock.now()
        bench.commit(bench.parked(message_id), cursor=bench.head)
        bench.clock.advance(60)
        bench.commit(bench.parked(message_id, attempts=2, firstAt=first))

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            ({"reason": " "}, "parked without a reason"),
            ({"attempts": 0}, "parked after 0 attempts"),
            ({"nextAttemptAt": datetime(2026, 11, 20, 11, tzinfo=UTC)}, "due again in the past"),
        ],
    )
    def test_a_parked_message_says_why_and_until_when(self, bench: Bench, fields: Any, match: str) -> None:
        """A reason in words, an attempt that failed, and a time to come."""
        with refused(match):
            bench.commit(bench.parked(bench.receive(), **fields), cursor=bench.head)

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            (
                {"attempts": 1, "nextAttemptAt": datetime(2026, 11, 20, 13, tzinfo=UTC)},
                "after 1 attempts; it should be 2",
            ),
            ({"attempts": 2, "firstAt": datetime(2026, 11, 20, 13, tzinfo=UTC)}, "was parked first at"),
            ({"attempts": 2, "nextAttemptAt": datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)}, "due again in the past"),
        ],
    )
    def test_a_failure_does_not_make_others_forgotten(self, bench: Bench, fields: Any, match: str) -> None:
        """Attempts that do not grow, and a first failure that moves, would be tried for ever."""
        message_id = bench.receive()
        bench.commit(bench.parked(message_id), cursor=bench.head)
        with refused(match):
            bench.commit(bench.parked(message_id, **fields))


class TestBody:
    @pytest.mark.parametrize(
        "body",
        [
            {"text": "Ho.", "html": "", "stored": "inline"},
            {"text": "Hi.\r\n", "html": "<p>", "stored": "inline"},
            {"text": "", "html": "", "stored": "storage", "uri": "memory://nowhere"},
            {"text": "", "html": "", "stored": "storage", "uri": "memory://other"},
            {},
        ],
    )
    def test_a_new_message_has_the_body_that_was_sent(self, bench: Bench, body: Document) -> None:
        """Other text, other html, an object that is not there, another one's object, none at all."""
        bench.objects["other"] = json.dumps({"text": "Ho.", "html": ""}).encode()
        message_id = bench.receive()
        message = bench.message(message_id, body=body)
        thread = bench.thread(message_id, bench.message(message_id))
        with refused(f"of message {message_id} "):
            bench.commit(message, thread, bench.delta(added(message)), cursor=bench.head)

    def test_a_large_body_is_in_its_object(self, bench: Bench) -> None:
        """The document tells where."""
        message_id, name = store_large(bench)
        assert bench.documents("messages")[message_id]["objects"] == [name]

    @pytest.mark.parametrize("words", ["Hello, you!", "Hello\n\nyou"])
    def test_of_rendered_html_the_words_count(self, bench: Bench, words: str) -> None:
        """How they are set is the engine's own affair; which there are is not."""
        raw = b"From: Grace <grace@example.com>\r\nContent-Type: text/html\r\n\r\n<p>Hello</p><p>you</p>"
        message_id = bench.gmail.deliver(raw)
        html = "<p>Hello</p><p>you</p>"
        message = bench.message(message_id, body={"text": words, "html": html, "stored": "inline"})
        bench.commit(message, bench.thread(message_id, message), bench.delta(added(message)), cursor=bench.head)
        wrong = bench.message(message_id, body={"text": "you Hello", "html": html, "stored": "inline"})
        with refused("The text of message"):
            bench.commit(wrong, bench.thread(message_id, wrong))

    @pytest.mark.parametrize(
        ("stores", "uri", "truncated", "match"),
        [
            (False, False, [], None),
            (True, True, [], None),
            (True, False, ["attachments.uri"], None),
            (True, False, [], "are kept or not"),
            (False, True, [], "are kept or not"),
            (False, False, ["body.text"], "are kept or not"),
        ],
    )
    def test_the_bytes_of_attachments_are_kept_where_they_are_to_be(
        self, stores: bool, uri: bool, truncated: list[str], match: str | None
    ) -> None:
        """Or the message says that they could not be had."""
        bench = Bench(stores=stores)
        bench.connect()
        message_id = bench.gmail.deliver(mails.source(0))
        objects = [put(bench, b"%PDF 1")] if uri else []
        (attachment,) = bench.message(message_id).data["attachments"]  # type: ignore[index]
        attachment |= {"uri": f"memory://{objects[0]}" if uri else None}
        message = bench.message(message_id, attachments=[attachment], objects=objects, truncated=truncated)
        writes = [message, bench.thread(message_id, message), bench.delta(added(message))]
        if match is None:
            bench.commit(*writes, cursor=bench.head)
        else:
            with refused(match):
                bench.commit(*writes, cursor=bench.head)

    def test_an_attachment_that_is_not_told_is_found(self, bench: Bench) -> None:
        """Where it is, what it is called, its type and its size."""
        message_id = bench.gmail.deliver(mails.source(0))
        message = bench.message(message_id, attachments=[])
        with refused("The attachments of message"):
            bench.commit(message, bench.thread(message_id, message), bench.delta(added(message)), cursor=bench.head)

    def test_a_message_that_gmail_has_deleted_meanwhile_is_known(self, bench: Bench) -> None:
        """It was fetched before; its deletion comes with history."""
        message_id = bench.receive()
        record = bench.head
        message = bench.message(message_id)
        bench.gmail.delete([message_id])
        writes = [message, bench.thread(message_id, message), bench.delta(added(message), cursor=record)]
        bench.commit(*writes, cursor=record)
        bench.remove(message_id)


class TestDifferences:
    def test_a_mirror_that_equals_its_mailbox_has_none(self, bench: Bench) -> None:
        """Messages, threads, labels, counts, deltas; drafts are not wanted."""
        mirrored(bench)
        bench.gmail.save_draft(mail("Draft"))
        bench.commit(cursor=bench.head)
        assert bench.checker.differences() == []

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            ({"threadId": "t9"}, "The thread of message"),
            ({"labelIds": ["INBOX"]}, "The labels of message"),
            ({"internalDate": datetime(2026, 1, 1, tzinfo=UTC)}, "The internalDate of message"),
            ({"sizeEstimate": 1}, "The sizeEstimate of message"),
            ({"snippet": "Ho."}, "The snippet of message"),
            ({"headers": {"from": {"name": "", "address": "grace@example.com"}, "subject": "Two"}}, "The sender of"),
            ({"headers": {"from": GRACE, "subject": ""}}, "The subject of message"),
            ({"headers": {"from": GRACE, "subject": "Two", "references": ["<x@y>"]}}, "The References of message"),
            ({"historyId": 10**7}, "is mirrored as of history id 10000000"),
            ({"body": {"text": "", "html": "", "stored": "inline"}}, "The text of message"),
            ({"body": {"stored": "storage", "uri": "memory://nowhere"}}, "The body of message .* cannot be read"),
            ({"objects": [f"{ADA}/nothing"]}, "names the objects"),
        ],
    )
    def test_a_message_document_that_differs_is_named(self, bench: Bench, fields: Any, match: str) -> None:
        """Field by field."""
        _, second = mirrored(bench)
        bench.edit("messages", second, **fields)
        assert said(bench, match)

    @pytest.mark.parametrize(
        "fields",
        [
            {"subject": "Two"},
            {"snippet": ""},
            {"participants": []},
            {"messageIds": []},
            {"unread": False},
            {"starred": True},
            {"hasAttachments": True},
            {"messageCount": 1},
            {"unreadCount": 1},
            {"labelIds": []},
            {"firstMessageAt": datetime(2026, 1, 1, tzinfo=UTC)},
            {"lastMessageAt": datetime(2026, 1, 1, tzinfo=UTC)},
        ],
    )
    def test_a_thread_document_that_differs_is_named(self, bench: Bench, fields: Any) -> None:
        """Everything that follows from its messages."""
        first, _ = mirrored(bench)
        bench.edit("threads", first, **fields)
        assert said(bench, f"{next(iter(fields))} of thread {first} is .* and should be")

    def test_a_thread_document_that_lists_others_is_named(self, bench: Bench) -> None:
        """One too few, none at all, and one that differs."""
        first, second = mirrored(bench)
        entries = bench.documents("threads")[first]["messages"]
        bench.edit("threads", first, messages={**entries, second: {**entries[second], "labelIds": []}})
        assert said(bench, f"Thread document {first} says labelIds \\[\\] of message {second}")
        bench.edit("threads", first, messages={first: entries[first]})
        assert said(bench, f"Thread document {first} lists {first}, but the thread has")
        del bench.documents("threads")[first]
        assert said(bench, f"Thread {first} has no document")

    def test_messages_that_are_missing_or_too_many_are_named(self, bench: Bench) -> None:
        """In Gmail and not in the mirror; in the mirror and not in Gmail, or not wanted."""
        first, second = mirrored(bench)
        late = bench.receive()
        assert said(bench, f"Message {late} is missing")
        bench.gmail.delete([first])
        assert said(bench, f"Message {first} is mirrored, but Gmail does not have it")
        bench.gmail.modify([second], ["SPAM"], ["INBOX"])
        bench.state = replace(bench.state, policy=Policy(include_spam_trash=False))
        assert said(bench, f"Message {second} is mirrored, but the policy excludes it")

    def test_what_cannot_be_read_is_not_compared(self, bench: Bench) -> None:
        """But it does not hide the others."""
        mirrored(bench)
        poison, other = bench.receive(), bench.receive()
        found = bench.checker.differences({poison})
        assert [sentence for sentence in found if poison in sentence] == []
        assert said(bench, f"Message {other} is missing")

    @pytest.mark.parametrize("document", [None, {"name": "Inbox"}])
    def test_a_label_that_differs_is_named(self, bench: Bench, document: Document | None) -> None:
        """Only what messages carry is compared, and that must be there."""
        mirrored(bench)
        bench.gmail.create_label("Nobody's")
        assert bench.checker.differences() == []
        if document is None:
            del bench.documents("labels")["INBOX"]
        else:
            bench.edit("labels", "INBOX", **document)
        assert said(bench, "Label INBOX: mirrored")

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            ({"counts": Counts(1, 1, 0)}, "The counts say 1 messages, but there are 2"),
            ({"counts": Counts(2, 2, 0)}, "The counts say 2 threads, but there are 1"),
            ({"counts": Counts(2, 1, 1)}, "The counts say 1 parked, but there are 0"),
            ({"cursor": 10**7}, "The cursor is 10000000, but the last commit left it at"),
            ({"delta_seq": 2}, "deltaSeq is 2, and the delta log has"),
            ({"request": RunRequest("run-9", "full", datetime.now(UTC))}, "Run run-9 was asked for and never begun"),
        ],
    )
    def test_a_mailbox_document_that_differs_is_named(self, bench: Bench, fields: Any, match: str) -> None:
        """Counts, cursor, sequence and what was asked for."""
        mirrored(bench)
        bench.state = replace(bench.state, **fields)
        assert said(bench, match)

    def test_a_run_leaves_only_its_report_behind(self, bench: Bench) -> None:
        """It is finished, and so says its report; pages and plans are gone."""
        mirrored(bench)
        bench.documents("runs")["run-1"] = {"stage": "finished"}
        bench.documents("runs/run-1/pages")
        assert bench.checker.differences() == []
        bench.edit("runs", "run-1", stage="closing")
        assert said(bench, "The report of run run-1 says stage closing")
        bench.documents("runs/run-1/plan")["000000"] = {}
        assert said(bench, "runs/run-1/plan was left behind with 000000")
        bench.state = replace(bench.state, run=bench.run(stage="closing"))
        assert said(bench, "Run run-1 is still in stage closing")


class TestDeltaLog:
    @pytest.mark.parametrize(
        ("fault", "match"),
        [
            (lambda log: log.pop("0" * 19 + "1"), "deltaSeq is 2, and the delta log has"),
            (lambda log: log["0" * 19 + "2"].update(cursor=1), "Delta 2 says seq 2 and cursor 1"),
            (lambda log: log["0" * 19 + "2"].update(seq=3), "Delta 2 says seq 3"),
            (lambda log: log["0" * 19 + "2"]["changes"].pop(), "Delta 2 has no changes"),
            (lambda log: log["0" * 19 + "2"]["changes"].pop(), "By the deltas message .* is in thread .*, but it is"),
            (lambda log: log["0" * 19 + "2"]["changes"].append(log["0" * 19 + "2"]["changes"][0]), "adds STARRED to"),
        ],
    )
    def test_the_log_replayed_from_zero_gives_the_mirror(self, bench: Bench, fault: Any, match: str) -> None:
        """A gap, a cursor that goes back, a wrong number, a change lost, a change told twice."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.gmail.modify([message_id], ["STARRED"])
        bench.relabel(message_id)
        assert bench.checker.deltas() == []
        fault(bench.documents("deltas"))
        assert said(bench, match)


class TestExplained:
    @pytest.mark.parametrize(
        ("fields", "explained"),
        [
            ({}, False),
            ({"problem": Problem("AccessRevoked", "Access was revoked.", "Give it again.", datetime.now(UTC))}, True),
            ({"problem": Problem("AccessRevoked", " ", "", datetime.now(UTC))}, False),
            ({"phase": "recovering"}, True),
            ({"throttled_until": datetime(2026, 11, 20, 12, 1, tzinfo=UTC)}, True),
            ({"throttled_until": datetime(2026, 11, 20, 11, 59, tzinfo=UTC)}, False),
            ({"request": RunRequest("run-9", "full", datetime.now(UTC))}, True),
            ({"request": RunRequest("run-9", "full", datetime.now(UTC)), "request_done": "run-9"}, False),
            ({"watch": Watch(datetime.now(UTC), error="Only one client is allowed.")}, True),
            ({"counts": Counts(parked=1)}, False),
        ],
    )
    def test_a_mailbox_says_in_words_why_it_is_not_there_yet(self, bench: Bench, fields: Any, explained: bool) -> None:
        """Silence is no explanation, nor is a time that is over or a count of nothing."""
        bench.state = replace(bench.state, **fields)
        assert bench.checker.explained(bench.clock.now()) is explained

    @pytest.mark.parametrize("stage", ["planning", "finished"])
    def test_a_run_under_way_explains(self, bench: Bench, stage: str) -> None:
        """One that is finished does not."""
        bench.state = replace(bench.state, run=bench.run(stage=stage))
        assert bench.checker.explained(bench.clock.now()) is (stage == "planning")

    @pytest.mark.parametrize("reason", ["It is not found.", ""])
    def test_a_parked_message_explains_by_its_reason(self, bench: Bench, reason: str) -> None:
        """Counted, and with words."""
        bench.documents("parked")["m1"] = {"reason": reason}
        bench.state = replace(bench.state, counts=Counts(parked=1))
        assert bench.checker.explained(bench.clock.now()) is bool(reason)

    def test_a_mailbox_that_is_not_connected_says_nothing(self, bench: Bench) -> None:
        """There is no document to say it."""
        bench.shelf.states.clear()
        assert not bench.checker.explained(bench.clock.now())
        assert bench.checker.differences() == ["There is no mailbox document."]
