"""Catch up: live changes reach the mirror, and the cursor never says more than what was applied."""

from datetime import timedelta

import pytest
from mailmirror import threads
from mailmirror.errors import GmailUnavailable, Throttled
from mailmirror.mirror import CROWDED
from mailmirror.model import Policy

from tests.world import ADA, World, mail, push


@pytest.fixture
def world() -> World:
    """A connected mailbox of six messages."""
    world = World()
    for number in range(6):
        world.ada.deliver(mail(f"Old {number}"))
    world.connect()
    return world


def oldest(world: World) -> list[str]:
    """The mailbox's message ids, oldest first."""
    messages = world.ada.truth()["messages"]
    return sorted(messages, key=lambda i: (messages[i]["internalDate"], i))


def test_every_kind_of_change_arrives(world: World) -> None:
    """New mail, label changes, trash, deletion and replies are mirrored by one notification."""
    first, second, third, *_ = oldest(world)
    world.ada.deliver(mail("New"))
    world.ada.modify([first, second], ["STARRED"], ["UNREAD"])
    world.ada.trash(third)
    world.ada.delete([second])
    assert world.notify() == 204
    assert world.differences() == []


def test_drafts_stay_out_and_cost_nothing(world: World) -> None:
    """Saving a draft again and again fetches nothing under the default policy; sending it mirrors the sent message."""
    draft = world.ada.save_draft(mail("Draft"))
    for _ in range(5):
        draft = world.ada.save_draft(mail("Draft"), draft)
    world.accounts.calls.clear()
    world.notify()
    assert world.accounts.made("users.messages.get") == 0
    world.ada.send_draft(draft)
    world.notify()
    assert world.differences() == []
    assert len(world.documents("messages")) == 7


def test_drafts_are_mirrored_when_the_policy_says_so() -> None:
    """With the policy `drafts` each saved draft replaces the one before."""
    world = World()
    world.connect(Policy(drafts=True))
    draft = world.ada.save_draft(mail("Draft"))
    world.notify()
    world.ada.save_draft(mail("Draft again"), draft)
    world.notify()
    assert world.differences(lambda labels: True) == []
    assert len(world.documents("messages")) == 1


def test_trash_leaves_and_returns_when_the_policy_excludes_it() -> None:
    """Without spam and trash a trashed message leaves the mirror, and comes back when it is taken out again."""
    world = World()
    message = world.ada.deliver(mail())
    world.connect(Policy(include_spam_trash=False))
    world.ada.trash(message)
    world.notify()
    assert world.documents("messages") == {}
    world.ada.untrash(message)
    world.notify()
    assert world.differences() == []
    assert list(world.documents("messages")) == [message]


def test_mail_arriving_while_pages_are_read_is_not_skipped(world: World) -> None:
    """The cursor of a pass is the first page's history id, so mail that arrives behind a later page is still ahead."""
    messages = oldest(world)
    for _ in range(101):
        world.ada.modify(messages, ["STARRED"])
        world.ada.modify(messages, [], ["STARRED"])
    arrived: list[str] = []

    def arrive(method: str, subject: str) -> None:
        if method == "users.history.list" and world.accounts.made(method) == 2 and not arrived:
            arrived.append(world.ada.deliver(mail("Between pages")))

    world.accounts.calls.clear()
    world.accounts.before = arrive
    world.notify()
    assert arrived
    world.notify()
    assert world.differences() == []


def test_a_page_without_history_is_not_the_end(world: World) -> None:
    """Pages that are empty but have a next page are passed over."""
    world.ada.empty_page_chance = 1.0
    for number in range(700):
        world.ada.modify(oldest(world)[:1], ["STARRED"] if number % 2 else [], [] if number % 2 else ["STARRED"])
    world.ada.deliver(mail("At the end"))
    # Without a notification's id nothing else would tell that the pass was cut short.
    world.app.push(world.app.run_work, push({"mailbox": ADA, "task": "sync"}))
    assert world.differences() == []
    assert world.state().cursor == world.head()


def test_an_expired_page_token_starts_the_pass_again(world: World) -> None:
    """A refused page token repeats the pass from the cursor and loses nothing."""
    for _ in range(101):
        world.ada.modify(oldest(world), ["STARRED"])
        world.ada.modify(oldest(world), [], ["STARRED"])
    expired: list[bool] = []

    def expire(method: str, subject: str) -> None:
        if method == "users.history.list" and world.accounts.made(method) == 2 and not expired:
            expired.append(True)
            world.ada.expire_page_tokens()

    world.accounts.calls.clear()
    world.accounts.before = expire
    assert world.notify() == 204
    assert expired
    assert world.differences() == []


def test_a_message_deleted_before_it_is_fetched_is_no_failure(world: World) -> None:
    """A message deleted after its history was read is parked, and dropped when history tells of its deletion."""
    gone = world.ada.deliver(mail("Short-lived"))

    def delete(method: str, subject: str) -> None:
        if method == "users.messages.get" and gone in world.ada.truth()["messages"]:
            world.ada.delete([gone])

    world.accounts.before = delete
    assert world.notify() == 204
    assert world.state().counts.parked == 1
    world.accounts.before = None
    world.notify()
    assert world.state().counts.parked == 0
    assert world.differences() == []


def test_a_message_that_is_only_late_is_fetched_again(world: World) -> None:
    """A 404 for a message that history has just announced is tried again, and then parked instead of forgotten."""
    world.ada.get_lag = timedelta(seconds=1)
    world.ada.deliver(mail("One second late"))
    world.notify()
    assert world.differences() == []
    world.ada.get_lag = timedelta(seconds=30)
    world.ada.deliver(mail("Half a minute late"))
    world.notify()
    assert [item["reason"] for item in world.documents("parked").values()] == [
        "Gmail named this message but does not find it yet."
    ]
    world.sweep()
    assert world.documents("parked") == {}
    assert world.differences() == []


def test_one_bad_message_neither_blocks_nor_loses_another(world: World) -> None:
    """A message that cannot be read is parked with its reason, others arrive, and it follows when it can be read."""
    bad, good = world.ada.deliver(mail("Bad")), world.ada.deliver(mail("Good"))

    def fail(method: str, subject: str) -> None:
        if method == "users.messages.get" and subject == bad:
            raise GmailUnavailable("Gmail answered 500 again and again.")

    world.accounts.before = fail
    assert world.notify() == 204
    assert good in world.documents("messages")
    parked = world.documents("parked")[bad]
    assert (parked["reason"], parked["attempts"]) == ("Gmail answered 500 again and again.", 1)
    world.sweep()
    assert world.documents("parked")[bad]["attempts"] == 2
    world.accounts.before = None
    world.sweep()
    assert world.documents("parked") == {}
    assert world.differences() == []


def test_a_parked_live_message_is_still_live_when_it_arrives(world: World) -> None:
    """What was parked as new mail says `live` in its delta, so that nobody who waits for new mail misses it."""
    bad = world.ada.deliver(mail("Bad"))

    def fail(method: str, subject: str) -> None:
        if subject == bad:
            raise GmailUnavailable("500")

    world.accounts.before = fail
    world.notify()
    world.accounts.before = None
    world.sweep()
    added = [d["origin"] for d in world.documents("deltas").values() if bad in {c["messageId"] for c in d["changes"]}]
    assert added == ["live"]


def test_labels_come_from_history_without_fetching(world: World) -> None:
    """Label changes of mirrored messages call messages.get not once."""
    world.accounts.calls.clear()
    world.ada.modify(oldest(world), ["IMPORTANT"], ["UNREAD"])
    world.notify()
    assert world.accounts.made("users.messages.get") == 0
    assert world.differences() == []


def test_a_new_label_is_mirrored_with_its_first_use(world: World) -> None:
    """A label that the mirror does not know is looked up once, when a message carries it."""
    label = world.ada.create_label("Invoices")
    world.ada.modify(oldest(world)[:1], [label])
    world.accounts.calls.clear()
    world.notify()
    assert world.documents("labels")[label]["name"] == "Invoices"
    world.ada.modify(oldest(world)[1:2], [label])
    world.notify()
    assert world.accounts.made("users.labels.list") == 1


def test_renamed_and_deleted_labels_follow_with_the_daily_renewal(world: World) -> None:
    """The renewal of the watch also refreshes the label list."""
    kept, dropped = world.ada.create_label("Kept"), world.ada.create_label("Dropped")
    world.ada.modify(oldest(world)[:1], [kept, dropped])
    world.notify()
    world.ada.rename_label(kept, "Kept anew")
    world.ada.delete_label(dropped)
    world.clock.advance(24 * 3600)
    world.app.renew_watches()
    world.work()
    labels = world.documents("labels")
    assert labels[kept]["name"] == "Kept anew"
    assert dropped not in labels
    assert world.differences() == []


def test_a_large_body_goes_to_storage_and_leaves_with_its_message(world: World) -> None:
    """A body too large for a document is stored outside it, whole, and deleted when the message is."""
    message = world.ada.deliver(mail("Long", text="All work and no play. " * 20_000))
    world.notify()
    assert world.documents("messages")[message]["body"]["stored"] == "storage"
    assert world.differences() == []
    world.ada.delete([message])
    world.notify()
    assert world.blobs.objects == {}
    assert world.differences() == []


def test_a_pass_over_many_pages_resumes_at_its_cursor(world: World) -> None:
    """A pass that the deadline ends keeps what it applied, and the next one goes on there."""
    for number in range(1200):
        world.ada.deliver(mail(f"Number {number}"))

    def slow(method: str, subject: str) -> None:
        if method == "users.history.list":
            world.clock.advance(600)

    world.accounts.before = slow
    before = world.state().cursor
    assert world.notify() == 204
    state = world.state()
    assert before < state.cursor < world.head()
    assert len(world.documents("messages")) == state.counts.messages == 506
    assert world.outbox.work == [(ADA, "sync")]
    world.work()
    assert world.differences() == []


def test_pages_that_ask_for_nothing_are_left_behind(world: World) -> None:
    """A deadline after a page of records that change nothing leaves the cursor at its end: however short the steps are,
    the pass goes on from there, and no page is listed twice.
    """
    draft = world.ada.save_draft(mail("Draft"))
    for _ in range(800):
        draft = world.ada.save_draft(mail("Draft"), draft)
    world.ada.deliver(mail("At the end"))
    before, hasty = world.state().cursor, world.worker("worker-2", step=timedelta(0))
    world.accounts.calls.clear()
    assert world.notify(app=hasty) == 204
    assert before < world.state().cursor < world.head()
    assert world.outbox.work == [(ADA, "sync")]
    world.work(hasty)
    assert world.accounts.made("users.history.list") == 4
    assert world.state().cursor == world.head()
    assert world.differences() == []


def test_a_late_message_that_is_busy_is_brought_at_its_first_retry(world: World) -> None:
    """However often history names a message that messages.get does not find yet, it waits for its first retry only."""
    world.ada.get_lag = timedelta(seconds=40)
    late = world.ada.deliver(mail("Late"))
    assert world.notify() == 204
    first_retry = world.state().parked_due_at
    assert first_retry is not None
    for add, remove in ((["STARRED"], []), ([], ["STARRED"]), (["TRASH"], []), ([], ["TRASH"])):
        world.clock.advance(5)
        world.ada.modify([late], add, remove)
        assert world.notify() == 204
        assert world.documents("parked").keys() == {late}
    world.clock.advance((first_retry - world.clock.now()).total_seconds())
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert world.documents("parked") == {}
    assert world.differences() == []


def test_gmails_time_to_retry_is_kept(world: World) -> None:
    """When Gmail names a time, the mailbox rests until then and says so; a notification meanwhile is not lost."""
    until = world.clock.now() + timedelta(minutes=15)

    def refuse(method: str, subject: str) -> None:
        raise Throttled("Gmail asked to wait.", until)

    world.ada.deliver(mail("Patience"))
    world.accounts.before = refuse
    assert world.notify() == 503
    state = world.state()
    assert (state.phase, state.throttled_until, state.next_due_at) == ("throttled", until, until)
    assert state.problem is not None
    assert state.problem.code == "Throttled"
    world.accounts.calls.clear()
    assert world.notify() == 204
    assert world.accounts.calls == []
    world.accounts.before = None
    world.sweep()
    assert (world.state().phase, world.state().problem) == ("live", None)
    assert world.differences() == []


def test_a_message_moved_and_deleted_between_two_syncs_leaves() -> None:
    """A message whose deletion is told under another thread than the mirror knows is found and removed."""
    world = World()
    first, second = world.ada.deliver(mail("One")), world.ada.deliver(mail("Two"))
    world.connect()
    truth = world.ada.truth()["messages"]
    world.ada.merge_threads(truth[first]["threadId"], truth[second]["threadId"])
    world.ada.delete([second])
    world.notify()
    assert world.differences() == []


def test_a_message_that_gmail_moves_is_moved() -> None:
    """Two threads that Gmail merges are one in the mirror at the next notification."""
    world = World()
    first, second = world.ada.deliver(mail("One")), world.ada.deliver(mail("Two"))
    world.connect()
    truth = world.ada.truth()["messages"]
    world.ada.merge_threads(truth[first]["threadId"], truth[second]["threadId"])
    world.notify()
    assert world.differences() == []
    assert len(world.documents("threads")) == 1


def test_a_message_trashed_and_moved_between_two_syncs_leaves() -> None:
    """With trash excluded, a message that is trashed and then moved to another thread leaves its old thread."""
    world = World()
    first, second = world.ada.deliver(mail("One")), world.ada.deliver(mail("Two"))
    world.connect(Policy(include_spam_trash=False))
    world.ada.trash(second)
    world.ada.merge_threads(first, second)
    world.notify()
    assert world.differences(lambda labels: "TRASH" not in labels) == []


def test_a_message_moved_out_of_a_thread_that_changes_too_is_moved() -> None:
    """A message that Gmail moves is moved although its old thread is in the same history."""
    world = World()
    first, second = world.ada.deliver(mail("One")), world.ada.deliver(mail("Two"))
    third = world.ada.deliver(mail("Two"), thread_id=second)
    world.connect()
    world.ada.delete([third])
    world.ada.merge_threads(first, second)
    world.notify()
    assert world.differences() == []
    assert len(world.documents("threads")) == 1


@pytest.mark.parametrize("leave", ["delete", "trash"])
def test_an_unreadable_message_that_is_moved_and_leaves_is_removed(leave: str) -> None:
    """A parked message that turns out to be gone or unwanted is removed from wherever the mirror still has it."""
    world = World()
    first, second = world.ada.deliver(mail("One")), world.ada.deliver(mail("Two"))
    world.connect(Policy(include_spam_trash=False))

    def fail(method: str, subject: str) -> None:
        if subject == second:
            raise GmailUnavailable("500")

    world.accounts.before = fail
    world.ada.merge_threads(first, second)
    world.notify()
    assert world.documents("parked")[second]["threadId"] == first
    world.accounts.before = None
    if leave == "delete":
        world.ada.delete([second])
    else:
        world.ada.trash(second)
    # As if that change had been told under a cursor that was passed already: only the retry is left to find it.
    world.sqlite._connection.execute(
        "UPDATE documents SET data = json_set(data, '$.cursor', ?) WHERE collection = 'mailboxes'", (world.head(),)
    )
    world.sweep()
    world.sweep()
    assert world.differences(lambda labels: "TRASH" not in labels) == []


def test_messages_that_a_thread_has_no_room_for_are_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread document cannot list is parked and counted, live and in a run, blocks nothing, and is brought when
    there is room.
    """
    monkeypatch.setattr(threads, "BARE_BYTES", 5_000)
    world = World()
    first = world.ada.deliver(mail("Endless"))
    rest = [world.ada.deliver(mail("Endless"), thread_id=first) for _ in range(7)]
    world.connect()
    mirrored = world.state().counts.messages
    assert 5 < mirrored < 8
    assert world.state().counts.parked == 8 - mirrored
    coverage = world.state().coverage
    assert coverage is not None
    assert coverage.missing == 8 - mirrored
    late, other = world.ada.deliver(mail("Endless"), thread_id=first), world.ada.deliver(mail("Other"))
    assert world.notify() == 204
    assert world.documents("parked")[late]["reason"] == CROWDED
    assert other in world.documents("messages")
    world.ada.delete([first, *rest])
    world.notify()
    world.sweep()
    assert world.documents("parked") == {}
    assert world.differences() == []
