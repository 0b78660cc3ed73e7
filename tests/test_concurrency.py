"""Two at a time at one mailbox: what happens between two calls of one of them, in the order that hurts."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from mailmirror import mailboxes, planner
from mailmirror.adapters.firestore import FirestoreStore
from mailmirror.errand import Errand
from mailmirror.errors import AccessRevoked, MailmirrorError, Throttled
from mailmirror.model import Held, HistoryId, Lease, MailboxId, Mode, Policy, RunRequest, Stage
from mailmirror.slice import Document, Path

from tests.contract.worker import firestore_client
from tests.killing import Killed, KillingStore
from tests.meanwhile import Meanwhile
from tests.world import ADA, World, mail, push


def test_a_lease_taken_twice_in_the_same_moment_is_held_once(firestore_emulator: str) -> None:
    """Two turns of one process that both find the lease free, at the same time to the microsecond: one gets it.

    A worker whose answer was lost recognises its own lease by name and time; another's must not look the same.
    """

    class Contended(FirestoreStore):
        def lease(self, mailbox: MailboxId) -> Lease | None:
            found = super().lease(mailbox)
            if not holds:
                holds.append(None)
                holds[0] = engine._take(state, errand)
            return found

    holds: list[object] = []
    with firestore_client(firestore_emulator, f"test-{uuid.uuid4().hex[:12]}") as client:
        world = World(store=Contended(client))
        world.app.connect(ADA, None)
        engine, state, errand = world.app.engine, world.state(), Errand(ADA, world.clock.now())
        late = engine._take(state, errand)
    assert holds[0] is not None
    assert late is None


def test_a_turn_goes_on_from_the_level_that_the_turn_before_left() -> None:
    """Who reads the mailbox before another spends, and takes the lease after, does not spend the same units again."""
    world = World(units_per_minute=6_000)
    world.connect()
    world.clock.advance(60)
    spent, first = world.accounts.spent, world.worker("worker-1")

    def spend() -> None:
        world.ada.deliver(mail("First"))
        assert world.notify(app=first) == 204
        world.ada.deliver(mail("Second"))

    world.store = Meanwhile(world.sqlite, "mailbox", spend)
    assert world.notify(app=world.worker("worker-2")) == 204
    assert world.differences() == []
    # The bucket was full: 2 % of 6,000 units.
    quota = world.state().quota
    assert quota is not None
    assert quota.units <= 120 - (world.accounts.spent - spent)


def test_a_mailbox_that_is_connected_twice_at_once_has_both_wishes() -> None:
    """The one that comes second stores its policy all the same, and says what is stored."""
    world = World()
    wish = Policy(include_spam_trash=False)

    def connect(method: str, subject: str) -> None:
        world.accounts.before = None
        assert world.app.connect(ADA, None)[1]

    world.accounts.before = connect
    mailbox, created = world.app.connect(ADA, wish)
    assert not created
    assert mailbox.policy == wish
    assert world.state().policy == wish
    assert world.state().pending_request is not None


@pytest.mark.parametrize(("mine", "theirs"), [("full", "audit"), ("audit", "full"), ("full", "full")])
def test_runs_asked_for_at_once_are_one(mine: Mode, theirs: Mode) -> None:
    """Neither request is lost: both have the id of the run that will be, and it is a full one if one of them is."""
    world = World()
    world.connect()

    def ask() -> None:
        assert mailboxes.request_run(world.sqlite, world.clock, ADA, theirs, "theirs") == "theirs"

    store = Meanwhile(world.sqlite, "mailbox", ask)
    assert mailboxes.request_run(store, world.clock, ADA, mine, "mine") == "theirs"
    assert world.state().pending_request == RunRequest("theirs", "full", world.clock.now())


def test_a_run_asked_for_while_another_starts_is_a_run_of_its_own() -> None:
    """A full sync that would have joined a waiting audit does not vanish in it when that begins in the same moment."""
    world = World()
    world.connect()
    mailboxes.request_run(world.sqlite, world.clock, ADA, "audit", "audit")

    def work() -> None:
        world.outbox.publish(ADA, "sync")
        world.work()

    store = Meanwhile(world.sqlite, "mailbox", work)
    assert mailboxes.request_run(store, world.clock, ADA, "full", "full") == "full"
    assert world.state().pending_request == RunRequest("full", "full", world.clock.now())


def test_a_policy_stored_while_a_run_is_asked_for_gets_that_run() -> None:
    """Another policy and another's request for a run, at once: the run comes after the policy, whoever asked for it."""
    world = World()
    world.connect()

    def ask() -> None:
        mailboxes.request_run(world.sqlite, world.clock, ADA, "full", "theirs")

    world.store = Meanwhile(world.sqlite, "mailbox", ask)
    world.worker("worker-2").connect(ADA, Policy(include_spam_trash=False))
    assert world.state().pending_request == RunRequest("theirs", "full", world.clock.now())


@pytest.mark.parametrize("stage", ["planning", "fetching", "deleting"])
def test_a_run_that_another_worker_finished_is_left_to_it(stage: Stage) -> None:
    """Who oversleeps its lease right before it reads what the run has stored, and finds it cleared away, comes back."""
    world = World()
    messages = [world.ada.deliver(mail(f"Number {number}")) for number in range(8)]
    world.connect()
    world.ada.modify(messages[:2], ["STARRED"])
    world.ada.delete(messages[6:])
    world.ada.expire_history()
    assert world.notify() == 204
    work, other, read = push({"mailbox": ADA, "task": "sync"}), world.worker("worker-2"), world.sqlite.documents
    answers: list[int] = []

    def oversleep(mailbox: MailboxId, paths: Sequence[Path]) -> dict[Path, Document]:
        run = world.state().active_run
        if not answers and run is not None and run.stage == stage and any(path[0] == "runs" for path in paths):
            world.clock.advance(121)
            answers.append(0)
            answers[0] = other.push(other.run_work, work)
        return read(mailbox, paths)

    world.sqlite.documents = oversleep  # type: ignore[method-assign]
    assert world.app.push(world.app.run_work, work) == 503
    assert answers == [204]
    assert world.state().active_run is None
    assert world.differences() == []


def _with_a_large_message() -> tuple[World, str]:
    """A world without trash, and the message in it whose body is in Cloud Storage, in the trash now."""
    world = World()
    world.connect(Policy(include_spam_trash=False))
    large = world.ada.deliver(mail("Long", text="All work and no play. " * 20_000))
    assert world.notify() == 204
    assert len(world.blobs.objects) == 1
    world.ada.trash(large)
    return world, large


def test_a_message_that_comes_back_while_its_old_body_is_deleted_keeps_the_new_one() -> None:
    """Who removed a message and is slow to delete its body spares the one that another worker has written since."""
    world, large = _with_a_large_message()
    answers: list[int] = []

    def untrash() -> None:
        world.ada.modify([large], remove=["TRASH"])
        answers.append(world.notify())

    world.store = Meanwhile(world.sqlite, "commit", untrash)
    assert world.notify(app=world.worker("worker-2")) == 204
    assert answers == [204]
    assert world.documents("messages").keys() == {large}
    assert world.differences() == []
    world.ada.delete([large])
    assert world.notify() == 204
    assert world.blobs.objects == {}


def test_who_lost_the_lease_before_the_commit_deletes_no_body() -> None:
    """A worker that oversleeps its lease between looking at a body and removing its message leaves both to the next."""
    world, large = _with_a_large_message()
    commit, answers = world.sqlite.commit, list[int]()

    def oversleep(*args: Any, **kwargs: Any) -> Held:
        if not answers:
            world.clock.advance(121)
            world.ada.modify([large], remove=["TRASH"])
            answers.append(0)
            answers[0] = world.notify()
        return commit(*args, **kwargs)

    world.sqlite.commit = oversleep  # type: ignore[method-assign]
    assert world.notify(app=world.worker("worker-2")) == 503
    assert answers == [204]
    assert world.documents("messages").keys() == {large}
    assert world.differences() == []


def test_many_bodies_are_looked_at_without_losing_the_lease() -> None:
    """However long it takes to look at the bodies of all messages that leave, nobody can take the lease meanwhile."""
    world = World()
    world.connect()
    large = [world.ada.deliver(mail(f"Long {n}", text=f"{n} No play. " * 40_000)) for n in range(8)]
    assert world.notify() == 204
    world.ada.delete(large)
    look, looks = world.blobs.version, list[str]()

    def slowly(name: str) -> int | None:
        world.clock.advance(30)
        looks.append(name)
        lease = world.sqlite.lease(ADA)
        assert lease is not None
        assert not lease.free(world.clock.now())
        return look(name)

    world.blobs.version = slowly  # type: ignore[method-assign]
    assert world.notify() == 204
    assert len(looks) == len(set(looks)) == 8
    assert world.blobs.objects == {}
    assert world.differences() == []


def test_a_run_that_another_worker_ends_behind_a_release_takes_no_notification_with_it() -> None:
    """Who leaves a notification that history does not show yet to the run under way, and finds the run ended when it
    looks a last time, is not acknowledged.
    """
    world = World()
    message = world.ada.deliver(mail("Old"))
    world.connect()
    hasty, other = world.worker("worker-2", step=timedelta(0)), world.worker("worker-3")
    hasty.trigger_sync(ADA, "full", 0)
    while (run := world.state().active_run) is not None and run.stage != "closing":
        hasty.push(hasty.run_work, push({"mailbox": ADA, "task": "sync"}))
    assert run is not None
    world.ada.history_lag = timedelta(minutes=1)
    world.ada.modify([message], ["STARRED"])
    head = world.ada.truth()["historyId"]
    commit, ended = world.sqlite.commit, list[int]()

    def end(*args: Any, **kwargs: Any) -> Held:
        held = commit(*args, **kwargs)
        if kwargs["release"] and not ended:
            ended.append(0)
            ended[0] = other.push(other.run_work, push({"mailbox": ADA, "task": "sync"}))
        return held

    world.sqlite.commit = end  # type: ignore[method-assign]
    assert world.notify(head) == 503
    assert ended
    assert world.state().active_run is None
    world.clock.advance(60)
    assert world.notify(head) == 204
    assert world.differences() == []


@pytest.mark.parametrize("failure", [AccessRevoked, Throttled])
def test_a_refused_notification_is_not_left_behind_by_a_worker_that_ends(failure: type[MailmirrorError]) -> None:
    """A notification that is about to be refused when another worker finds that nothing is in the way any more, and has
    ended before it is told, is brought by its own push.
    """
    world = World()
    world.connect()

    def refuse(method: str, subject: str) -> None:
        raise failure("Not now.")

    world.accounts.before = refuse
    world.ada.deliver(mail("Refused"))
    world.notify()
    world.accounts.before = None
    world.ada.history_lag = timedelta(hours=1)
    late = world.ada.deliver(mail("Late in history"))
    other, raise_hint, ended = world.worker("worker-2"), world.sqlite.raise_hint, list[str]()

    def end(mailbox: MailboxId, history_id: HistoryId, due_at: datetime | None = None) -> None:
        if not ended:
            world.clock.advance(61)
            ended.append(other.trigger_sync(ADA, "incremental", 50).status)
            assert late not in world.documents("messages")
            world.ada.history_lag = timedelta(0)
        raise_hint(mailbox, history_id, due_at)

    world.sqlite.raise_hint = end  # type: ignore[method-assign]
    assert world.notify(world.ada.truth()["historyId"]) == 204
    assert ended == ["done"]
    assert world.differences() == []


def test_a_refused_notification_does_not_put_off_who_follows_a_worker_that_died() -> None:
    """A notification that is refused while another worker, which has access again, dies on its way leaves the mailbox
    due when that worker's lease expires.
    """
    world = World()
    world.connect()

    def refuse(method: str, subject: str) -> None:
        raise AccessRevoked("Not now.")

    world.accounts.before = refuse
    world.ada.deliver(mail("Refused"))
    assert world.notify() == 204
    world.accounts.before = None
    # More messages than the worker lives to commit.
    for number in range(planner.GROUP_FETCHES):
        world.ada.deliver(mail(f"Number {number}"))
    world.store = KillingStore(world.sqlite, lambda name, *, after: after and name == "commit")
    doomed = world.worker("doomed")

    def die() -> None:
        with pytest.raises(Killed):
            doomed.trigger_sync(ADA, "incremental", 50)

    world.store = Meanwhile(world.sqlite, "mailbox", die)
    assert world.notify(app=world.worker("worker-2")) == 204
    assert 0 < len(world.documents("messages")) < planner.GROUP_FETCHES
    world.clock.advance(121)
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert world.differences() == []


def test_a_worker_that_looked_before_gmail_named_a_time_does_not_call_it() -> None:
    """When another worker is told to wait between the look at a mailbox and its lease, Gmail is not called."""
    world = World()
    world.connect()
    world.ada.deliver(mail("Late"))
    until = world.clock.now() + timedelta(minutes=15)

    def refuse(method: str, subject: str) -> None:
        raise Throttled("Gmail refused for quota.", until)

    def other() -> None:
        world.accounts.before = refuse
        assert world.notify() == 503
        world.accounts.before = None

    world.store = Meanwhile(world.sqlite, "mailbox", other)
    late = world.worker("late")
    world.store = world.sqlite
    calls = len(world.accounts.calls)
    assert world.notify(app=late) == 204
    assert len(world.accounts.calls) == calls + 1
    assert (world.state().throttled_until, world.state().hint > world.state().cursor) == (until, True)
    world.clock.advance(15 * 60)
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert world.differences() == []
