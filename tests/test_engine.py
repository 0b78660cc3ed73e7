"""The engine: leases, hints, failures and deaths, each with a defined end."""

import logging
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from mailmirror import mailboxes
from mailmirror.errors import AccessRevoked, GmailRejected, GmailUnavailable, LeaseLost
from mailmirror.hints import FORGOTTEN_AFTER, LAG_WAITS
from mailmirror.model import Mailbox, Quota, Run

from tests.inprocess import InProcessAccounts
from tests.killing import Killed, KillingStore
from tests.world import ADA, World, mail, push


@pytest.fixture
def world() -> World:
    """A connected mailbox of five messages."""
    return connected(World())


def connected(world: World) -> World:
    """Fill and connect a mailbox."""
    for number in range(5):
        world.ada.deliver(mail(f"Old {number}"))
    world.connect()
    return world


def ids(world: World) -> list[str]:
    """The mailbox's message ids."""
    return sorted(world.ada.truth()["messages"])


# Hints


def test_a_stale_notification_does_nothing(world: World) -> None:
    """An id below the cursor calls nothing and writes nothing."""
    before = world.state()
    world.accounts.calls.clear()
    assert world.notify(before.cursor - 1) == 204
    assert world.accounts.calls == []
    assert world.state() == before


def test_a_duplicate_notification_still_lists(world: World) -> None:
    """An id equal to the cursor lists once, because history can hold what an equal notification announced."""
    world.accounts.calls.clear()
    assert world.notify(world.state().cursor) == 204
    assert [method for method, _ in world.accounts.calls] == ["users.history.list"]


def test_lagging_history_is_waited_for_and_then_left_to_pubsub(world: World) -> None:
    """History behind its notification is listed again after 1, 2 and 4 seconds; then the push comes back."""
    world.ada.deliver(mail("Late in history"))
    head = world.ada.truth()["historyId"]
    world.ada.history_lag = timedelta(minutes=1)
    world.clock.slept.clear()
    assert world.notify(head) == 503
    assert world.clock.slept == [1.0, 2.0, 4.0]
    world.clock.advance(60)
    assert world.notify(head) == 204
    assert world.differences() == []
    assert world.state().unreached == ()


def test_a_hint_that_stays_unreachable_is_dropped(world: World) -> None:
    """A notification that names a history id nobody ever reaches ends after ten minutes, and real ones go through."""
    far = 2**62
    assert world.notify(far) == 503
    world.ada.deliver(mail("Meanwhile"))
    assert world.notify() == 204
    assert world.differences() == []
    world.clock.advance(11 * 60)
    assert world.notify(far) == 204
    assert world.state().unreached == ()
    assert world.state().cursor < far


def unreached(world: World) -> list[int]:
    """The hints that history has not shown yet."""
    return [hint.history_id for hint in world.state().unreached]


def test_lies_in_turn_are_each_dropped(world: World) -> None:
    """Two history ids that never come, pushed one after the other, do not keep each other alive."""
    lies = (2**62, 2**62 + 1)
    assert [world.notify(lie) for lie in lies] == [503, 503]
    world.clock.advance(11 * 60)
    assert [world.notify(lie) for lie in lies] == [204, 204]
    assert unreached(world) == []


def test_a_lie_beside_true_notifications_that_lag_is_dropped(world: World) -> None:
    """A true notification that has to wait for history does not make a lie younger, and is forgotten once it came."""
    far = 2**62
    assert world.notify(far) == 503
    world.clock.advance(11 * 60)
    world.ada.history_lag = timedelta(minutes=1)
    world.ada.deliver(mail("Late in history"))
    head = world.ada.truth()["historyId"]
    assert world.notify(head) == 503
    assert unreached(world) == [far, head]
    world.clock.advance(60)
    assert world.notify(head) == 204
    assert unreached(world) == [far]
    assert world.notify(far) == 204
    assert unreached(world) == []


def test_a_lie_that_nobody_tells_any_more_is_forgotten(world: World) -> None:
    """A lie that stopped coming is not remembered for ever, and begins anew should it come again."""
    lies = [2**62 + number for number in range(3)]
    for lie in lies:
        assert world.notify(lie) == 503
        world.clock.advance(FORGOTTEN_AFTER.total_seconds() * 2 / 3)
    assert unreached(world) == lies[1:]
    assert world.notify(lies[0]) == 503


def test_a_hint_for_a_held_lease_reaches_the_holder(world: World) -> None:
    """A notification that finds the lease taken is acknowledged, and the holder brings what it announced."""
    other = world.worker("worker-2")
    announced: list[int] = []

    def arrive(method: str, subject: str) -> None:
        if method == "users.history.list" and not announced:
            # The page that is being read was made before this message came.
            world.accounts.before = None
            announced.append(0)

    world.ada.deliver(mail("First"))
    world.accounts.before = arrive
    inner = world.ada.list_history

    def list_then_arrive(*args: object, **kwargs: object) -> object:
        page = inner(*args, **kwargs)  # type: ignore[arg-type]
        if len(announced) == 1:
            world.ada.deliver(mail("Second"))
            announced.append(world.head())
            assert world.notify(world.head(), other) == 204
        return page

    world.ada.list_history = list_then_arrive  # type: ignore[method-assign, assignment]
    assert world.notify() == 204
    assert len(announced) == 2
    assert world.differences() == []


def test_a_poisoned_hint_does_not_hide_later_ones(world: World) -> None:
    """A far hint left with a lease holder is dropped after ten minutes, and mail meanwhile is mirrored by the sweep."""
    world.store.raise_hint(ADA, 2**62, world.clock.now())
    world.ada.deliver(mail("Behind the poison"))
    world.app.sweep_mailboxes()
    for _ in range(8):
        mailbox, task = world.outbox.work.pop(0) if world.outbox.work else (ADA, "sync")
        world.app.push(world.app.run_work, push({"mailbox": mailbox, "task": task}))
        world.clock.advance(120)
    assert world.differences() == []
    assert world.state().hint == 0


def test_a_notification_during_a_run_waits_for_lagging_history(world: World) -> None:
    """What history does not show yet is left as a hint when the push of a mailbox with a run is acknowledged."""
    world.app.trigger_sync(ADA, "full", 0)
    assert world.state().unfinished
    world.ada.history_lag = timedelta(minutes=1)
    world.ada.deliver(mail("Late in history"))
    head = world.ada.truth()["historyId"]
    assert world.notify(head) == 204
    assert world.state().hint == head
    world.work()
    assert world.state().cursor >= head
    assert world.differences() == []


def test_a_notification_that_the_deadline_leaves_behind_waits_for_lagging_history(world: World) -> None:
    """A step that ends among the pages before a late change leaves its id to the continuation, which waits for it."""
    for number in range(1200):
        world.ada.deliver(mail(f"Number {number}"))
    world.clock.advance(11 * 60)
    world.ada.history_lag = timedelta(minutes=11)
    late = world.ada.deliver(mail("Late in history"))

    def slow(method: str, subject: str) -> None:
        if method == "users.history.list":
            world.clock.advance(600)

    world.accounts.before = slow
    assert world.notify(world.ada.truth()["historyId"]) == 204
    world.accounts.before = None
    assert len(world.documents("messages")) < 1200
    world.work()
    assert late in world.documents("messages")
    assert world.differences() == []


def arriving(world: World, listing: int, lag: timedelta) -> list[str]:
    """Let a message arrive at the `listing`th time that history is listed from now on, and show in history after `lag`;
    its notification finds the lease taken. Return a list that will have its id.
    """
    other = world.worker("worker-2")
    arrived: list[str] = []
    world.accounts.calls.clear()

    def arrive(method: str, subject: str) -> None:
        if world.accounts.made("users.history.list") == listing and not arrived:
            world.ada.history_lag = lag
            arrived.append(world.ada.deliver(mail("Below the lie")))
            assert world.notify(world.ada.truth()["historyId"], other) == 204

    world.accounts.before = arrive
    return arrived


def test_a_dropped_hint_does_not_take_the_notification_with_it(world: World) -> None:
    """A push that drops a hint left by others is not acknowledged before its own change is mirrored."""
    world.store.raise_hint(ADA, 2**62, world.clock.now())
    assert world.notify() == 503
    world.clock.advance(11 * 60)
    world.ada.history_lag = timedelta(minutes=1)
    world.ada.deliver(mail("Late in history"))
    head = world.ada.truth()["historyId"]
    assert world.notify(head) == 503
    assert world.state().hint == 0
    world.clock.advance(60)
    assert world.notify(head) == 204
    assert world.differences() == []


def test_a_dropped_notification_does_not_take_the_hint_with_it(world: World) -> None:
    """A push that ends as a lie leaves the hint that came meanwhile, and the same turn brings what it announced."""
    far = 2**62
    assert world.notify(far) == 503
    world.clock.advance(11 * 60)
    arrived = arriving(world, 1 + len(LAG_WAITS), timedelta(seconds=6))
    assert world.notify(far) == 204
    assert arrived[0] in world.documents("messages")
    assert world.differences() == []


def test_what_a_dropped_hint_hid_is_waited_for(world: World) -> None:
    """A notification that came while a far hint stood above it is mirrored in the turn that drops the far one, although
    history shows it only seconds later.
    """
    world.store.raise_hint(ADA, 2**62, world.clock.now())
    work = push({"mailbox": ADA, "task": "sync"})
    assert world.app.push(world.app.run_work, work) == 503
    world.clock.advance(11 * 60)
    arrived = arriving(world, 1 + len(LAG_WAITS), timedelta(seconds=3))
    assert world.app.push(world.app.run_work, work) == 204
    assert world.state().hint == 0
    assert arrived[0] in world.documents("messages")
    assert world.differences() == []


def test_a_lie_that_stopped_coming_does_not_age_the_next_notification(world: World) -> None:
    """A true notification that history does not show yet comes back, however long ago a lie above it was pushed."""
    assert world.notify(2**62) == 503
    world.clock.advance(20 * 60)
    world.ada.history_lag = timedelta(minutes=1)
    world.ada.deliver(mail("Late in history"))
    head = world.ada.truth()["historyId"]
    assert world.notify(head) == 503
    world.clock.advance(60)
    assert world.notify(head) == 204
    assert world.differences() == []


def test_a_lie_during_a_run_is_not_left_again_by_who_drops_it(world: World) -> None:
    """A push of the very lie that it drops after ten minutes does not leave it as a hint for ten minutes more."""
    world.app.trigger_sync(ADA, "full", 0)
    assert world.notify(2**62) == 204
    assert world.state().hint == 2**62
    world.clock.advance(11 * 60)
    assert world.notify(2**62) == 204
    assert world.state().hint == 0
    assert world.state().unfinished
    world.work()
    assert world.state().phase == "live"
    assert world.differences() == []


# Leases


def test_a_worker_that_lost_its_lease_writes_nothing(world: World) -> None:
    """A worker that sleeps past its lease while another takes over fails to commit and spoils nothing."""
    other = world.worker("worker-2")
    world.ada.deliver(mail("Contested"))
    state: list[Mailbox] = []

    def oversleep(method: str, subject: str) -> None:
        if method == "users.messages.get" and not state:
            world.accounts.before = None
            world.clock.advance(121)
            assert world.notify(world.head(), other) == 204
            state.append(world.state())

    world.accounts.before = oversleep
    assert world.notify() == 503
    assert world.state() == state[0]
    assert world.differences() == []


def test_an_unfinished_run_goes_on_although_its_message_was_lost() -> None:
    """A run whose continuation is never delivered is picked up by the sweep."""
    world = World(step=timedelta(seconds=1))
    for number in range(300):
        world.ada.deliver(mail(f"Number {number}"))
    world.accounts.before = lambda method, subject: world.clock.advance(0.2)
    world.app.connect(ADA, None)
    for _ in range(40):
        if world.outbox.work:
            world.work_once()
        world.outbox.work.clear()
        world.clock.advance(300)
        world.app.sweep_mailboxes()
    assert world.state().phase == "live"
    assert world.differences() == []


def test_a_run_goes_on_however_short_its_steps_are(world: World) -> None:
    """A run ends even if each step is over before it begins and there are pages of history to catch up with."""
    hasty = world.worker("worker-2", step=timedelta(0))
    hasty.trigger_sync(ADA, "full", 0)
    draft = world.ada.save_draft(mail("Draft"))
    for _ in range(600):
        draft = world.ada.save_draft(mail("Draft"), draft)
    world.work(hasty)
    assert world.state().active_run is None
    assert world.state().cursor == world.head()
    assert world.differences() == []


def test_no_notification_is_needed(world: World) -> None:
    """With every notification lost, the sweep alone keeps the mirror equal."""
    for number in range(3):
        world.ada.deliver(mail(f"Quiet {number}"))
        world.ada.modify(ids(world)[:2], ["STARRED"] if number % 2 else [], [] if number % 2 else ["STARRED"])
        world.sweep()
        assert world.differences() == []


# Death


def deaths() -> list[tuple[int, bool]]:
    """Every call of the scenario below, killed before and after its effect."""
    return [(number, after) for number in range(60) for after in (False, True)]


@pytest.mark.parametrize(("number", "dies_after"), deaths())
def test_a_worker_killed_at_any_call_loses_nothing(number: int, dies_after: bool) -> None:
    """Killed before or after any store call of sync, live changes or recovery, the mirror ends up equal."""
    world = World()
    for index in range(5):
        world.ada.deliver(mail(f"Old {index}"))
    calls = count()

    def when(name: str, *, after: bool) -> bool:
        return after == dies_after and next(calls) == number

    world.store = KillingStore(world.sqlite, when)
    doomed = world.worker("doomed")
    world.store = world.sqlite

    def survive(step: object) -> None:
        try:
            step()  # type: ignore[operator]
        except Killed:
            world.clock.advance(121)

    def scenario() -> None:
        doomed.connect(ADA, None)
        world.work(doomed)
        world.ada.deliver(mail("New"))
        world.ada.modify(ids(world)[:2], ["STARRED"], ["UNREAD"])
        world.ada.delete(ids(world)[2:3])
        world.notify(None, doomed)
        world.ada.modify(ids(world)[:1], [], ["STARRED"])
        world.ada.expire_history()
        world.notify(None, doomed)
        world.work(doomed)

    survive(scenario)
    if world.store.mailbox(ADA) is None:
        world.app.connect(ADA, None)
    for _ in range(3):
        world.sweep()
    assert world.differences() == []
    assert world.state().phase == "live"


def test_a_killed_workers_mailbox_is_due_when_its_lease_expires(world: World) -> None:
    """A worker that dies in the middle of a catch-up is followed by the first sweep after its lease."""
    world.accounts.calls.clear()
    for number in range(100):
        world.ada.deliver(mail(f"Number {number}"))

    def die(method: str, subject: str) -> None:
        if method == "users.messages.get" and world.accounts.made(method) == 80:
            raise Killed

    world.accounts.before = die
    with pytest.raises(Killed):
        world.notify()
    world.accounts.before = None
    world.clock.advance(121)
    world.app.sweep_mailboxes()
    world.work()
    assert world.differences() == []


def test_a_message_that_kills_its_worker_is_found_and_parked(world: World) -> None:
    """A message that kills every worker that touches it is parked; the messages around it arrive."""
    before, poison, after = (world.ada.deliver(mail(name)) for name in ("Before", "Poison", "After"))

    def die(method: str, subject: str) -> None:
        if subject == poison:
            raise Killed

    world.accounts.before = die
    killed = []
    for attempt in range(12):
        try:
            world.notify()
        except Killed:
            killed.append(attempt)
        if attempt == 5:
            assert world.documents("parked").keys() == {poison}
            assert {before, after} <= world.documents("messages").keys()
            assert world.state().takeovers == 0
        world.clock.advance(121)
    # Three times unnoticed, twice in hand; from then on each retry, after 1, 4 and 16 minutes, costs one worker.
    assert killed[:5] == [0, 1, 2, 3, 4]
    assert len(killed) <= 8
    assert world.documents("parked")[poison]["deadly"] is True


def test_a_message_that_kills_its_worker_is_found_behind_one_that_asks_for_nothing() -> None:
    """A change that the mirror has already, told right before the message that kills, does not hide the killer."""
    world = World()
    known = world.ada.deliver(mail("Known"))
    world.clock.advance(3600)
    world.ada.history_lag = timedelta(minutes=30)
    world.ada.modify([known], ["STARRED"])
    # The first sync gets the starred message, and history tells of the star afterwards.
    world.connect()
    poison = world.ada.deliver(mail("Poison"))
    world.ada.history_lag = timedelta(0)

    def die(method: str, subject: str) -> None:
        if subject == poison:
            raise Killed

    world.accounts.before = die
    killed = 0
    for _ in range(8):
        try:
            world.notify()
        except Killed:
            killed += 1
        world.clock.advance(121)
        if world.documents("parked"):
            break
    assert killed == 5
    assert world.documents("parked").keys() == {poison}
    assert world.documents("messages").keys() == {known}


def test_a_message_that_kills_its_worker_is_found_behind_one_of_the_same_record(world: World) -> None:
    """Two messages of one record of history come again after each death; the harmless one does not hide the killer."""
    harmless, poison = world.ada.deliver(mail("Harmless")), world.ada.deliver(mail("Poison"))
    listed = world.ada.list_history

    def in_one_record(*args: Any, **kwargs: Any) -> dict[str, Any]:
        page = listed(*args, **kwargs)
        first, last = page["history"]
        return page | {"history": [last | {key: first[key] + last[key] for key in ("messages", "messagesAdded")}]}

    def die(method: str, subject: str) -> None:
        if subject == poison:
            raise Killed

    world.ada.list_history = in_one_record  # type: ignore[method-assign]
    world.accounts.before = die
    head = world.head()
    # Three times unnoticed, twice in hand.
    for _ in range(5):
        with pytest.raises(Killed):
            world.notify(head)
        world.clock.advance(121)
    assert world.notify(head) == 204
    assert world.documents("parked").keys() == {poison}
    assert harmless in world.documents("messages")


def test_a_message_that_kills_its_worker_and_is_deleted_is_forgotten() -> None:
    """A parked message that kills whoever reads it and that its user then deletes is no longer mirrored or parked."""
    world = World()
    first, bad = (world.ada.deliver(mail(f"Number {number}")) for number in range(2))
    world.connect()

    def fail(method: str, subject: str) -> None:
        if subject == bad:
            raise GmailUnavailable("500")

    def die(method: str, subject: str) -> None:
        if subject == bad:
            raise Killed

    world.accounts.before = fail
    world.ada.merge_threads(first, bad)
    world.notify()
    assert world.state().counts.parked == 1
    world.accounts.before = die
    world.ada.modify([bad], ["STARRED"])
    for _ in range(5):
        with pytest.raises(Killed):
            world.notify()
        world.clock.advance(121)
    world.ada.delete([bad])
    assert world.notify() == 204
    assert world.documents("parked") == {}
    assert world.state().counts.parked == 0
    assert world.differences() == []


def test_a_message_that_kills_the_first_sync_is_found_and_parked() -> None:
    """The same holds while a run is fetching."""
    world = World()
    all_ids = [world.ada.deliver(mail(f"Number {number}")) for number in range(30)]
    poison = all_ids[11]

    def die(method: str, subject: str) -> None:
        if subject == poison:
            raise Killed

    world.accounts.before = die
    world.app.connect(ADA, None)
    for _ in range(20):
        try:
            world.app.push(world.app.run_work, push({"mailbox": ADA, "task": "sync"}))
        except Killed:
            world.clock.advance(121)
    assert world.documents("parked").keys() == {poison}
    assert len(world.documents("messages")) == 29
    assert world.state().phase == "live"


@pytest.mark.parametrize("notified", [False, True], ids=["found by the run", "notified in between"])
def test_a_message_that_kills_a_run_is_parked_although_mail_keeps_coming(notified: bool) -> None:
    """Mail that is synced between the deaths of a run's workers, in their own turns or in those of notifications, which
    do not move the run, neither hides the message that kills them nor counts as a worker that survived it.
    """
    world = World()
    poison = [world.ada.deliver(mail(f"Number {number}")) for number in range(10)][4]

    def die(method: str, subject: str) -> None:
        if subject == poison:
            raise Killed

    world.accounts.before = die
    world.app.connect(ADA, None)
    work, killed = push({"mailbox": ADA, "task": "sync"}), 0
    while not world.documents("parked") and killed < 20:
        try:
            world.app.push(world.app.run_work, work)
        except Killed:
            killed += 1
            world.clock.advance(121)
            world.ada.deliver(mail(f"After death {killed}"))
            assert not notified or world.notify() == 204
    # Three times unnoticed, twice in hand.
    assert killed == 5
    assert world.documents("parked").keys() == {poison}
    assert world.documents("messages").keys() == world.ada.truth()["messages"].keys() - {poison}
    assert (world.state().phase, world.state().takeovers) == ("live", 0)


def test_a_moved_message_that_was_in_hand_once_is_not_parked() -> None:
    """A message that Gmail moved is fetched twice in a row, because its first commit is refused, and counts once: with
    one death before, it is not taken for the killer.
    """
    world = World()
    first, second = world.ada.deliver(mail("One")), world.ada.deliver(mail("Two"))
    third = world.ada.deliver(mail("Two"), thread_id=second)
    world.connect()
    world.ada.delete([third])
    world.ada.merge_threads(first, second)
    # Three times unnoticed, once in hand.
    deaths = [*["users.history.list"] * 3, "users.messages.get"]

    def die(method: str, subject: str) -> None:
        if deaths and method == deaths[0]:
            deaths.pop(0)
            raise Killed

    world.accounts.before = die
    while deaths:
        with pytest.raises(Killed):
            world.notify()
        world.clock.advance(121)
    assert world.state().suspect == {second: 1}
    assert world.notify() == 204
    assert world.documents("parked") == {}
    assert world.differences() == []


# Access


def test_revoked_access_is_said_and_survived(world: World) -> None:
    """Without access the cursor stays, the document says what to do, and access is tried again."""
    cursor = world.state().cursor
    world.ada.deliver(mail("Locked out"))

    def refuse(method: str, subject: str) -> None:
        raise AccessRevoked("Gmail refuses the token of this mailbox.")

    world.accounts.before = refuse
    assert world.notify() == 204
    state = world.state()
    assert (state.phase, state.cursor) == ("reauth_required", cursor)
    assert state.problem is not None
    assert "Give access again" in state.problem.action
    world.accounts.calls.clear()
    assert world.notify() == 204
    assert world.accounts.calls == []
    world.accounts.before = None
    world.clock.advance(3601)
    world.app.sweep_mailboxes()
    world.work()
    assert (world.state().phase, world.state().problem) == ("live", None)
    assert world.differences() == []


def test_access_given_while_it_is_tried_in_vain_is_not_put_off(world: World) -> None:
    """Who gives access while a worker finds it gone meets a lease that is held; the mailbox is due soon all the
    same.
    """
    other = world.worker("worker-2")

    def refuse(method: str, subject: str) -> None:
        raise AccessRevoked("Gmail refuses the token of this mailbox.")

    def give(method: str, subject: str) -> None:
        world.accounts.before = None
        other.connect(ADA, None)
        world.work(other)
        refuse(method, subject)

    world.accounts.before = refuse
    world.notify()
    world.clock.advance(3601)
    world.accounts.before = give
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert world.state().phase == "reauth_required"
    world.clock.advance(121)
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert world.state().phase == "live"


def test_lost_access_is_tried_less_and_less_often(world: World) -> None:
    """Access that was just given may take minutes until it is known everywhere; what is gone for good costs one try an
    hour.
    """

    def refuse(method: str, subject: str) -> None:
        raise AccessRevoked("Gmail refuses the token of this mailbox.")

    world.accounts.before = refuse
    world.notify()
    waits = []
    for _ in range(9):
        due = world.state().next_due_at
        waits.append((due - world.clock.now()) / timedelta(minutes=1))
        world.clock.advance((due - world.clock.now()).total_seconds())
        world.app.sweep_mailboxes()
        world.work()
    assert waits == [2, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_notification_refused_for_lost_access_reaches_whoever_has_access_again(world: World) -> None:
    """A notification that comes while access is being tried again is acknowledged, and the one who tries brings it."""
    other = world.worker("worker-2")

    def refuse(method: str, subject: str) -> None:
        raise AccessRevoked("Gmail refuses the token of this mailbox.")

    def arrive(method: str, subject: str) -> None:
        if method == "users.messages.get":
            world.accounts.before = None
            world.ada.deliver(mail("While access is tried"))
            assert world.notify(app=other) == 204

    world.ada.deliver(mail("Locked out"))
    world.accounts.before = refuse
    assert world.notify() == 204
    world.accounts.before = arrive
    assert world.app.trigger_sync(ADA, "incremental", 50).status == "done"
    assert world.state().phase == "live"
    assert world.differences() == []


def test_a_watch_that_cannot_be_renewed_does_not_stop_the_mirror(world: World) -> None:
    """When the topic is misconfigured the watch document says so, and the sweep keeps the mirror up to date."""

    def refuse(method: str, subject: str) -> None:
        if method == "users.watch":
            raise GmailRejected("The topic does not let Gmail publish.")

    world.accounts.before = refuse
    world.clock.advance(6 * 86400)
    world.ada.deliver(mail("Unwatched"))
    world.app.renew_watches()
    world.work()
    assert world.state().watch.error == f"The topic does not let Gmail publish. {GmailRejected.action}"
    assert world.differences() == []


def test_a_watch_about_to_lapse_is_renewed_by_any_sync(world: World) -> None:
    """With the daily renewal missing, a sync renews a watch that has less than two days left."""
    world.clock.advance(5.5 * 86400)
    world.ada.deliver(mail("Before the renewal"))
    world.sweep()
    assert world.state().watch.expires_at - world.clock.now() > timedelta(days=6)
    assert world.differences() == []


def test_an_outage_of_gmail_leaves_everything_as_it_was(world: World) -> None:
    """When Gmail cannot be reached the push comes back, the document says why, and the cursor stays."""
    cursor = world.state().cursor
    world.ada.deliver(mail("During the outage"))

    def fail(method: str, subject: str) -> None:
        if method == "users.history.list":
            raise GmailUnavailable("Gmail does not answer.")

    world.accounts.before = fail
    assert world.notify() == 503
    state = world.state()
    assert state.cursor == cursor
    assert state.problem is not None
    assert state.problem.message == "Gmail does not answer."
    world.accounts.before = None
    assert world.notify() == 204
    assert world.state().problem is None
    assert world.differences() == []


def test_a_lost_lease_is_an_error_that_comes_back() -> None:
    """LeaseLost asks Pub/Sub to deliver again: whether the other worker saw the hint is not known."""
    assert LeaseLost.acknowledge is False


def test_a_stale_notification_goes_on_with_what_another_left() -> None:
    """A push with an old id is no reason to leave a hint that is above the cursor to the sweep."""
    world = connected(World())
    old = world.head()
    world.ada.deliver(mail("One"))
    world.notify()
    late = world.ada.deliver(mail("Left behind"))
    world.store.raise_hint(ADA, world.head(), world.clock.now() + timedelta(minutes=15))
    assert world.notify(old) == 204
    assert late in world.documents("messages")


@pytest.mark.parametrize(("recovery", "fetched"), [("thread-history", 1), ("full", 6)])
def test_what_is_done_after_history_expired_is_a_setting(world: World, recovery: Any, fetched: int) -> None:
    """A run after a 404 fetches what is missing, or everything where threads' own history is not to be trusted."""
    world.app.engine.recovery = recovery
    world.ada.deliver(mail("In the gap"))
    world.ada.expire_history()
    world.accounts.calls.clear()
    assert world.notify() == 204
    assert world.state().phase == "recovering"
    world.work()
    assert world.accounts.made("users.messages.get") == fetched
    assert world.state().phase == "live"
    assert world.differences() == []


# The day's quota


def rationed(messages: int = 100, units_per_day: int = 600) -> World:
    """A mailbox whose day has less quota than its first sync takes, connected and worked on until nothing is due."""
    world = World()
    world.accounts.units_per_day = units_per_day
    for number in range(messages):
        world.ada.deliver(mail(f"Number {number}"))
    world.connect()
    return world


def run_of(world: World) -> Run:
    """The last run."""
    run = world.state().run
    assert run is not None
    return run


def test_a_run_rests_when_the_days_quota_is_used_up(caplog: pytest.LogCaptureFixture) -> None:
    """The run stops between two slices and says until when, once; nothing is published for it, and the sweep looks as
    if there was none.
    """
    with caplog.at_level(logging.INFO, "mailmirror"):
        world = rationed()
        for _ in range(3):
            world.sweep()
    run, now = run_of(world), world.clock.now()
    assert run.paused_until == datetime(2026, 11, 21, tzinfo=UTC)
    assert 0 < run.done < run.total
    assert world.state().phase == "backfilling"
    assert world.state().next_due_at == now + timedelta(minutes=15)
    assert [record.getMessage() for record in caplog.records].count("run_paused") == 1
    quota = world.state().quota
    assert quota is not None
    assert 600 <= quota.today <= 640


def test_a_rationed_run_ends_after_as_many_days_as_it_takes() -> None:
    """Day after day the run goes on from where it was, the sweep alone being there to say so, until it is complete."""
    world = rationed()
    days = 1
    while run_of(world).active:
        days += 1
        before = run_of(world)
        world.clock.advance((mailboxes.midnight(world.clock.now()) - world.clock.now()).total_seconds())
        assert world.app.sweep_mailboxes() == 1
        world.work()
        assert run_of(world).done > before.done
    assert run_of(world).paused_until is None
    assert world.state().phase == "live"
    assert world.differences() == []
    assert 2 <= days <= 5


def test_live_mail_goes_on_while_a_run_rests() -> None:
    """However much more than the day's quota it takes: what is notified is mirrored at once, and acknowledged."""
    world = rationed()
    state = world.state()
    assert state.quota is not None
    assert state.quota.today >= 600
    old = run_of(world)
    brought = []
    for number in range(50):
        brought.append(world.ada.deliver(mail(f"New {number}")))
        world.ada.modify(brought[:1], *((["STARRED"], []) if number % 2 else ([], ["STARRED"])))
        assert world.notify() == 204
        assert world.state().cursor == world.head()
        assert set(brought) <= world.documents("messages").keys()
    assert world.outbox.work == []
    assert run_of(world).done == old.done
    assert run_of(world).paused_until is not None


def test_lagging_history_is_waited_for_while_a_run_rests() -> None:
    """A notification that history does not show yet is not left to a run that comes tomorrow: its push comes back."""
    world = rationed()
    world.ada.history_lag = timedelta(minutes=1)
    late = world.ada.deliver(mail("Late in history"))
    head = world.ada.truth()["historyId"]
    world.clock.slept.clear()
    assert world.notify(head) == 503
    assert world.clock.slept == list(LAG_WAITS)
    world.clock.advance(60)
    assert world.notify(head) == 204
    assert late in world.documents("messages")


def test_what_is_asked_for_waits_for_the_run_that_rests() -> None:
    """A full sync asked for then is answered at once as running, and comes when there is quota for it."""
    world = rationed()
    world.clock.slept.clear()
    triggered = world.app.trigger_sync(ADA, "audit", 50)
    assert triggered.status == "running"
    assert sum(world.clock.slept) < 1
    world.accounts.units_per_day = None
    world.sweep()
    run = run_of(world)
    assert (run.id, run.active) == (triggered.run_id, False)
    assert world.differences() == []


def test_more_quota_in_the_middle_of_a_day_is_used() -> None:
    """A run does not rest for a limit that was lifted."""
    world = rationed()
    world.accounts.units_per_day = 100_000
    world.sweep()
    assert not run_of(world).active
    assert world.differences() == []


def test_the_first_sync_of_a_used_up_day_waits_with_its_cursor() -> None:
    """Where nothing is left of the day, the first run gets its signpost and rests: no live mail is lost meanwhile."""
    world = rationed(units_per_day=1)
    state = world.state()
    assert state.cursor == world.head()
    assert (run_of(world).done, run_of(world).paused_until is None) == (0, False)
    new = world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert new in world.documents("messages")
    world.accounts.units_per_day = None
    world.sweep()
    assert world.differences() == []


@pytest.mark.parametrize("second", [-1, 0, 1])
def test_the_day_rolls_over_while_a_run_rests(second: int) -> None:
    """To the second: before midnight the run rests, from midnight on it goes on, whoever looks."""
    world = rationed()
    done = run_of(world).done
    world.clock.advance((mailboxes.midnight(world.clock.now()) - world.clock.now()).total_seconds() + second)
    world.app.push(world.app.run_work, push({"mailbox": ADA, "task": "sync"}))
    assert (run_of(world).done > done) == (second >= 0)


def test_a_run_rests_also_when_history_expires_meanwhile() -> None:
    """A 404 while the run rests makes it list again, tomorrow; the cursor goes on at once, and live mail with it."""
    world = rationed()
    world.ada.deliver(mail("In the gap"))
    world.ada.expire_history()
    assert world.notify() == 204
    new = world.ada.deliver(mail("After the gap"))
    assert world.notify() == 204
    world.work()
    assert new in world.documents("messages")
    assert run_of(world).paused_until is not None
    for _ in range(10):
        world.clock.advance(86_400)
        world.app.sweep_mailboxes()
        world.work()
    assert world.state().phase == "live"
    assert world.differences() == []


def test_slices_of_a_run_spare_the_reserve() -> None:
    """A run's own calls leave the reserve to live mail; what is caught up with between its slices may use it."""
    world = World()
    for number in range(60):
        world.ada.deliver(mail(f"Number {number}"))
    spared: dict[str, set[bool]] = {}

    class Watched(InProcessAccounts):
        def open(self, mailbox: str, quota: Quota | None) -> Any:
            opened: Any = super().open(mailbox, quota)

            def look(method: str, subject: str) -> None:
                spared.setdefault(method, set()).add(opened._budget._spares)
                if method == "users.messages.list":
                    world.ada.deliver(mail("Meanwhile"))
                    world.store.raise_hint(ADA, world.head())

            self.before = look
            return opened

    world.accounts = Watched(world.clock, {ADA: world.ada})
    app = world.worker("worker-2")
    app.connect(ADA, None)
    world.work(app)
    assert spared["users.messages.list"] == {True}
    assert spared["users.history.list"] == {False}
    assert world.differences() == []
