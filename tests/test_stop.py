"""Stopping: a mailbox that is stopped keeps what it has, costs nothing, and goes on from there when it is wanted again.

Whatever happens at the same time, and whoever dies, the last wish is the one that is carried out.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest
from mailmirror import planner
from mailmirror.errors import (
    AccessRevoked,
    BeingPurged,
    GmailRejected,
    GmailUnavailable,
    MailboxStopped,
    MailmirrorError,
    Throttled,
    UnknownMailbox,
)
from mailmirror.mailboxes import NEVER, at_rest
from mailmirror.model import Mailbox, Policy, Run

from tests.killing import Killed, doomed
from tests.meanwhile import Meanwhile
from tests.world import ADA, World, mail, push


@pytest.fixture
def world() -> World:
    """A connected mailbox of five messages."""
    world = World()
    for number in range(5):
        world.ada.deliver(mail(f"Old {number}"))
    world.connect()
    return world


def backfilling(messages: int = 3 * planner.GROUP_FETCHES) -> World:
    """A mailbox in the middle of its first sync: each call of Gmail takes a fifth of a second, a step one second."""
    world = World(step=timedelta(seconds=1))
    for number in range(messages):
        world.ada.deliver(mail(f"Number {number}"))
    world.accounts.before = lambda method, subject: world.clock.advance(0.2)
    world.app.connect(ADA, None)
    while (run := world.state().active_run) is None or not run.done:
        world.work_once()
    return world


def all_documents(world: World) -> list[tuple[str, str, str]]:
    """Everything that is mirrored, as it is stored."""
    query = "SELECT collection, id, data FROM documents WHERE collection LIKE 'mailboxes/%' ORDER BY collection, id"
    return list(world.sqlite._connection.execute(query))


def refusing(*methods: str, error: MailmirrorError) -> Callable[[str, str], None]:
    """Return what makes Gmail refuse these methods, all if none is named."""

    def refuse(method: str, subject: str) -> None:
        if method in methods or not methods:
            raise error

    return refuse


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The names of what was logged."""
    return [record.getMessage() for record in caplog.records]


# Stop


def test_a_stopped_mailbox_keeps_what_it_has(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The watch ends and is stored as none, nothing makes the mailbox due, and cursor and mirror stay as they are."""
    before, mirrored = world.state(), all_documents(world)
    with caplog.at_level(logging.INFO, "mailmirror"):
        state = world.app.stop(ADA, 0)
    assert state == world.state()
    assert (state.wanted, state.phase, state.next_due_at) == ("stopped", "stopped", NEVER)
    assert world.ada.active_watch() is None
    assert state.watch == replace(before.watch, expires_at=world.clock.now(), error=None)
    kept = ("cursor", "counts", "run", "delta_seq", "coverage", "policy", "created_at")
    assert [getattr(state, name) for name in kept] == [getattr(before, name) for name in kept]
    assert all_documents(world) == mirrored
    assert events(caplog).count("mailbox_stopped") == 1


def test_a_stopped_mailbox_costs_nothing(world: World) -> None:
    """Notifications, sweeps and renewals leave a stopped mailbox alone for months: no call, no work, no write."""
    world.app.stop(ADA, 0)
    world.work()
    world.ada.deliver(mail("While stopped"))
    state = world.state()
    world.accounts.calls.clear()
    for _ in range(100):
        assert world.notify() == 204
        world.clock.advance(86_400)
        world.app.sweep_mailboxes()
        world.app.renew_watches()
    assert (world.outbox.work, world.accounts.calls) == ([], [])
    assert world.state() == state


def test_stop_twice(world: World) -> None:
    """A stopped mailbox that is stopped again stays as it is: no call of Gmail, no work, no write."""
    first = world.app.stop(ADA, 0)
    world.work()
    world.accounts.calls.clear()
    assert world.app.stop(ADA, 50) == first == world.state()
    assert (world.outbox.work, world.accounts.calls) == ([], [])


def test_stop_is_said_before_it_is_done(world: World) -> None:
    """The wish is stored, due at once, and its work published before anything else: it goes on if the request dies."""
    now = world.clock.now()

    def die(method: str, subject: str) -> None:
        raise Killed

    world.accounts.before = die
    with pytest.raises(Killed):
        world.app.stop(ADA, 50)
    assert (world.state().wanted, world.state().phase, world.state().next_due_at) == ("stopped", "live", now)
    assert world.outbox.work == [(ADA, "sync")]
    world.accounts.before = None
    world.clock.advance(121)
    world.work()
    assert at_rest(world.state())
    assert world.ada.active_watch() is None


def test_stop_of_an_unknown_mailbox(world: World) -> None:
    """Nothing is to be stopped where nothing is connected."""
    with pytest.raises(UnknownMailbox):
        world.app.stop("bob@example.com", 0)


def test_a_mailbox_that_was_never_synced_is_stopped(world: World) -> None:
    """A mailbox can be stopped before its first sync, and begins with it when it is wanted live again."""
    fresh = World()
    fresh.ada.deliver(mail())
    fresh.app.connect(ADA, None)
    assert at_rest(fresh.app.stop(ADA, 0))
    fresh.work()
    assert (fresh.state().cursor, fresh.documents("messages")) == (0, {})
    fresh.connect()
    assert fresh.differences() == []


@pytest.mark.parametrize("error", [AccessRevoked("Gone."), GmailRejected("No scope.")], ids=lambda e: type(e).__name__)
def test_a_watch_that_cannot_be_stopped(world: World, error: MailmirrorError, caplog: pytest.LogCaptureFixture) -> None:
    """Where Gmail lets nobody in, the mailbox is stopped all the same, and the log says that the watch may go on."""
    world.accounts.before = refusing("users.stop", error=error)
    state = world.app.stop(ADA, 0)
    assert at_rest(state)
    assert (state.watch.error, state.problem) == (None, None)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["watch_not_stopped"]
    world.work()
    assert at_rest(world.state())


@pytest.mark.parametrize("error", [GmailUnavailable("500"), Throttled("429")], ids=lambda e: type(e).__name__)
def test_a_stop_that_gmail_does_not_answer_goes_on_by_itself(world: World, error: MailmirrorError) -> None:
    """Who stops is told that Gmail did not answer; the work is there, and the sweep should it be lost."""
    world.accounts.before = refusing("users.stop", error=error)
    with pytest.raises(type(error)):
        world.app.stop(ADA, 50)
    assert world.state().wanted == "stopped"
    assert not at_rest(world.state())
    assert (ADA, "sync") in world.outbox.work
    world.outbox.work.clear()
    world.accounts.before = None
    world.clock.advance(121)
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert at_rest(world.state())
    assert world.state().next_due_at == NEVER
    assert world.ada.active_watch() is None


def test_stop_while_gmail_told_it_to_wait(world: World) -> None:
    """A mailbox that rests until Gmail has quota for it again is stopped now."""
    world.accounts.before = refusing(error=Throttled("Later.", world.clock.now() + timedelta(hours=5)))
    world.ada.deliver(mail("Refused"))
    world.notify()
    assert world.state().phase == "throttled"
    world.accounts.before = None
    assert at_rest(world.app.stop(ADA, 0))


def test_stop_while_access_is_revoked(world: World) -> None:
    """A mailbox without access is stopped at once, and is not tried every hour any more."""
    world.accounts.before = refusing(error=AccessRevoked("Gone."))
    world.ada.deliver(mail("Locked out"))
    world.notify()
    assert world.state().phase == "reauth_required"
    assert at_rest(world.app.stop(ADA, 0))
    world.work()
    world.clock.advance(86_400)
    assert world.app.sweep_mailboxes() == 0
    with pytest.raises(AccessRevoked):
        world.app.connect(ADA, None)
    assert at_rest(world.state())
    world.accounts.before = None
    world.connect()
    assert (world.state().phase, world.state().problem) == ("live", None)
    assert world.differences() == []


def test_a_stale_notification_does_not_hide_a_wish(world: World) -> None:
    """Whoever comes first carries the wish out, be it with a notification that has nothing to tell."""
    cursor = world.state().cursor
    assert world.store.want(world.state(), "stopped", due_at=world.clock.now())
    assert world.notify(cursor - 1) == 204
    assert at_rest(world.state())


# Another worker


def test_a_run_stops_between_two_slices() -> None:
    """Who moves a run on ends at the next slice when the mailbox is to be stopped, and stops it in the same turn; the
    run stays where it is.
    """
    world = backfilling()
    patient, other = world.worker("worker-2"), world.worker("worker-3")
    asked: list[Run | None] = []

    def ask(method: str, subject: str) -> None:
        world.clock.advance(0.2)
        if method == "users.messages.get" and not asked:
            asked.append(world.state().active_run)
            stopped = other.stop(ADA, 0)
            assert not at_rest(stopped)
            assert stopped.wanted == "stopped"

    world.accounts.before = ask
    patient.push(patient.run_work, push({"mailbox": ADA, "task": "sync"}))
    assert at_rest(world.state())
    before, after = asked[0], world.state().run
    assert before is not None
    assert after is not None
    # The slice in hand, and no other.
    assert 0 < after.done - before.done <= planner.GROUP_FETCHES
    assert after.active
    world.work()
    assert world.state().run == after


def test_a_stop_during_the_renewal_of_the_watch_starts_nothing() -> None:
    """Who has just watched a mailbox sees that it is to be stopped, and begins no first sync."""
    world = World()
    world.app.connect(ADA, None)
    other = world.worker("worker-2")

    def ask(method: str, subject: str) -> None:
        if method == "users.watch":
            other.stop(ADA, 0)

    world.accounts.before = ask
    world.work()
    assert at_rest(world.state())
    assert world.ada.active_watch() is None
    assert world.accounts.made("users.messages.list") == 0
    quota = world.state().quota
    assert quota is not None
    assert quota.today == world.accounts.spent - 1


def test_a_run_goes_on_when_the_mailbox_is_wanted_again() -> None:
    """A mailbox stopped in the middle of its first sync goes on from there: nothing is fetched twice."""
    world = backfilling()
    world.app.stop(ADA, 0)
    world.work()
    fetched = len(world.documents("messages"))
    every = len(world.ada.truth()["messages"])
    assert 0 < fetched < every
    world.accounts.calls.clear()
    world.connect()
    assert world.state().phase == "live"
    assert world.differences() == []
    assert sum(method == "users.messages.get" for method, _ in world.accounts.calls) <= every - fetched


def test_who_waits_gets_the_end(world: World) -> None:
    """A stop that finds another worker at work waits for it to end, and then for no longer."""
    now = world.clock.now()
    held = world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=120))
    pause, slept = world.clock.sleep, count(1)

    def sleep(seconds: float) -> None:
        pause(seconds)
        if next(slept) == 4:
            world.store.commit(held, held.mailbox, expires_at=world.clock.now(), release=True)

    world.clock.sleep = sleep  # type: ignore[method-assign]
    assert at_rest(world.app.stop(ADA, 50))
    assert next(slept) == 5


def test_who_does_not_get_the_end_is_told_so(world: World) -> None:
    """A stop that another worker does not end for is answered in time, and goes on by itself."""
    now = world.clock.now()
    world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=120))
    state = world.app.stop(ADA, 10)
    assert (state.wanted, at_rest(state)) == ("stopped", False)
    assert 10 <= (world.clock.now() - now).total_seconds() < 11
    assert world.outbox.work[-1] == (ADA, "sync")
    world.clock.advance(121)
    world.work()
    assert at_rest(world.state())


def small_world() -> World:
    """A connected mailbox of two messages, with one more to come."""
    world = World()
    for number in range(2):
        world.ada.deliver(mail(f"Old {number}"))
    world.connect()
    world.ada.deliver(mail("New"))
    return world


@pytest.mark.parametrize("worked", [False, True], ids=["work comes later", "work comes at once"])
@pytest.mark.parametrize("number", range(13))
def test_a_mailbox_wanted_live_at_any_call_of_the_stop_is_live(number: int, worked: bool) -> None:
    """Whoever connects a mailbox again while it is being stopped has it live, with a watch, and complete, without the
    sweep: at whichever call of the stopping worker that happens, and also if the work that was published for it comes
    when that worker has the lease.
    """
    world = small_world()
    other, calls = world.worker("worker-2"), count()

    def when(name: str, *, after: bool) -> bool:
        if not after and next(calls) == number:
            other.connect(ADA, None)
            if worked:
                world.work(other)
        return False

    doomed(world, when).stop(ADA, 0)
    if next(calls) <= number:
        other.connect(ADA, None)
    world.work()
    state = world.state()
    if state.wanted == "live":
        assert (state.phase, state.next_due_at < NEVER) == ("live", True)
        assert world.ada.active_watch() is not None
        assert world.differences() == []
    else:
        # The wish to have it live came first: a mailbox that is live is confirmed, and stopped then.
        assert at_rest(state)
        assert world.ada.active_watch() is None


@pytest.mark.parametrize("number", range(12))
def test_a_mailbox_stopped_at_any_call_of_a_sync_is_stopped(number: int) -> None:
    """Whoever stops a mailbox while it is being synced has it stopped, without the sweep: at whichever call that is."""
    world = small_world()
    other, calls = world.worker("worker-2"), count()

    def when(name: str, *, after: bool) -> bool:
        if not after and next(calls) == number:
            other.stop(ADA, 0)
        return False

    syncing = doomed(world, when)
    world.notify(None, syncing)
    if next(calls) <= number:
        other.stop(ADA, 0)
    world.work()
    assert at_rest(world.state())
    assert world.state().next_due_at == NEVER
    assert world.ada.active_watch() is None
    world.connect()
    assert world.differences() == []


@pytest.mark.parametrize(("number", "dies_after"), [(number, after) for number in range(13) for after in (False, True)])
def test_a_worker_killed_at_any_call_of_a_stop(number: int, dies_after: bool) -> None:
    """Killed before or after any call of a stop, the mailbox is stopped by the sweep alone if that was said at all, and
    is live again when it is wanted so.
    """
    world = small_world()
    calls = count()

    def when(name: str, *, after: bool) -> bool:
        return after == dies_after and next(calls) == number

    with suppress(Killed):
        doomed(world, when).stop(ADA, 0)
    asked = world.state().wanted == "stopped"
    world.outbox.work.clear()
    world.clock.advance(121)
    world.sweep()
    assert at_rest(world.state()) == asked
    assert (world.ada.active_watch() is None) == asked
    assert (world.state().next_due_at == NEVER) == asked
    world.connect()
    world.sweep()
    assert world.state().phase == "live"
    assert world.differences() == []


@pytest.mark.parametrize(("number", "dies_after"), [(number, after) for number in range(20) for after in (False, True)])
def test_a_worker_killed_at_any_call_of_a_return(number: int, dies_after: bool) -> None:
    """Killed before or after any call of connecting a stopped mailbox, and of the work for it, the mailbox is live and
    complete by the sweep alone if that was stored, and stopped else.
    """
    world = small_world()
    world.app.stop(ADA, 0)
    world.work()
    calls = count()

    def when(name: str, *, after: bool) -> bool:
        return after == dies_after and next(calls) == number

    worker = doomed(world, when)
    with suppress(Killed):
        worker.connect(ADA, None)
        world.work(worker)
    live = world.state().wanted == "live"
    world.outbox.work.clear()
    world.clock.advance(121)
    world.sweep()
    if live:
        assert world.state().phase == "live"
        assert world.ada.active_watch() is not None
        assert world.differences() == []
    else:
        assert at_rest(world.state())


def test_a_hint_left_in_the_last_moment_does_not_make_a_stopped_mailbox_due_for_ever(world: World) -> None:
    """A notification that finds the lease of the stopping worker taken leaves a due time behind; the next sweep that
    comes for it lets the mailbox rest.
    """
    world.app.stop(ADA, 0)
    world.work()
    world.store.raise_hint(ADA, world.head(), world.clock.now())
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert world.state().next_due_at == NEVER
    assert world.app.sweep_mailboxes() == 0


def test_a_mailbox_stopped_twice_with_a_start_in_between_has_no_watch(world: World) -> None:
    """A worker that gets a watch for a mailbox wanted live again, and is told to stop meanwhile, stops it."""
    world.app.stop(ADA, 0)
    world.work()
    world.app.connect(ADA, None)
    other, told = world.worker("worker-2"), list[Mailbox]()

    def stop(method: str, subject: str) -> None:
        if method == "users.watch" and not told:
            told.append(other.stop(ADA, 0))

    world.accounts.before = stop
    world.work()
    assert told
    assert at_rest(world.state())
    assert world.ada.active_watch() is None


def test_a_death_right_after_the_end_of_the_watch_leaves_no_mailbox_without_one(world: World) -> None:
    """A mailbox whose stopping worker dies when Gmail has just ended the watch, and that is wanted live again, gets a
    new watch from whoever comes, although the message for it is lost.
    """

    def when(name: str, *, after: bool) -> bool:
        return name == "stop" and after

    with pytest.raises(Killed):
        doomed(world, when).stop(ADA, 0)
    assert world.ada.active_watch() is None
    world.clock.advance(121)
    world.app.connect(ADA, None)
    world.outbox.work.clear()
    world.sweep()
    assert world.state().phase == "live"
    assert world.ada.active_watch() is not None


# And back


def test_a_stopped_mailbox_goes_on_from_its_cursor(world: World) -> None:
    """What came while it was stopped is brought by history alone: nothing is listed, nothing fetched again."""
    world.app.stop(ADA, 0)
    world.work()
    brought = world.ada.deliver(mail("While stopped"))
    world.accounts.calls.clear()
    mailbox, created = world.app.connect(ADA, None)
    assert (mailbox.wanted, created) == ("live", False)
    assert world.outbox.work == [(ADA, "renew")]
    world.work()
    assert world.state().phase == "live"
    assert world.ada.active_watch() is not None
    assert world.differences() == []
    methods = [method for method, _ in world.accounts.calls]
    assert methods.count("users.history.list") == 1
    assert [subject for method, subject in world.accounts.calls if method == "users.messages.get"] == [brought]
    assert "users.messages.list" not in methods


def test_who_connects_again_after_a_death_gets_the_work_done(world: World) -> None:
    """A request that dies when it has stored that the mailbox is wanted live again, and nothing more, is made good by
    the next one.
    """
    world.app.stop(ADA, 0)
    world.work()
    with pytest.raises(Killed):
        doomed(world, lambda name, *, after: name == "publish" and not after).connect(ADA, None)
    assert (world.state().wanted, world.outbox.work) == ("live", [])
    world.connect()
    assert world.state().phase == "live"
    assert world.ada.active_watch() is not None


def test_a_stopped_mailbox_whose_history_expired_is_repaired(world: World) -> None:
    """A mailbox that was stopped for longer than Gmail keeps history compares itself with Gmail, and is complete."""
    world.app.stop(ADA, 0)
    world.work()
    messages = sorted(world.ada.truth()["messages"])
    world.ada.delete(messages[:1])
    world.ada.deliver(mail("While stopped"))
    world.clock.advance(60 * 86_400)
    world.ada.expire_history()
    world.connect()
    assert world.differences() == []
    run = world.state().run
    assert run is not None
    assert (run.mode, run.active) == ("repair", False)


def test_a_stopped_mailbox_is_wanted_again_under_another_policy(world: World) -> None:
    """Both wishes of one request are carried out, the policy first stored: nothing is synced under the old one."""
    trashed = min(world.ada.truth()["messages"])
    world.app.stop(ADA, 0)
    world.work()
    world.ada.trash(trashed)
    world.app.connect(ADA, Policy(include_spam_trash=False))
    world.work()
    assert world.state().policy == Policy(include_spam_trash=False)
    assert trashed not in world.documents("messages")
    assert world.differences(lambda labels: "TRASH" not in labels) == []


def test_without_access_a_stopped_mailbox_stays_stopped(world: World) -> None:
    """Access is proven before anything is stored."""
    world.app.stop(ADA, 0)
    world.work()
    before = world.state()
    world.accounts.before = refusing("users.getProfile", error=AccessRevoked("Gone."))
    with pytest.raises(AccessRevoked):
        world.app.connect(ADA, Policy(drafts=True))
    assert world.state() == before
    assert world.outbox.work == []


@pytest.mark.parametrize("mode", ["incremental", "full", "audit"])
def test_nothing_is_synced_on_demand_while_stopped(world: World, mode: str) -> None:
    """A triggered sync of a stopped mailbox is refused at once with what to do, and leaves no request behind."""
    world.app.stop(ADA, 0)
    world.work()
    before = world.state()
    world.clock.slept.clear()
    with pytest.raises(MailboxStopped):
        world.app.trigger_sync(ADA, mode, 50)  # type: ignore[arg-type]
    assert world.state() == before
    assert (world.outbox.work, world.clock.slept) == ([], [])


def test_who_waits_for_a_sync_is_told_of_the_stop(world: World) -> None:
    """Somebody who waits for a sync of a mailbox that is stopped meanwhile does not wait for nothing."""
    other = world.worker("worker-2")
    world.store = Meanwhile(world.sqlite, "acquire", lambda: other.stop(ADA, 0))
    with pytest.raises(MailboxStopped):
        world.worker("worker-3").trigger_sync(ADA, "full", 50)
    assert at_rest(world.state())


def test_a_purged_mailbox_is_not_stopped(world: World) -> None:
    """Deletion is not taken back by a stop."""
    assert world.store.want(world.state(), "purged", due_at=world.clock.now())
    with pytest.raises(BeingPurged):
        world.app.stop(ADA, 0)
    assert world.state().wanted == "purged"
